"""How far each channel's largest weights may be clipped, judged by its membrane potentials on real samples.

Clipping a channel's largest weights lets its scale grow, so that all its other weights are rounded more
finely. A candidate is fed with the float network's own spikes and reset where the float network resets. Its
error is the mean squared difference of the potential before the reset, in units of the threshold. Both
potentials being linear between resets, that is the potential of the *difference* of weights and biases.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...export.graph import Graph, Population
from ..simulation.checks import as_frames
from ..simulation.layers import FloatLayer, over_time
from ..simulation.simulator import activities
from ..simulation.synapses import Emitted
from .scales import Rules, largest_weight, multiplied, to_integers

CLIP_RATIOS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Candidates for the largest weight that keeps its own integer, as shares of a channel's largest weight."""


@dataclass(frozen=True)
class Clipping:
    """What calibration found for a population.

    Attributes:
        ratios: each channel's candidate of least error, or 1 where it never fired, (C,).
        fired: whether the channel fired on any sample, bool (C,).
    """

    ratios: np.ndarray
    fired: np.ndarray


def calibrate(
    graph: Graph, rules: dict[str, Rules], samples: np.ndarray | Tensor, timesteps: int
) -> dict[str, Clipping]:
    """Choose the clipping of every spiking population.

    Args:
        graph: the float network.
        rules: of each of its populations.
        samples: integers, (N, *shape) or (N, T, *shape).
        timesteps: T.

    Raises:
        InputError: the samples don't fit the network.
    """
    port = graph.inputs[0]
    trials = {population.name: _Trial(rules[population.name], timesteps) for population in graph.spiking}
    for shown, activity in activities(graph, samples, timesteps):
        emitted = {port.name: as_frames(shown, port, timesteps), **activity.spikes}
        for trial in trials.values():
            trial.observe(emitted)
    return {name: trial.result() for name, trial in trials.items()}


class _Trial:
    """Every candidate of one population, and its errors so far."""

    def __init__(self, rules: Rules, timesteps: int):
        self.population, self.timesteps = rules.population, timesteps
        clip = largest_weight(self.population)
        candidates = [_difference(rules, rules.largest_scales(clip * ratio)) for ratio in CLIP_RATIOS]
        device = torch.device("cpu")
        self.differences = [FloatLayer(p, rules.payload, timesteps, device) for p in candidates]
        self.errors = np.zeros((len(CLIP_RATIOS), self.population.shape[0]))
        self.fired = np.zeros(self.population.shape[0], bool)

    def observe(self, emitted: Emitted) -> None:
        """Add the errors on a batch, given what all populations emitted."""
        spikes = emitted[self.population.name]
        self.fired |= _per_channel(spikes.sum(dim=0)) > 0
        for index, layer in enumerate(self.differences):
            self.errors[index] += self._squared_error(layer, emitted, spikes)

    def _squared_error(self, layer: FloatLayer, emitted: Emitted, spikes: Tensor) -> np.ndarray:
        """Σ over steps, samples and neurons of the squared difference of potentials, (C,)."""
        assert self.population.neuron is not None
        current = over_time(layer.sums(emitted) + layer.bias, self.timesteps)
        squares, state = torch.zeros_like(current[0]), torch.zeros_like(current[0])
        for step in range(self.timesteps):
            difference = current[step] + self.population.neuron.decay * state
            squares += difference**2
            state = difference.masked_fill(spikes[step] == 1, 0)
        return _per_channel(squares)

    def result(self) -> Clipping:
        """The candidate of least error in every channel that fired."""
        best = np.array(CLIP_RATIOS)[self.errors.argmin(axis=0)]
        return Clipping(np.where(self.fired, best, 1.0), self.fired)


def _difference(rules: Rules, scales: np.ndarray) -> Population:
    """The population whose weights and biases are what rounding and clipping add to the float ones."""
    exact = rules.population
    rounded = multiplied(to_integers(exact, scales, rules.bits), 1 / scales)
    synapses = tuple(
        replace(after, weight=after.weight - before.weight)
        for before, after in zip(exact.synapses, rounded.synapses, strict=True)
    )
    return replace(exact, synapses=synapses, bias=rounded.bias - exact.bias)


def _per_channel(values: Tensor) -> np.ndarray:
    """(B, C, …) summed over samples and neurons, float64 (C,)."""
    return values.double().reshape(*values.shape[:2], -1).sum(dim=(0, 2)).numpy()
