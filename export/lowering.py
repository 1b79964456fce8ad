"""Lowering: any NIR graph, ours or a stranger's, into populations and the synapse paths between them.

Between two neurons NIR has linear nodes, behind and beside one another; `linear.py` folds them into one
synapse per path. Here are the neurons, the order of the populations, and what makes a network an integer one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

import nir
import numpy as np

from .. import InputError, Refusal
from .graph import GRADED_PAYLOAD_MAX, Graph, InputPort, Neuron, Population, Synapse, compact, depths
from .linear import FOLDS, Current, from_source, multiplied, summed, synapses
from .metadata import METADATA, header, notes
from .shapes import NEURONS, loop, node_shapes, predecessors, signal_order

SOURCES = (nir.Input, *NEURONS)
"""Node types that paths start at."""

DECAY_DECIMALS = 6
"""A decay read from a rounded τ is taken to be the number of so many decimals, if that gives the very τ."""

GRID_DECAYS = (0.0, 0.5, 1.0)
"""Decays under which T steps of integers stay on the grid of 2^−(T−1)."""

WEIGHT_BITS = range(2, 9)
"""The bits that the design's integers may have."""


def lower(graph: nir.NIRGraph, timesteps: int | None = None, dt: float | None = None) -> Graph:
    """The populations and synapses of a NIR graph.

    Populations come by depth, then by name, and have the names of their NIR nodes; a read-out has the name of
    the map before its Output, or the Output's where several are summed. What `nir.to_nir` wrote comes back
    exactly, in this order. Without snnkd's metadata decays and float thresholds may be off by a rounding; a
    network of integers is recognised by its numbers if T is known, but its read-out scale and largest payload
    aren't in the numbers and are taken to be 1 and 255.

    Args:
        timesteps: T; None: what the file says, if it does.
        dt: seconds per Euler step; None: what the file says, else 1e-4.

    Raises:
        InputError: the graph isn't consistent, or an argument isn't positive.
        Refusal: it has what these populations can't express; node, reason and way out named.
    """
    if (timesteps is not None and timesteps < 1) or (dt is not None and not dt > 0):
        raise InputError(f"timesteps are {timesteps!r} and dt is {dt!r}, expected positive numbers")
    head = header(graph)
    if head.reset != "zero":
        raise Refusal(
            f"its neurons reset by {head.reset!r}, expected a hard reset to zero; train it with that"
        )
    steps = timesteps or head.timesteps
    inputs = tuple(_input(name, node) for name, node in sorted(graph.inputs.items()))
    with np.errstate(over="ignore", invalid="ignore"):  # `_population` looks for what is infinite
        populations = _in_order(inputs, _populations(graph, dt or head.dt))
    bits = head.bits if METADATA in graph.metadata else _bits_by_numbers(populations, steps)
    if bits is not None:
        grid = _grid(head.timesteps or steps or 1)
        populations = tuple(_integer(population, grid) for population in populations)
    return Graph(inputs, populations, steps, bits, head.readout_scale)


def _input(name: str, node: nir.Input) -> InputPort:
    payload_max = notes(node).get("input", GRADED_PAYLOAD_MAX)
    if not isinstance(payload_max, int) or payload_max < 1:
        raise InputError(f"node {name!r}: largest payload is {payload_max!r}, expected a positive integer")
    return InputPort(name, tuple(int(side) for side in np.atleast_1d(node.input_type["input"])), payload_max)


def _populations(graph: nir.NIRGraph, dt: float) -> list[Population]:
    """Neurons and read-outs with what arrives at them, in no order and without depth."""
    currents, feeding = _currents(graph, dt), predecessors(graph)
    populations: dict[str, Population] = {}
    for name, node in sorted(graph.nodes.items()):
        emitting = [graph.nodes[source] for source in feeding[name]]
        with _naming(name, node):
            if isinstance(node, NEURONS):
                neuron, gain = _neuron(node, dt)
                current = multiplied(summed([currents[source] for source in feeding[name]]), gain)
                populations[name] = _population(name, current, neuron)
            elif isinstance(node, nir.Output) and not all(isinstance(n, SOURCES) for n in emitting):
                alone = len(emitting) == 1 and feeding[name][0] not in populations
                readout = feeding[name][0] if alone else name
                current = summed([currents[source] for source in feeding[name]])
                populations[readout] = _population(readout, current, None)
    return list(populations.values())


def _population(name: str, current: Current, neuron: Neuron | None) -> Population:
    population = Population(name, current.shape, synapses(current), current.bias, neuron, depth=0)
    numbers = [current.bias, *(synapse.weight for synapse in population.synapses)]
    numbers += [] if neuron is None else [neuron.threshold]
    if not all(np.all(np.isfinite(values)) for values in numbers):
        raise Refusal("its numbers are too large: multiplied they are infinite")
    return population


def _currents(graph: nir.NIRGraph, dt: float) -> dict[str, Current]:
    """What each node but the Outputs emits."""
    shapes, feeding = node_shapes(graph), predecessors(graph)
    try:
        order = signal_order(graph, cut=NEURONS)
    except CycleError as error:
        raise _recurrence(error) from error
    currents: dict[str, Current] = {}
    for name in order:
        node = graph.nodes[name]
        if isinstance(node, SOURCES):
            currents[name] = from_source(name, shapes[name])
        elif not isinstance(node, nir.Output):
            with _naming(name, node):
                if type(node) not in FOLDS:
                    raise Refusal("isn't supported; use Conv2d with a height of 1")
                arriving = summed([currents[source] for source in feeding[name]])
                currents[name] = FOLDS[type(node)](node, arriving, dt)
    return currents


@contextmanager
def _naming(name: str, node: nir.NIRNode) -> Iterator[None]:
    """Put the node's name before the reason of a refusal."""
    try:
        yield
    except Refusal as refusal:
        raise Refusal(f"node {name!r} ({type(node).__name__}): {refusal}") from refusal


def _recurrence(error: CycleError) -> Refusal:
    return Refusal(f"recurrent connections aren't supported: {loop(error)}; unroll them, or leave them out")


def _in_order(inputs: tuple[InputPort, ...], populations: list[Population]) -> tuple[Population, ...]:
    """By depth, then by name, and each one's synapses by the order of their sources."""
    ports = {port.name for port in inputs}
    sources = {p.name: sorted({s.source for s in p.synapses} - ports) for p in populations}
    try:
        topological = list(TopologicalSorter(sources).static_order())
    except CycleError as error:
        raise _recurrence(error) from error
    depth = depths({name: sources[name] for name in topological})
    ordered = sorted(populations, key=lambda p: (depth[p.name], p.name))
    rank = {name: index for index, name in enumerate([*sorted(ports), *(p.name for p in ordered)])}
    return tuple(
        replace(
            p, depth=depth[p.name], synapses=tuple(sorted(p.synapses, key=lambda s: _synapse_rank(s, rank)))
        )
        for p in ordered
    )


def _synapse_rank(synapse: Synapse, rank: dict[str, int]) -> tuple[int, int, str]:
    return rank[synapse.source], synapse.delay, synapse.kind


def _neuron(node: nir.NIRNode, dt: float) -> tuple[Neuron, np.ndarray]:
    """A node's neuron, and the factor by which its input is to be multiplied."""
    kind = type(node)
    if kind not in NEURON_KINDS:
        raise Refusal(
            f"this kind of neuron isn't supported; there are: {', '.join(k.__name__ for k in NEURON_KINDS)}"
        )
    return NEURON_KINDS[kind](node, dt)


def _lif(node: nir.LIF, dt: float) -> tuple[Neuron, np.ndarray]:
    """v ← v + dt/τ·(−v + r·x); in units of dt/τ that is v ← (1 − dt/τ)·v + r·x."""
    _check_zero(node, "v_leak", "v_reset")
    tau = np.unique(node.tau.astype(np.result_type(node.tau, np.float32)))
    if len(tau) > 1:
        raise Refusal(f"tau differs within the population ({tau[0]:g} … {tau[-1]:g} s); make it one number")
    decay = _decay(tau[0], dt, notes(node).get("decay"))
    return Neuron(decay, _threshold(node, 1 - decay)), node.r


def _if(node: nir.IF, dt: float) -> tuple[Neuron, np.ndarray]:
    """v ← v + dt·r·x."""
    _check_zero(node, "v_reset")
    return Neuron(1.0, compact(node.v_threshold, node.v_threshold.shape)), node.r * dt


NEURON_KINDS: dict[type[nir.NIRNode], Callable[[Any, float], tuple[Neuron, np.ndarray]]] = {
    nir.LIF: _lif,
    nir.IF: _if,
}
"""The neurons that have a place in `graph.Neuron`, and how their constants become its."""


def _check_zero(node: nir.NIRNode, *fields: str) -> None:
    for field in fields:
        value = getattr(node, field)
        if np.any(value):
            raise Refusal(
                f"{field} is {value[np.nonzero(value)][0]:g}, only 0 is supported; shift the potentials by it"
            )


def _decay(tau: np.floating, dt: float, noted: Any) -> float:
    """1 − dt/τ: as noted or as the roundest number, if that gives the very τ, otherwise as it comes out."""
    if not dt <= tau:
        raise Refusal(
            f"tau is {tau:g} s, shorter than a step of {dt:g} s; give the time step that the network is for"
        )
    decay = 1 - dt / float(tau)
    if decay == 1:
        raise Refusal(f"tau is {tau:g} s, so long that a step of {dt:g} s leaks nothing; use IF")
    for candidate in (noted, round(decay, DECAY_DECIMALS)):
        if isinstance(candidate, float) and 0 <= candidate < 1 and type(tau)(dt / (1 - candidate)) == tau:
            return candidate
    return decay


def _threshold(node: nir.LIF, leak: float) -> np.ndarray:
    """v_threshold in units of the leak: as noted, if that gives the very v_threshold, or as it comes out."""
    shape = node.v_threshold.shape
    noted = np.asarray(notes(node).get("scale", np.nan))
    with suppress(ValueError):  # a note that doesn't broadcast is none
        if noted.dtype == np.float64 and np.array_equal(
            leak * np.broadcast_to(noted, shape), node.v_threshold
        ):
            return compact(noted, shape)
    return compact(node.v_threshold / leak, shape)


def _grid(timesteps: int) -> float:
    """How far apart membrane potentials of integers may lie after T steps with a decay of 1/2."""
    return 2.0 ** (1 - timesteps)


def _integer(population: Population, grid: float) -> Population:
    """`population` with the integers that its thresholds stand for.

    Raises:
        InputError: it isn't a population of integers.
    """
    if not _is_integer(population, grid):
        raise InputError(
            f'metadata["{METADATA}"] says that {population.name!r} holds integers, but it does not; '
            f"leave `bits` out of the metadata"
        )
    neuron = population.neuron
    return population if neuron is None else replace(population, neuron=_floored(neuron))


def _floored(neuron: Neuron) -> Neuron:
    return replace(neuron, threshold=np.floor(neuron.threshold))


def _is_integer(population: Population, grid: float) -> bool:
    """Whether weights and biases are integers, and thresholds too little above one to make a difference."""
    numbers = [population.bias, *(synapse.weight for synapse in population.synapses)]
    thresholds = np.zeros(1) if population.neuron is None else population.neuron.threshold
    return all(np.all(n == np.floor(n)) for n in numbers) and bool(np.all(thresholds % 1 < grid))


def _bits_by_numbers(populations: tuple[Population, ...], timesteps: int | None) -> int | None:
    """The fewest bits that hold all weights, if all numbers are the integers of a network of T steps."""
    if timesteps is None or not all(_is_integer(p, _grid(timesteps)) for p in populations):
        return None
    if any(p.neuron is not None and p.neuron.decay not in GRID_DECAYS for p in populations):
        return None
    weights = [s.weight for p in populations for s in p.synapses if s.kind != "identity"]
    return next((bits for bits in WEIGHT_BITS if all(_fits(weight, bits) for weight in weights)), None)


def _fits(weight: np.ndarray, bits: int) -> bool:
    """Whether `weight` is g·q with |q| ≤ Q, the design's integers of so many bits."""
    unit, largest = 2 ** (9 - bits), 2 ** (bits - 1) - 1
    return bool(np.all(weight % unit == 0) and np.all(np.abs(weight) <= unit * largest))
