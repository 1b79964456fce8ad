"""How far each channel's largest weights may be clipped, judged by its membrane potentials on real samples.

Clipping a channel's largest weights lets its scale grow, so that all its other weights are rounded more
finely. A candidate is fed with the float network's own spikes and reset where the float network resets. Its
error is the mean squared difference of the potential before the reset, in units of the threshold. Both
potentials being linear between resets, that is the potential of the *difference* of weights and biases. A
read-out is judged as the host uses it, as a potential that neither decays nor resets.
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

CLIP_RATIOS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Candidates for the largest weight that keeps its own integer, as shares of a channel's largest weight."""


@dataclass(frozen=True)
class Clipping:
    """What calibration found for a population.

    Attributes:
        ratios: each channel's candidate of least error, or 1 where it never fired, (C,); of a read-out the
            candidate of least error over all classes.
        fired: whether the channel fired on any sample, bool (C,); None for a read-out.
    """

    ratios: np.ndarray
    fired: np.ndarray | None


def calibrate(
    graph: Graph, rules: dict[str, Rules], samples: np.ndarray | Tensor, timesteps: int
) -> dict[str, Clipping]:
    """Choose the clipping of every population.

    Args:
        graph: the float network.
        rules: of each of its populations.
        samples: integers, (N, *shape) or (N, T, *shape).
        timesteps: T.

    Raises:
        InputError: the samples don't fit the network.
    """
    port = graph.inputs[0]
    trials = {name: _Trial(rule, timesteps) for name, rule in rules.items()}
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
        self.spikes = np.zeros(self.population.shape[0])

    def observe(self, emitted: Emitted) -> None:
        """Add the errors on a batch, given what all populations emitted."""
        for index, layer in enumerate(self.differences):
            self.errors[index] += self._squared_error(layer, emitted)
        if self.population.neuron is not None:
            self.spikes += _per_channel(emitted[self.population.name].sum(dim=0))

    def _squared_error(self, layer: FloatLayer, emitted: Emitted) -> np.ndarray:
        """Σ over steps, samples and neurons of the squared difference of potentials, (C,)."""
        neuron = self.population.neuron
        current = over_time(layer.sums(emitted) + layer.bias, self.timesteps)
        squares, state = torch.zeros_like(current[0]), torch.zeros_like(current[0])
        for step in range(self.timesteps):
            state = current[step] + state * (1.0 if neuron is None else neuron.decay)
            squares += state**2
            if neuron is not None:
                state = state.masked_fill(emitted[self.population.name][step] == 1, 0)
        return _per_channel(squares)

    def result(self) -> Clipping:
        """The candidate of least error in every channel that fired, or in a read-out."""
        ratios = np.array(CLIP_RATIOS)
        if self.population.neuron is None:
            best = ratios[self.errors.sum(axis=1).argmin()]
            return Clipping(np.full(self.population.shape[0], best), None)
        fired = self.spikes > 0
        return Clipping(np.where(fired, ratios[self.errors.argmin(axis=0)], 1.0), fired)


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
