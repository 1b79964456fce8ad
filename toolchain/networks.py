"""A recipe's two networks: built, frozen, watched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import InputError
from ..models.contract import TaskShape
from ..models.family import MODELS
from ..models.gradients.backend import install_gradient
from ..models.neurons import SpikingNeuron
from .recipe import Recipe
from .teaching import teacher_task


def build_networks(recipe: Recipe, task: TaskShape) -> tuple[Any, Any]:
    """The student (`contract.Student`) and the teacher of `recipe`, initialised from torch's random state.

    Args:
        task: what the student is built for; `teaching` says what the teacher is.

    Raises:
        InputError: the network doesn't fit the data's shape.
    """
    neuron = recipe.neuron
    networks = []
    for section, role in ((recipe.student, "student"), (recipe.teacher, "teacher")):
        family = MODELS.load(section.model)
        options = family.options.model_validate(section.options)
        try:
            if role == "student":
                student = family.student(task, recipe.timesteps, options, neuron.decay, neuron.threshold)
                gradient = recipe.student.gradient
                install_gradient(student, gradient, recipe.gradients.get(gradient, {}))
                networks.append(student)
            else:
                networks.append(family.teacher(teacher_task(recipe, task, recipe.teacher.windows), options))
        except (ValueError, RuntimeError) as error:
            raise InputError(f"the {role} can't take inputs of shape {task.input_shape}: {error}") from error
    return networks[0], networks[1]


def freeze(teacher: nn.Module) -> None:
    """Make `teacher` give the same answers for ever: evaluation mode, no gradients."""
    teacher.eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)


class SpikeRates:
    """Spikes per neuron-step of every spiking layer, summed up while a model runs."""

    def __init__(self) -> None:
        self.spikes: dict[str, float] = {}
        self.neuron_steps: dict[str, int] = {}

    def add(self, layer: str, spikes: Tensor) -> None:
        """Count the neuron-steps of `spikes` (T, B, …) with a spike; thirty times as fast as `count_nonzero`.

        Each step's sum over a sample is a whole number that float32 holds.
        """
        counts = spikes.detach().sign().flatten(2).sum(2, dtype=torch.float32)
        self.spikes[layer] = self.spikes.get(layer, 0.0) + float(counts.sum(dtype=torch.float64))
        self.neuron_steps[layer] = self.neuron_steps.get(layer, 0) + spikes.numel()

    def by_layer(self) -> dict[str, float]:
        """The rate of each layer, in [0, 1]."""
        return {layer: self.spikes[layer] / self.neuron_steps[layer] for layer in self.spikes}

    def mean(self) -> float:
        """The rate over all neurons."""
        return sum(self.spikes.values()) / max(1, sum(self.neuron_steps.values()))


@contextmanager
def spike_rates(model: nn.Module) -> Iterator[SpikeRates]:
    """Count the spikes of every neuron in `model` while the block runs."""
    rates = SpikeRates()
    handles = [
        module.register_forward_hook(partial(_count, rates, name))
        for name, module in model.named_modules()
        if isinstance(module, SpikingNeuron)
    ]
    try:
        yield rates
    finally:
        for handle in handles:
            handle.remove()


def _count(rates: SpikeRates, layer: str, _module: nn.Module, _inputs: Any, spikes: Tensor) -> None:
    rates.add(layer, spikes)
