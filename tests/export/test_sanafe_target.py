"""SANA-FE as a target: what it emits with ==, what it takes beside our estimate, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from snnkd import InputError, Refusal
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.placement import place
from snnkd.export.sanafe.limits import LOIHI
from snnkd.export.sanafe.mapping import bit_planes, executed, synapse_count, unrolled
from snnkd.export.sanafe.wiring import wire
from snnkd.export.target import Recording, get_target
from snnkd.toolchain.energy.simulated import simulated
from snnkd.toolchain.simulation.simulator import record
from snnkd.toolchain.validation import compare

pytest.importorskip("sanafe")

SANAFE = get_target("sana-fe")
RUN_SECONDS = 240.0


def network(timesteps: int = 4, decay: float = 0.5, payload_max: int = 15) -> Graph:
    """Maps with an identity past them and a convolution past both, and a read-out with a way from each."""
    rng = np.random.default_rng(5)
    shape, maps = (2, 5, 5), (3, 5, 5)
    weights = lambda *size, most=127: 2.0 * rng.integers(-most, most + 1, size)  # noqa: E731
    thresholds = 1.0 * rng.integers(5, 40, (3, 1, 1))
    neuron = Neuron(decay, thresholds)
    conv = Synapse("input", "conv", weights(3, 2, 3, 3, most=60), shape, maps, padding=(1, 1))
    same = Synapse("first", "conv", weights(3, 3, 3, 3, most=5), maps, maps, padding=(1, 1))
    skip = Synapse("first", "identity", thresholds, maps, maps)
    late = Synapse("input", "conv", weights(3, 2, 1, 1, most=3), shape, maps)
    past = Synapse("first", "conv", weights(3, 3, 1, 1, most=9), maps, maps)
    again, firm = replace(same, source="second"), replace(neuron, threshold=20 * thresholds)
    ends = tuple(Synapse(name, "dense", weights(3, 75), maps, (3,)) for name in ("third", "first"))
    populations = (
        Population("first", maps, (conv,), weights(3, 1, 1, most=8), firm, 1),
        Population("second", maps, (same, skip), weights(3, 1, 1, most=2), neuron, 2),
        Population("third", maps, (again, past, late), np.zeros((3, 1, 1)), neuron, 3),
        Population("readout", (3,), ends, weights(3, most=9), None, 4),
    )
    return Graph((InputPort("input", shape, payload_max),), populations, timesteps, 8, 11.0)


def samples(
    graph: Graph, count: int = 3, seed: int = 0, timesteps: int | None = None
) -> dict[str, np.ndarray]:
    """Pixels, or frames of them, for every input."""
    rng = np.random.default_rng(seed)
    size = (count,) if timesteps is None else (count, timesteps)
    return {p.name: rng.integers(0, p.payload_max + 1, (*size, *p.shape)) for p in graph.inputs}


def changed(graph: Graph, name: str, **fields) -> Graph:
    populations = tuple(replace(p, **fields) if p.name == name else p for p in graph.populations)
    return replace(graph, populations=populations)


def on_sanafe(graph: Graph, inputs: dict[str, np.ndarray], timesteps: int) -> Recording:
    """The exported script's own chip, in this process: a child takes half a second to start."""
    from snnkd.export.sanafe.runner.run import record as run_script

    mapped = executed(graph)
    groups, paths, arrays = wire(graph, mapped, place(mapped, LOIHI.device))
    chip_module = importlib.import_module("snnkd.export.sanafe.runner.chip")
    sys.modules.setdefault("chip", chip_module)  # as beside the script
    frames = {
        port.name: np.broadcast_to(
            inputs[port.name] if inputs[port.name].ndim > 1 + len(port.shape) else inputs[port.name][:, None],
            (len(inputs[port.name]), timesteps, *port.shape),
        ).reshape(len(inputs[port.name]), timesteps, -1)
        for port in graph.inputs
    }
    recorded = run_script({"groups": groups, "paths": paths}, arrays, frames, timesteps)
    kinds = {"spikes": {}, "sums": {}, "figures": {}}
    for name, values in recorded.items():
        kind, _, layer = name.partition("/")
        if kind in kinds:
            kinds[kind][layer] = values
    return Recording(kinds["spikes"], kinds["sums"], 0.0, kinds["figures"])


def mismatches(graph: Graph, inputs: dict[str, np.ndarray], ran: Recording) -> tuple[int, int]:
    found = compare(graph, record(graph, inputs, graph.steps), ran)
    return found["spike_mismatches"], found["readout_mismatches"]


def test_the_script_emits_the_chips_spikes_and_read_outs(tmp_path):
    """Everything with ==; then one unit of a weight and of a threshold, and a step of delay, each found."""
    graph = network()
    inputs = samples(graph)["input"]
    manifest = SANAFE.export(graph, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(manifest.files)
    done = []
    ran = SANAFE.run(tmp_path, inputs, 4, RUN_SECONDS, lambda *progress: done.append(progress))
    assert done[-1] == (3, 3) and ran.seconds > 0
    ours = record(graph, inputs, 4)
    found = compare(graph, ours, ran)
    assert (found["spike_mismatches"], found["readout_mismatches"]) == (0, 0)
    assert found["populations_compared"] == 4 and found["neuron_steps_compared"] == 3 * 4 * 225
    assert all(0.02 < rate < 0.7 for rate in found["firing_rates"].values())

    described = json.loads((tmp_path / "manifest.json").read_text())
    (later,) = (group for group in described["groups"] if group.get("wait") == 0 and group["bit"] == 3)
    later["wait"] = 1
    (tmp_path / "manifest.json").write_text(json.dumps(described))
    assert compare(graph, ours, SANAFE.run(tmp_path, inputs, 4, RUN_SECONDS))["spike_mismatches"] > 0


def test_a_unit_in_a_weight_or_a_threshold_is_found():
    graph = network()
    inputs, second, readout = samples(graph), graph["second"], graph["readout"]
    heavier = second.synapses[0].weight.copy()
    heavier[1, 1, 1, 1] += 1
    ending = readout.synapses[0].weight.copy()
    ours = record(graph, inputs, 4)
    fires = np.flatnonzero(ours.spikes["third"].any(axis=(0, 1)).reshape(-1))[0]
    ending[0, fires] += 1
    weight = replace(second.synapses[0], weight=heavier), second.synapses[1]
    threshold = replace(second.neuron, threshold=second.neuron.threshold + 1)
    end = replace(readout.synapses[0], weight=ending), readout.synapses[1]
    for what, other in {
        "a weight": changed(graph, "second", synapses=weight),
        "a threshold": changed(graph, "second", neuron=threshold),
        "a read-out's weight": changed(graph, "readout", synapses=end),
    }.items():
        found = compare(graph, ours, on_sanafe(other, inputs, 4))
        assert found["spike_mismatches"] + found["readout_mismatches"] > 0, what


networks = given(seed=st.integers(0, 2**32 - 1), ties=st.booleans(), lost=st.integers(0, 4096))


@settings(max_examples=6)
@networks
def test_any_network_any_decay_any_number_of_steps(draw_graph, seed, ties, lost):
    """Groups, strides, dilations, skips; a decay in 4096ths, whose products the soma cuts as the chip."""
    require_no_mismatch(draw_graph, seed, ties, lost)


@pytest.mark.slow
@settings(max_examples=60)
@networks
def test_many_networks(draw_graph, seed, ties, lost):
    require_no_mismatch(draw_graph, seed, ties, lost)


def require_no_mismatch(draw_graph, seed: int, ties: bool, lost: int) -> None:
    graph = draw_graph(seed, integer=True, plain=False, ties=ties)
    for p in graph.populations:
        paths = tuple(replace(synapse, delay=0) for synapse in p.synapses)
        decayed = p.neuron and replace(p.neuron, decay=1 - lost / 4096)
        graph = changed(graph, p.name, synapses=paths, neuron=decayed)
    graph = replace(graph, timesteps=1 + seed % 17)
    if any("largest" in limit for limit in limits(graph)):
        graph = replace(graph, inputs=(replace(graph.inputs[0], payload_max=3),))
    assume(not any("largest" in limit for limit in limits(graph)))  # out of the chip's registers
    inputs = samples(graph, 2, seed, graph.timesteps if seed % 2 else None)
    assert mismatches(graph, inputs, on_sanafe(graph, inputs, graph.steps)) == (0, 0)


def test_event_frames_several_inputs_and_every_kind_of_output():
    """Binary and graded events, a current with memory, potentials that are read out, spikes that are."""
    rng = np.random.default_rng(2)
    weights = lambda *size: 2.0 * rng.integers(-40, 60, size)  # noqa: E731
    dense = lambda source, n, m: Synapse(source, "dense", weights(n, m), (m,), (n,))  # noqa: E731
    neuron = Neuron(0.5, np.full(1, 90.0), current_decay=0.5)
    some = Neuron(1.0, np.array([50.0, 60, 70, 80, np.inf]))
    populations = (
        Population("a", (9,), (dense("events", 9, 6), dense("pixels", 9, 4)), weights(9), neuron, 1),
        Population("sums", (3,), (dense("a", 3, 9),), np.zeros(3), None, 2),
        Population("levels", (4,), (dense("a", 4, 9),), weights(4), Neuron(0.75, np.full(4, np.inf)), 2),
        Population("end", (5,), (dense("a", 5, 9),), weights(5), some, 2),
    )
    graph = Graph((InputPort("events", (6,), 1), InputPort("pixels", (4,), 5)), populations, 6, 8)
    assert SANAFE.check(graph) == []
    inputs = samples(graph, 4, timesteps=6)
    ran = on_sanafe(graph, inputs, 6)
    ours = record(graph, inputs, 6)
    assert mismatches(graph, inputs, ran) == (0, 0)
    assert ran.spikes["a"].any() and ran.spikes["end"][..., :4].any() and not ran.spikes["end"][..., 4].any()
    assert (ours.sums["levels"] % 64).any() and set(ran.sums) == {"sums", "levels"}


def test_what_it_runs_emits_what_the_network_emits():
    """`executed` under our own simulator, and each synapse of it by itself."""
    graph = network(payload_max=200)
    inputs, mapped = samples(graph), executed(graph)
    assert [port.name for port in mapped.inputs] == [f"input/bit{bit}" for bit in range(8)]
    ours, theirs = record(graph, inputs, 4), record(mapped, bit_planes(graph, inputs), 4)
    assert all((theirs.spikes[p.name] == ours.spikes[p.name]).all() for p in graph.spiking)
    assert (theirs.sums["readout"] == ours.sums["readout"]).all() and ours.sums["readout"].any()
    relays = [p.name for p in mapped.populations if p.name not in {q.name for q in graph.populations}]
    assert relays == ["first/relay1", "first/relay2"]
    depth = {p.name: p.depth for p in mapped.populations}
    assert all(
        s.source.startswith("input/") or depth[p.name] == depth[s.source] + 1 for p, s in mapped.paths()
    )


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_unrolled_synapses_compute_the_convolution(draw_graph, simulate, seed):
    """Against taps that NumPy adds up, whatever the stride, padding, dilation and groups."""
    graph = draw_graph(seed, integer=True, plain=False, ties=False)
    for population, path in graph.paths():
        ones = replace(path, weight=np.ones_like(path.weight))
        assert len(unrolled(ones)[0]) == synapse_count(path)
        sources, targets, weights = unrolled(path)
        alone = replace(population, synapses=(replace(path, delay=0),), neuron=None, depth=1)
        values = np.random.default_rng(seed).integers(0, 9, (1, *path.source_shape))
        port = InputPort(path.source, path.source_shape)
        expected = simulate(Graph((port,), (alone,), 1), values, 1).sums[population.name]
        found = np.zeros(expected.size)
        np.add.at(found, targets, weights * values.reshape(-1)[sources])
        assert (found == expected.reshape(-1)).all() and (weights != 0).all()


def test_what_a_sample_takes_stands_beside_our_estimate_of_it():
    graph = network(payload_max=1)
    inputs = samples(graph)
    found = simulated(SANAFE, graph, inputs, on_sanafe(graph, inputs, 4).figures)
    assert found is not None
    ours = found["estimate"]
    assert found["synaptic_operations"] == ours["synaptic_operations"] > 100
    assert ours["profile"] == "loihi1" and ours["mode"] == "single-shot" and found["samples"] == 3
    assert ours["dynamic_j"]["low"] < found["energy_j"] < ours["dynamic_j"]["high"]
    assert ours["latency_s"]["low"] < found["latency_s"] < ours["latency_s"]["high"]
    silent = on_sanafe(graph, {"input": np.zeros_like(inputs["input"])}, 4).figures
    assert (silent["energy_j"] < found["energy_j"]).all() and (silent["synaptic_operations"] >= 0).all()
    assert simulated(SANAFE, graph, inputs, {}) is None


def limits(graph: Graph) -> list[str]:
    return [f"{problem.layer}: {problem.limit}" for problem in SANAFE.check(graph)]


def test_what_it_cannot_express_is_refused_by_name(tmp_path):
    graph = network()
    first, neuron = graph["first"], graph["first"].neuron
    late = replace(graph["second"].synapses[0], delay=2), graph["second"].synapses[1]
    odd = replace(first.synapses[0], weight=first.synapses[0].weight + 1)
    bright = replace(graph, inputs=(replace(graph.inputs[0], payload_max=256),), weight_bits=None)
    for broken, limit in (
        (changed(graph, "second", synapses=late), "second: delay of the path from first"),
        (changed(graph, "first", neuron=replace(neuron, current_decay=0.25)), "first: current decay"),
        (changed(graph, "first", neuron=replace(neuron, reset="subtract")), "first: neuron"),
        (bright, "input: payload"),
        (changed(graph, "first", synapses=(odd,)), "first: weight"),
    ):
        assert limits(broken) == [limit]
        with pytest.raises(Refusal, match=limit):
            SANAFE.export(broken, tmp_path)
    currents = changed(graph, "first", neuron=replace(neuron, current_decay=0.5))
    assert limits(replace(currents, timesteps=8)) == ["first: number of a current's halvings, T"]
    assert limits(replace(currents, timesteps=7)) == [] == limits(replace(graph, timesteps=64))
    with pytest.raises(InputError, match="quantise it first"):
        SANAFE.export(replace(graph, weight_bits=None), tmp_path)
    assert list(tmp_path.iterdir()) == []


def layer(source: str, name: str, shape: tuple[int, ...], to: tuple[int, ...], depth: int) -> Population:
    path = Synapse(source, "conv", np.full((to[0], shape[0], 3, 3), 2.0), shape, to, padding=(1, 1))
    return Population(name, to, (path,), np.zeros(1), Neuron(0.5, np.full(1, 9.0)), depth)


def test_a_network_too_large_for_the_chip_or_the_computer_is_refused():
    maps = (32, 24, 24)
    wide = (layer("input", "a", (1, 24, 24), maps, 1), layer("a", "b", maps, maps, 2))
    assert limits(Graph((InputPort("input", (1, 24, 24), 1),), wide, 4, 8)) == [
        "network: number of synapses, convolutions unrolled"
    ]
    assert limits(Graph((InputPort("input", (1, 24, 24), 1),), wide, 4)) != []  # a float network already
    deep = [
        layer("input" if n == 0 else f"p{n - 1}", f"p{n}", (1, 40, 40), (1, 40, 40), n + 1) for n in range(66)
    ]
    (problem,) = SANAFE.check(Graph((InputPort("input", (1, 40, 40), 3),), tuple(deep), 4, 8))
    assert problem.limit == "number of cores, the input's included" and problem.allowed == 128
    assert problem.found == 66 * 2 + 4


def test_the_folder_says_what_is_wrong(tmp_path):
    SANAFE.export(network(), tmp_path)
    np.save(tmp_path / "wrong.npy", np.full((1, 2, 5, 5), 16))
    for inputs, reason in (("wrong.npy", "integers 0 … 15"), ("absent.npy", "can't read")):
        command = [sys.executable, "run.py", "--inputs", inputs, "--output", "out.npz"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 2 and reason in ended.stderr and "Traceback" not in ended.stderr


def test_without_sanafe_one_line_says_what_to_install(tmp_path, monkeypatch):
    SANAFE.export(network(), tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"SANA-FE isn't installed; pip install \"snnkd\[sanafe\]\""):
        SANAFE.run(tmp_path, samples(network())["input"], 4, RUN_SECONDS)


def test_the_same_network_gives_the_same_bytes(tmp_path):
    for folder in ("one", "two"):
        manifest = SANAFE.export(network(), tmp_path / folder)
    for name in manifest.files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
