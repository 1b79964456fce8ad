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
from ...export.target import Inputs
from ..simulation.simulator import activities
from ..simulation.synapses import Emitted
from .probe import Probe, over_time, shown
from .scales import Rules, largest_weight, multiplied, to_integers

CLIP_RATIOS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)
"""Candidates for the largest weight that keeps its own integer, as shares of a channel's largest weight."""


def clip_ratios(bits: int) -> tuple[float, ...]:
    """The candidates for weights of so many bits; with many, a small one is never the best."""
    return tuple(ratio for ratio in CLIP_RATIOS if bits <= 3 or ratio >= 0.3)


@dataclass(frozen=True)
class Clipping:
    """What calibration found for a population.

    Attributes:
        ratios: each channel's candidate of least error, or 1 where it never fired (unless its weights have no
            zero, which would make it fire), (C,); of a read-out the candidate of least error of all classes.
        fired: whether the channel fired on any sample, bool (C,); None for a read-out.
    """

    ratios: np.ndarray
    fired: np.ndarray | None


def calibrate(graph: Graph, rules: dict[str, Rules], samples: Inputs, timesteps: int) -> dict[str, Clipping]:
    """Choose the clipping of every population.

    Args:
        graph: the float network.
        rules: of each of its populations.
        samples: to calibrate on.
        timesteps: T.

    Raises:
        InputError: the samples don't fit the network.
    """
    trials = {name: _Trial(rule, timesteps) for name, rule in rules.items()}
    for chunk, activity in activities(graph, samples, timesteps):
        emitted = {**shown(graph, chunk, timesteps), **activity.spikes}
        for trial in trials.values():
            trial.observe(emitted)
    return {name: trial.result() for name, trial in trials.items()}


class _Trial:
    """Every candidate of one population, and its errors so far."""

    def __init__(self, rules: Rules, timesteps: int):
        self.population, self.timesteps, self.bits = rules.population, timesteps, rules.form.bits
        self.one_scale = rules.one_scale
        clip = largest_weight(self.population)
        self.ratios = np.array(clip_ratios(self.bits))
        candidates = [_difference(rules, rules.largest_scales(clip * ratio)) for ratio in self.ratios]
        self.differences = [Probe(population, timesteps) for population in candidates]
        self.errors = np.zeros((len(self.ratios), self.population.shape[0]))
        self.spikes = np.zeros(self.population.shape[0])

    def observe(self, emitted: Emitted) -> None:
        """Add the errors on a batch, given what all populations emitted."""
        for index, layer in enumerate(self.differences):
            self.errors[index] += self._squared_error(layer, emitted)
        if not self.population.is_readout:
            self.spikes += _per_channel(emitted[self.population.name].sum(dim=0))

    def _squared_error(self, layer: Probe, emitted: Emitted) -> np.ndarray:
        """Σ over steps, samples and neurons of the squared difference of potentials, (C,)."""
        sums = over_time(layer.sums(emitted), self.timesteps)
        squares, current, state = (torch.zeros_like(sums[0]) for _ in range(3))
        for step in range(self.timesteps):
            current = sums[step] + current * layer.neuron.current_decay
            state = current + layer.bias + state * layer.neuron.decay
            squares += state**2
            if not self.population.is_readout:
                state = state.masked_fill(emitted[self.population.name][step] == 1, 0)
        return _per_channel(squares)

    def result(self) -> Clipping:
        """The candidate of least error in every channel that fired, or in a read-out."""
        ratios = self.ratios
        fired = None if self.population.is_readout else self.spikes > 0
        if self.one_scale or fired is None:
            best = ratios[self.errors.sum(axis=1).argmin()]
            return Clipping(np.full(self.population.shape[0], best), fired)
        judged = fired | (self.bits == 1)
        return Clipping(np.where(judged, ratios[self.errors.argmin(axis=0)], 1.0), fired)


def _difference(rules: Rules, scales: np.ndarray) -> Population:
    """The population whose weights and biases are what rounding and clipping add to the float ones."""
    exact = rules.population
    rounded = multiplied(to_integers(exact, scales, rules.form), 1 / scales)
    synapses = tuple(
        replace(after, weight=after.weight - before.weight)
        for before, after in zip(exact.synapses, rounded.synapses, strict=True)
    )
    return replace(exact, synapses=synapses, bias=rounded.bias - exact.bias)


def _per_channel(values: Tensor) -> np.ndarray:
    """(B, C, …) summed over samples and neurons, float64 (C,)."""
    return values.double().reshape(*values.shape[:2], -1).sum(dim=(0, 2)).numpy()
