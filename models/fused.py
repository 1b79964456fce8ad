"""The neuron's loops over time compiled into one pass over memory each, by torch.compile.

They compute what `neurons` and `gradients.rate` compute step after step: to the bit where the decay is a
power of two or zero, otherwise but for rounding. They take a third of the time; compiling takes some twenty
seconds and needs a C++ compiler (or a GPU). Nothing depends on it: the recipe asks for it
(`student.compiled`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import InputError
from .neurons import LIF


def compile_neurons(module: nn.Module, timesteps: int) -> None:
    """Let every LIF in `module` run compiled loops from now on; those of T steps are compiled here.

    Raises:
        InputError: there is nothing to compile with.
    """
    neurons = [part for part in module.modules() if isinstance(part, LIF)]
    for neuron in neurons:
        neuron.compiled = True
    device = next((parameter.device for parameter in module.parameters()), None)
    try:
        for neuron in neurons[:1]:
            current = torch.zeros(timesteps, 2, 8, device=device, requires_grad=True)
            neuron(current).sum().backward()
    except Exception as error:  # whatever the compiler's own code raises where it finds no tools
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"the neurons can't be compiled ({reason}); install a C++ compiler, or leave out student.compiled"
        ) from error


def lif_forward(current: Tensor, decay: float, threshold: float) -> tuple[Tensor, Tensor]:
    """`neurons.lif_forward`, for one threshold."""
    return _run(_spikes, [current], decay, threshold)


def lif_backward(membrane: Tensor, grad_spikes: Tensor, decay: float, threshold: float) -> Tensor:
    """The gradient by the currents, (T, …), for what `lif_forward` kept and the gradient by the spikes."""
    return _run(_gradient, [membrane, grad_spikes], decay, threshold)[0]


def lif_rates(current: Tensor, decay: float, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes (T, …), their rate (…) and its derivative by the mean current (…), see `gradients.rate`."""
    return _run(_spikes_and_eligibility, [current], decay, threshold)


def _run(loop: Callable[..., Any], signals: list[Tensor], decay: float, threshold: float) -> Any:
    """A compiled loop on signals (T, …) as matrices (T, n), in the order in which the first lies in memory.

    Their bare sizes would be compiled anew for each layer.
    """
    places = signals[0].dim()
    order = sorted(range(1, places), key=signals[0].stride, reverse=True)
    back = [order.index(place) for place in range(1, places)]
    sizes = [signals[0].shape[place] for place in order]
    found = _compiled(loop)(*(signal.permute(0, *order).flatten(1) for signal in signals), decay, threshold)
    return tuple(_placed(values.unflatten(-1, sizes), back) for values in found)


def _placed(values: Tensor, back: list[int]) -> Tensor:
    """Values with their places in the usual order again, whether they have a time before them or not."""
    before = values.dim() - len(back)
    return values.permute(*range(before), *(before + place for place in back))


@functools.cache
def _compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(loop, dynamic=True, fullgraph=True)


def _spikes(current: Tensor, decay: float, threshold: float) -> tuple[Tensor, Tensor]:
    """Spikes and the potentials before each reset, (T, n) each, of currents (T, n)."""
    membranes, spikes = [], []
    state = torch.zeros_like(current[0])
    for now in current:
        potential = now + decay * state
        fired = potential > threshold
        state = torch.where(fired, 0.0, potential)
        membranes.append(potential)
        spikes.append(fired.to(current.dtype))
    return torch.stack(spikes), torch.stack(membranes)


def _gradient(membrane: Tensor, grad_spikes: Tensor, decay: float, threshold: float) -> tuple[Tensor]:
    """The gradient by the currents, (T, n), for potentials and what arrives at the spikes."""
    grads: list[Tensor] = []
    for potential, arriving in zip(reversed(membrane.unbind()), reversed(grad_spikes.unbind()), strict=True):
        grad = torch.clamp(1 - (potential / threshold - 1).abs(), min=0) / threshold * arriving
        if grads:
            grad = grad + decay * torch.where(potential <= threshold, grads[-1], 0.0)
        grads.append(grad)
    return (torch.stack(grads[::-1]),)


def _spikes_and_eligibility(current: Tensor, decay: float, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes (T, n), their rate and the rate's derivative by the mean current, (n,), see `gradients.rate`."""
    spikes = []
    state, total, count = (torch.zeros_like(current[0]) for _ in range(3))
    trace = torch.ones_like(state)
    for now in current:
        potential = now + decay * state
        fired = potential > threshold
        total = total + torch.clamp(threshold - (potential - threshold).abs(), min=0) * trace
        trace = 1 + decay * torch.where(fired, 0.0, trace)
        state = torch.where(fired, 0.0, potential)
        spikes.append(fired.to(current.dtype))
        count = count + spikes[-1]
    return torch.stack(spikes), count / len(current), total / (len(current) * threshold**2)
