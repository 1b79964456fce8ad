"""Every limit of Speck that a network breaks is named with its size; memories are as sinabs counts them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from sinabs.validate_memory_speck import ValidateMapping

from snnkd import Refusal
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.speck.chip import CORES, KI, Core, chip_layer
from snnkd.export.speck.cores import assign
from snnkd.export.target import get_target

SPECK = get_target("speck")
IF = Neuron(1.0, np.full((1, 1, 1), 5.0))


def conv(name="layer", source="input", shape=(1, 8, 8), features=2, kernel=3, stride=1, padding=1, **others):
    """A population behind a convolution of ones."""
    sides = [(side + 2 * padding - kernel) // stride + 1 for side in shape[1:]]
    weight = np.ones((features, shape[0], kernel, kernel))
    weight[..., 0, 0] = 2  # not what pooling would make
    path = Synapse(source, "conv", weight, shape, (features, *sides), (stride, stride), (padding, padding))
    fields = {"bias": np.zeros((features, 1, 1)), "neuron": IF, "depth": 1} | others
    return Population(name, (features, *sides), (path,), fields["bias"], fields["neuron"], 1)


def network(*populations, payload=1, shape=None, bits=8, timesteps=4):
    shape = shape or populations[0].synapses[0].source_shape
    return Graph((InputPort("input", shape, payload),), populations, timesteps, bits)


def changed(population, **fields):
    return replace(population, synapses=(replace(population.synapses[0], **fields),))


def skipping():
    first = conv("first", features=1)
    skip = Synapse("input", "identity", np.ones((1, 1, 1)), (1, 8, 8), (1, 8, 8))
    return replace(first, synapses=(*first.synapses, skip))


def thresholds(values):
    return Neuron(1.0, np.array(values, float).reshape(-1, 1, 1))


def chain(count, **options):
    names = ["input", *(f"layer{index}" for index in range(count))]
    return [conv(name, source, **options) for source, name in pairwise(names)]


LIMITS = {
    "graded input": (network(conv(), payload=16), ["input: largest input value is 16, the target allows 1"]),
    "large input": (
        network(conv(shape=(1, 160, 8), stride=4)),
        [
            "input: side of the input's map is 160, the target allows 128",
            "layer: side of the input's map is 160",
        ],
    ),
    "leak": (network(conv(neuron=replace(IF, decay=0.5))), ["a step's decay of the potential is 0.5"]),
    "current": (network(conv(neuron=replace(IF, current_decay=0.5))), ["decay of the current is 0.5"]),
    "sums": (network(conv(neuron=None)), ["what it emits is sums, the target allows spikes"]),
    "soft reset": (
        network(conv(neuron=replace(IF, reset="subtract"))),
        ["neuron is one that takes its threshold away"],
    ),
    "residual sum": (network(skipping()), ["first: number of paths is 2, the target allows 1"]),
    "identity": (
        network(replace(skipping(), synapses=skipping().synapses[1:])),
        ["kind of path is identity, the target allows convolution or dense"],
    ),
    "delay": (network(changed(conv(), delay=2)), ["layer: delay is 2, the target allows 0"]),
    "stride": (network(conv(stride=3)), ["layer: stride is 3, the target allows 1, 2, 4, 8"]),
    "padding": (network(conv(kernel=16, padding=8)), ["layer: padding is 8, the target allows 0 … 7"]),
    "dilation": (
        network(replace(changed(conv(), dilation=(2, 2)))),
        ["layer: dilation is 2, the target allows 1"],
    ),
    "kernel": (
        network(conv(shape=(1, 17, 17), kernel=17, padding=0)),
        ["side of the kernel is 17, the target allows 16"],
    ),
    "kernel's form": (
        network(
            Population(
                "wide",
                (2,),
                (Synapse("input", "dense", np.eye(2, 8), (1, 2, 4), (2,)),),
                np.zeros(2),
                Neuron(1.0, np.full(1, 5.0)),
                1,
            )
        ),
        ["wide: kernel is 2×4, the target allows square"],
    ),
    "map": (
        network(conv(shape=(1, 100, 8), features=1)),
        ["side of the output's map is 100, the target allows 64"],
    ),
    "channels": (
        network(conv(shape=(1, 2, 2), features=1025)),
        ["output channels is 1025, the target allows 1024"],
    ),
    "kernel memory": (
        network(conv(shape=(64, 4, 4), features=128, kernel=4, padding=0)),
        ["words of kernel memory is 131072, the target allows 65536"],
    ),
    "neuron memory": (
        network(conv(shape=(1, 64, 64), features=17)),
        ["words of neuron memory is 69632, the target allows 65536"],
    ),
    "both memories": (
        network(conv(shape=(32, 32, 32), features=64)),
        ["words of kernel and neuron memory is 32768, 65536, the target allows 16384, 65536 or 32768, 32768"],
    ),
    "cores": (
        network(*chain(10, features=1)),
        ["network: number of layers is 10, the target allows 9", "fit on cores"],
    ),
    "destinations": (
        network(*[conv(name, "input") for name in "abc"]),
        ["input: number of destinations is 3, the target allows 2"],
    ),
    "weight": (
        network(changed(conv(), weight=np.full((2, 1, 3, 3), 130.0))),
        ["weight is 130, the target allows whole numbers in -127 … 127"],
    ),
    "fraction": (network(changed(conv(), weight=np.full((2, 1, 3, 3), 0.5))), ["layer: weight is 0.5"]),
    "bias": (network(conv(bias=np.full((2, 1, 1), 200.0))), ["layer: bias is 200"]),
    "threshold": (network(conv(neuron=thresholds([40000]))), ["layer: threshold is 40000"]),
    "thresholds": (
        network(conv(neuron=thresholds([3, 4]))),
        ["layer: threshold is 3 … 4, the target allows one for the whole layer"],
    ),
    "range": (
        network(changed(conv(shape=(30, 8, 8)), weight=np.full((2, 30, 3, 3), -127.0))),
        ["largest membrane potential (channel 0) is 137160, the target allows 32767"],
    ),
    "two inputs": (
        replace(network(conv()), inputs=(InputPort("input", (1, 8, 8), 1), InputPort("other", (1, 8, 8), 1))),
        ["network: number of inputs is 2, the target allows 1"],
    ),
}


@pytest.mark.parametrize("case", LIMITS)
def test_each_limit_is_named_with_its_size(case, tmp_path):
    graph, expected = LIMITS[case]
    found = [str(problem) for problem in SPECK.check(graph)]
    for part in expected:
        assert any(part in problem for problem in found), found
    assert len(found) == len(expected)
    with pytest.raises(Refusal, match="the network doesn't fit speck: "):
        SPECK.export(graph, tmp_path)
    assert not [*tmp_path.iterdir()]


def test_what_keeps_every_limit_fits():
    for graph in (
        network(conv()),
        network(*chain(9, features=1)),
        network(conv(stride=8, kernel=16, padding=7)),
    ):
        assert SPECK.check(graph) == []
        assert SPECK.check(replace(graph, weight_bits=None)) == []


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 16),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(0, 7),
    st.integers(16, 64),
)
def test_memories_are_those_that_sinabs_counts(channels, features, kernel, stride, padding, side):
    population = conv(
        shape=(channels, side, side), features=features, kernel=kernel, stride=stride, padding=padding
    )
    needs = chip_layer(population, from_input=True).needs
    theirs = ValidateMapping(channels, features, *[(value,) * 2 for value in (kernel, stride, padding, side)])
    if (side + 2 * padding - kernel) % stride == 0:  # sinabs' estimate doesn't round the map's size down
        assert needs.neuron == theirs.calculate_neuron_memory()
    assert needs.kernel == theirs.calculate_kernel_memory()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 66), st.integers(1, 66)), min_size=1, max_size=11))
def test_as_many_layers_get_a_core_as_any_matching_gives_one(sizes):
    needs = {
        f"layer{index}": Core(kernel * KI, neuron * KI, 0) for index, (kernel, neuron) in enumerate(sizes)
    }
    assigned = assign(needs)
    allowed = np.array([[core.holds(words) for core in CORES] for words in needs.values()])
    best = maximum_bipartite_matching(csr_array(allowed), perm_type="column")
    assert len(assigned.core) == (best >= 0).sum()
    assert len(set(assigned.core.values())) == len(assigned.core)
    assert all(CORES[core].holds(needs[name]) for name, core in assigned.core.items())
    assert len(assigned.core) + len(assigned.crowded) == len(needs)
    for names, cores in assigned.crowded:
        fitting = {number for name in names for number, core in enumerate(CORES) if core.holds(needs[name])}
        assert fitting == set(cores) and len(names) > len(cores)


def test_layers_that_crowd_the_same_cores_are_named():
    graph = network(
        conv("wide0", "input", (64, 4, 4), 64, 4, 1, 3),
        conv("wide1", "wide0", (64, 7, 7), 64, 4, 1, 1),
        conv("wide2", "wide1", (64, 6, 6), 64, 4, 1, 1),
    )
    (problem,) = SPECK.check(graph)
    assert str(problem).startswith("wide2: number of layers that fit on cores 5, 6 alone is 3 (wide2, ")
    assert ", the target allows 2; make one of them narrower" in str(problem)


@pytest.mark.parametrize(
    ("side", "pooling", "from_input"), [(4, 4, False), (2, 2, False), (4, 1, True), (3, 1, False)]
)
def test_a_kernel_of_equal_blocks_is_one_over_a_pooled_map(side, pooling, from_input):
    small = np.random.default_rng(0).integers(1, 9, (2, 3, 2, 2)).astype(float)
    weight = np.kron(small, np.ones((side, side)))
    path = Synapse("source", "conv", weight, (3, 4 * side, 4 * side), (2, 3, 3), (side, side))
    layer = chip_layer(Population("layer", (2, 3, 3), (path,), np.zeros((2, 1, 1)), IF, 2), from_input)
    assert layer.pooling == pooling
    assert layer.kernel == (2 * side // pooling,) * 2 and layer.stride == (side // pooling,) * 2
    if pooling > 1:
        assert np.array_equal(layer.weight, small)


def test_the_core_map_says_what_each_layer_takes(row, tmp_path):
    manifest = SPECK.export(row, tmp_path)
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest.cores == written["cores"] == 3 and written["cores_per_chip"] == 9
    entries = {entry["name"]: entry for entry in written["core_map"]}
    assert entries["first"]["words"] == {"kernel": 2 * 16 * 4, "neuron": 4 * 64, "bias": 0}
    assert entries["second"]["words"] == {"kernel": 4 * 16 * 8, "neuron": 5 * 16, "bias": 0}
    assert entries["classes"]["words"] == {"kernel": 5 * 4 * 4, "neuron": 3, "bias": 0}
    assert entries["classes"]["synapses"] == 3 * 80 and entries["second"]["neurons"] == 80
    assert written["cores_in_order"] == [entries[name]["first_core"] for name in entries]
    assert len(set(written["cores_in_order"])) == 3
    share = entries["first"]["utilisation"]["kernel"]["max"]
    assert share == 128 / CORES[entries["first"]["first_core"]].kernel
