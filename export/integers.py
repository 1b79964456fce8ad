"""The weights that a chip's synapses hold: w = q·g, q a number of b bits, g a power of two that a path has.

A weight of b bits fills the upper bits of an 8-bit field, so g is 2^(9−b); the exponent of the synapses may
shift that down, as far as 2 (an even number is what every synapse of Lava's holds). A bit alone is a sign, q
is −1 or +1, and is stored with two bits.
"""

from __future__ import annotations

import numpy as np

WEIGHT_BITS = (1, 2, 3, 4, 5, 6, 7, 8)
"""The bits that a weight may have."""

FRACTION_BITS = 6
"""Bits below an integer in a chip's membrane register, where fractions of potentials have their place."""

STEP_MIN = 2
"""The smallest g."""

SKIP_MANTISSA_MAX = 255
"""The weight of an identity path to neurons is m·2^e; m has 8 bits. To a read-out any sum of such."""


def mantissa_max(bits: int) -> int:
    """Q, the largest |q|."""
    return 2 ** (max(bits, 2) - 1) - 1


def steps(bits: int) -> tuple[int, ...]:
    """Every g that b-bit weights may have, the largest first."""
    largest = 9 - max(bits, 2)
    return tuple(2**exponent for exponent in range(largest, STEP_MIN.bit_length() - 2, -1))


def step_of(weight: np.ndarray, bits: int) -> int | None:
    """The largest g under which every one of `weight` is a b-bit weight; None where there is none."""
    magnitudes = np.abs(np.asarray(weight, np.float64))
    for step in steps(bits):
        if np.all(magnitudes % step == 0) and np.all(magnitudes <= step * mantissa_max(bits)):
            return step if bits > 1 or np.all(magnitudes == step) else None
    return None


def weight_exponent(weight: np.ndarray, bits: int) -> int:
    """log₂ g of a path's weights, 0 where g is 1; of the format's own g where they aren't b-bit weights."""
    magnitudes = np.abs(np.asarray(weight, np.float64))
    units = np.all(magnitudes % 1 == 0) and np.all(magnitudes <= mantissa_max(bits))
    return (step_of(weight, bits) or (1 if units else steps(bits)[0])).bit_length() - 1
