"""Every limit of a Xylo chip that a network breaks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..graph import Graph, InputPort, Neuron, Population
from ..target import Problem
from .chips import (
    CONSTRAINTS,
    DASHES,
    HIDDEN_SPIKES,
    INPUT_EVENTS,
    OUTPUT_SPIKES,
    SHIFT_MAX,
    STATE_MAX,
    STATE_MIN,
    Chip,
)
from .network import (
    blocks,
    dash_of,
    feeder_names,
    groups,
    input_names,
    matrix,
    output_names,
    shift_of,
)

DECAYS = f"1 − 2^−d with d = {DASHES[0]} … {DASHES[-1]}"


def problems(graph: Graph, chip: Chip) -> list[Problem]:
    """What `graph` breaks of structure, of neurons and of numbers; and of integers where it has them."""
    found = [*_input_problems(graph, chip)]
    if not graph.populations:
        return [*found, Problem("network", "number of populations", 0, "at least 2", "add layers")]
    ports, outputs = {port.name for port in graph.inputs}, output_names(graph)
    depth = {port.name: 0 for port in graph.inputs} | {p.name: p.depth for p in graph.populations}
    for population in graph.populations:
        found += _neuron_problems(population, population.name in outputs)
        found += _path_problems(population, population.name in outputs, ports, depth)
        if np.any(population.bias) and population.depth > 1:
            remedy = "leave it out (bias=False): here it would act before the layer's first input comes"
            found.append(Problem(population.name, "bias", "one behind the first layer", "none there", remedy))
    found += _size_problems(graph, chip)
    if graph.weight_bits is not None:
        found += _integer_problems(graph)
    return found


def _input_problems(graph: Graph, chip: Chip) -> Iterator[Problem]:
    if len(graph.inputs) != 1:
        yield Problem("network", "number of inputs", len(graph.inputs), 1, "join them in one")
    for port in graph.inputs:
        yield from _port_problems(port, chip)


def _port_problems(port: InputPort, chip: Chip) -> Iterator[Problem]:
    channels = int(np.prod(port.shape))
    if channels > chip.inputs:
        remedy = "show samples over time: encoding.kind = 'rows' or 'rows-and-columns'"
        yield Problem(port.name, "number of input channels", channels, chip.inputs, remedy)
    if port.payload_max > INPUT_EVENTS:
        remedy = "cut larger values off, as encoding.largest does"
        yield Problem(port.name, "events of a channel in a step", port.payload_max, INPUT_EVENTS, remedy)


def _neuron_problems(population: Population, is_output: bool) -> Iterator[Problem]:
    neuron, name, remedy = population.neuron, population.name, 'train with student.model = "xylo"'
    if neuron is None or not neuron.spikes:
        what = "sums" if neuron is None else "potentials"
        yield Problem(name, "what it emits", what, "spikes, counted", f"end in neurons that spike; {remedy}")
        return
    if neuron.reset != "subtract":
        yield Problem(name, "reset", "to zero", "by taking the threshold away", remedy)
    most = OUTPUT_SPIKES if is_output else HIDDEN_SPIKES
    if neuron.max_spikes != most:
        kind = "an output" if is_output else "a hidden"
        found, allowed = f"at most {neuron.max_spikes}", f"up to {most}" if most > 1 else f"at most {most}"
        yield Problem(name, f"number of spikes of {kind} neuron in a step", found, allowed, remedy)
    for what in ("current_decay", "decay"):
        if dash_of(getattr(neuron, what)) is None:
            shown = f"{getattr(neuron, what):.10g}"
            yield Problem(name, what.replace("_", " "), shown, DECAYS, remedy)
    yield from _threshold_problems(name, neuron)


def _threshold_problems(name: str, neuron: Neuron) -> Iterator[Problem]:
    if not np.all((neuron.threshold > 0) & np.isfinite(neuron.threshold)):
        worst = neuron.threshold[~((neuron.threshold > 0) & np.isfinite(neuron.threshold))].flat[0]
        yield Problem(name, "threshold", f"{worst:g}", "above zero and finite", "train it so")


def _path_problems(
    population: Population, is_output: bool, ports: set[str], depth: dict[str, int]
) -> Iterator[Problem]:
    name = population.name
    if not population.synapses:
        yield Problem(name, "number of sources", 0, "at least 1", "feed it, or take it out")
    sources = [synapse.source for synapse in population.synapses]
    for source in sorted({source for source in sources if sources.count(source) > 1}):
        yield Problem(name, f"paths from {source}", sources.count(source), 1, "add their weights")
    for synapse in population.synapses:
        path = f"path from {synapse.source}"
        if synapse.kind == "conv":
            yield Problem(name, path, "a convolution", "dense", "use fully connected layers")
        if synapse.delay:
            yield Problem(name, f"delay of the {path}", synapse.delay, 0, "take the delay out")
        if depth[synapse.source] != population.depth - 1:
            skipped = population.depth - 1 - depth[synapse.source]
            remedy = "let every path lead to the next layer: the chip delays each by one step"
            yield Problem(name, f"layers that the {path} skips", skipped, 0, remedy)
        if is_output and synapse.source in ports:
            yield Problem(name, path, "from the input to an output", "from hidden neurons", "add a layer")


def _size_problems(graph: Graph, chip: Chip) -> Iterator[Problem]:
    outputs = output_names(graph)
    hidden = sum(p.size for p in graph.populations if p.name not in outputs)
    classes = sum(graph[name].size for name in outputs)
    if hidden > chip.hidden:
        yield Problem("network", "number of hidden neurons", hidden, chip.hidden, "use smaller layers")
    if classes > chip.outputs:
        yield Problem("network", "number of output neurons", classes, chip.outputs, "choose another chip")
    places = {block.name: block for block in blocks(graph)}
    last_taking = max((places[name].neurons.stop for name in input_names(graph) - outputs), default=0)
    if last_taking > chip.taking_input:
        what = "hidden neurons up to the last that takes input"
        yield Problem("network", what, last_taking, chip.taking_input, "use a smaller first layer")
    feeding = [hidden - places[name].first for name in feeder_names(graph) if name in places]
    if max(feeding, default=0) > chip.feeding_outputs:
        what = "hidden neurons from the first that feeds outputs on"
        yield Problem("network", what, max(feeding), chip.feeding_outputs, "use a smaller last layer")
    yield from _synapse_problems(graph, chip)


def _synapse_problems(graph: Graph, chip: Chip) -> Iterator[Problem]:
    """Synapses between hidden neurons; those of weight zero aren't stored."""
    fan_out: dict[str, np.ndarray] = {}
    for _, synapse in groups(graph)["recurrent"]:
        if synapse.kind != "conv":
            used = np.count_nonzero(matrix(synapse), axis=0)
            fan_out[synapse.source] = fan_out.get(synapse.source, np.zeros_like(used)) + used
    for name, used in fan_out.items():
        if used.max() > chip.fan_out:
            remedy = "make the next layer smaller"
            yield Problem(
                name, "synapses from a hidden neuron to others", int(used.max()), chip.fan_out, remedy
            )
    total = sum(int(used.sum()) for used in fan_out.values())
    if total > chip.synapses:
        what = "synapses between hidden neurons"
        yield Problem("network", what, total, chip.synapses, "use smaller layers")


def _integer_problems(graph: Graph) -> Iterator[Problem]:
    remedy = "quantise for this target"
    if graph.weight_bits not in CONSTRAINTS.weight_bits:
        bits = ", ".join(map(str, CONSTRAINTS.weight_bits))
        yield Problem("network", "bits of a weight", graph.weight_bits or 0, bits, remedy)
    for group, paths in groups(graph).items():
        weights = [matrix(synapse) for _, synapse in paths if synapse.kind != "conv"]
        if shift_of(weights) is None:
            worst = max(float(np.abs(weight).max()) for weight in weights)
            allowed = f"q·2^s with q in −128 … 127, one s in 0 … {SHIFT_MAX} for all of them"
            yield Problem("network", f"weights of the group {group!r}", f"up to {worst:g}", allowed, remedy)
    for population in graph.populations:
        neuron = population.neuron
        if neuron is not None and neuron.spikes:
            yield from _whole(population.name, "threshold", neuron.threshold, 1, STATE_MAX)
            if not neuron.decays_input:
                shown = "a current that decays before its input comes"
                yield Problem(population.name, "neuron", shown, "its input decays with it", remedy)
        yield from _whole(population.name, "bias", population.bias, STATE_MIN, STATE_MAX)


def _whole(name: str, what: str, values: np.ndarray, low: int, high: int) -> Iterator[Problem]:
    fits = (values >= low) & (values <= high) & (values == np.floor(values))
    if not np.all(fits):
        worst = max(values[~fits].tolist(), key=abs)
        yield Problem(
            name, what, f"{worst:.12g}", f"a whole number in {low} … {high}", "quantise for this target"
        )
