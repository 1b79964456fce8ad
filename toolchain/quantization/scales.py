"""The integer rules: what a scale makes of a population, what limits it, and the largest that holds.

For b-bit weights let Q = 2^(b−1) − 1, and g the power of two that a population's weights share (`formats`
chooses it). With one integer scale k per output channel of neurons whose threshold is 1:

    θ_int = k    bias_int = round(bias·k)    w_int = g·round(w·k/g), at most g·Q    skip_int = round(skip·k)

A bit alone is a sign: w_int = ±g, and Q = 1. A rule's *load* is the share of its limit that is used. Rounding
being monotone, no load falls while k grows, so the largest k is found by bisection; only the format of skips
to neurons, m·2^e, has gaps, and those are stepped over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ... import Refusal
from ...export.bounds import by_channel, current_reach, drive, membrane_reach
from ...export.graph import Population, Synapse
from ...export.integers import SKIP_MANTISSA_MAX, mantissa_max
from ...export.target import Constraints

READOUT_SCALE_MAX = 2**31 - 1
"""Only the host knows a read-out's scale: no register bounds it."""


@dataclass(frozen=True)
class Format:
    """How a population's weights are stored: as q·step, q of `bits` bits."""

    bits: int
    step: int

    @property
    def largest(self) -> int:
        """g·Q: the largest weight."""
        return self.step * mantissa_max(self.bits)

    def rounded(self, weight: np.ndarray) -> np.ndarray:
        """The nearest weights of this format; of 1 bit, zero becomes +g."""
        if self.bits == 1:
            return np.where(weight >= 0, self.step, -self.step).astype(np.float64)
        return np.clip(self.step * np.round(weight / self.step), -self.largest, self.largest)


def largest_weight(population: Population) -> np.ndarray:
    """max |w| of each channel over all paths but identity skips, (C,)."""
    channels = population.shape[0]
    weights = [s.weight.reshape(channels, -1) for s in population.synapses if s.kind != "identity"]
    return np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0, initial=0)


def multiplied(population: Population, factor: np.ndarray) -> Population:
    """`population` with each channel's weights and bias multiplied by `factor` (C,)."""
    synapses = tuple(replace(s, weight=_multiplied(s, factor)) for s in population.synapses)
    bias = population.bias * along_channels(factor, len(population.shape))
    return replace(population, synapses=synapses, bias=bias)


def _multiplied(synapse: Synapse, factor: np.ndarray) -> np.ndarray:
    if synapse.kind == "identity":
        return synapse.weight * along_channels(factor, len(synapse.shape))
    rows = np.repeat(factor, len(synapse.weight) // len(factor))
    return synapse.weight * along_channels(rows, synapse.weight.ndim)


def along_channels(values: np.ndarray, dimensions: int) -> np.ndarray:
    """(C,) as (C, 1, …)."""
    return values.reshape(-1, *[1] * (dimensions - 1))


def normalized(population: Population) -> Population:
    """The same neurons with threshold 1: each channel divided by its own.

    Raises:
        Refusal: a threshold isn't positive, or differs within a channel, whose neurons share a scale.
    """
    if population.neuron is None or population.is_readout:
        return population
    thresholds = by_channel(population.neuron.threshold, population.shape)
    if not (thresholds > 0).all():
        raise Refusal(
            f"{population.name}: a threshold is {thresholds.min():g}; only positive ones can be quantised"
        )
    if not (thresholds == thresholds[:, :1]).all():
        raise Refusal(
            f"{population.name}: thresholds differ within a channel; it can be quantised with one each"
        )
    neuron = replace(population.neuron, threshold=np.ones(1))
    return replace(multiplied(population, 1 / thresholds[:, 0]), neuron=neuron)


def to_integers(population: Population, scales: np.ndarray, form: Format) -> Population:
    """What the scales (C,) make of a population with threshold 1, or of a read-out."""
    exact = multiplied(population, scales)
    neuron = exact.neuron
    if neuron is not None and neuron.spikes:
        neuron = replace(neuron, threshold=along_channels(scales, len(exact.shape)).astype(np.float64))
    synapses = tuple(replace(s, weight=_rounded(s, form)) for s in exact.synapses)
    return replace(exact, synapses=synapses, bias=np.round(exact.bias), neuron=neuron)


def _rounded(synapse: Synapse, form: Format) -> np.ndarray:
    return np.round(synapse.weight) if synapse.kind == "identity" else form.rounded(synapse.weight)


@dataclass(frozen=True)
class Rules:
    """What limits the scales of one population.

    Attributes:
        population: the float population, with threshold 1; or a read-out.
        payload: the largest payload of every source.
        timesteps: T.
        form: of its weights.
        constraints: the target's.
        any_signs: whether the ranges hold whatever the weights' signs, so that single bits can be trained.
    """

    population: Population
    payload: dict[str, int]
    timesteps: int
    form: Format
    constraints: Constraints
    any_signs: bool = False

    def largest_scales(self, clip: np.ndarray) -> np.ndarray:
        """The largest scale of each channel that keeps all rules, int64 (C,).

        All classes of a read-out share the smallest, and all channels where the target has one threshold for
        them. A channel of neurons with nothing to scale gets 1; of
        weights without a zero, the largest scale, under which they matter least.

        Args:
            clip: the largest weight that must keep an integer of its own, (C,).

        Raises:
            Refusal: not even 1 does, with layer, channel and excess.
        """
        scales = np.minimum(self._weights_allow(clip), self._ranges_allow)
        while (misfits := self.skip_load(scales) > 1).any():
            scales = scales - misfits
        if scales.min() == 0:
            raise self._refusal(int(scales.argmin()), clip)
        if self.one_scale:
            return np.full_like(scales, scales.min())
        return scales if self.form.bits == 1 else np.where(self.zero, 1, scales)

    @property
    def one_scale(self) -> bool:
        """Whether all channels share a scale."""
        return self.population.is_readout or self.constraints.one_threshold

    def weights_decide(self, clip: np.ndarray) -> bool:
        """Whether no range keeps a channel's scale below what its weights, clipped to `clip` (C,), allow."""
        return bool((self._weights_allow(clip) <= self._ranges_allow).all())

    def _weights_allow(self, clip: np.ndarray) -> np.ndarray:
        """The largest scale under which `clip` keeps an integer of its own, int64 (C,)."""
        with np.errstate(divide="ignore"):
            return np.minimum(self.form.largest / clip, self._scale_max).astype(np.int64)

    @property
    def zero(self) -> np.ndarray:
        """Which channels have neither weights nor a bias, bool (C,)."""
        excitation, inhibition = drive(self.population, self.payload)
        bias = np.abs(by_channel(self.population.bias, self.population.shape))
        return excitation.max(axis=1) + inhibition.max(axis=1) + bias.max(axis=1) == 0

    @property
    def _scale_max(self) -> int:
        return READOUT_SCALE_MAX if self.population.is_readout else self.constraints.threshold_max

    @cached_property
    def _ranges_allow(self) -> np.ndarray:
        """The largest scale under which nothing leaves its range, whatever is clipped, int64 (C,)."""
        channels = self.population.shape[0]
        low, high = np.zeros(channels, np.int64), np.full(channels, self._scale_max)
        while (low < high).any():
            middle = (low + high + 1) // 2
            holds = np.max(list(self.range_loads(middle).values()), axis=0) <= 1
            low, high = np.where(holds, middle, low), np.where(holds, high, middle - 1)
        return low

    def loads(self, scales: np.ndarray, clip: np.ndarray) -> dict[str, np.ndarray]:
        """By rule, the share of its limit that each channel uses, (C,)."""
        weight = scales * clip / self.form.largest
        return {"weight": weight, **self.range_loads(scales), "skip": self.skip_load(scales)}

    def range_loads(self, scales: np.ndarray) -> dict[str, np.ndarray]:
        """The share of each range that no input can make each channel exceed, (C,), by rule."""
        return self.loads_of(to_integers(self.population, scales, self.form))

    def loads_of(self, integers: Population) -> dict[str, np.ndarray]:
        """`range_loads` of what the scales made of the population."""
        limits, neuron = self.constraints, integers.neuron
        drives = drive(integers, self.payload)
        if self.any_signs:
            either = drives[0] + drives[1]
            drives = (either, either)
        loads = {"accumulator": np.maximum(*drives).max(axis=1) / limits.accumulator_max}
        if neuron is None:
            return loads
        currents = current_reach(neuron, *drives, self.timesteps)
        if neuron.current_decay:
            loads["current"] = np.maximum(*currents).max(axis=1) / limits.accumulator_max
        reach = np.maximum(*membrane_reach(integers, *currents, self.timesteps))
        loads["membrane"] = reach.max(axis=1) / limits.membrane_max
        bias = np.abs(by_channel(integers.bias, integers.shape))
        loads["bias"] = bias.max(axis=1) / limits.bias_max
        if neuron.spikes:
            thresholds = by_channel(neuron.threshold, integers.shape)
            loads["threshold"] = thresholds.max(axis=1) / limits.threshold_max
        return loads

    def skip_load(self, scales: np.ndarray) -> np.ndarray:
        """The largest m of each channel's skips m·2^e, as a share of what it may be, (C,); 0 of read-outs."""
        load = np.zeros(len(scales))
        if self.population.is_readout:
            return load
        for skip in (s for s in self.population.synapses if s.kind == "identity"):
            weights = np.abs(np.round(by_channel(_multiplied(skip, scales), skip.shape)).astype(np.int64))
            mantissas = weights // np.maximum(weights & -weights, 1)
            load = np.maximum(load, mantissas.max(axis=1) / SKIP_MANTISSA_MAX)
        return load

    def _refusal(self, channel: int, clip: np.ndarray) -> Refusal:
        loads = {rule: load[channel] for rule, load in self.loads(np.ones(len(clip), int), clip).items()}
        worst = max(loads, key=lambda rule: loads[rule])
        excess = f"{loads[worst]:.4g} times the target's {worst} range"
        return Refusal(
            f"{self.population.name}: channel {channel} takes {excess} even at the smallest scale; "
            "its weights and bias are too large for its threshold"
        )
