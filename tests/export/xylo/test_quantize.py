"""From float networks to Xylo's integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnkd import InputError, Refusal
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.xylo.arithmetic import XyloArithmetic
from snnkd.export.xylo.target import Xylo
from snnkd.toolchain.simulation.simulator import record

ARITHMETIC = XyloArithmetic()
STEPS = 12


def floats(seed: int, decays_input: bool = True) -> Graph:
    rng = np.random.default_rng(seed)

    def layer(name: str, source: str, inputs: int, size: int, spikes: int, depth: int) -> Population:
        weight = rng.normal(0.15, 0.5, (size, inputs)) / np.sqrt(inputs)
        weight *= 0.4 if source == "input" else 2.0
        neuron = Neuron(0.875, np.ones(1), 0.5, "subtract", spikes, decays_input)
        bias = rng.normal(0, 0.05, size) if depth == 1 else np.zeros(1)
        return Population(
            name, (size,), (Synapse(source, "dense", weight, (inputs,), (size,)),), bias, neuron, depth
        )

    populations = (
        layer("first", "input", 6, 20, 31, 1),
        layer("second", "first", 20, 20, 31, 2),
        layer("end", "second", 20, 4, 1, 3),
    )
    return Graph((InputPort("input", (6,), 15),), populations, STEPS)


def inputs(seed: int, count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 16, (count, STEPS, 6)) * (rng.random((count, STEPS, 6)) < 0.4)).astype(np.uint8)


@pytest.mark.parametrize("decays_input", [True, False])
def test_integers_do_nearly_what_the_floats_do(decays_input):
    graph, shown = floats(0, decays_input), inputs(0)
    integers, layers = ARITHMETIC.quantize(graph, STEPS, 8, inputs(1))
    assert Xylo().check(integers) == []
    ours = record(graph, shown, STEPS).spikes
    theirs = ARITHMETIC.record(integers, shown, STEPS).spikes
    for name in ours:
        assert ours[name].sum() > 100
        off = np.abs(ours[name].astype(int) - theirs[name])
        assert off.sum() < 0.06 * ours[name].sum() and off.max() <= 2, name
    assert [report["range"] for report in layers.values()] == ["not reached"] * 3
    assert all(0 < report["membrane_share"] <= 1 for report in layers.values())


def test_more_bits_come_nearer():
    graph, shown = floats(0), inputs(0)
    ours = record(graph, shown, STEPS).spikes
    wrong = []
    for bits in (2, 4, 8):
        integers, _ = ARITHMETIC.quantize(graph, STEPS, bits, inputs(1))
        assert integers.weight_bits == bits
        assert Xylo().check(integers) == []
        theirs = ARITHMETIC.record(integers, shown, STEPS).spikes
        wrong.append(sum(int(np.count_nonzero(ours[name] != theirs[name])) for name in ours))
    assert wrong[0] > wrong[1] > wrong[2]


def test_weights_keep_all_of_their_bits_and_one_shift_a_group():
    integers, layers = ARITHMETIC.quantize(floats(2), STEPS, 8, inputs(1))
    for population in integers.populations:
        shift = layers[population.name]["weight_shift"]
        mantissas = population.synapses[0].weight / 2**shift
        assert np.array_equal(mantissas, np.round(mantissas))
        assert np.all(np.abs(mantissas).max(axis=1) == 127)
    assert layers["first"]["weight_shift"] > 0


def test_without_samples_weights_are_not_shifted():
    integers, layers = ARITHMETIC.quantize(floats(2), STEPS, 8, None)
    assert Xylo().check(integers) == []
    assert [report["weight_shift"] for report in layers.values()] == [0, 0, 0]


def test_weights_far_below_their_threshold_lose_bits():
    """The threshold has sixteen bits, however far above the weights it lies."""
    graph = floats(3)
    first = graph.populations[0]
    path = first.synapses[0]
    driven = replace(first, synapses=(replace(path, weight=path.weight * 1e-4),))
    graph = replace(graph, populations=(driven, *graph.populations[1:]))
    integers, layers = ARITHMETIC.quantize(graph, STEPS, 8, inputs(1))
    assert Xylo().check(integers) == []
    assert layers["first"]["weight_shift"] == 0
    assert 0 < np.abs(integers.populations[0].synapses[0].weight).max() < 10
    assert np.all(integers.populations[0].neuron.threshold == 32767)


def test_what_can_not_be_quantised_is_refused():
    integers, _ = ARITHMETIC.quantize(floats(0), STEPS, 8, None)
    with pytest.raises(InputError, match="already one of 8-bit integers"):
        ARITHMETIC.quantize(integers, STEPS, 8, None)
    with pytest.raises(Refusal, match="1-bit weights don't fit Xylo, which has 2, 3"):
        ARITHMETIC.quantize(floats(0), STEPS, 1, None)


def test_a_threshold_that_no_integer_is_near_is_refused():
    graph = floats(0)
    first = graph.populations[0]
    assert first.neuron is not None
    small = replace(first, neuron=replace(first.neuron, threshold=np.full(1, 1e-4)))
    with pytest.raises(Refusal, match=r"first: a threshold of 0.0001 is nothing beside weights"):
        ARITHMETIC.quantize(replace(graph, populations=(small, *graph.populations[1:])), STEPS, 8, None)
