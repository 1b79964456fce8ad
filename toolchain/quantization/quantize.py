"""Quantises a lowered network for a target: a float graph in, an integer graph and a proof per layer out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ... import InputError, Refusal
from ...export.bounds import current_reach, drive, fan_in, membrane_reach, payloads
from ...export.graph import Graph, Population
from ...export.target import Constraints, Inputs, peculiarity_problems
from .bias import correct_biases
from .calibration import Clipping, calibrate, clip_ratios
from .decays import with_held_decays
from .formats import best_ratios, choose_rules
from .scales import Rules, largest_weight, normalized, to_integers


@dataclass(frozen=True)
class LayerReport:
    """What quantisation did to a population, and how far it can be driven whatever the network is shown.

    Attributes:
        name: the population's.
        range: "proven": no input can make a sum or a potential leave its register (or it would be refused).
        accumulator, accumulator_share: the largest magnitude of one step's sum, and its share of the range.
        membrane, membrane_share: the largest magnitude of a potential, likewise; None for a read-out.
        weight_step: what a unit of a weight is worth, g.
        scale_min, scale_median, scale_max: of the channels' integer scales k.
        limited_by: how many channels' scales each rule keeps from being larger ("weight", "accumulator",
            "current", "membrane", "bias", "threshold", "skip"; "zero" where there is nothing to scale,
            "shared" for the classes of a read-out that could have had a larger one).
        clip_min, clip_mean: of the channels' largest represented weight, as a share of their largest weight.
        zero_channels: channels without weights and bias.
        never_firing: channels that fired on no calibration sample; None for a read-out, or without any.
        corrected: channels whose bias was corrected.
        fan_in: synapses into one neuron, over all paths.
    """

    name: str
    range: str
    accumulator: int
    accumulator_share: float
    membrane: float | None
    membrane_share: float | None
    weight_step: int
    scale_min: int
    scale_median: float
    scale_max: int
    limited_by: dict[str, int]
    clip_min: float
    clip_mean: float
    zero_channels: list[int]
    never_firing: list[int] | None
    corrected: int
    fan_in: int

    def summary(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Quantized:
    """An integer network, what is proven of each of its populations, and what it was made of.

    Attributes:
        floats: the float network with thresholds of 1 and the decays that the chip has.
        rules, scales: of each population by name; scales int64 (C,).
    """

    graph: Graph
    layers: tuple[LayerReport, ...]
    floats: Graph
    rules: dict[str, Rules]
    scales: dict[str, np.ndarray]

    def with_integers(self, graph: Graph) -> Quantized:
        """The same with other integers in `graph`, of the same formats and scales; each layer proven anew.

        Raises:
            Refusal: some input could drive a channel out of its range.
        """
        layers = tuple(
            replace(layer, **_reach(self.rules[layer.name], graph[layer.name])) for layer in self.layers
        )
        return replace(self, graph=graph, layers=layers)


def quantize(
    graph: Graph,
    constraints: Constraints,
    timesteps: int,
    bits: int = 8,
    calibration: Inputs | None = None,
    approximate: bool = False,
) -> Quantized:
    """Turn a float network into the target's integers.

    Args:
        graph: the float network.
        constraints: the target's integers.
        timesteps: T, for which the ranges are proven.
        bits: of a weight.
        calibration: samples to choose each channel's clipping by;
            None clips nothing and corrects no bias.
        approximate: round decays that the target's registers don't hold; otherwise they are refused.

    Raises:
        InputError: the network is already one of integers, or the samples don't fit it.
        Refusal: it can't hold on the target; layer and excess named.
    """
    _check(graph, constraints, bits)
    graph = with_held_decays(graph, approximate)
    floats = replace(graph, populations=tuple(normalized(p) for p in graph.populations))
    # A bit alone has no magnitude: it must come from somewhere, samples or not.
    candidates = (1.0,) if calibration is None and bits > 1 else clip_ratios(bits)
    payload = payloads(graph)
    rules = {
        p.name: choose_rules(p, payload, timesteps, bits, constraints, candidates) for p in floats.populations
    }
    clippings = _clippings(floats, rules, candidates, calibration, timesteps)
    clips = {name: largest_weight(rule.population) * clippings[name].ratios for name, rule in rules.items()}
    scales = {name: rule.largest_scales(clips[name]) for name, rule in rules.items()}
    readout_scale = min((scales[p.name].min() for p in floats.readouts), default=1)
    scales |= {p.name: np.full(p.shape[0], readout_scale) for p in floats.readouts}
    integers = replace(
        graph,
        populations=tuple(to_integers(p, scales[p.name], rules[p.name].form) for p in floats.populations),
        timesteps=timesteps,
        weight_bits=bits,
        readout_scale=float(readout_scale),
    )
    corrected: dict[str, int] = {}
    if calibration is not None:
        integers, corrected = correct_biases(floats, integers, rules, scales, calibration, timesteps)
    layers = tuple(
        _report(rules[p.name], p, scales[p.name], clips[p.name], clippings[p.name], corrected.get(p.name, 0))
        for p in integers.populations
    )
    return Quantized(integers, layers, floats, rules, scales)


def _clippings(
    floats: Graph,
    rules: dict[str, Rules],
    candidates: tuple[float, ...],
    calibration: Inputs | None,
    timesteps: int,
) -> dict[str, Clipping]:
    """The clipping of every population: by its potentials on samples, or else by its rounding errors."""
    if calibration is not None:
        return calibrate(floats, rules, calibration, timesteps)
    return {name: Clipping(best_ratios(rule, candidates), None) for name, rule in rules.items()}


def _check(graph: Graph, constraints: Constraints, bits: int) -> None:
    """Raise unless `graph` can be quantised to `bits` for a target with these constraints."""
    if graph.is_integer:
        raise InputError(
            f"the network is already one of {graph.weight_bits}-bit integers; quantise the float one"
        )
    if bits not in constraints.weight_bits:
        allowed = ", ".join(map(str, constraints.weight_bits))
        raise Refusal(f"{bits}-bit weights don't fit the target, which has {allowed}")
    if found := peculiarity_problems(graph):
        raise Refusal(f"its integers are of another neuron: {'; '.join(map(str, found))}")
    for port in graph.inputs:
        if port.payload_max > constraints.payload_max:
            raise Refusal(
                f"{port.name}: inputs reach {port.payload_max}, the target takes {constraints.payload_max}"
            )


def _report(
    rules: Rules,
    integers: Population,
    scales: np.ndarray,
    clip: np.ndarray,
    clipping: Clipping,
    corrected: int,
) -> LayerReport:
    """What became of a population; its ranges are those of the final integers."""
    return LayerReport(
        name=integers.name,
        range="proven",
        **_reach(rules, integers),
        weight_step=rules.form.step,
        scale_min=int(scales.min()),
        scale_median=float(np.median(scales)),
        scale_max=int(scales.max()),
        limited_by=_limited_by(rules, scales, clip),
        clip_min=float(clipping.ratios.min()),
        clip_mean=float(clipping.ratios.mean()),
        zero_channels=np.flatnonzero(rules.zero).tolist(),
        never_firing=None if clipping.fired is None else np.flatnonzero(~clipping.fired).tolist(),
        corrected=corrected,
        fan_in=sum(fan_in(synapse) for synapse in integers.synapses),
    )


def _reach(rules: Rules, integers: Population) -> dict[str, Any]:
    """The largest magnitudes of a synaptic sum and of a potential (None for a read-out of sums), and shares.

    Raises:
        Refusal: one leaves its range.
    """
    for rule, load in rules.loads_of(integers).items():
        if load.max() > 1:
            raise Refusal(
                f"{integers.name}: channel {int(load.argmax())} takes {load.max():.4g} times the target's "
                f"{rule} range; quantise it with smaller scales"
            )
    excitation, inhibition = drive(integers, rules.payload)
    accumulator, membrane = int(np.maximum(excitation, inhibition).max()), None
    if integers.neuron is not None:
        currents = current_reach(integers.neuron, excitation, inhibition, rules.timesteps)
        membrane = float(np.maximum(*membrane_reach(integers, *currents, rules.timesteps)).max())
    limits = rules.constraints
    return {
        "accumulator": accumulator,
        "accumulator_share": accumulator / limits.accumulator_max,
        "membrane": membrane,
        "membrane_share": None if membrane is None else membrane / limits.membrane_max,
    }


def _limited_by(rules: Rules, scales: np.ndarray, clip: np.ndarray) -> dict[str, int]:
    """How many channels each rule keeps from a scale larger by one."""
    loads = rules.loads(scales + 1, clip)
    broken = [rules.zero, *(load > 1 for load in loads.values()), np.ones_like(rules.zero)]
    first = np.argmax(broken, axis=0)
    names = ["zero", *loads, "shared"]
    return {name: int((first == index).sum()) for index, name in enumerate(names) if (first == index).any()}
