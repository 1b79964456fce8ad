"""The lowered network: populations of neurons and the synapse paths between them.

Simulation, every target, core mapping and activity counting read this one view. It is made
from a NIR graph by `lowering.lower` and turned back into one by `nir.to_nir`.

Time is undelayed here: a spike emitted at step t reaches every population downstream at step t
(a target that needs a step per synapse layer adds those steps itself, from `depth`).
`Synapse.delay` counts the steps that the *model* asks for on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from .. import InputError

GRADED_PAYLOAD_MAX = 255
"""The largest payload of an 8-bit graded spike; a pixel is one of 0 … 255."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Neuron:
    """A leaky integrate-and-fire neuron, x[t] being the summed synaptic input:

        u[t] = current_decay·u[t−1] + x[t]
        v[t] = decay·v[t−1] + u[t] + bias;   s[t] = 1 if v[t] > threshold else 0;   v[t] ← 0 where s[t] = 1

    One that resets by subtraction fires at its threshold, as often in a step as that fits into v, and keeps
    the rest:

        s[t] = min(⌊v[t]/threshold⌋, max_spikes) where v[t] ≥ threshold, else 0
        v[t] ← v[t] − s[t]·threshold

    u isn't reset. A neuron whose threshold is infinite everywhere never spikes: a leaky integrator, whose
    potential v is what it shows.

    Attributes:
        decay: what is left of the membrane potential after a step, in [0, 1].
        threshold: float64, shape broadcastable to the population's ((C, 1, 1), (n,) or full).
        current_decay: what is left of the synaptic current after a step, in [0, 1); 0 is a current without
            memory.
        reset: what a spike does to v: set it to zero, or take the threshold away.
        max_spikes: how many spikes a step may have; more than 1 with `subtract` alone.
        decays_input: whether what arrives decays with the rest of the current before v sees it:
            u[t] = current_decay·(u[t−1] + x[t]).
    """

    decay: float
    threshold: np.ndarray
    current_decay: float = 0.0
    reset: Literal["zero", "subtract"] = "zero"
    max_spikes: int = 1
    decays_input: bool = False

    @property
    def halves(self) -> bool:
        """Whether T steps of integers stay on the grid of 2^−(T−1)."""
        return {self.decay, self.current_decay} <= {0.0, 0.5, 1.0}

    @cached_property
    def spikes(self) -> bool:
        """Whether it can spike at all."""
        return bool(np.isfinite(self.threshold).any())

    @property
    def peculiarity(self) -> str:
        """What it does that the neuron with a hard reset doesn't; empty if it is that neuron."""
        found = []
        if self.reset != "zero":
            found.append("takes its threshold away when it spikes")
        if self.max_spikes != 1:
            found.append(f"spikes up to {self.max_spikes} times in a step")
        if self.decays_input:
            found.append("lets its input decay before the potential sees it")
        return " and ".join(found)


@dataclass(frozen=True)
class Synapse:
    """One path from a source (population or input) into a population: x += W * s_source.

    Attributes:
        source: name of the population or input that the path starts at.
        kind: "conv" (2-D cross-correlation, zero padding), "dense" (on the source flattened in C, H, W
            order) or "identity" (same shape on both sides).
        weight: float64; conv (C_out, C_in/groups, kH, kW); dense (n_out, n_in); identity broadcastable to
            the population's shape.
        source_shape, shape: the two ends, (C, H, W) or (n,), without batch.
        delay: steps that the model adds to the path.
    """

    source: str
    kind: Literal["conv", "dense", "identity"]
    weight: np.ndarray
    source_shape: tuple[int, ...]
    shape: tuple[int, ...]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    delay: int = 0


@dataclass(frozen=True)
class Population:
    """Neurons of one kind, or a read-out.

    A read-out without neuron lets each step's sum leave the chip, and the host adds them over T. A read-out
    of leaky integrators lets each step's potential leave, and the last one counts.

    Attributes:
        bias: float64, broadcastable to `shape`; added every step (to a read-out without neuron by the host, T
            times).
        depth: synapse layers between the input and here along the longest path; the first population has 1.
    """

    name: str
    shape: tuple[int, ...]
    synapses: tuple[Synapse, ...]
    bias: np.ndarray
    neuron: Neuron | None
    depth: int

    @property
    def size(self) -> int:
        """How many neurons it has."""
        return int(np.prod(self.shape))

    @property
    def is_readout(self) -> bool:
        """Whether it emits numbers, sums or potentials, in place of spikes."""
        return self.neuron is None or not self.neuron.spikes


@dataclass(frozen=True)
class InputPort:
    """Where samples enter, (C, H, W) or (n,): integers 0 … payload_max (1 means binary spikes)."""

    name: str
    shape: tuple[int, ...]
    payload_max: int = GRADED_PAYLOAD_MAX


@dataclass(frozen=True)
class Graph:
    """A whole network, its populations in topological order, sources before what they feed.

    Attributes:
        timesteps: steps T per sample, where the file says so.
        weight_bits: None for a float network; b for integers of the design's rules (see quantization).
        readout_scale: the read-outs' integer k: logits = (Σ_t sums[t] + T·bias) / k, or the last potential
            divided by k. 1 for a float network.
    """

    inputs: tuple[InputPort, ...]
    populations: tuple[Population, ...]
    timesteps: int | None = None
    weight_bits: int | None = None
    readout_scale: float = 1.0

    @property
    def is_integer(self) -> bool:
        """Whether weights, biases and thresholds are the chip's integers."""
        return self.weight_bits is not None

    @property
    def steps(self) -> int:
        """T.

        Raises:
            InputError: nobody has said it.
        """
        if self.timesteps is None:
            raise InputError("the network doesn't say how many steps a sample takes; say it with --timesteps")
        return self.timesteps

    @property
    def spiking(self) -> tuple[Population, ...]:
        """The populations that spike."""
        return tuple(p for p in self.populations if not p.is_readout)

    @property
    def readouts(self) -> tuple[Population, ...]:
        """The populations that emit sums or potentials."""
        return tuple(p for p in self.populations if p.is_readout)

    @property
    def outputs(self) -> tuple[Population, ...]:
        """What a class is predicted from: the read-outs, or else the spike counts of what feeds nobody."""
        feeding = {synapse.source for _, synapse in self.paths()}
        return self.readouts or tuple(p for p in self.populations if p.name not in feeding)

    @property
    def deciding(self) -> tuple[Population, ...]:
        """The outputs that a class is predicted from.

        Sum read-outs that are all of the same size are parts of one, and are added. Otherwise the first
        output decides.

        Raises:
            InputError: the network has no outputs.
        """
        if not self.outputs:
            raise InputError("the network has no outputs, so it predicts no class")
        first = self.outputs[0]
        parts = all(output.neuron is None and output.size == first.size for output in self.outputs)
        return self.outputs if parts else (first,)

    @property
    def is_sequential(self) -> bool:
        """Whether each population is fed by the one before alone, without delay; the last sums up."""
        if len(self.inputs) != 1:
            return False
        names = [self.inputs[0].name, *(p.name for p in self.populations)]
        chained = all(
            len(p.synapses) == 1
            and p.synapses[0].source == names[index]
            and p.synapses[0].kind != "identity"
            and p.synapses[0].delay == 0
            for index, p in enumerate(self.populations)
        )
        return chained and [p.name for p in self.readouts] == names[-1:] and self.readouts[0].neuron is None

    def __getitem__(self, name: str) -> Population:
        for population in self.populations:
            if population.name == name:
                return population
        raise KeyError(name)

    def paths(self) -> Iterator[tuple[Population, Synapse]]:
        """Every synapse path with the population it ends in."""
        for population in self.populations:
            for synapse in population.synapses:
                yield population, synapse


def depths(sources: dict[str, list[str]]) -> dict[str, int]:
    """Synapse layers from the inputs along the longest path, given each population's sources in order."""
    depth: dict[str, int] = {}
    for name, incoming in sources.items():
        depth[name] = 1 + max((depth.get(source, 0) for source in incoming), default=0)
    return depth


def compact(values: np.ndarray | float, shape: tuple[int, ...]) -> np.ndarray:
    """`values` over a population of `shape`, float64; one per channel (C, 1, 1) where a map agrees."""
    full = np.broadcast_to(np.asarray(values, dtype=np.float64), shape)
    per_channel = full[:, :1, :1] if len(shape) == 3 else full
    return np.array(per_channel if np.all(full == per_channel) else full)


def per_output(values: np.ndarray, synapse: Synapse) -> np.ndarray:
    """One value per neuron at a synapse's end, shaped so that the weight can be multiplied by it.

    Raises:
        ValueError: a convolution has the same weights all over a map, the values differ there.
    """
    values = compact(values, synapse.shape)
    if synapse.kind == "identity":
        return values
    if synapse.kind == "conv" and values.shape[1:] != (1, 1):
        raise ValueError("a convolution's weights are the same all over a map")
    return values.reshape(-1, *(1,) * (synapse.weight.ndim - 1))
