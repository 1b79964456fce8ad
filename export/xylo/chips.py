"""What the chips of the Xylo family hold.

Numbers of neurons, synapses and channels: SynSense, "Overview of the Xylo family" (rockpool.ai), and the
design rules of rockpool 3.1, which map networks onto the chips. Widths of registers and the most events: the
constants of SynSense's simulator xylosim, "a bitwise exact implementation" of the chip's neuron by its own
word.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..target import Constraints

WEIGHT_MIN, WEIGHT_MAX = -128, 127
"""A weight has eight bits."""

SHIFT_MAX = 7
"""How far the weights of a group may be shifted. The field's width isn't published; xylosim takes any."""

STATE_MIN, STATE_MAX = -(2**15), 2**15 - 1
"""Currents, potentials, thresholds and biases have 16 bits; states saturate."""

DASHES = range(1, 16)
"""A dash has four bits. 0 would erase a state at every step; a current is erased before it is seen."""

INPUT_EVENTS, HIDDEN_SPIKES, OUTPUT_SPIKES = 15, 31, 1
"""The most in a step: of an input channel, a hidden and an output neuron."""

CONSTRAINTS = Constraints(
    weight_bits=(2, 3, 4, 5, 6, 7, 8),
    threshold_max=STATE_MAX,
    bias_max=STATE_MAX,
    accumulator_max=STATE_MAX,
    membrane_max=STATE_MAX,
    state_fraction_bits=0,
    payload_max=INPUT_EVENTS,
)


@dataclass(frozen=True)
class Chip:
    """One chip of the family.

    Attributes:
        device: its name and order number.
        inputs, hidden, outputs: how many input channels, hidden and output neurons.
        fan_out: synapses from one hidden neuron to others, at most.
        synapses: the same of all hidden neurons together: the average fan-out times their number.
        taking_input, feeding_outputs: how many hidden neurons may do that: the first, and the last.
    """

    device: str
    inputs: int
    hidden: int
    outputs: int
    fan_out: int
    synapses: int
    taking_input: int
    feeding_outputs: int


IMU = Chip("Xylo IMU (SYNS63300)", 16, 496, 16, 512, 496 * 64, 128, 128)

AUDIO2 = Chip("Xylo Audio 2 (SYNS61201)", 16, 1000, 8, 64, 1000 * 32, 1000, 1000)
"""Of its two synapses a neuron one is used, to which half of the average fan-out belongs."""
