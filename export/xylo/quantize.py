"""From a float network to the chip's integers: weights of eight bits, thresholds and biases of sixteen.

A neuron's weights, threshold and bias are multiplied by one number k of its own, which changes nothing that
it does but for rounding: w = 2^s·round(k·w/2^s), θ = round(k·θ), bias = round(k·bias). The shift s is that of
the weight's group (those from the input, those between hidden neurons, those to the outputs). The larger k·θ,
the finer the steps in which states decay; so s is the largest with which every neuron's weights keep all of
their bits while its states, as far as the samples drive them in the float network, stay within their
registers.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ... import InputError, Refusal
from ..graph import Graph, Neuron, Population
from ..target import Inputs
from .chips import CONSTRAINTS, SHIFT_MAX, STATE_MAX
from .network import frames, groups, matrix

HEADROOM = 1.25
"""How much farther states may go than the samples drove them before a register ends."""


def quantize(
    graph: Graph, timesteps: int, bits: int, calibration: Inputs | None
) -> tuple[Graph, dict[str, dict[str, Any]]]:
    """The integer network of the float `graph`, which fits the chip's structure, and a report of each layer.

    Args:
        timesteps: T.
        bits: of a weight, 2 … 8.
        calibration: samples that show how far states go; None: weights aren't shifted.

    Raises:
        Refusal: weights of so many bits don't fit, or a threshold is too small beside its neuron's weights.
        InputError: the network is one of integers already, or the samples don't fit it.
    """
    if graph.is_integer:
        raise InputError(
            f"the network is already one of {graph.weight_bits}-bit integers; quantise the float one"
        )
    if bits not in CONSTRAINTS.weight_bits:
        allowed = ", ".join(map(str, CONSTRAINTS.weight_bits))
        raise Refusal(f"{bits}-bit weights don't fit Xylo, which has {allowed}")
    graph = replace(graph, populations=tuple(_with_decaying_input(p) for p in graph.populations))
    most = 2 ** (bits - 1) - 1
    reach = None if calibration is None else _reach(graph, calibration, timesteps)
    shifts, scales = {}, {}
    for paths in groups(graph).values():
        names = {population.name for population, _ in paths}
        limits = {name: _state_limits(graph[name], reach[name] if reach else None) for name in names}
        shift = _shift([graph[name] for name in names], limits, most) if reach else 0
        for name in names:
            shifts[name] = shift
            scales[name] = np.minimum(most * 2**shift / _largest_weights(graph[name]), limits[name])
    integers = replace(
        graph,
        populations=tuple(_integer(p, scales[p.name], 2 ** shifts[p.name]) for p in graph.populations),
        timesteps=timesteps,
        weight_bits=bits,
        readout_scale=1.0,
    )
    return integers, {p.name: _report(p, scales[p.name], shifts[p.name]) for p in integers.populations}


def _with_decaying_input(population: Population) -> Population:
    """The same population with the chip's current, which is 1/b of one whose input doesn't decay at once."""
    neuron = population.neuron
    assert neuron is not None
    if neuron.decays_input:
        return population
    synapses = (replace(s, weight=s.weight / neuron.current_decay) for s in population.synapses)
    return replace(population, neuron=replace(neuron, decays_input=True), synapses=tuple(synapses))


def _largest_weights(population: Population) -> np.ndarray:
    """The largest magnitude of each neuron's weights, (neurons,); of one without any 1."""
    rows = [np.abs(matrix(synapse)).max(axis=1) for synapse in population.synapses]
    largest = np.max(rows, axis=0)
    return np.where(largest > 0, largest, 1.0)


def _state_limits(population: Population, reached: np.ndarray | None) -> np.ndarray:
    """The largest k of each neuron with which its threshold, bias and states fit their registers."""
    neuron = population.neuron
    assert neuron is not None
    constants = [
        np.broadcast_to(np.abs(each), population.shape) for each in (neuron.threshold, population.bias)
    ]
    largest = np.max([each.reshape(-1) for each in constants], axis=0)
    if reached is not None:
        largest = np.maximum(largest, HEADROOM * reached)
    return STATE_MAX / largest


def _shift(populations: list[Population], limits: dict[str, np.ndarray], most: int) -> int:
    """The largest shift under which every neuron's weights keep all of their bits."""
    spare = [limits[p.name] * _largest_weights(p) / most for p in populations]
    least = min((float(each.min()) for each in spare), default=1.0)
    return min(max(math.floor(math.log2(least)), 0), SHIFT_MAX)


def _integer(population: Population, scales: np.ndarray, step: int) -> Population:
    neuron = population.neuron
    assert neuron is not None

    def scaled(values: np.ndarray) -> np.ndarray:
        full = np.broadcast_to(values, population.shape).reshape(-1)
        return np.round(full * scales).reshape(population.shape)

    synapses = tuple(
        replace(s, kind="dense", weight=step * np.round(matrix(s) * scales[:, None] / step))
        for s in population.synapses
    )
    threshold = scaled(neuron.threshold)
    if np.any(threshold < 1):
        least, most = float(np.min(neuron.threshold)), float(_largest_weights(population).max())
        raise Refusal(
            f"{population.name}: a threshold of {least:.4g} is nothing beside weights up to {most:.4g}, so "
            "no integer is near it; train with smaller weights"
        )
    return replace(
        population,
        synapses=synapses,
        bias=scaled(population.bias),
        neuron=replace(neuron, threshold=threshold),
    )


def _report(population: Population, scales: np.ndarray, shift: int) -> dict[str, Any]:
    neuron = population.neuron
    assert neuron is not None
    return {
        "name": population.name,
        "weight_shift": shift,
        "scale_min": float(f"{scales.min():.4g}"),
        "scale_max": float(f"{scales.max():.4g}"),
        "threshold_min": int(neuron.threshold.min()),
        "threshold_max": int(neuron.threshold.max()),
    }


def _reach(graph: Graph, inputs: Inputs, timesteps: int) -> dict[str, np.ndarray]:
    """How far each neuron's states go in the float network, the current before its decay, (neurons,)."""
    emitted = frames(graph, inputs, timesteps)
    reached = {}
    for population in graph.populations:
        neuron = population.neuron
        assert neuron is not None
        drive = sum(
            emitted[s.source].reshape(*emitted[s.source].shape[:2], -1) @ matrix(s).T
            for s in population.synapses
        )
        bias = np.broadcast_to(population.bias, population.shape).reshape(-1)
        threshold = np.broadcast_to(neuron.threshold, population.shape).reshape(-1)
        emitted[population.name], reached[population.name] = _floats(
            neuron, np.asarray(drive), bias, threshold
        )
    return reached


def _floats(
    neuron: Neuron, drive: np.ndarray, bias: np.ndarray, threshold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A population in float64 over what arrives, (N, T, neurons): its spikes, and how far its states go."""
    u, v = (np.zeros_like(drive[:, 0]) for _ in range(2))
    spikes, reached = np.empty_like(drive), np.zeros(drive.shape[2])
    for step in range(drive.shape[1]):
        u = u + drive[:, step]
        reached = np.maximum(reached, np.abs(u).max(axis=0, initial=0))
        u = neuron.current_decay * u
        v = neuron.decay * v + u + bias
        reached = np.maximum(reached, np.abs(v).max(axis=0, initial=0))
        spikes[:, step] = np.clip(np.floor(v / threshold), 0, neuron.max_spikes)
        v = v - spikes[:, step] * threshold
    return spikes, reached
