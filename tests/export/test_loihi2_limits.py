"""Every limit of the chip and of netx, broken one at a time; ranges against the worst of all inputs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.loihi2.limits import reach
from snnkd.export.loihi2.target import Loihi2

SHAPE = (2, 4, 4)


def sequential(**changes) -> Graph:
    """Input (2, 4, 4) – conv – hidden – read-out, all within the limits; `changes` replace parts by name."""
    conv = Synapse("input", "conv", np.full((3, 2, 3, 3), 4.0), SHAPE, (3, 2, 2))
    dense = Synapse("maps", "dense", np.full((5, 12), -254.0), (3, 2, 2), (5,))
    readout = Synapse("hidden", "dense", np.full((4, 5), 254.0), (5,), (4,))
    parts = {
        "inputs": (InputPort("input", SHAPE),),
        "maps": Population(
            "maps", (3, 2, 2), (conv,), np.zeros((3, 1, 1)), Neuron(0.5, np.full((3, 1, 1), 9.0)), 1
        ),
        "hidden": Population(
            "hidden", (5,), (dense,), np.full(5, 4095.0), Neuron(0.5, np.full(5, 131071.0)), 2
        ),
        "readout": Population("readout", (4,), (readout,), np.full(4, 1e9), None, 3),
        "bits": 8,
        "timesteps": 4,
    } | changes
    parts["hidden"] = replace(parts["hidden"], neuron=changes.get("neuron", Neuron(0.5, np.full(5, 9000.0))))
    populations = (parts["maps"], parts["hidden"], parts["readout"])
    return Graph(parts["inputs"], populations, parts["timesteps"], parts["bits"])


def with_synapse(name: str, **changes) -> dict[str, Population]:
    population = sequential()[name]
    return {name: replace(population, synapses=(replace(population.synapses[0], **changes),))}


def with_weight(name: str, value: float) -> dict[str, Population]:
    weight = sequential()[name].synapses[0].weight.copy()
    weight[(-1, *(0 for _ in weight.shape[1:]))] = value
    return with_synapse(name, weight=weight)


def found(**changes) -> list[tuple[str, str, object]]:
    return [
        (problem.layer, problem.limit, problem.found) for problem in Loihi2().check(sequential(**changes))
    ]


def test_a_network_within_the_limits_has_no_problem():
    assert found() == []
    assert found(bits=None) == []


HIDDEN = sequential()["hidden"]
MAPS = sequential()["maps"]
THRESHOLD = np.full(5, 9000.0)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (with_weight("maps", 5), ("maps", "weight", "5")),
        (with_weight("hidden", -256), ("hidden", "weight", "-256")),
        (with_weight("readout", 256), ("readout", "weight", "256")),
        (with_weight("readout", 0.5), ("readout", "weight", "0.5")),
        (with_weight("readout", np.nan), ("readout", "weight", "nan")),
        (with_weight("readout", np.inf), ("readout", "weight", "inf")),
        ({"hidden": replace(HIDDEN, bias=np.full(5, 4096.0))}, ("hidden", "bias", "4096")),
        ({"hidden": replace(HIDDEN, bias=np.full(5, -4096.0))}, ("hidden", "bias", "-4096")),
        ({"hidden": replace(HIDDEN, bias=np.full(5, 0.25))}, ("hidden", "bias", "0.25")),
        ({"readout": replace(sequential()["readout"], bias=np.full(4, 0.25))}, ("readout", "bias", "0.25")),
        ({"neuron": Neuron(0.5, np.array([9, 9, 131072, 9, 9.0]))}, ("hidden", "threshold", "131072")),
        ({"neuron": Neuron(0.5, np.array([9, 9, -1, 9, 9.0]))}, ("hidden", "threshold", "-1")),
        ({"neuron": Neuron(0.5, np.array([9, 9, 8.5, 9, 9]))}, ("hidden", "threshold", "8.5")),
        ({"neuron": Neuron(0.3, THRESHOLD)}, ("hidden", "decay", 0.3)),
        ({"neuron": Neuron(1.5, THRESHOLD)}, ("hidden", "decay", 1.5)),
        ({"bits": 9}, ("network", "weight bits", 9)),
        ({"bits": 7}, ("hidden", "weight", "-254")),
        ({"inputs": (InputPort("input", SHAPE, 256),)}, ("input", "payload", 256)),
        ({"inputs": (InputPort("input", SHAPE, 0),)}, ("input", "payload", 0)),
        ({"inputs": (InputPort("input", (2, 4)),)}, ("input", "shape", "(2, 4)")),
        (with_synapse("maps", stride=(1, 128)), ("maps", LARGEST := "largest of kernel size, stride, padding, dilation and groups", 128)),
        (with_synapse("maps", groups=130), ("maps", LARGEST, 130)),
        ({"hidden": replace(HIDDEN, shape=(5, 1, 1))}, ("hidden", "shape after a dense path", "(5, 1, 1)")),
        (with_synapse("maps", source_shape=(32,)), ("maps", "shape around a convolution", "(32,) → (3, 2, 2)")),
        # (3, 2, 3, 3) weights of 30 × 255: 137,700 at most
        (with_synapse("maps", weight=np.full((3, 2, 3, 3), 30.0)), ("maps", "largest synaptic sum (channel 0)", "137700")),
        (with_weight("readout", 254) | {"timesteps": None, "neuron": Neuron(1.0, THRESHOLD)}, ("hidden", "largest membrane potential (channel 0)", "inf")),
    ],
)  # fmt: skip
def test_each_broken_limit_is_named_with_layer_and_size(changes, problem):
    assert problem in found(**changes)


def test_one_broken_range_names_its_channel():
    weight = np.full((3, 2, 3, 3), 4.0)
    weight[1] = -30
    problems = Loihi2().check(sequential(**with_synapse("maps", weight=weight)))
    assert [str(problem) for problem in problems] == [
        "maps: largest synaptic sum (channel 1) is 137700, the target allows 131071; "
        "quantise for this target, which shrinks the channel's scale",
        "maps: largest membrane potential (channel 1) is 258187.5, the target allows 131071; "
        "quantise for this target, which shrinks the channel's scale",
    ]


def test_membranes_are_bounded_by_what_all_steps_add_up_to():
    def membranes(timesteps: int) -> list[tuple[str, str, object]]:
        return found(
            neuron=Neuron(1.0, THRESHOLD), hidden=replace(HIDDEN, bias=np.zeros(5)), timesteps=timesteps
        )

    assert membranes(43) == []  # 12 · 254 · 43 = 131,064
    assert membranes(44) == [("hidden", "largest membrane potential (channel 0)", "134112")]


# Networks that aren't a chain: refused by name


def residual() -> Graph:
    """Input – a – b (from a, and again from the input) – read-out."""
    identity = Synapse("input", "identity", np.full((4,), 9.0), (4,), (4,))
    dense = lambda source, size=4: Synapse(source, "dense", np.full((size, 4), 2.0), (4,), (size,))  # noqa: E731
    neuron = Neuron(0.5, np.full(4, 9.0))
    populations = (
        Population("a", (4,), (dense("input"),), np.zeros(4), neuron, 1),
        Population("b", (4,), (dense("a"), identity), np.zeros(4), neuron, 2),
        Population("readout", (3,), (dense("b", 3),), np.zeros(3), None, 3),
    )
    return Graph((InputPort("input", (4,), 1),), populations, 4, None)


@pytest.mark.parametrize("bits", [None, 8])
def test_a_residual_network_is_refused_by_name(bits):
    problems = Loihi2().check(replace(residual(), weight_bits=bits))
    assert str(problems[0]) == (
        "b: number of incoming paths is 2, the target allows 1; a netx file holds layers in a row"
    )
    assert ("b", "kind of path") in [(problem.layer, problem.limit) for problem in problems]


def test_every_way_out_of_a_chain_is_named():
    a, b, readout = residual().populations
    skipping = replace(readout, synapses=(replace(readout.synapses[0], source="a"),))
    delayed = replace(b, synapses=(replace(b.synapses[0], delay=2),))
    two_inputs = (InputPort("input", (4,)), InputPort("other", (4,)))

    def limits(inputs: tuple[InputPort, ...], *populations: Population) -> list[tuple[str, str, object]]:
        problems = Loihi2().check(Graph(inputs, populations))
        return [(problem.layer, problem.limit, problem.found) for problem in problems]

    one_input = two_inputs[:1]
    assert limits(one_input, a, delayed, skipping) == [
        ("b", "delay of a path", 2),
        ("readout", "source", "a"),
    ]
    assert limits(two_inputs, a, delayed, readout)[0] == ("network", "number of inputs", 2)
    assert limits(one_input, a) == [("network", "read-out", "none")]
    assert limits(one_input) == [("network", "read-out", "none")]
    assert limits((), a)[0] == ("network", "number of inputs", 0)
    assert ("network", "read-out", "readout") in limits(one_input, a, readout, b)


def test_a_convolution_cannot_be_the_read_out():
    readout = Population("maps", (3, 2, 2), MAPS.synapses, np.zeros((3, 1, 1)), None, 1)
    problems = Loihi2().check(Graph((InputPort("input", SHAPE),), (readout,)))
    assert [(problem.limit, problem.found) for problem in problems] == [("read-out's path", "conv")]


# Ranges


@settings(max_examples=60, deadline=None)
@given(
    weight=arrays(np.int64, (2, 3), elements=st.integers(-127, 127)),
    bias=arrays(np.int64, 2, elements=st.integers(-60, 60)),
    threshold=st.integers(0, 200),
    quarters=st.integers(0, 4),
    payload=st.integers(1, 3),
    timesteps=st.integers(1, 3),
)
def test_no_input_reaches_further_than_was_proven(weight, bias, threshold, quarters, payload, timesteps):
    """All inputs of three synapses for up to three steps, by brute force."""
    decay = quarters / 4
    synapse = Synapse("input", "dense", weight.astype(float), (3,), (2,))
    population = Population(
        "p", (2,), (synapse,), bias.astype(float), Neuron(decay, np.full(2, float(threshold))), 1
    )
    sums, membranes = reach(population, {"input": payload}, timesteps)

    extremes = np.array(list(product((0, payload), repeat=3))) @ weight.T
    assert (np.abs(extremes).max(axis=0) == sums).all(), "some input does reach it"
    states = np.zeros((1, 2))
    for _ in range(timesteps):
        states = (decay * states[:, None] + extremes + bias).reshape(-1, 2)
        assert (np.abs(states) <= membranes).all() or (states > membranes).any() is False
        states = np.where(states > threshold, 0, states)


def test_an_identity_path_adds_its_own_weight():
    graph = residual()
    sums, membranes = reach(graph["b"], {"input": 1}, 4)
    assert (sums == 4 * 2 + 9).all()
    assert (membranes == 4 * 2 + 9 + 0.5 * 9).all()
