"""Every limit of Speck that a network breaks: of its layers, of its cores, of its integers.

Biases are added at each tick of a slow clock, which must then tick once a step; networks without biases need
none. See `chip` for the sources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from ..graph import Graph, InputPort, Population, Synapse
from ..ranges import QUANTISE, out_of_range, outside
from ..target import Constraints, Problem, peculiarity_problems
from . import chip
from .chip import Core, Layer, chip_layer
from .cores import Assignment, assign

CONSTRAINTS = Constraints(
    weight_bits=tuple(range(1, 9)),
    threshold_max=chip.STATE_MAX - 1,
    bias_max=chip.BIAS_MAX,
    accumulator_max=chip.STATE_MAX,
    membrane_max=chip.STATE_MAX,
    state_fraction_bits=0,
    payload_max=1,
    weight_steps=(1,),
    one_threshold=True,
    bias_is_free=False,
)
"""The chip fires at its threshold and the network's neuron above it, so the chip's is larger by one."""


def problems(graph: Graph) -> list[Problem]:
    """Every limit that `graph` breaks; of a float network all but those of its integers."""
    found = [*_input_problems(graph.inputs), *_destination_problems(graph), *peculiarity_problems(graph)]
    if not graph.populations:
        found.append(Problem("network", "number of populations", 0, "at least 1", "add a layer"))
    for population in graph.populations:
        found += [*_neuron_problems(population), *_path_problems(population)]
    found += _core_problems(layers(graph), graph)
    if graph.weight_bits is not None:
        for population in graph.populations:
            broken = [*_integer_problems(population, graph.weight_bits)]
            found += broken or out_of_range(population, graph, chip.STATE_MAX)
    return found


def layers(graph: Graph) -> list[Layer]:
    """Each population that a core could hold, were it large enough."""
    inputs = {port.name for port in graph.inputs}
    return [
        chip_layer(population, population.synapses[0].source in inputs)
        for population in graph.populations
        if not [*_path_problems(population)]
    ]


def assignment(graph: Graph) -> Assignment:
    """The cores of `layers(graph)`."""
    return assign({layer.name: layer.needs for layer in layers(graph)})


def _input_problems(ports: tuple[InputPort, ...]) -> Iterator[Problem]:
    if len(ports) != 1:
        yield Problem("network", "number of inputs", len(ports), 1, "let the host join them into one")
    for port in ports:
        if port.payload_max != 1:
            remedy = 'show events, or pixels as events: encoding.kind = "rate"'
            yield Problem(port.name, "largest input value", port.payload_max, "1, an event", remedy)
        side = max(port.shape[1:], default=1)
        if side > chip.INPUT_SIDE_MAX:
            yield Problem(port.name, "side of the input's map", side, chip.INPUT_SIDE_MAX, "crop or pool it")


def _destination_problems(graph: Graph) -> Iterator[Problem]:
    for source, count in Counter(synapse.source for _, synapse in graph.paths()).items():
        if count > chip.DESTINATIONS_MAX:
            yield Problem(source, "number of destinations", count, chip.DESTINATIONS_MAX, "let it feed fewer")


def _neuron_problems(population: Population) -> Iterator[Problem]:
    neuron = population.neuron
    if neuron is None or not neuron.spikes:
        emitted = "sums" if neuron is None else "potentials"
        remedy = 'let its classes spike: student.options.readout = "spikes"'
        yield Problem(population.name, "what it emits", emitted, "spikes", remedy)
        return
    if neuron.decay != 1:
        remedy = "train neurons that keep their potential: neuron.decay = 1"
        yield Problem(population.name, "a step's decay of the potential", neuron.decay, 1, remedy)
    if neuron.current_decay:
        yield Problem(population.name, "a step's decay of the current", neuron.current_decay, 0)


def _path_problems(population: Population) -> Iterator[Problem]:
    """What keeps a population from being a core's layer, whatever the core's size."""
    name, paths = population.name, population.synapses
    if len(paths) != 1:
        remedy = "a core has one kernel; leave residual sums out"
        yield Problem(name, "number of paths", len(paths), 1, remedy)
        return
    (path,) = paths
    if path.kind == "identity":
        yield Problem(name, "kind of path", "identity", "convolution or dense", "give it weights")
        return
    if path.delay:
        yield Problem(name, "delay", path.delay, 0, "take the delay out of the model")
    if path.kind == "conv":
        yield from _geometry_problems(name, path)
        if np.ptp(np.broadcast_to(population.bias, population.shape), axis=(1, 2)).any():
            yield Problem(name, "bias", "one for each neuron", "one for each channel")


def _geometry_problems(name: str, path: Synapse) -> Iterator[Problem]:
    fields = {
        "stride": (path.stride, chip.STRIDES),
        "padding": (path.padding, range(chip.PADDING_MAX + 1)),
        "dilation": (path.dilation, (1,)),
        "groups": ((path.groups,), (1,)),
    }
    for what, (found, allowed) in fields.items():
        if worst := [value for value in found if value not in allowed]:
            listed = f"0 … {allowed[-1]}" if what == "padding" else ", ".join(map(str, allowed))
            yield Problem(name, what, worst[0], listed)


def _core_problems(placed: list[Layer], graph: Graph) -> Iterator[Problem]:
    for layer in placed:
        yield from _size_problems(layer)
    if len(graph.populations) > len(chip.CORES):
        yield Problem("network", "number of layers", len(graph.populations), len(chip.CORES), "use fewer")
    needs = {layer.name: layer.needs for layer in placed}
    for names, cores in assign(needs).crowded:
        if len(names) == 1:
            yield from _memory_problems(names[0], needs[names[0]])
        else:
            numbers = ", ".join(map(str, cores))
            found = f"{len(names)} ({', '.join(names)})"
            remedy = "make one of them narrower, or its map or kernel smaller"
            limit = f"number of layers that fit on cores {numbers} alone"
            yield Problem(names[0], limit, found, len(cores), remedy)


def _size_problems(layer: Layer) -> Iterator[Problem]:
    height, width = layer.kernel
    if height != width:
        yield Problem(layer.name, "kernel", f"{height}×{width}", "square", "let the map before it be square")
    if max(height, width) > chip.KERNEL_MAX:
        remedy = "pool or stride before it"
        yield Problem(layer.name, "side of the kernel", max(height, width), chip.KERNEL_MAX, remedy)
    sides = {
        "input channels": (layer.input_shape[0], chip.CHANNELS_MAX),
        "output channels": (layer.shape[0], chip.CHANNELS_MAX),
        "side of the input's map": (max(layer.source_shape[1:]), chip.INPUT_SIDE_MAX),
        "side of the output's map": (max(layer.shape[1:]), chip.OUTPUT_SIDE_MAX),
    }
    for what, (found, allowed) in sides.items():
        if found > allowed:
            yield Problem(layer.name, what, found, allowed)


def _memory_problems(name: str, needs: Core) -> Iterator[Problem]:
    """Why no core holds a layer: each memory that none has so much of, or else both together."""
    most = {memory: max(getattr(core, memory) for core in chip.CORES) for memory in chip.MEMORIES}
    beyond = [memory for memory in chip.MEMORIES if getattr(needs, memory) > most[memory]]
    for memory in beyond:
        what = f"words of {memory} memory"
        yield Problem(name, what, getattr(needs, memory), most[memory], "make the layer smaller")
    if not beyond:
        pairs = dict.fromkeys((core.kernel, core.neuron) for core in chip.CORES)
        allowed = " or ".join(f"{kernel}, {neuron}" for kernel, neuron in pairs)
        found = f"{needs.kernel}, {needs.neuron}"
        yield Problem(name, "words of kernel and neuron memory", found, allowed, "make the layer smaller")


def _integer_problems(population: Population, bits: int) -> Iterator[Problem]:
    if bits not in CONSTRAINTS.weight_bits:
        yield Problem(population.name, "weight bits", bits, "1 … 8", "quantise it with --bits 8")
        return
    neuron = population.neuron
    for synapse in population.synapses:
        yield from outside(population, "weight", synapse.weight, chip.WEIGHT_MAX)
    if neuron is None or not neuron.spikes:
        return
    yield from outside(population, "bias", population.bias, chip.BIAS_MAX)
    yield from outside(population, "threshold", neuron.threshold, CONSTRAINTS.threshold_max, 0)
    if np.ptp(neuron.threshold) > 0:
        found = f"{neuron.threshold.min():g} … {neuron.threshold.max():g}"
        yield Problem(population.name, "threshold", found, "one for the whole layer", QUANTISE)
