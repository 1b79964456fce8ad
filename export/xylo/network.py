"""A network as the chip has it: one population of hidden neurons, and one of output neurons.

Layers become blocks of the hidden population. What a hidden neuron emits reaches hidden and output neurons
one step later, so a layer of depth d works d − 1 steps behind the first; where every path leads to the next
depth and nothing moves without input, that shift is all there is, and taking it out leaves what the graph
says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ... import InputError
from ..graph import Graph, Population, Synapse
from ..target import Inputs
from .chips import DASHES, SHIFT_MAX, WEIGHT_MAX, WEIGHT_MIN


@dataclass(frozen=True)
class Block:
    """Where a layer's neurons lie: in the hidden or the output population, from `first` on.

    Attributes:
        delay: steps that it works behind the first layer.
    """

    name: str
    outputs: bool
    first: int
    size: int
    delay: int

    @property
    def neurons(self) -> slice:
        return slice(self.first, self.first + self.size)


def output_names(graph: Graph) -> set[str]:
    """The populations that feed nobody."""
    feeding = {synapse.source for _, synapse in graph.paths()}
    return {population.name for population in graph.populations} - feeding


def input_names(graph: Graph) -> set[str]:
    """The populations that an input feeds."""
    ports = {port.name for port in graph.inputs}
    return {population.name for population, synapse in graph.paths() if synapse.source in ports}


def feeder_names(graph: Graph) -> set[str]:
    """The populations that feed outputs."""
    outputs = output_names(graph)
    return {synapse.source for population, synapse in graph.paths() if population.name in outputs}


def blocks(graph: Graph) -> list[Block]:
    """The layers in the chip's order: those that take input first, those that feed outputs last."""
    outputs, taking, feeding = output_names(graph), input_names(graph), feeder_names(graph)

    def rank(population: Population) -> tuple[bool, int]:
        name = population.name
        return name in outputs, (0 if name in taking else 2) + (1 if name in feeding else 0)

    found, first = [], {False: 0, True: 0}
    for population in sorted(graph.populations, key=rank):
        is_output = population.name in outputs
        place = first[is_output]
        found.append(Block(population.name, is_output, place, population.size, population.depth - 1))
        first[is_output] += population.size
    return found


def matrix(synapse: Synapse) -> np.ndarray:
    """The weights of a dense or identity path, float64 (targets, sources)."""
    if synapse.kind == "identity":
        return np.diag(np.broadcast_to(synapse.weight, synapse.shape).reshape(-1))
    return synapse.weight


def groups(graph: Graph) -> dict[str, list[tuple[Population, Synapse]]]:
    """The paths of each group of weights, which share a shift: "input", "recurrent" and "output"."""
    ports, outputs = {port.name for port in graph.inputs}, output_names(graph)
    found: dict[str, list[tuple[Population, Synapse]]] = {"input": [], "recurrent": [], "output": []}
    for population, synapse in graph.paths():
        if population.name in outputs:
            found["output"].append((population, synapse))
        else:
            found["input" if synapse.source in ports else "recurrent"].append((population, synapse))
    return found


def shift_of(weights: list[np.ndarray]) -> int | None:
    """The least shift under which every weight is one of eight bits; None where there is none."""
    for shift in range(SHIFT_MAX + 1):
        scaled = [weight / 2**shift for weight in weights]
        if all(np.all((w == np.floor(w)) & (w >= WEIGHT_MIN) & (w <= WEIGHT_MAX)) for w in scaled):
            return shift
    return None


def dash_of(decay: float) -> int | None:
    """The dash d whose decay 1 − 2^−d is this one; None where there is none."""
    return next((dash for dash in DASHES if 1 - 2.0**-dash == decay), None)


def arrays(graph: Graph) -> dict[str, np.ndarray]:
    """An integer network that fits as the chip's tables, all int16 or smaller.

    input (channels, hidden), recurrent (hidden, hidden), output (hidden, outputs): int8 weights by source and
    target; shifts (3,); and by neuron, "hidden" or "output" before it: threshold, bias, current_dash, dash.
    """
    places = {block.name: block for block in blocks(graph)}
    hidden = sum(block.size for block in places.values() if not block.outputs)
    outputs = sum(block.size for block in places.values() if block.outputs)
    (port,) = graph.inputs
    shapes = {
        "input": (int(np.prod(port.shape)), hidden),
        "recurrent": (hidden, hidden),
        "output": (hidden, outputs),
    }
    found, shifts = {}, []
    for group, paths in groups(graph).items():
        shift = shift_of([matrix(synapse) for _, synapse in paths]) or 0
        table = np.zeros(shapes[group], np.int8)
        for population, synapse in paths:
            source = slice(None) if group == "input" else places[synapse.source].neurons
            table[source, places[population.name].neurons] += (matrix(synapse).T / 2**shift).astype(np.int8)
        found[group] = table
        shifts.append(shift)
    for kind, is_output in (("hidden", False), ("output", True)):
        chosen = [block.name for block in places.values() if block.outputs is is_output]
        for name, values in _of_neurons([graph[name] for name in chosen]).items():
            found[f"{kind}_{name}"] = values
    return {**found, "shifts": np.array(shifts, np.int8)}


def _of_neurons(populations: list[Population]) -> dict[str, np.ndarray]:
    """The constants of populations' neurons, one behind the other, int16."""
    columns: dict[str, list[np.ndarray]] = {"threshold": [], "bias": [], "current_dash": [], "dash": []}
    for population in populations:
        neuron = population.neuron
        assert neuron is not None
        values = neuron.threshold, population.bias, dash_of(neuron.current_decay), dash_of(neuron.decay)
        for column, value in zip(columns.values(), values, strict=True):
            column.append(np.broadcast_to(np.asarray(value, np.float64), population.shape).reshape(-1))
    return {name: np.concatenate(parts).astype(np.int16) for name, parts in columns.items()}


def frames(graph: Graph, inputs: Inputs, timesteps: int) -> dict[str, np.ndarray]:
    """The network's one input over time, by its name: integers (N, T, channels).

    Raises:
        InputError: inputs of another shape, type or range.
    """
    (port,) = graph.inputs
    given = np.asarray(inputs[port.name] if isinstance(inputs, dict) else inputs)
    static = given.shape[1:] == port.shape
    if not static and given.shape[1:] != (timesteps, *port.shape):
        expected = f"(N, {timesteps}, {', '.join(map(str, port.shape))})"
        raise InputError(f"the inputs' shape is {given.shape}, expected {expected} or without the steps")
    if given.dtype.kind not in "bui" or (
        given.size and not 0 <= given.min() <= given.max() <= port.payload_max
    ):
        raise InputError(f"the inputs aren't integers 0 … {port.payload_max}, which the network takes")
    over_time = np.broadcast_to(given[:, None], (len(given), timesteps, *port.shape)) if static else given
    return {port.name: over_time.reshape(len(given), timesteps, -1)}
