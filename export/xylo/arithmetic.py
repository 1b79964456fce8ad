"""Our own model of the chip's integers, all samples at once: what SynSense's xylosim is compared with.

Everything has 16 bits and saturates, S(x) = min(max(x, −2^15), 2^15 − 1). In each step, with a population's
sources in the chip's order and n_j spikes (or events) of source j:

    I ← S(I + w_j·n_j) for each j in turn;   I ← I − Δ(I, d_syn)
    v ← S(v + S(S(I − Δ(v, d_mem)) + bias))
    s = min(⌊v/θ⌋, 31) where v ≥ θ (an output neuron: min(…, 1));   v ← v − s·θ

Δ(x, d) is x >> d, rounded down, but at least 1 for x > 0. Neither xylosim nor rockpool states this order of
additions; it was found by comparing with xylosim, as the tests do. Time is the graph's: the chip's own delay
of a step per layer is taken out (`network.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import Refusal
from ..graph import Graph, Population
from ..target import Inputs, Recording
from .chips import STATE_MAX, STATE_MIN
from .network import blocks, dash_of, frames, matrix
from .quantize import quantize


class XyloArithmetic:
    """See `export.target.Arithmetic`; the integers are the same on every chip of the family."""

    def quantize(
        self, graph: Graph, timesteps: int, bits: int, calibration: Inputs | None
    ) -> tuple[Graph, dict[str, dict[str, Any]]]:
        """The integer network of a float one (`quantize.quantize`), and what samples did to its registers.

        The report of a layer says how near its potentials and currents came to the end of their registers
        (`membrane_share`, `accumulator_share`) and how many of their values were cut off there (`saturated`),
        on the calibration samples. A sample may do more; it is computed as the chip does it all the same.
        """
        integers, layers = quantize(graph, timesteps, bits, calibration)
        if calibration is not None:
            for played in play(integers, calibration, timesteps):
                layers[played.name] |= {
                    "range": "saturates" if played.saturated else "not reached",
                    "accumulator_share": played.largest_current / STATE_MAX,
                    "membrane_share": played.largest_potential / STATE_MAX,
                    "saturated": played.saturated,
                }
        return integers, layers

    def record(self, graph: Graph, inputs: Inputs, timesteps: int) -> Recording:
        """Every spike count of an integer network that fits, uint8 (N, T, *shape).

        Raises:
            InputError: the inputs don't fit.
            Refusal: the network isn't one of these integers.
        """
        spikes = {played.name: played.spikes for played in play(graph, inputs, timesteps)}
        return Recording({population.name: spikes[population.name] for population in graph.populations}, {})

    def membrane(self, graph: Graph, inputs: Inputs, timesteps: int, name: str) -> np.ndarray:
        """Potentials of population `name` before each reset, int64 (T, N, *shape)."""
        (potentials,) = (p.potentials for p in play(graph, inputs, timesteps) if p.name == name)
        return potentials.swapaxes(0, 1)


@dataclass(frozen=True)
class Played:
    """What a population did.

    Attributes:
        spikes: uint8 (N, T, *shape).
        potentials: before each reset, int64 (N, T, *shape).
        largest_current, largest_potential: the largest magnitudes.
        saturated: how many sums were cut off.
    """

    name: str
    spikes: np.ndarray
    potentials: np.ndarray
    largest_current: int
    largest_potential: int
    saturated: int


def play(graph: Graph, inputs: Inputs, timesteps: int) -> Iterator[Played]:
    """Run an integer network's populations, sources before what they feed.

    Raises:
        InputError: the inputs don't fit.
        Refusal: the network isn't one of these integers.
    """
    if not graph.is_integer:
        raise Refusal("the chip's arithmetic is of integers, and this is a float network; quantise it")
    order = {block.name: index for index, block in enumerate(blocks(graph))}
    emitted = frames(graph, inputs, timesteps)
    for population in graph.populations:
        sources = sorted(population.synapses, key=lambda synapse: order.get(synapse.source, -1))
        counts = np.concatenate(
            [emitted[s.source].reshape(*_lead(emitted[s.source]), -1) for s in sources], 2
        )
        weights = np.concatenate([matrix(synapse) for synapse in sources], axis=1)
        played = _neurons(population, counts, weights)
        emitted[population.name] = played.spikes
        yield played


def _lead(emitted: np.ndarray) -> tuple[int, int]:
    return emitted.shape[0], emitted.shape[1]


def _neurons(population: Population, counts: np.ndarray, weights: np.ndarray) -> Played:
    """Run a population over what its sources emitted, (N, T, sources)."""
    neuron = population.neuron
    if neuron is None or neuron.reset != "subtract":
        raise Refusal(f"{population.name}: Xylo's neurons take their threshold away when they spike")
    current_dash, dash = dash_of(neuron.current_decay), dash_of(neuron.decay)
    if current_dash is None or dash is None:
        raise Refusal(f"{population.name}: Xylo's decays are 1 − 2^−d, d being 1 … 15")
    threshold, bias = (
        np.broadcast_to(each, population.shape).reshape(-1).astype(np.int64)
        for each in (neuron.threshold, population.bias)
    )
    samples, steps, _ = counts.shape
    current, potential = (np.zeros((samples, population.size), np.int64) for _ in range(2))
    spikes = np.empty((samples, steps, population.size), np.uint8)
    potentials = np.empty((samples, steps, population.size), np.int64)
    largest, saturated = 0, 0
    for step in range(steps):
        current, cut = accumulated(current, counts[:, step], weights)
        largest = max(largest, int(np.abs(current).max(initial=0)))
        current -= decrease(current, current_dash)
        sums = [current - decrease(potential, dash)]
        sums.append(saturate(sums[0]) + bias)
        sums.append(potential + saturate(sums[1]))
        potential = saturate(sums[2])
        saturated += cut + sum(int(np.count_nonzero(each != saturate(each))) for each in sums)
        potentials[:, step] = potential
        fired = np.where(potential >= threshold, np.minimum(potential // threshold, neuron.max_spikes), 0)
        potential = potential - fired * threshold
        spikes[:, step] = fired
    shape = (samples, steps, *population.shape)
    reached = int(np.abs(potentials).max(initial=0))
    return Played(
        population.name, spikes.reshape(shape), potentials.reshape(shape), largest, reached, saturated
    )


def saturate(values: np.ndarray) -> np.ndarray:
    """`values` cut off to 16 bits."""
    return np.clip(values, STATE_MIN, STATE_MAX)


def decrease(state: np.ndarray, dash: int) -> np.ndarray:
    """Δ: by how much a state decays."""
    shifted = state >> dash
    return np.where((shifted == 0) & (state > 0), 1, shifted)


def accumulated(current: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, int]:
    """The currents (N, neurons) after all sources' spikes, in their order, and how many were cut off.

    Args:
        counts: (N, sources).
        weights: whole numbers, float64 (neurons, sources).
    """
    spikes = counts.astype(np.float64)
    rise = (spikes @ np.maximum(weights, 0).T).astype(np.int64)
    fall = (spikes @ np.minimum(weights, 0).T).astype(np.int64)
    after = current + rise + fall
    risky = ((current + rise > STATE_MAX) | (current + fall < STATE_MIN)).any(axis=1)
    cut = 0
    for sample in np.flatnonzero(risky):
        each = counts[sample].astype(np.int64)[:, None] * weights.T.astype(np.int64)
        state, touched = current[sample], np.zeros(current.shape[1], bool)
        for change in each[counts[sample] > 0]:
            sums = state + change
            state = saturate(sums)
            touched |= state != sums
        after[sample] = state
        cut += int(touched.sum())
    return after, cut
