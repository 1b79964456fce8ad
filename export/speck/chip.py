"""What Speck2f has: nine cores of unequal memories, and what a layer of a network takes of one.

Facts are those of sinabs 3.1.3's documentation (`docs/speck/overview.md`, `docs/speck/faqs/`) and of its
memory model (`sinabs.backend.dynapcnn`): a core does

    convolution  →  integrate-and-fire neurons  →  sum-pooling on the way to each of its destinations

with one kernel, one threshold and one choice of reset. A dense layer is a convolution whose kernel is as
large as the map. Memories are counted in words; addresses being made of bits, each factor counts as the power
of two above it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph import Pair, Population, Synapse

KI = 1024
KERNEL_MAX = 16
STRIDES = (1, 2, 4, 8)
PADDING_MAX = 7
POOLINGS = (4, 2, 1)
"""Sides of the windows of sum-pooling, the largest first."""
CHANNELS_MAX = 1024
INPUT_SIDE_MAX = 128
OUTPUT_SIDE_MAX = 64
DESTINATIONS_MAX = 2
WEIGHT_MAX = 127
"""8 bits, signed; −128 is left unused."""
BIAS_MAX = 127
"""sinabs rounds biases to 8 bits, as it does weights."""
STATE_MAX = 2**15 - 1
STATE_MIN = -(2**15)
"""16 bits, signed: a potential, and the lower bound at which it is held."""


@dataclass(frozen=True)
class Core:
    """What one core has, in words.

    Attributes:
        kernel: of 8 bits, for weights.
        neuron: of 16 bits, for potentials.
        bias: for biases.
    """

    kernel: int
    neuron: int
    bias: int = KI

    def holds(self, needs: Core) -> bool:
        """Whether a layer that needs so much fits."""
        return needs.kernel <= self.kernel and needs.neuron <= self.neuron and needs.bias <= self.bias


CORES = (
    *[Core(16 * KI, 64 * KI)] * 3,
    *[Core(32 * KI, 32 * KI)] * 2,
    *[Core(64 * KI, 16 * KI)] * 2,
    *[Core(16 * KI, 16 * KI)] * 2,
)
"""The cores in the order of their numbers."""

MEMORIES = ("kernel", "neuron", "bias")


@dataclass(frozen=True)
class Layer:
    """A population as a core has it: fed by one path, a convolution over a sum-pooled source.

    Attributes:
        name, source: of the population and of what feeds it.
        source_shape: (C, H, W) of what feeds it, before the pooling.
        shape: (C, H, W) of its neurons; (n, 1, 1) of a flat population.
        weight: float64 (C_out, C_in, k, k).
        pooling: side of the source's pooling window.
        bias: float64 (C_out,); None where all are zero.
    """

    name: str
    source: str
    source_shape: tuple[int, int, int]
    shape: tuple[int, int, int]
    weight: np.ndarray
    stride: Pair
    padding: Pair
    pooling: int
    bias: np.ndarray | None

    @property
    def kernel(self) -> Pair:
        """Height and width of the kernel."""
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what arrives, after the pooling."""
        channels, height, width = self.source_shape
        return channels, height // self.pooling, width // self.pooling

    @property
    def needs(self) -> Core:
        """The words that it takes: c·2^(⌈log₂ k·k⌉ + ⌈log₂ f⌉), f·2^(⌈log₂ H⌉ + ⌈log₂ W⌉), f if biased."""
        features, height, width = self.shape
        kernel = self.input_shape[0] * _power(self.kernel[0] * self.kernel[1]) * _power(features)
        return Core(kernel, features * _power(height) * _power(width), 0 if self.bias is None else features)


def chip_layer(population: Population, from_input: bool) -> Layer:
    """A population that one path, a convolution without groups or dilation or a dense path, feeds.

    A kernel that repeats each weight over blocks is one over a sum-pooled map, its windows the largest that
    the chip has. What the host sends to a core isn't pooled.
    """
    (synapse,) = population.synapses
    channels, height, width = _as_map(synapse.source_shape)
    if synapse.kind == "dense":
        weight = synapse.weight.reshape(-1, channels, height, width)
        stride, padding = (1, 1), (0, 0)
    else:
        weight, stride, padding = synapse.weight, synapse.stride, synapse.padding
    poolings = (1,) if from_input else POOLINGS
    pooling = next(side for side in poolings if _is_pooled(weight, synapse, (height, width), side))
    bias = np.broadcast_to(population.bias, population.shape).reshape(population.shape[0], -1)[:, 0]
    return Layer(
        name=population.name,
        source=synapse.source,
        source_shape=(channels, height, width),
        shape=_as_map(population.shape),
        weight=weight[:, :, ::pooling, ::pooling],
        stride=stride if synapse.kind == "dense" else (stride[0] // pooling, stride[1] // pooling),
        padding=(padding[0] // pooling, padding[1] // pooling),
        pooling=pooling,
        bias=bias if bias.any() else None,
    )


def _is_pooled(weight: np.ndarray, synapse: Synapse, size: Pair, side: int) -> bool:
    """Whether a convolution is one over its source's map sum-pooled by windows of that side."""
    moves = () if synapse.kind == "dense" else (*synapse.stride, *synapse.padding)
    if any(length % side for length in (*size, *weight.shape[2:], *moves)):
        return False
    repeated = np.kron(weight[:, :, ::side, ::side], np.ones((side, side)))
    return bool(np.array_equal(weight, repeated))


def _as_map(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def _power(count: int) -> int:
    """The least power of two that isn't below `count`."""
    return 1 << (count - 1).bit_length()
