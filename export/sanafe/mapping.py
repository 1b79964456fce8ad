"""A network as SANA-FE's Loihi executes it: binary spikes, a step for each path, every synapse by itself.

Three things of a `Graph` aren't there on this chip, and each becomes something that is:

- *Graded input.* A value of B bits enters as B binary spikes, bit b by synapses of weight w·2^b (on Loihi
  the exponent of those synapses). So W·x is computed by the chip, of spikes, with weights that never change.
- *Paths that wait* for the layers that they skip. SANA-FE's delayed dendrites lose events in the pipeline
  that its Loihi is described with, so populations that repeat a spike one step later (relays) do the waiting.
  A path from an input waits with the host.
- *Convolutions.* They are unrolled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..graph import Graph, InputPort, Neuron, Population, Synapse
from ..relays import comes_from_input, path_delay, relay_name
from ..target import Inputs

Frames = dict[str, np.ndarray]

Wait = tuple[str, int]
"""A bit of an input (its name in the executed network), and the steps for which paths from it wait."""


def executed(graph: Graph) -> Graph:
    """The network that SANA-FE runs for `graph`: it emits the same, of `bit_planes` of the inputs.

    Each path from a population is one step long and each input binary. Relays are populations of their own,
    behind the one that they repeat.
    """
    longest: dict[str, int] = {}
    for population, synapse in graph.paths():
        if not comes_from_input(graph, synapse):
            waits = path_delay(graph, population, synapse)
            longest[synapse.source] = max(longest.get(synapse.source, 0), waits)
    populations: list[Population] = []
    for population in graph.populations:
        paths = tuple(part for synapse in population.synapses for part in _parts(graph, population, synapse))
        populations.append(replace(population, synapses=paths))
        populations += [_relay(population, place + 1) for place in range(longest.get(population.name, 0))]
    ports = tuple(plane for port in graph.inputs for plane in _planes(port))
    return replace(graph, inputs=ports, populations=tuple(populations))


def bit_planes(graph: Graph, inputs: Inputs) -> Frames:
    """Samples for `graph` as samples for `executed(graph)`: 0 and 1, uint8, by the input's name."""
    shown = inputs if isinstance(inputs, Mapping) else {graph.inputs[0].name: inputs}
    return {
        _plane_name(port, bit): (np.asarray(shown[port.name]) >> bit & 1).astype(np.uint8)
        for port in graph.inputs
        for bit in range(_bits(port))
    }


def input_groups(graph: Graph, mapped: Graph) -> dict[Wait, tuple[str, int]]:
    """For every bit and wait that paths of `mapped` start from, the input of `graph` and the bit."""
    planes = {_plane_name(port, bit): (port.name, bit) for port in graph.inputs for bit in range(_bits(port))}
    return {
        (synapse.source, population.depth - 1): planes[synapse.source]
        for population, synapse in mapped.paths()
        if synapse.source in planes
    }


def input_neurons(mapped: Graph) -> int:
    """How many neurons send a network's inputs."""
    return sum(
        int(np.prod(port.shape)) * len({p.depth for p, s in mapped.paths() if s.source == port.name})
        for port in mapped.inputs
    )


def _bits(port: InputPort) -> int:
    return port.payload_max.bit_length()


def _plane_name(port: InputPort, bit: int) -> str:
    return port.name if _bits(port) == 1 else f"{port.name}/bit{bit}"


def _planes(port: InputPort) -> list[InputPort]:
    return [InputPort(_plane_name(port, bit), port.shape, 1) for bit in range(_bits(port))]


def _parts(graph: Graph, population: Population, synapse: Synapse) -> list[Synapse]:
    """The path from its last relay; of an input, a path for each bit."""
    for port in graph.inputs:
        if port.name == synapse.source:
            return [
                replace(synapse, source=_plane_name(port, bit), weight=synapse.weight * 2.0**bit)
                for bit in range(_bits(port))
            ]
    waits = path_delay(graph, population, synapse)
    return [replace(synapse, source=relay_name(synapse.source, waits), delay=0)]


def _relay(of: Population, place: int) -> Population:
    one = np.ones((1,) * len(of.shape))
    path = Synapse(relay_name(of.name, place - 1), "identity", one, of.shape, of.shape)
    name, neuron = relay_name(of.name, place), Neuron(0.0, np.zeros_like(one))
    return Population(name, of.shape, (path,), np.zeros_like(one), neuron, of.depth + place)


def unrolled(synapse: Synapse) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every synapse of a path whose weight isn't zero, in the order of its sources.

    Returns:
        Source neuron, target neuron (int32, each within its population in C, H, W order) and weight (int32).
    """
    if synapse.kind == "conv":
        sources, targets, weights = _unrolled_convolution(synapse)
    elif synapse.kind == "dense":
        (targets, sources), weights = np.indices(synapse.weight.shape), synapse.weight
    else:
        weights = np.broadcast_to(synapse.weight, synapse.shape)
        sources = targets = np.arange(weights.size).reshape(weights.shape)
    used = np.flatnonzero(weights)
    sources, targets, weights = (a.reshape(-1)[used] for a in (sources, targets, weights))
    order = np.lexsort((targets, sources))
    return tuple(a[order].astype(np.int32) for a in (sources, targets, weights))  # pyright: ignore


def synapse_count(synapse: Synapse) -> int:
    """How many synapses a path has, those of weight zero included; none is unrolled for it."""
    if synapse.kind != "conv":
        return synapse.weight.size if synapse.kind == "dense" else int(np.prod(synapse.shape))
    rows, columns = (len(_taps(synapse, axis)[0]) for axis in (0, 1))
    outputs, inputs = synapse.weight.shape[:2]
    return outputs * inputs * rows * columns


def _unrolled_convolution(synapse: Synapse) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrays (C_out, C_in/groups, row taps, column taps)."""
    outputs, inputs = synapse.weight.shape[:2]
    _, source_height, source_width = synapse.source_shape
    _, height, width = synapse.shape
    row, top, above = _taps(synapse, 0)
    column, left, beside = _taps(synapse, 1)
    channel = np.arange(outputs)[:, None, None, None]
    first = channel // (outputs // synapse.groups) * inputs
    source_channel = first + np.arange(inputs)[:, None, None]
    sources = (source_channel * source_height + above[:, None]) * source_width + beside
    targets = (channel * height + top[:, None]) * width + left
    weights = synapse.weight[:, :, row[:, None], column]
    return sources, np.broadcast_to(targets, sources.shape), weights


def _taps(synapse: Synapse, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along rows (0) or columns (1), all that a kernel touches: its place, the target's and the source's."""
    kernel, source = synapse.weight.shape[2 + axis], synapse.source_shape[1 + axis]
    places, targets = np.indices((kernel, synapse.shape[1 + axis])).reshape(2, -1)
    sources = targets * synapse.stride[axis] + places * synapse.dilation[axis] - synapse.padding[axis]
    inside = (sources >= 0) & (sources < source)
    return places[inside], targets[inside], sources[inside]
