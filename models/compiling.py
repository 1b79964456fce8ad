"""Have a student's neurons compiled, and BatchNorm with them."""

from __future__ import annotations

import torch
from torch import nn

from .. import InputError
from .joined import NormalisedNeurons
from .neurons import LIF
from .unrolled import SpikingStudent


def compile_neurons(module: nn.Module, timesteps: int) -> None:
    """Let every LIF in `module` run compiled loops from now on, with the BatchNorm joined to it (`joined`).

    The loops that most layers need for T steps are compiled here, others when they are first run.

    Raises:
        InputError: there is nothing to compile with.
    """
    neurons = [part for part in module.modules() if isinstance(part, LIF)]
    for neuron in neurons:
        neuron.compiled = True
    joined = any(part.joins for part in module.modules() if isinstance(part, SpikingStudent))
    device = next((parameter.device for parameter in module.parameters()), None)
    try:
        for neuron in neurons[:1]:
            _run_once(neuron, timesteps, device, joined)
    except Exception as error:  # whatever the compiler's own code raises where it finds no tools
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"the neurons can't be compiled ({reason}); install a C++ compiler, or leave out student.compiled"
        ) from error


def _run_once(neuron: LIF, timesteps: int, device: torch.device | None, joined: bool) -> None:
    """Forward and backward, alone or behind BatchNorm."""
    if not joined:
        current = torch.zeros(timesteps, 2, 8, device=device, requires_grad=True)
        neuron(current).sum().backward()
        return
    both = NormalisedNeurons(nn.BatchNorm2d(8, device=device), LIF(neuron.decay, neuron.threshold))
    maps = torch.randn(timesteps, 2, 3, 3, 8, device=device).permute(0, 1, 4, 2, 3).requires_grad_()
    for added in ((), (maps.detach(),)):
        both.over_time(timesteps, maps, *added).sum().backward()
