"""Lowering: any NIR graph, ours or a stranger's, into populations and the synapse paths between them.

Between two neurons NIR has linear nodes, behind and beside one another; `linear.py` folds them into one
synapse per path. Here are the neurons, the order of the populations, and what makes a network an integer one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

import nir
import numpy as np

from .. import InputError, Refusal
from .graph import GRADED_PAYLOAD_MAX, Graph, InputPort, Neuron, Population, Synapse, compact, depths
from .integers import FRACTION_BITS, WEIGHT_BITS, step_of
from .linear import FOLDS, Current, from_source, multiplied, summed, synapses
from .maps import with_heights
from .metadata import METADATA, header, notes
from .neurons import READOUT_NEURONS, RESETTING, Reading, read_neuron
from .shapes import NEURONS, Shape, node_shapes, predecessors, recurrence, signal_order

SOURCES = (nir.Input, *NEURONS)
"""Node types that paths start at."""


def lower(graph: nir.NIRGraph, timesteps: int | None = None, dt: float | None = None) -> Graph:
    """The populations and synapses of a NIR graph.

    Populations come by depth, then by name, and have the names of their NIR nodes; a read-out of sums has the
    name of the map before its Output, or the Output's where several are summed. Signals (C, L) are maps of
    height 1, (C, 1, L). Neurons are read as `neurons.py` says. What `nir.to_nir` wrote comes back
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
    graph = with_heights(graph, node_shapes(graph))
    if head.reset != "zero" and not _says_how(graph):
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


def _says_how(graph: nir.NIRGraph) -> bool:
    """Whether every neuron that may reset otherwise than to zero notes it in the way that is read."""
    resetting = [node for node in graph.nodes.values() if isinstance(node, RESETTING)]
    return any("reset" in notes(node) for node in resetting) and not any(
        "subtract" in notes(node) for node in resetting
    )


def _input(name: str, node: nir.Input) -> InputPort:
    payload_max = notes(node).get("input", GRADED_PAYLOAD_MAX)
    if not isinstance(payload_max, int) or payload_max < 1:
        raise InputError(f"node {name!r}: largest payload is {payload_max!r}, expected a positive integer")
    return InputPort(name, tuple(int(side) for side in np.atleast_1d(node.input_type["input"])), payload_max)


def _populations(graph: nir.NIRGraph, dt: float) -> list[Population]:
    """Neurons and read-outs with what arrives at them, in no order and without depth."""
    shapes, feeding = node_shapes(graph), predecessors(graph)
    currents = _currents(graph, shapes, dt)
    populations: dict[str, Population] = {}
    for name, node in sorted(graph.nodes.items()):
        emitting = [graph.nodes[source] for source in feeding[name]]
        with _naming(name, node):
            if isinstance(node, READOUT_NEURONS):
                _check_shown(graph, name, feeding)
            if isinstance(node, NEURONS):
                current = summed([currents[source] for source in feeding[name]])
                populations[name] = _neurons(name, current, read_neuron(node, dt, shapes[name]))
            elif isinstance(node, nir.Output) and not _shows_last(graph, name, feeding):
                alone = len(emitting) == 1 and not isinstance(emitting[0], SOURCES)
                readout = feeding[name][0] if alone else name
                current = summed([currents[source] for source in feeding[name]])
                populations[readout] = _population(readout, current, None)
    return list(populations.values())


def _shows_last(graph: nir.NIRGraph, output: str, feeding: dict[str, list[str]]) -> bool:
    """Whether an Output shows one population that feeds Outputs alone: it needs no read-out of its own.

    Nor does one that shows an input, as it was given.
    """
    first, *more = feeding[output]
    if isinstance(graph.nodes[first], nir.Input):
        return not more
    targets = [target for target, sources in feeding.items() if first in sources]
    ends = all(isinstance(graph.nodes[target], nir.Output) for target in targets)
    return not more and ends and isinstance(graph.nodes[first], NEURONS)


def _check_shown(graph: nir.NIRGraph, name: str, feeding: dict[str, list[str]]) -> None:
    """Raise Refusal unless the potential of the node called `name` reaches Outputs of its own alone."""
    for target, sources in feeding.items():
        shown = isinstance(graph.nodes[target], nir.Output) and sources == [name]
        if name in sources and not shown:
            raise Refusal(
                f"shows its potential to {target!r}, but only an Output of its own can take it; use a neuron "
                f"that spikes, or end the network there"
            )


def _neurons(name: str, current: Current, reading: Reading) -> Population:
    """The population of the neurons that were read, with what arrives at them."""
    current = multiplied(current, reading.gain)
    if reading.neuron.current_decay and np.any(current.bias):
        raise Refusal(
            "a bias arrives through the memory of the current, where it grows from step to step; a chip's "
            "bias is the same at each: leave it out (bias=False), or say it with v_leak"
        )
    bias = np.broadcast_to(current.bias, current.shape) + reading.bias
    return _population(name, replace(current, bias=compact(bias, current.shape)), reading.neuron)


def _population(name: str, current: Current, neuron: Neuron | None) -> Population:
    population = Population(name, current.shape, synapses(current), current.bias, neuron, depth=0)
    numbers = [current.bias, *(synapse.weight for synapse in population.synapses)]
    numbers += [neuron.threshold] if neuron is not None and neuron.spikes else []
    if not all(np.all(np.isfinite(values)) for values in numbers):
        raise Refusal("its numbers are too large: multiplied they are infinite")
    return population


def _currents(graph: nir.NIRGraph, shapes: dict[str, Shape], dt: float) -> dict[str, Current]:
    """What each node but the Outputs emits."""
    feeding = predecessors(graph)
    try:
        order = signal_order(graph, {name for name, node in graph.nodes.items() if isinstance(node, NEURONS)})
    except CycleError as error:
        raise recurrence(error) from error
    currents: dict[str, Current] = {}
    for name in order:
        node = graph.nodes[name]
        if isinstance(node, SOURCES):
            currents[name] = from_source(name, shapes[name])
        elif not isinstance(node, nir.Output):
            with _naming(name, node):
                arriving = summed([currents[source] for source in feeding[name]])
                currents[name] = FOLDS[type(node)](node, arriving, dt)
    return currents


@contextmanager
def _naming(name: str, node: nir.NIRNode) -> Iterator[None]:
    """Put the node's name before the reason of an error."""
    try:
        yield
    except (InputError, Refusal) as error:
        raise type(error)(f"node {name!r} ({type(node).__name__}): {error}") from error


def _in_order(inputs: tuple[InputPort, ...], populations: list[Population]) -> tuple[Population, ...]:
    """By depth, then by name, and each one's synapses by the order of their sources."""
    ports = {port.name for port in inputs}
    sources = {p.name: sorted({s.source for s in p.synapses} - ports) for p in populations}
    try:
        topological = list(TopologicalSorter(sources).static_order())
    except CycleError as error:
        raise recurrence(error) from error
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


def _grid(timesteps: int) -> float:
    """How far apart membrane potentials of integers lie at least, on a chip, after T steps."""
    return 2.0 ** -min(timesteps - 1, FRACTION_BITS)


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
    neuron = population.neuron
    thresholds = neuron.threshold if neuron is not None and neuron.spikes else np.zeros(1)
    return all(np.all(n == np.floor(n)) for n in numbers) and bool(np.all(thresholds % 1 < grid))


def _bits_by_numbers(populations: tuple[Population, ...], timesteps: int | None) -> int | None:
    """The fewest bits that hold all weights, if all numbers are the integers of a network of T steps."""
    if timesteps is None or not all(_is_integer(p, _grid(timesteps)) for p in populations):
        return None
    neurons = [p.neuron for p in populations if p.neuron is not None]
    if not all(n.halves for n in neurons):
        return None
    weights = [s.weight for p in populations for s in p.synapses if s.kind != "identity"]
    fitting = (bits for bits in WEIGHT_BITS if all(step_of(weight, bits) for weight in weights))
    return next(fitting, None)
