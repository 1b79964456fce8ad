"""Bias correction: what rounding shifts a channel's mean input by is taken back in its integer bias.

Population by population, sources first, the float network and the integer one are shown the same samples,
each with the spikes of its own sources. The mean difference of a channel's input over samples, steps and
neurons, times its scale, goes into its bias, if that stays within all ranges and brings the channel nearer to
the float network: fewer of its spikes differ, or a read-out's totals differ less. (Nagel et al. 2019, arXiv
1906.04721, section 4.2, does it for layers without time.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...export.graph import Graph, Population
from ...export.target import Inputs
from ..simulation.simulator import MEMORY_BUDGET, bytes_per_sample
from ..simulation.synapses import Emitted, full_precision
from .probe import Probe, shown
from .scales import Rules, along_channels

LEAST_SAMPLES = 16
"""So many are used even where they don't fit into the simulator's memory budget."""


def correct_biases(
    floats: Graph,
    integers: Graph,
    rules: dict[str, Rules],
    scales: dict[str, np.ndarray],
    samples: Inputs,
    timesteps: int,
) -> tuple[Graph, dict[str, int]]:
    """The integer network with corrected biases, and how many channels of each population were.

    Args:
        floats: with thresholds of 1.
        rules, scales: of each population by name.
        samples: to calibrate on.
    """
    count = max(LEAST_SAMPLES, MEMORY_BUDGET // (2 * bytes_per_sample(floats, timesteps)))
    left, right = (shown(floats, samples, timesteps, count) for _ in range(2))
    populations, corrected = [], {}
    with torch.no_grad(), full_precision():
        for exact, rounded in zip(floats.populations, integers.populations, strict=True):
            rule, scale = rules[exact.name], scales[exact.name]
            population, chosen = _correct(exact, rounded, rule, scale, left, right)
            populations.append(population)
            corrected[exact.name] = int(chosen.sum())
    return replace(integers, populations=tuple(populations)), corrected


def _correct(
    exact: Population, rounded: Population, rules: Rules, scales: np.ndarray, left: Emitted, right: Emitted
) -> tuple[Population, np.ndarray]:
    """`rounded` with its corrected biases, and which channels have one, bool (C,).

    Args:
        left, right: what the populations so far emit in the float and in the integer network; what this one
            emits is added.
    """
    timesteps = rules.timesteps
    wanted, found = Probe(exact, timesteps), Probe(rounded, timesteps)
    float_sums, sums = wanted.sums(left), found.sums(right)
    shifts = np.round(scales * _means(float_sums, exact) - _means(sums, rounded))
    fits = np.max(list(rules.loads_of(_shifted(rounded, shifts)).values()), axis=0) <= 1
    fits &= rules.constraints.bias_is_free or bool(exact.bias.any())
    shifted = _shifted(rounded, np.where(fits, shifts, 0))
    reference = wanted.emits(float_sums, whole=False)
    before = found.emits(sums, whole=True)
    after = Probe(shifted, timesteps).emits(sums, whole=True)
    unit = scales if exact.is_readout else np.ones_like(scales)
    chosen = fits & (_distance(reference, after, unit) < _distance(reference, before, unit))
    if not exact.is_readout:
        along = torch.from_numpy(along_channels(chosen, len(exact.shape)))
        left[exact.name] = reference.to(torch.uint8)
        right[exact.name] = torch.where(along, after, before).to(torch.uint8)
    return _shifted(rounded, np.where(chosen, shifts, 0)), chosen


def _means(sums: Tensor, population: Population) -> np.ndarray:
    """The mean of each channel's input, bias included, float64 (C,)."""
    bias = np.broadcast_to(population.bias, population.shape).reshape(population.shape[0], -1)
    means = sums.double().reshape(*sums.shape[:3], -1).mean(dim=(0, 1, 3))
    return means.numpy() + bias.mean(axis=1)


def _shifted(population: Population, shifts: np.ndarray) -> Population:
    """`population` with each channel's bias moved by `shifts` (C,)."""
    return replace(population, bias=population.bias + along_channels(shifts, len(population.shape)))


def _distance(reference: Tensor, emitted: Tensor, unit: np.ndarray) -> np.ndarray:
    """How far what the integers emit, in units of `unit` (C,), is from the float network's, (C,)."""
    scale = torch.from_numpy(along_channels(unit, reference.dim() - 2).astype(np.float64))
    squares = (reference.double() - emitted.double() / scale) ** 2
    return squares.reshape(*squares.shape[:3], -1).sum(dim=(0, 1, 3)).numpy()
