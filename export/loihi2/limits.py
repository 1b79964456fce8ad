"""What Loihi 2 and Lava's simulation of it can hold, and every limit that a network breaks.

Loihi 1 has the same neuron and other numbers: `ChipLimits` holds what differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...hardware_profiles import Limits, load_profile
from ..bounds import current_reach, drive, membrane_reach, payloads
from ..graph import GRADED_PAYLOAD_MAX, Graph, InputPort, Population, Synapse
from ..integers import SKIP_MANTISSA_MAX, WEIGHT_BITS, mantissa_max, step_of, steps
from ..placement import can_be_placed, place
from ..relays import comes_from_input, path_delay, synaptic_delay
from ..target import Constraints, Problem, peculiarity_problems

THRESHOLD_MAX = 2**17 - 1
"""17 bits, unsigned (lava.proc.lif.models.PyLifModelBitAcc)."""

BIAS_MAX = 2**12 - 1
"""A mantissa of 13 bits, signed (the same); netx fixes the exponent at 6, the integers' own unit."""

STATE_FRACTION_BITS = 6
STATE_MAX = (2**23 - 1) >> STATE_FRACTION_BITS
"""Current and membrane potential: 24 bits, signed, six of them below the integers' unit (the same).
The current wraps and the membrane saturates beyond it."""

DECAY_UNIT = 4096
"""A decay is 1 − dv/4096 with an integer dv, a current's likewise (the same)."""

CONV_FIELD_MAX = 127
"""Lava's Conv holds kernel size, stride, padding, dilation and groups as int8 (lava.proc.conv.models)."""

DELAY_MAX = 62
"""The longest synaptic delay (lava-dl)."""


@dataclass(frozen=True)
class ChipLimits:
    """What one chip of the Loihi family holds.

    Attributes:
        profile: the hardware profile that says what a core and a chip hold.
        constraints: the integers.
        payload_remedy: the way out for an input whose payload is too large.
    """

    profile: str
    constraints: Constraints
    payload_remedy: str

    @property
    def device(self) -> Limits:
        """What its cores and chips hold."""
        limits = load_profile(self.profile).limits
        assert limits is not None, "the schema asks a chip for these"
        return limits


CONSTRAINTS = Constraints(
    weight_bits=WEIGHT_BITS,
    threshold_max=THRESHOLD_MAX,
    bias_max=BIAS_MAX,
    accumulator_max=STATE_MAX,
    membrane_max=STATE_MAX,
    state_fraction_bits=STATE_FRACTION_BITS,
    payload_max=GRADED_PAYLOAD_MAX,
)

LOIHI2 = ChipLimits("loihi2", CONSTRAINTS, "scale the input down to 8 bits, and the first weights up")


def problems(graph: Graph, chip: ChipLimits = LOIHI2) -> list[Problem]:
    """Every limit that `graph` breaks: of structure, and of its integers and cores where it has integers.

    The cores of a float network depend on the bits that it will have: `placement.place` takes them.
    """
    found = [*_input_problems(graph.inputs, chip)]
    if not graph.populations:
        found.append(Problem("network", "number of populations", 0, "at least 1", "add a layer"))
    found += peculiarity_problems(graph)
    silent = {population.name for population in graph.readouts}
    for population, synapse in graph.paths():
        if synapse.source in silent:
            remedy = "give it a threshold, or let it feed nothing"
            what = f"{synapse.source}, which emits no spikes"
            found.append(Problem(population.name, "source", what, "a spiking population", remedy))
        found += _shape_problems(population, synapse)
        found += _delay_problems(graph, population, synapse)
    if graph.weight_bits is not None:
        found += integer_problems(graph, graph.weight_bits, chip.constraints)
        if can_be_placed(graph):
            found += place(graph, chip.device).problems
    return found


def _input_problems(ports: tuple[InputPort, ...], chip: ChipLimits) -> Iterator[Problem]:
    if not ports:
        yield Problem("network", "number of inputs", 0, "at least 1", "feed the first layer from an input")
    for port in ports:
        if len(port.shape) not in (1, 3):
            yield Problem(port.name, "shape", str(port.shape), "(C, H, W) or (n,)")
        largest = chip.constraints.payload_max
        if not 1 <= port.payload_max <= largest:
            allowed = f"1 … {largest}" if largest > 1 else "1"
            yield Problem(port.name, "payload", port.payload_max, allowed, chip.payload_remedy)


def _shape_problems(population: Population, synapse: Synapse) -> Iterator[Problem]:
    if synapse.kind == "dense":
        if len(population.shape) != 1:
            remedy = "keep the layer flat, or use a convolution"
            yield Problem(population.name, "shape after a dense path", str(population.shape), "(n,)", remedy)
    elif synapse.kind == "conv":
        if len(synapse.source_shape) != 3 or len(population.shape) != 3:
            ends = f"{synapse.source_shape} → {population.shape}"
            yield Problem(population.name, "shape around a convolution", ends, "(C, H, W) at both ends")
        geometry = (*synapse.stride, *synapse.padding, *synapse.dilation, *synapse.weight.shape[2:])
        largest = max(*geometry, synapse.groups)
        if largest > CONV_FIELD_MAX:
            limit = "largest of kernel size, stride, padding, dilation and groups"
            yield Problem(population.name, limit, largest, CONV_FIELD_MAX, "use a smaller one")


def _delay_problems(graph: Graph, population: Population, synapse: Synapse) -> Iterator[Problem]:
    """Whether the path's delay, and what a skip past other layers adds to it, fits a synapse.

    A convolution waits in relays: as many as the layers that it skips, but no more for the model's own delay
    than a synapse could wait.
    """
    in_relays = synapse.kind == "conv" and not comes_from_input(graph, synapse)
    delay = synapse.delay if in_relays else synaptic_delay(graph, population, synapse)
    if delay > DELAY_MAX:
        skipped = path_delay(graph, population, synapse) - synapse.delay
        limit = f"delay of the path from {synapse.source}"
        reason = f"{synapse.delay} steps of the model's and {skipped} for the layers that it skips"
        remedy = f"{reason}; shorten it, or put a population between"
        yield Problem(population.name, limit, delay, DELAY_MAX, remedy)


def integer_problems(graph: Graph, bits: int, limits: Constraints) -> Iterator[Problem]:
    """Every weight, bias, threshold, decay and range of an integer network that `limits` don't hold."""
    if bits not in limits.weight_bits:
        allowed = f"{limits.weight_bits[0]} … {limits.weight_bits[-1]}"
        yield Problem("network", "weight bits", bits, allowed, "quantise it with --bits")
        return
    largest = payloads(graph)
    for population in graph.populations:
        broken = [*_weight_problems(population, bits), *_neuron_problems(population, limits)]
        yield from broken or _range_problems(population, largest, graph.timesteps, limits)


def _weight_problems(population: Population, bits: int) -> Iterator[Problem]:
    """Whether each path's weights are ones that its synapses can hold."""
    for synapse in population.synapses:
        if synapse.kind == "identity":
            yield from _skip_problems(population, synapse)
            continue
        with np.errstate(invalid="ignore"):
            fits = step_of(synapse.weight, bits) is not None
        if not fits:
            yield from _misfits(population, "weight", *_weights_that_fit(synapse.weight, bits))


def _weights_that_fit(weight: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, str]:
    """The weights, which of them fit the least g that holds the largest of them, and what fits."""
    weight, most = np.asarray(weight, np.float64), mantissa_max(bits)
    magnitudes = np.abs(weight)
    largest, smallest = steps(bits)[0], steps(bits)[-1]
    enough = [step for step in steps(bits) if (magnitudes[np.isfinite(weight)] <= step * most).all()]
    step = min(enough, default=largest)
    with np.errstate(invalid="ignore"):
        fits = (magnitudes <= step * most) & (magnitudes % step == 0) & ((bits > 1) | (magnitudes == step))
    numbers = "q·g with q = ±1" if bits == 1 else f"q·g with |q| ≤ {most}"
    return weight, fits, f"{numbers}, g a power of two in {smallest} … {largest}"


def _skip_problems(population: Population, synapse: Synapse) -> Iterator[Problem]:
    """Whether each weight of an identity path is m·2^e, or a whole number where it leads to a read-out."""
    weights = np.abs(np.asarray(synapse.weight, np.float64))
    whole = np.isfinite(weights) & (weights == np.floor(weights)) & (weights < 2**62)
    integers = np.where(whole, weights, 1).astype(np.int64)
    short = integers <= SKIP_MANTISSA_MAX * (integers & -integers)
    fits = whole & (population.is_readout | short)
    allowed = "a whole number" if population.is_readout else f"m·2^e with |m| ≤ {SKIP_MANTISSA_MAX}"
    limit = f"weight of the identity path from {synapse.source}"
    yield from _misfits(population, limit, np.asarray(synapse.weight, np.float64), fits, allowed)


def _neuron_problems(population: Population, limits: Constraints) -> Iterator[Problem]:
    """Whether bias, threshold and decays are what their fields can hold."""
    neuron = population.neuron
    if neuron is None:
        # The host adds this bias: all that matters is that it is a whole number.
        yield from _outside(population, "bias", population.bias, -np.inf, np.inf, "whole numbers")
        return
    biases = f"whole numbers in ±{limits.bias_max}"
    yield from _outside(population, "bias", population.bias, -limits.bias_max, limits.bias_max, biases)
    # An infinite threshold is the largest one, which no potential within its range exceeds.
    threshold = np.where(np.isposinf(neuron.threshold), limits.threshold_max, neuron.threshold)
    thresholds = f"whole numbers in 0 … {limits.threshold_max}"
    yield from _outside(population, "threshold", threshold, 0, limits.threshold_max, thresholds)
    decays = f"multiples of 1/{DECAY_UNIT} in 0 …"
    decay, current_decay = np.array(neuron.decay), np.array(neuron.current_decay)
    yield from _outside(population, "decay", decay, 0, 1, f"{decays} 1", 1 / DECAY_UNIT)
    most = 1 - 1 / DECAY_UNIT
    yield from _outside(
        population, "current decay", current_decay, 0, most, f"{decays} {most:.6g}", 1 / DECAY_UNIT
    )


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
    yield from _misfits(population, what, values, fits, allowed)


def _misfits(
    population: Population, what: str, values: np.ndarray, fits: np.ndarray, allowed: str
) -> Iterator[Problem]:
    """The worst of the `values` that don't fit, if there is one."""
    if not fits.all():
        worst = max(values[~fits].tolist(), key=abs)
        yield Problem(population.name, what, f"{worst:.12g}", allowed, "quantise for this target")


def _range_problems(
    population: Population, largest: dict[str, int], timesteps: int | None, limits: Constraints
) -> Iterator[Problem]:
    """Whether some input could drive a channel's sum, current or membrane out of its 24 bits."""
    ranges = {
        "synaptic sum": limits.accumulator_max,
        "synaptic current": limits.accumulator_max,
        "membrane potential": limits.membrane_max,
    }
    for (what, allowed), reached in zip(ranges.items(), reach(population, largest, timesteps), strict=True):
        worst = int(np.argmax(reached))
        if reached[worst] > allowed:
            limit = f"largest {what} (channel {worst})"
            remedy = "quantise for this target, which shrinks the channel's scale"
            yield Problem(population.name, limit, f"{reached[worst]:.12g}", allowed, remedy)


def reach(
    population: Population, largest: dict[str, int], timesteps: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far from zero any input can drive each channel, (C,) float64.

    Args:
        largest: payload of each source by name (`bounds.payloads`).
        timesteps: T; None for any number of steps.

    Returns:
        One step's sum; the current (zero where it has no memory: it is the sum); the membrane (zero for a
        read-out without neuron).
    """
    neuron, none = population.neuron, np.zeros(population.shape[0])
    excitation, inhibition = drive(population, largest)
    sums = np.maximum(excitation, inhibition).max(axis=1)
    if neuron is None:
        return sums, none, none
    up, down = current_reach(neuron, excitation, inhibition, timesteps)
    currents = np.maximum(up, down).max(axis=1) if neuron.current_decay else none
    return sums, currents, np.maximum(*membrane_reach(population, up, down, timesteps)).max(axis=1)
