"""Quantises a lowered network for a target: a float graph in, an integer graph and a proof per layer out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from ... import InputError, Refusal
from ...export.bounds import drive, fan_in, membrane_reach, payloads
from ...export.graph import Graph, Population
from ...export.target import Constraints
from ..simulation.fixed_point import DECAY_BITS, kept_4096ths
from .calibration import Clipping, calibrate
from .scales import Rules, largest_weight, normalized, to_integers


@dataclass(frozen=True)
class LayerReport:
    """What quantisation did to a population, and how far it can be driven whatever the network is shown.

    Attributes:
        name: the population's.
        range: "proven": no input can make a sum or a potential leave its register (or it would be refused).
        accumulator, accumulator_share: the largest magnitude of one step's sum, and its share of the range.
        membrane, membrane_share: the largest magnitude of a potential, likewise; None for a read-out.
        scale_min, scale_median, scale_max: of the channels' integer scales k.
        limited_by: how many channels' scales each rule keeps from being larger ("weight", "accumulator",
            "membrane", "bias", "threshold", "skip"; "zero" where there is nothing to scale, "shared" for the
            classes of a read-out that could have had a larger one).
        clip_min, clip_mean: of the channels' largest represented weight, as a share of their largest weight.
        zero_channels: channels without weights and bias.
        never_firing: channels that fired on no calibration sample; None for a read-out, or without any.
        fan_in: synapses into one neuron, over all paths.
    """

    name: str
    range: str
    accumulator: int
    accumulator_share: float
    membrane: float | None
    membrane_share: float | None
    scale_min: int
    scale_median: float
    scale_max: int
    limited_by: dict[str, int]
    clip_min: float
    clip_mean: float
    zero_channels: list[int]
    never_firing: list[int] | None
    fan_in: int

    def summary(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Quantized:
    """An integer network, and what is proven of each of its populations."""

    graph: Graph
    layers: tuple[LayerReport, ...]


def quantize(
    graph: Graph,
    constraints: Constraints,
    timesteps: int,
    bits: int = 8,
    calibration: np.ndarray | Tensor | None = None,
) -> Quantized:
    """Turn a float network into the target's integers.

    Args:
        graph: the float network.
        constraints: the target's integers.
        timesteps: T, for which the ranges are proven.
        bits: of a weight.
        calibration: samples to choose each channel's clipping by, integers (N, *shape) or (N, T, *shape);
            None clips nothing.

    Raises:
        InputError: the network is already one of integers, or the samples don't fit it.
        Refusal: it can't hold on the target; layer and excess named.
    """
    _check(graph, constraints, bits)
    floats = replace(graph, populations=tuple(_prepared(p) for p in graph.populations))
    rules = {p.name: Rules(p, payloads(graph), timesteps, bits, constraints) for p in floats.populations}
    clippings = {} if calibration is None else calibrate(floats, rules, calibration, timesteps)
    clips = {name: _clip(rule.population, clippings.get(name)) for name, rule in rules.items()}
    scales = {name: rule.largest_scales(clips[name]) for name, rule in rules.items()}
    readout_scale = min((scales[p.name].min() for p in graph.readouts), default=1)
    scales |= {p.name: np.full(p.shape[0], readout_scale) for p in graph.readouts}
    integers = replace(
        graph,
        populations=tuple(to_integers(p, scales[p.name], bits) for p in floats.populations),
        timesteps=timesteps,
        weight_bits=bits,
        readout_scale=float(readout_scale),
    )
    layers = tuple(
        _report(rules[p.name], p, scales[p.name], clips[p.name], clippings.get(p.name))
        for p in integers.populations
    )
    return Quantized(integers, layers)


def _check(graph: Graph, constraints: Constraints, bits: int) -> None:
    """Raise unless `graph` can be quantised to `bits` for a target with these constraints."""
    if graph.is_integer:
        raise InputError(
            f"the network is already one of {graph.weight_bits}-bit integers; quantise the float one"
        )
    if bits not in constraints.weight_bits:
        allowed = ", ".join(map(str, constraints.weight_bits))
        raise Refusal(f"{bits}-bit weights don't fit the target, which has {allowed}")
    for port in graph.inputs:
        if port.payload_max > constraints.payload_max:
            raise Refusal(
                f"{port.name}: inputs reach {port.payload_max}, the target takes {constraints.payload_max}"
            )


def _prepared(population: Population) -> Population:
    """The population with threshold 1 and with the decay that the chip's register holds."""
    unit = normalized(population)
    if unit.neuron is None:
        return unit
    decay = kept_4096ths(unit.neuron.decay) / 2**DECAY_BITS
    return replace(unit, neuron=replace(unit.neuron, decay=decay))


def _clip(population: Population, clipping: Clipping | None) -> np.ndarray:
    """The largest weight of each channel that keeps an integer of its own, (C,)."""
    largest = largest_weight(population)
    return largest if clipping is None else largest * clipping.ratios


def _report(
    rules: Rules, integers: Population, scales: np.ndarray, clip: np.ndarray, clipping: Clipping | None
) -> LayerReport:
    """What became of a population; its ranges are those of the final integers."""
    accumulator, membrane = _reach(rules, integers)
    ratios = np.ones(1) if clipping is None else clipping.ratios
    return LayerReport(
        name=integers.name,
        range="proven",
        accumulator=accumulator,
        accumulator_share=accumulator / rules.constraints.accumulator_max,
        membrane=membrane,
        membrane_share=None if membrane is None else membrane / rules.constraints.membrane_max,
        scale_min=int(scales.min()),
        scale_median=float(np.median(scales)),
        scale_max=int(scales.max()),
        limited_by=_limited_by(rules, scales, clip),
        clip_min=float(ratios.min()),
        clip_mean=float(ratios.mean()),
        zero_channels=np.flatnonzero(rules.zero).tolist(),
        never_firing=_never_firing(clipping),
        fan_in=sum(fan_in(synapse) for synapse in integers.synapses),
    )


def _never_firing(clipping: Clipping | None) -> list[int] | None:
    if clipping is None or clipping.fired is None:
        return None
    return np.flatnonzero(~clipping.fired).tolist()


def _reach(rules: Rules, integers: Population) -> tuple[int, float | None]:
    """The largest magnitudes of a synaptic sum and of a potential (None for a read-out)."""
    excitation, inhibition = drive(integers, rules.payload)
    accumulator = int(np.maximum(excitation, inhibition).max())
    if integers.neuron is None:
        return accumulator, None
    reach = membrane_reach(integers, excitation, inhibition, rules.timesteps)
    return accumulator, float(np.maximum(*reach).max())


def _limited_by(rules: Rules, scales: np.ndarray, clip: np.ndarray) -> dict[str, int]:
    """How many channels each rule keeps from a scale larger by one."""
    loads = rules.loads(scales + 1, clip)
    broken = [rules.zero, *(load > 1 for load in loads.values()), np.ones_like(rules.zero)]
    first = np.argmax(broken, axis=0)
    names = ["zero", *loads, "shared"]
    return {name: int((first == index).sum()) for index, name in enumerate(names) if (first == index).any()}
