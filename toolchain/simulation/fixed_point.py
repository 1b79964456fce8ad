"""Loihi's leaky integrate-and-fire neuron in fixed point, as Lava computes it.

`lava.proc.lif` under `Loihi2SimCfg(select_tag="fixed_pt")` with `du = 4095` (a current without memory) and
`bias_exp = 6`. An integer of the network stands FRACTION_BITS above the registers' lowest bit:

    u ← (Σ w·s) << 6                                         wraps beyond 24 bits
    v ← sign(v)·(|v|·(4096 − dv) >> 12) + u + (bias << 6)    saturates at ±(2^23 − 1)
    spike if v > θ << 6; then v ← 0

Registers are int32, as in Lava's NumPy, so that what overflows even those does so alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FRACTION_BITS = 6
STATE_MODULUS = 2**24
"""u and v have 24 bits, sign included."""
STATE_MAX = STATE_MODULUS // 2 - 1
"""The largest magnitude of v, in its lowest bit."""
INTEGER_MAX = STATE_MAX >> FRACTION_BITS
"""131071: the largest magnitude of a sum that doesn't wrap u, and of a potential that doesn't saturate v."""
DECAY_BITS = 12
"""A decay is a multiple of 2^-12."""


def kept_4096ths(decay: float) -> int:
    """4096 − dv with dv = round(4096·(1 − decay)): how many 4096ths of v are left after a step."""
    unity = 1 << DECAY_BITS
    return unity - round(unity * (1 - decay))


def never_truncates(decay: float, timesteps: int) -> bool:
    """Whether integer inputs keep every potential within its fraction bits for T steps.

    A decay of 0 or 1 makes no fraction; one of 2^-m moves m bits into it at each of the T − 1 later steps.
    """
    if decay in (0.0, 1.0):
        return True
    mantissa, exponent = math.frexp(decay)
    return mantissa == 0.5 and (1 - exponent) * (timesteps - 1) <= FRACTION_BITS


def wrap_sums(sums: Tensor) -> Tensor:
    """`sums` (int64) modulo 2^24 in [−2^23, 2^23): how Lava's convolution hands them on."""
    half = STATE_MODULUS // 2
    return torch.remainder(sums + half, STATE_MODULUS) - half


def membrane_input(sums: Tensor, bias: Tensor) -> Tensor:
    """u + bias in v's unit for `sums` and `bias` in whole units, all int32.

    Lava adds or subtracts 2^24 once: u is left in (−2^23, 2^23] unless it was beyond three times that.
    """
    half = STATE_MODULUS // 2
    u = sums << FRACTION_BITS
    u = torch.where(u > half, u - STATE_MODULUS, torch.where(u <= -half, u + STATE_MODULUS, u))
    return u + (bias << FRACTION_BITS)


def fire(current: Tensor, kept: int, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Run the neuron over time.

    Args:
        current: what `membrane_input` gives, int32 (T, …).
        kept: 4096ths of v that are left after a step.
        threshold: in whole units, int32, broadcastable to one step.

    Returns:
        spikes, uint8 (T, …), and v before each reset, int32 (T, …).
    """
    limit = threshold << FRACTION_BITS
    spikes = torch.empty(current.shape, dtype=torch.uint8, device=current.device)
    membrane = torch.empty(current.shape, dtype=torch.int32, device=current.device)
    state = torch.zeros_like(current[0])
    for step in range(current.shape[0]):
        decayed = ((state.abs().to(torch.int64) * kept) >> DECAY_BITS).to(torch.int32) * state.sign()
        potential = torch.clamp(decayed + current[step], -STATE_MAX, STATE_MAX, out=membrane[step])
        fired = potential > limit
        spikes[step] = fired
        state = potential.masked_fill(fired, 0)
    return spikes, membrane
