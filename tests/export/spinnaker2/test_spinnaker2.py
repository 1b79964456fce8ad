"""What is written for py-spinnaker2 is the network under its reader's rules; what isn't known is said."""

from __future__ import annotations

import json
from dataclasses import replace

import nir
import numpy as np
import pytest

from snnkd import InputError, Refusal
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.target import get_target
from snnkd.toolchain.simulation.simulator import record

SPINNAKER2 = get_target("spinnaker2")
TIMESTEPS = 5


def leaky(decay, threshold, **others):
    return Neuron(decay, np.full((1, 1, 1), threshold), **others)


def network(decay=0.5, seed=0):
    """A convolution of integrators, one of leaky neurons, a dense layer with biases."""
    rng = np.random.default_rng(seed)
    shape, maps, small = (2, 6, 6), (3, 6, 6), (4, 3, 3)
    first = Synapse("input", "conv", 1.0 * rng.integers(-9, 11, (3, 2, 3, 3)), shape, maps, padding=(1, 1))
    second = Synapse("first", "conv", 1.0 * rng.integers(-9, 11, (4, 3, 3, 3)), maps, small, (2, 2), (1, 1))
    end = Synapse("second", "dense", 1.0 * rng.integers(-9, 11, (3, 36)), small, (3,))
    heights = 1.0 * rng.integers(9, 19, (3, 1, 1))
    populations = (
        Population("first", maps, (first,), np.zeros((3, 1, 1)), Neuron(1.0, heights), 1),
        Population(
            "second", small, (second,), np.zeros((4, 1, 1)), Neuron(decay, np.full((1, 1, 1), 11.0)), 2
        ),
        Population("classes", (3,), (end,), np.array([1.0, -2.0, 0.0]), Neuron(decay, np.full(3, 14.0)), 3),
    )
    return Graph((InputPort("input", shape, 1),), populations, TIMESTEPS, 8)


def spikes_read_from(path, conversion, frames):
    """Every neuron node's spikes under the rules of `s2_nir`: edges it follows, and what it makes of numbers.

    A path goes from an Input or a neuron to a map; or to a SumPool2d, a Flatten and an Affine. Forward Euler
    makes 1 − dt/τ the decay of a LIF and r·dt/τ what its threshold is divided by; of an IF that is r.
    """
    graph = nir.read(path)
    assert conversion["integrator"] == "Forward-Euler" and conversion["reset"] == "zero"
    following = {source: [end for begin, end in graph.edges if begin == source] for source in graph.nodes}
    emitted = {name: frames.astype(np.float32) for name, n in graph.nodes.items() if isinstance(n, nir.Input)}
    found = {}
    while waiting := [name for name in emitted if name not in found]:
        source = waiting[0]
        found[source] = emitted[source]
        for name in following[source]:
            node, signal = graph.nodes[name], emitted[source]
            if isinstance(node, nir.SumPool2d):
                assert (np.array(node.kernel_size) == 1).all() and (np.array(node.stride) == 1).all()
                (flat,) = following[name]
                assert isinstance(graph.nodes[flat], nir.Flatten)
                (name,) = following[flat]
                node, signal = graph.nodes[name], signal.reshape(*signal.shape[:2], -1)
            if isinstance(node, nir.Output):
                continue
            assert isinstance(node, nir.Affine | nir.Conv2d), f"{type(node)} behind {source} is passed over"
            (end,) = following[name]
            emitted[end] = _fired(graph.nodes[end], _through(node, signal), node.bias, conversion["dt"])
    return {name: spikes for name, spikes in found.items() if not isinstance(graph.nodes[name], nir.Input)}


def _through(node, signal):
    weight = node.weight.astype(np.int8)
    assert (weight == node.weight).all()
    if isinstance(node, nir.Affine):
        return np.einsum("nti,oi->nto", signal, weight.astype(np.float32))
    assert not np.any(node.bias)
    (pad, step, size) = (int(np.array(v).flat[0]) for v in (node.padding, node.stride, weight.shape[2]))
    padded = np.pad(signal, ((0, 0), (0, 0), (0, 0), (pad, pad), (pad, pad)))
    sides = [(side + 2 * pad - size) // step + 1 for side in signal.shape[3:]]
    out = np.zeros((*signal.shape[:2], len(weight), *sides), np.float32)
    for row, column in np.ndindex(*sides):
        window = padded[..., row * step : row * step + size, column * step : column * step + size]
        out[..., row, column] = np.einsum("ntcij,fcij->ntf", window, weight.astype(np.float32))
    return out


def _fired(node, current, bias, dt):
    if isinstance(node, nir.IF):
        decay, threshold = np.float32(1), node.v_threshold / node.r
    else:
        decay, threshold = (1 - dt / node.tau).astype(np.float32), node.v_threshold / (dt / node.tau * node.r)
        assert not np.any(node.v_leak)
    threshold, state = threshold.astype(np.float32), np.zeros_like(current[:, 0])
    offset = bias.astype(np.float32) if bias.shape == state.shape[1:] else np.float32(0)
    spikes = np.zeros_like(current)
    for step in range(current.shape[1]):
        state = decay * state + current[:, step] + offset
        spikes[:, step] = state >= threshold  # or >: none is equal
        assert not (state == threshold).any()
        state[spikes[:, step] == 1] = 0
    return spikes


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_under_its_readers_rules_the_file_is_the_network(decay, tmp_path):
    graph = network(decay)
    SPINNAKER2.export(graph, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    frames = (np.random.default_rng(3).random((20, TIMESTEPS, 2, 6, 6)) < 0.3).astype(np.uint8)
    expected = record(graph, frames, TIMESTEPS).spikes
    found = spikes_read_from(tmp_path / "spinnaker2.nir", manifest["conversion"], frames)
    assert set(found) == set(expected)
    for name, spikes in expected.items():
        assert 0.01 < spikes.mean() < 0.8
        assert np.array_equal(found[name], spikes), name
    other = replace(graph.populations[1], neuron=leaky(decay, 10.0))
    SPINNAKER2.export(
        replace(graph, populations=(graph.populations[0], other, graph.populations[2])), tmp_path
    )
    moved = spikes_read_from(tmp_path / "spinnaker2.nir", manifest["conversion"], frames)
    assert not np.array_equal(moved["second"], expected["second"])


def test_the_written_graph_has_types_that_nir_itself_infers(tmp_path):
    SPINNAKER2.export(network(), tmp_path)
    graph = nir.read(tmp_path / "spinnaker2.nir")
    graph.infer_types()
    assert {type(node) for node in graph.nodes.values()} == {
        nir.Input, nir.Conv2d, nir.IF, nir.LIF, nir.SumPool2d, nir.Flatten, nir.Affine, nir.Output,
    }  # fmt: skip


def test_it_says_that_nothing_was_executed(tmp_path):
    manifest = SPINNAKER2.export(network(), tmp_path)
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert SPINNAKER2.executable is False and written["executed"] is False
    assert (written["backend"], written["silicon"]) == ("unexecuted", "unverified")
    assert len(written["unknown"]) == 4 and manifest.cores == written["cores"] == 3
    with pytest.raises(InputError, match="spinnaker2 can't be executed: no simulator of it can be installed"):
        SPINNAKER2.run(tmp_path, np.zeros((1, TIMESTEPS, 2, 6, 6), np.uint8), TIMESTEPS, 10)
    with pytest.raises(InputError, match="quantise it first"):
        SPINNAKER2.export(replace(network(), weight_bits=None), tmp_path)


def with_population(index, **fields):
    graph = network()
    populations = list(graph.populations)
    path_fields = fields.pop("path", {})
    path = replace(populations[index].synapses[0], **path_fields)
    populations[index] = replace(populations[index], **{"synapses": (path,), **fields})
    return replace(graph, populations=tuple(populations))


def skip_to(index):
    graph = network()
    path = graph.populations[index].synapses[0]
    return with_population(index, synapses=(path, replace(path)))


def grouped():
    path = Synapse("input", "conv", np.ones((2, 1, 3, 3)), (2, 6, 6), (2, 4, 4), groups=2)
    population = Population("maps", (2, 4, 4), (path,), np.zeros((2, 1, 1)), leaky(1.0, 11.0), 1)
    return Graph((InputPort("input", (2, 6, 6), 1),), (population,), TIMESTEPS, 8)


LIMITS = {
    "graded input": (
        replace(network(), inputs=(InputPort("input", (2, 6, 6), 255),)),
        "input: largest input value is 255, the target allows 1",
    ),
    "sums": (with_population(2, neuron=None), "classes: what it emits is sums, the target allows spikes"),
    "current": (
        with_population(1, neuron=leaky(0.5, 11.0, current_decay=0.5)),
        "second: a step's decay of the current is 0.5, the target allows 0",
    ),
    "soft reset": (
        with_population(1, neuron=leaky(1.0, 11.0, reset="subtract")),
        "second: neuron is one that takes its threshold away",
    ),
    "other decays": (
        with_population(1, neuron=leaky(0.75, 11.0)),
        "second: decay is 0.75, the target allows 0, 1/2 or 1",
    ),
    "two paths": (skip_to(2), "classes: number of paths is 2, the target allows 1"),
    "delay": (with_population(1, path={"delay": 1}), "second: delay is 1, the target allows 0"),
    "groups": (grouped(), "maps: groups is 2, the target allows 1"),
    "stride": (
        with_population(1, path={"stride": (2, 1)}),
        "second: stride is 2×1, the target allows the same both ways",
    ),
    "bias": (
        with_population(1, bias=np.full((4, 1, 1), 3.0)),
        "second: bias of a convolution is 3.0, the target allows 0",
    ),
    "weight": (
        with_population(2, path={"weight": np.full((3, 36), 128.0)}),
        "classes: weight is 128, the target allows whole numbers in -127 … 127",
    ),
}


@pytest.mark.parametrize("case", LIMITS)
def test_each_known_limit_is_named(case, tmp_path):
    graph, expected = LIMITS[case]
    assert any(str(problem).startswith(expected) for problem in SPINNAKER2.check(graph))
    with pytest.raises(Refusal, match="the network doesn't fit spinnaker2: "):
        SPINNAKER2.export(graph, tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_neuron_with_more_synapses_than_a_core_has_bytes_is_named():
    path = Synapse("input", "dense", np.ones((2, 200_000)), (200_000,), (2,))
    population = Population("wide", (2,), (path,), np.zeros(2), Neuron(0.5, np.full(2, 14.0)), 1)
    (problem,) = SPINNAKER2.check(Graph((InputPort("input", (200_000,), 1),), (population,), 4))
    assert str(problem).startswith("wide: bits of memory of a core with one of its neurons is 1600000, the ")
