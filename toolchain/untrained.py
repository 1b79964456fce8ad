"""A recipe's student without training: random weights, and BatchNorm's statistics from samples.

Its spikes mean nothing, but every layer has some: a layer that fires in less than 0.5 % or more than 60 % of
its neurons and steps has its weights and biases doubled or halved until it doesn't, layer by layer from the
input on, as training samples have it. So two programs that emit the same spikes do compute the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..export.graph import Graph, Population
from ..models.neurons import SpikingNeuron
from .fitting import derived_seed
from .networks import build_networks
from .recipe import Recipe
from .teaching import time_first

if TYPE_CHECKING:
    from ..models.contract import TaskShape
    from .data.datasets import DataSet

STATISTICS_SAMPLES = 64
"""Training samples that BatchNorm's statistics are taken of."""

BALANCE_SAMPLES = 16
"""Training samples that firing rates are measured with."""

RATES = 0.005, 0.6
"""Spikes per neuron and step that a layer has at least and at most."""

DOUBLINGS = 30
"""So often a layer's weights are doubled or halved at most."""


@dataclass(frozen=True)
class Untrained:
    """The lowered student, the validation samples to quantise it with, and the test samples."""

    graph: Graph
    calibration: np.ndarray
    inputs: np.ndarray


def neurons_of(recipe: Recipe) -> int:
    """How many spiking neurons the recipe's student has.

    Raises:
        InputError: there is no such data set, or the student can't take what it shows.
    """
    import torch

    from .samples import task_of

    task = task_of(recipe)
    student = _student(recipe, task).eval()
    sizes: list[int] = []
    for module in student.modules():
        if isinstance(module, SpikingNeuron):
            module.register_forward_hook(lambda _module, _inputs, spikes: sizes.append(spikes[0].numel()))
    with torch.no_grad():
        student(torch.zeros(1, *task.input_shape), 1)
    return sum(sizes)


def untrained(recipe: Recipe, data_root: Path | None, fetch: bool = False) -> Untrained:
    """The student of `recipe`, its weights drawn from the recipe's seed.

    Args:
        fetch: whether a data set that isn't there may be fetched.

    Raises:
        Refusal: the student can't be lowered.
        InputError: the data set isn't there or can't be read.
    """
    data = _data(recipe, data_root, fetch)
    student = _student(recipe, data.task)
    _settle(student, data.train.inputs[:STATISTICS_SAMPLES].numpy())
    calibration = data.validation.inputs[: recipe.quantization.calibration_samples].numpy()
    graph = balanced(_lowered(student), data.train.inputs[:BALANCE_SAMPLES].numpy())
    return Untrained(graph, calibration, data.test.inputs.numpy())


def _data(recipe: Recipe, data_root: Path | None, fetch: bool) -> DataSet:
    from .data.datasets import load_dataset

    return load_dataset(
        recipe.dataset, data_root, recipe.data.split_seed, allow_fetch=fetch, shown=recipe.shown
    )


def _student(recipe: Recipe, task: TaskShape) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(recipe.seed, "weights"))
        return build_networks(recipe, task)[0]


def _settle(student: Any, samples: np.ndarray) -> None:
    """Let BatchNorm take the mean and variance of what it sees in one batch of samples."""
    import torch
    from torch import nn

    norms = [module for module in student.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    student.train()
    with torch.no_grad():
        student(torch.from_numpy(np.ascontiguousarray(time_first(samples))).float())
    student.eval()


def _lowered(student: Any) -> Graph:
    from ..export.student import student_to_graph

    return student_to_graph(student)


def balanced(graph: Graph, samples: np.ndarray) -> Graph:
    """`graph`, a float network, with every spiking layer's rate for `samples` within `RATES`.

    A layer that is within them stays as it is; one that gets nothing stays silent.
    """
    rates = _rates(graph, samples)
    for name in [population.name for population in graph.spiking]:
        for _ in range(DOUBLINGS):
            rate = rates[name]
            if RATES[0] <= rate <= RATES[1]:
                break
            factor = 2.0 if rate < RATES[0] else 0.5
            populations = (_scaled(p, factor) if p.name == name else p for p in graph.populations)
            graph = replace(graph, populations=tuple(populations))
            rates = _rates(graph, samples)
    return graph


def _rates(graph: Graph, samples: np.ndarray) -> dict[str, float]:
    """Spikes per neuron and step of each spiking population."""
    from .simulation.simulator import record

    return {n: float(s.mean()) for n, s in record(graph, samples, graph.steps).spikes.items()}


def _scaled(population: Population, factor: float) -> Population:
    synapses = tuple(replace(synapse, weight=synapse.weight * factor) for synapse in population.synapses)
    return replace(population, synapses=synapses, bias=population.bias * factor)
