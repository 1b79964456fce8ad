"""Every limit of the chip and of netx, broken one at a time; ranges against the worst of all inputs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from snnkd.export.bounds import payloads
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.loihi2.limits import reach
from snnkd.export.loihi2.target import Loihi2

SHAPE = (2, 4, 4)
MAPS_SHAPE = (3, 2, 2)
LARGEST_GEOMETRY = "largest of kernel size, stride, padding, dilation and groups"


def sequential() -> Graph:
    """Input – convolution – dense – read-out, all at or within the limits."""
    conv = Synapse("input", "conv", np.full((3, 2, 3, 3), 4.0), SHAPE, MAPS_SHAPE)
    dense = Synapse("maps", "dense", np.full((5, 12), -254.0), MAPS_SHAPE, (5,))
    readout = Synapse("hidden", "dense", np.full((4, 5), 254.0), (5,), (4,))
    populations = (
        Population("maps", MAPS_SHAPE, (conv,), np.zeros((3, 1, 1)), Neuron(0.5, np.full((3, 1, 1), 9.0)), 1),
        Population("hidden", (5,), (dense,), np.full(5, -4095.0), Neuron(0.5, np.full(5, 131071.0)), 2),
        Population("readout", (4,), (readout,), np.full(4, 1e9), None, 3),
    )
    return Graph((InputPort("input", SHAPE),), populations, 4, 8)


def found(graph: Graph) -> list[tuple[str, str, object]]:
    return [(problem.layer, problem.limit, problem.found) for problem in Loihi2().check(graph)]


def changed(name: str, **changes) -> Graph:
    """The network with some fields of one population replaced."""
    graph = sequential()
    populations = [replace(p, **changes) if p.name == name else p for p in graph.populations]
    return replace(graph, populations=tuple(populations))


def changed_path(name: str, **changes) -> Graph:
    return changed(name, synapses=(replace(sequential()[name].synapses[0], **changes),))


def one_weight(name: str, value: float) -> Graph:
    weight = sequential()[name].synapses[0].weight.copy()
    weight.flat[-1] = value
    return changed_path(name, weight=weight)


def one_threshold(value: float) -> Graph:
    return changed("hidden", neuron=Neuron(0.5, np.array([9, 9, value, 9, 9])))


def hidden_decay(value: float) -> Graph:
    return changed("hidden", neuron=Neuron(value, np.full(5, 9.0)))


def port(shape: tuple[int, ...], payload_max: int) -> Graph:
    return replace(sequential(), inputs=(InputPort("input", shape, payload_max),))


def test_a_network_within_the_limits_has_no_problem():
    assert found(sequential()) == []
    assert found(hidden_decay(3686 / 4096)) == []
    assert found(replace(sequential(), weight_bits=None)) == []
    assert found(replace(hidden_decay(0.3), weight_bits=None)) == [], "quantisation gives it the nearest"


@pytest.mark.parametrize(
    ("graph", "problem"),
    [
        (one_weight("maps", 5), ("maps", "weight", "5")),
        (one_weight("hidden", -256), ("hidden", "weight", "-256")),
        (one_weight("readout", 256), ("readout", "weight", "256")),
        (one_weight("readout", 0.5), ("readout", "weight", "0.5")),
        (one_weight("readout", np.nan), ("readout", "weight", "nan")),
        (one_weight("readout", np.inf), ("readout", "weight", "inf")),
        (changed("hidden", bias=np.full(5, 4096.0)), ("hidden", "bias", "4096")),
        (changed("hidden", bias=np.full(5, -4096.0)), ("hidden", "bias", "-4096")),
        (changed("hidden", bias=np.full(5, 0.25)), ("hidden", "bias", "0.25")),
        (changed("readout", bias=np.full(4, 0.25)), ("readout", "bias", "0.25")),
        (one_threshold(131072), ("hidden", "threshold", "131072")),
        (one_threshold(-1), ("hidden", "threshold", "-1")),
        (one_threshold(8.5), ("hidden", "threshold", "8.5")),
        (hidden_decay(0.3), ("hidden", "decay", "0.3")),
        (hidden_decay(1.5), ("hidden", "decay", "1.5")),
        (replace(sequential(), weight_bits=9), ("network", "weight bits", 9)),
        (replace(sequential(), weight_bits=7), ("hidden", "weight", "-254")),
        (port(SHAPE, 256), ("input", "payload", 256)),
        (port(SHAPE, 0), ("input", "payload", 0)),
        (port((2, 4), 255), ("input", "shape", "(2, 4)")),
        (changed_path("maps", stride=(1, 128)), ("maps", LARGEST_GEOMETRY, 128)),
        (changed_path("maps", groups=130), ("maps", LARGEST_GEOMETRY, 130)),
        (changed_path("maps", source_shape=(32,)),
         ("maps", "shape around a convolution", "(32,) → (3, 2, 2)")),
        (changed("hidden", shape=(5, 1, 1), bias=np.zeros(1), neuron=Neuron(0.5, np.ones(1))),
         ("hidden", "shape after a dense path", "(5, 1, 1)")),
        (changed("maps", neuron=None), ("maps", "read-out's path", "conv")),
        # Eighteen weights of 30 and a payload of 255.
        (changed_path("maps", weight=np.full((3, 2, 3, 3), 30.0)),
         ("maps", "largest synaptic sum (channel 0)", "137700")),
        (replace(hidden_decay(1.0), timesteps=None),
         ("hidden", "largest membrane potential (channel 0)", "inf")),
    ],
)  # fmt: skip
def test_each_broken_limit_is_named_with_layer_and_size(graph, problem):
    assert problem in found(graph)


def test_a_broken_range_names_its_channel():
    weight = np.full((3, 2, 3, 3), 4.0)
    weight[1] = -30
    remedy = "quantise for this target, which shrinks the channel's scale"
    assert [str(problem) for problem in Loihi2().check(changed_path("maps", weight=weight))] == [
        f"maps: largest synaptic sum (channel 1) is 137700, the target allows 131071; {remedy}",
        f"maps: largest membrane potential (channel 1) is 258187.5, the target allows 131071; {remedy}",
    ]


def test_membranes_are_bounded_by_what_all_steps_add_up_to():
    graph = changed("hidden", bias=np.zeros(5), neuron=Neuron(1.0, np.full(5, 9.0)))
    assert found(replace(graph, timesteps=43)) == []  # 12 · 254 · 43 = 131,064
    too_far = ("hidden", "largest membrane potential (channel 0)", "134112")
    assert found(replace(graph, timesteps=44)) == [too_far]


# Networks that aren't a chain: refused by name


def residual() -> Graph:
    """Input – a – b (from a, and again from the input) – read-out."""
    identity = Synapse("input", "identity", np.full((4,), 9.0), (4,), (4,))

    def dense(source: str, size: int = 4) -> Synapse:
        return Synapse(source, "dense", np.full((size, 4), 2.0), (4,), (size,))

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
    assert [(problem.layer, problem.limit) for problem in problems[1:]] == [("b", "kind of path")]


def test_every_way_out_of_a_chain_is_named():
    a, b, readout = residual().populations
    skipping = replace(readout, synapses=(replace(readout.synapses[0], source="a"),))
    delayed = replace(b, synapses=(replace(b.synapses[0], delay=2),))
    two_inputs = (InputPort("input", (4,)), InputPort("other", (4,)))

    def limits(inputs: tuple[InputPort, ...], *populations: Population) -> list[tuple[str, str, object]]:
        return found(Graph(inputs, populations))

    one_input = two_inputs[:1]
    assert limits(one_input, a, delayed, skipping) == [
        ("b", "delay of a path", 2),
        ("readout", "source", "a"),
    ]
    assert limits(two_inputs, a, delayed, readout)[0] == ("network", "number of inputs", 2)
    assert limits(one_input, a) == [("network", "read-out", "none")]
    assert limits(one_input) == [("network", "read-out", "none")]
    assert ("network", "read-out", "readout") in limits(one_input, a, readout, b)


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
        assert (np.abs(states) <= membranes).all()
        states = np.where(states > threshold, 0, states)


def test_an_identity_path_adds_its_own_weight():
    graph = residual()
    sums, membranes = reach(graph["b"], payloads(graph), 4)
    assert (sums == 4 * 2 + 9).all()
    assert (membranes == 4 * 2 + 9 + 0.5 * 9).all()
