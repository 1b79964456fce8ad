"""Synaptic sums of a batch over all of its steps at once, in floating point that adds integers exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...export.graph import Synapse

FLOAT32_EXACT = 2**24
"""float32 adds integers exactly, in any order, as long as no partial sum reaches this magnitude."""

Emitted = dict[str, Tensor]
"""What each source emitted, (S, B, *shape): S is T, or 1 for what is the same at every step."""


@contextmanager
def full_precision() -> Iterator[None]:
    """Within it a float32 product is one: no TF32, no bfloat16, and no NNPACK with its Winograd and FFT."""
    onednn: Any = torch.backends.mkldnn
    settings = (torch.backends.cuda.matmul, onednn.matmul, onednn.conv)
    before = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = "ieee"
    try:
        with torch.backends.nnpack.flags(enabled=False):
            yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision


@dataclass(frozen=True)
class Path:
    """A synapse compiled: its weights as a tensor, in the dtype that its sums are to be made in."""

    synapse: Synapse
    weight: Tensor

    def sums(self, emitted: Emitted, timesteps: int) -> Tensor:
        """What arrives at the population at each step, (S, B, *shape)."""
        source = emitted[self.synapse.source]
        sums = synaptic_sums(self.synapse, self.weight, source.flatten(0, 1))
        return _delayed(sums.unflatten(0, source.shape[:2]), self.synapse.delay, timesteps)


def synaptic_sums(synapse: Synapse, weight: Tensor, frames: Tensor) -> Tensor:
    """W * s for N frames: (N, *source_shape) of any dtype → (N, *shape) in the dtype of `weight`."""
    frames = frames.to(weight.dtype)
    if synapse.kind == "identity":
        return frames * weight
    if synapse.kind == "dense":
        return F.linear(frames.flatten(1), weight).unflatten(1, synapse.shape)
    if frames.device.type == "cpu":  # oneDNN, which torch asks for its direct algorithm
        return F.conv2d(
            frames, weight, None, synapse.stride, synapse.padding, synapse.dilation, synapse.groups
        )
    return convolve_by_product(synapse, weight, frames)


def convolve_by_product(synapse: Synapse, weight: Tensor, frames: Tensor) -> Tensor:
    """A convolution (N, C_in, H, W) → (N, *shape) as a matrix product over unfolded patches.

    cuDNN is free to choose Winograd or FFT, whose sums aren't exact, and has no switch against them: so it
    isn't asked.
    """
    kernel = (weight.shape[2], weight.shape[3])
    patches = F.unfold(frames, kernel, synapse.dilation, synapse.padding, synapse.stride)
    kernels = weight.flatten(1).unflatten(0, (synapse.groups, -1))
    sums = torch.einsum("gok,ngkl->ngol", kernels, patches.unflatten(1, (synapse.groups, -1)))
    return sums.reshape(-1, *synapse.shape)


def _delayed(sums: Tensor, delay: int, timesteps: int) -> Tensor:
    """`sums` (S, B, …) arriving `delay` steps later, after zeros: (T, B, …), or as they are without delay."""
    if delay == 0:
        return sums
    arriving = sums.new_zeros(timesteps, *sums.shape[1:])
    arriving[delay:] = sums.expand(timesteps, *sums.shape[1:])[: max(timesteps - delay, 0)]
    return arriving
