"""What Loihi 2 and Lava's simulation of it can hold, and every limit that a network breaks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..bounds import drive, membrane_reach, payloads
from ..graph import GRADED_PAYLOAD_MAX, Graph, InputPort, Population, Synapse
from ..target import Constraints, Problem

WEIGHT_BITS = (2, 3, 4, 5, 6, 7, 8)
"""Loihi's synapse formats; netx holds each of them in its 8-bit field."""

THRESHOLD_MAX = 2**17 - 1
"""17 bits, unsigned (lava.proc.lif.models.PyLifModelBitAcc)."""

BIAS_MAX = 2**12 - 1
"""A mantissa of 13 bits, signed (the same); netx fixes the exponent at 6, the integers' own unit."""

STATE_FRACTION_BITS = 6
STATE_MAX = (2**23 - 1) >> STATE_FRACTION_BITS
"""Current and membrane potential: 24 bits, signed, six of them below the integers' unit (the same).
The current wraps and the membrane saturates beyond it."""

DECAY_UNIT = 4096
"""A decay is 1 − dv/4096 with an integer dv (the same)."""

CONV_FIELD_MAX = 127
"""Lava's Conv holds kernel size, stride, padding, dilation and groups as int8 (lava.proc.conv.models)."""

NEURONS_PER_CORE = 8192
"""At most, as far as their state fits (Intel's technology brief on Loihi 2, 2021)."""

CONSTRAINTS = Constraints(
    weight_bits=WEIGHT_BITS,
    threshold_max=THRESHOLD_MAX,
    bias_max=BIAS_MAX,
    accumulator_max=STATE_MAX,
    membrane_max=STATE_MAX,
    state_fraction_bits=STATE_FRACTION_BITS,
    payload_max=GRADED_PAYLOAD_MAX,
)


def problems(graph: Graph) -> list[Problem]:
    """Every limit that `graph` breaks: of structure, and of its integers where it has them."""
    found = [*_chain_problems(graph), *_input_problems(graph.inputs)]
    for population, synapse in graph.paths():
        found += _synapse_problems(population, synapse)
    if graph.weight_bits is not None:
        found += _integer_problems(graph, graph.weight_bits)
    return found


def _chain_problems(graph: Graph) -> Iterator[Problem]:
    """Why the network isn't what a netx file holds: layers in a row, the read-out last."""
    if graph.is_sequential:
        return
    remedy = "a netx file holds layers in a row"
    if len(graph.inputs) != 1:
        yield Problem("network", "number of inputs", len(graph.inputs), 1, remedy)
    previous = graph.inputs[0].name if graph.inputs else "the input"
    for population in graph.populations:
        paths = population.synapses
        if len(paths) != 1:
            yield Problem(population.name, "number of incoming paths", len(paths), 1, remedy)
        elif paths[0].source != previous:
            yield Problem(population.name, "source", paths[0].source, previous, remedy)
        for path in paths:
            if path.kind == "identity":
                yield Problem(population.name, "kind of path", path.kind, "conv or dense", remedy)
            if path.delay:
                yield Problem(population.name, "delay of a path", path.delay, 0, remedy)
        previous = population.name
    readouts = [population.name for population in graph.readouts]
    if readouts != [previous]:
        yield Problem("network", "read-out", ", ".join(readouts) or "none", f"{previous} alone", remedy)


def _input_problems(ports: tuple[InputPort, ...]) -> Iterator[Problem]:
    for port in ports:
        if len(port.shape) not in (1, 3):
            yield Problem(port.name, "shape", str(port.shape), "(C, H, W) or (n,)")
        if not 1 <= port.payload_max <= CONSTRAINTS.payload_max:
            yield Problem(port.name, "payload", port.payload_max, f"1 … {CONSTRAINTS.payload_max}")


def _synapse_problems(population: Population, synapse: Synapse) -> Iterator[Problem]:
    if synapse.kind == "dense":
        if len(population.shape) != 1:
            yield Problem(population.name, "shape after a dense path", str(population.shape), "(n,)")
    elif synapse.kind == "conv":
        if population.neuron is None:
            yield Problem(population.name, "read-out's path", "conv", "dense", "flatten, then a linear layer")
        if len(synapse.source_shape) != 3 or len(population.shape) != 3:
            ends = f"{synapse.source_shape} → {population.shape}"
            yield Problem(population.name, "shape around a convolution", ends, "(C, H, W) at both ends")
        geometry = (*synapse.stride, *synapse.padding, *synapse.dilation, *synapse.weight.shape[2:])
        largest = max(*geometry, synapse.groups)
        if largest > CONV_FIELD_MAX:
            limit = "largest of kernel size, stride, padding, dilation and groups"
            yield Problem(population.name, limit, largest, CONV_FIELD_MAX)


def _integer_problems(graph: Graph, bits: int) -> Iterator[Problem]:
    if bits not in WEIGHT_BITS:
        yield Problem("network", "weight bits", bits, f"{WEIGHT_BITS[0]} … {WEIGHT_BITS[-1]}")
        return
    largest = payloads(graph)
    for population in graph.populations:
        broken = [*_value_problems(population, bits)]
        yield from broken or _range_problems(population, largest, graph.timesteps)


def _value_problems(population: Population, bits: int) -> Iterator[Problem]:
    """Whether each number is one that its field can hold."""
    step = 2 ** (9 - bits)
    weight_max = step * (2 ** (bits - 1) - 1)
    weights = f"multiples of {step} in ±{weight_max}"
    for synapse in population.synapses:
        if synapse.kind != "identity":
            yield from _outside(population, "weight", synapse.weight, -weight_max, weight_max, weights, step)
    if population.neuron is None:
        # The host adds this bias: all that matters is that it is a whole number.
        yield from _outside(population, "bias", population.bias, -np.inf, np.inf, "whole numbers")
        return
    biases = f"whole numbers in ±{BIAS_MAX}"
    yield from _outside(population, "bias", population.bias, -BIAS_MAX, BIAS_MAX, biases)
    thresholds = f"whole numbers in 0 … {THRESHOLD_MAX}"
    yield from _outside(population, "threshold", population.neuron.threshold, 0, THRESHOLD_MAX, thresholds)
    decay, decays = np.array(population.neuron.decay), f"multiples of 1/{DECAY_UNIT} in 0 … 1"
    yield from _outside(population, "decay", decay, 0, 1, decays, 1 / DECAY_UNIT)


def _outside(
    population: Population,
    what: str,
    values: np.ndarray,
    low: float,
    high: float,
    allowed: str,
    step: float = 1,
) -> Iterator[Problem]:
    """The worst of `values` that isn't a multiple of `step` in [low, high], if there is one."""
    values = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):
        fits = (values >= low) & (values <= high) & (values % step == 0)
    if not fits.all():
        worst = max(values[~fits].tolist(), key=abs)
        yield Problem(population.name, what, f"{worst:.12g}", allowed, "quantise for this target")


def _range_problems(
    population: Population, largest: dict[str, int], timesteps: int | None
) -> Iterator[Problem]:
    """Whether some input could drive a channel's sum or membrane out of its 24 bits."""
    sums, membranes = reach(population, largest, timesteps)
    for what, reached in (("synaptic sum", sums), ("membrane potential", membranes)):
        worst = int(np.argmax(reached))
        if reached[worst] > STATE_MAX:
            limit = f"largest {what} (channel {worst})"
            remedy = "quantise for this target, which shrinks the channel's scale"
            yield Problem(population.name, limit, f"{reached[worst]:.12g}", STATE_MAX, remedy)


def reach(
    population: Population, largest: dict[str, int], timesteps: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """How far from zero any input can drive each channel, (C,) float64: one step's sum, and the membrane.

    Args:
        largest: payload of each source by name (`bounds.payloads`).
        timesteps: T; None for any number of steps.

    Returns:
        The sums and the membranes; a read-out has no membrane and reaches zero.
    """
    excitation, inhibition = drive(population, largest)
    sums = np.maximum(excitation, inhibition).max(axis=1)
    if population.neuron is None:
        return sums, np.zeros_like(sums)
    upward, downward = membrane_reach(population, excitation, inhibition, timesteps)
    return sums, np.maximum(upward, downward).max(axis=1)
