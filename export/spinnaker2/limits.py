"""What py-spinnaker2 reads of a network and a chip holds of it, as far as that is published.

Published: 152 processing elements (PEs) a chip of 128 KiB of memory each (arXiv 2401.04491); boards of 48
chips; neurons in single precision; what `spinnaker2.s2_nir` makes of a NIR graph (py-spinnaker2, Apache-2.0):
dense and convolutional projections with weights of 8 bits, −127 … 127, IF and LIF neurons that reset to zero
or by subtraction, an input that sends spikes, no neuron that doesn't spike, no path without weights. Unknown,
and so not checked or kept narrow:

- how many bits a PE adds one step's weights up in;
- what program and neurons leave of a PE's memory, and how its mapper cuts a convolution: placement here
  counts weights alone, on PEs of at most as many neurons as the profile infers;
- how several projections into one population, or a convolution's bias, are taken: both are refused;
- how currents with memory are rounded: refused too.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...hardware_profiles import Limits, load_profile
from ..graph import Graph, Population, Synapse
from ..integers import FRACTION_BITS
from ..loihi2.limits import STATE_MAX
from ..placement import can_be_placed, place
from ..ranges import out_of_range, outside
from ..simulators.exactness import truncation_problems
from ..target import Constraints, Problem, peculiarity_problems

PROFILE = "spinnaker2"
WEIGHT_MAX = 127
PE_BITS = 128 * 1024 * 8
BOARD_CHIPS = 48

CONSTRAINTS = Constraints(
    weight_bits=tuple(range(1, 9)),
    threshold_max=STATE_MAX,
    bias_max=STATE_MAX,
    accumulator_max=STATE_MAX,
    membrane_max=STATE_MAX,
    state_fraction_bits=FRACTION_BITS,
    payload_max=1,
    weight_steps=(1,),
    bias_is_free=False,
)
"""Single precision holds 24 bits: 17 of an integer and 6 of its halvings, as Loihi's registers do."""


def device() -> Limits:
    """What PEs and chips hold: the profile's, on one board, a PE's memory kept and kernels stored once."""
    limits = load_profile(PROFILE).limits
    assert limits is not None, "the schema asks a chip for these"
    known = {"memory_bits_per_core": PE_BITS, "kernels_shared": True, "chips": BOARD_CHIPS}
    return limits.model_copy(update=known)


def problems(graph: Graph) -> list[Problem]:
    """Every limit that `graph` breaks; of a float network all but those of its integers."""
    found = [*_input_problems(graph), *peculiarity_problems(graph), *truncation_problems(graph)]
    if not graph.populations:
        found.append(Problem("network", "number of populations", 0, "at least 1", "add a layer"))
    for population in graph.populations:
        found += [*_neuron_problems(population), *_path_problems(population)]
        if graph.is_integer:
            found += [*_integer_problems(population)] or [*out_of_range(population, graph, STATE_MAX)]
    if can_be_placed(graph):
        found += place(graph, device()).problems
    return found


def _input_problems(graph: Graph) -> Iterator[Problem]:
    if len(graph.inputs) != 1:
        yield Problem("network", "number of inputs", len(graph.inputs), 1, "join them into one")
    for port in graph.inputs:
        if port.payload_max != 1:
            remedy = 'show events, or pixels as events: encoding.kind = "rate"'
            yield Problem(port.name, "largest input value", port.payload_max, "1, a spike", remedy)


def _neuron_problems(population: Population) -> Iterator[Problem]:
    neuron = population.neuron
    if neuron is None or not neuron.spikes:
        emitted = "sums" if neuron is None else "potentials"
        remedy = 'let its classes spike: student.options.readout = "spikes"'
        yield Problem(population.name, "what it emits", emitted, "spikes", remedy)
    elif neuron.current_decay:
        yield Problem(population.name, "a step's decay of the current", neuron.current_decay, 0)


def _path_problems(population: Population) -> Iterator[Problem]:
    name = population.name
    if len(population.synapses) != 1:
        yield Problem(name, "number of paths", len(population.synapses), 1, "leave residual sums out")
    for path in population.synapses:
        if path.kind == "identity":
            yield Problem(name, "kind of path", "identity", "convolution or dense", "give it weights")
        if path.delay:
            yield Problem(name, "delay", path.delay, 0, "take the delay out of the model")
        if path.kind == "conv":
            yield from _convolution_problems(population, path)


def _convolution_problems(population: Population, path: Synapse) -> Iterator[Problem]:
    """What its reader passes over in silence, or can't read."""
    if path.groups != 1:
        yield Problem(population.name, "groups", path.groups, 1)
    if path.dilation != (1, 1):
        yield Problem(population.name, "dilation", max(path.dilation), 1)
    for what, pair in (("stride", path.stride), ("padding", path.padding)):
        if pair[0] != pair[1]:
            yield Problem(population.name, what, f"{pair[0]}×{pair[1]}", "the same both ways")
    if population.bias.any():
        remedy = 'train without: student.options.normalization = "none"'
        yield Problem(population.name, "bias of a convolution", float(abs(population.bias).max()), 0, remedy)


def _integer_problems(population: Population) -> Iterator[Problem]:
    for synapse in population.synapses:
        yield from outside(population, "weight", synapse.weight, WEIGHT_MAX)
    if population.neuron is not None and population.neuron.spikes:
        yield from outside(population, "bias", population.bias, CONSTRAINTS.bias_max)
        threshold = population.neuron.threshold
        yield from outside(population, "threshold", threshold, CONSTRAINTS.threshold_max, 0)
