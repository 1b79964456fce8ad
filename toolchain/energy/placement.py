"""Puts populations on cores, and says what then reaches each core and how many messages that takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ... import InputError
from ...export.graph import Graph, Population
from .activity import NetworkActivity
from .fanout import arriving, reached

CoreMap = Mapping[str, np.ndarray]
"""For each population, the core of each of its neurons: integers from 0, in the order C, H, W."""


@dataclass(frozen=True)
class CoreLoad:
    """What an average inference asks of the cores.

    Attributes:
        neurons: how many each core holds, int64 (N,), N reaching to the last core in use.
        events: for each population, the events that reach it on each core at each step, float64 (T, N).
        messages: for each population, what its spikes send: one message per spike and core that it reaches.
    """

    neurons: np.ndarray
    events: Mapping[str, np.ndarray]
    messages: Mapping[str, float]

    @property
    def cores(self) -> int:
        """How many cores hold neurons."""
        return int(np.count_nonzero(self.neurons))


def spread_over_cores(graph: Graph, neurons_per_core: int) -> CoreMap:
    """The fewest cores that hold the neurons, none shared by populations, a population's filled evenly.

    Axons and synapse memory may ask for more; a target that maps cores knows, and gives its own map.
    """
    core_map, first = {}, 0
    for population in graph.populations:
        cores = -(-population.size // neurons_per_core)
        core_map[population.name] = first + np.arange(population.size) * cores // population.size
        first += cores
    return core_map


def core_load(graph: Graph, activity: NetworkActivity, core_map: CoreMap) -> CoreLoad:
    """What each core has to do in the average inference under a core map.

    Raises:
        InputError: the map leaves out a population or doesn't fit one.
    """
    cores = {population.name: _cores_of(population, core_map) for population in graph.populations}
    total = 1 + max(int(on.max()) for on in cores.values())
    neurons = torch.stack([torch.bincount(on, minlength=total) for on in cores.values()]).sum(0)
    events = {
        population.name: _events_by_core(population, activity, cores[population.name], total).numpy()
        for population in graph.populations
    }
    return CoreLoad(neurons.numpy(), events, _messages(graph, activity, cores))


def _cores_of(population: Population, core_map: CoreMap) -> Tensor:
    """The core of each neuron, int64 (n,)."""
    cores = np.asarray(core_map.get(population.name, ())).reshape(-1)
    if cores.size != population.size or cores.dtype.kind not in "iu" or cores.min() < 0:
        raise InputError(
            f"core map: {population.name} needs {population.size} core numbers from 0, one per neuron; "
            f"found {cores.size} of type {cores.dtype}"
        )
    return torch.from_numpy(cores.astype(np.int64))


def _events_by_core(population: Population, activity: NetworkActivity, on: Tensor, cores: int) -> Tensor:
    """Events that reach the population's neurons on each core at each step, float64 (T, cores)."""
    by_core = torch.zeros(activity.timesteps, cores, dtype=torch.float64)
    for synapse in population.synapses:
        events = arriving(synapse, torch.from_numpy(activity.mean_events(synapse.source)))
        by_core.index_add_(1, on, events.flatten(1))
    return by_core


def _messages(graph: Graph, activity: NetworkActivity, cores: Mapping[str, Tensor]) -> dict[str, float]:
    """Messages of the average inference by sender. What brings the input in is part of input and output."""
    messages = {population.name: 0.0 for population in graph.spiking}
    for population, synapse in graph.paths():
        if synapse.source not in messages:
            continue
        _, own_core = torch.unique(cores[population.name], return_inverse=True)
        members = F.one_hot(own_core).T.unflatten(1, population.shape)
        cores_reached = (reached(synapse, members) > 0).sum(0)
        spikes = torch.from_numpy(activity.mean_events(synapse.source)).sum(0)
        messages[synapse.source] += float((spikes * cores_reached).sum())
    return messages
