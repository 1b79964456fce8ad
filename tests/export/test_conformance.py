"""The same spikes in norse, snnTorch and SpikingJelly, which read the NIR that snnkd writes."""

import sys
from dataclasses import replace

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd import InputError, Refusal
from snnkd.export.graph import Graph
from snnkd.export.nir import read_nir, to_nir, write_nir
from snnkd.export.simulators.comparison import compare_spikes, compare_with_simulator, run_in_simulator
from snnkd.export.student import student_to_graph
from snnkd.export.target import get_target
from snnkd.models.contract import TaskShape
from snnkd.models.family import MODELS

NORSE, SNNTORCH, SPIKINGJELLY = SIMULATORS = [get_target(n) for n in ("norse", "snntorch", "spikingjelly")]
SEEDS = st.integers(0, 2**32 - 1)
everywhere = pytest.mark.parametrize("simulator", SIMULATORS, ids=lambda simulator: simulator.name)


def membrane_of(trace):
    return lambda population, sample: trace.membranes[population][sample]


def inputs_for(graph: Graph, samples: int, largest: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, largest + 1, (samples, *graph.inputs[0].shape))


@everywhere
@settings(max_examples=15)
@given(seed=SEEDS, ties=st.booleans())
def test_integer_networks_emit_the_same_spikes(tmp_path_factory, draw_graph, simulate, simulator, seed, ties):
    """Convolutions, skips, dense layers; `ties`: weights so small that membranes often lie on thresholds."""
    graph = draw_graph(seed, integer=True, plain=True, ties=ties)
    inputs = inputs_for(graph, 6, 3 if ties else 20, seed)
    trace = simulate(graph, inputs, graph.timesteps)
    path = tmp_path_factory.mktemp("nir") / "network.nir"
    write_nir(path, simulator.view(graph).to_nir())
    theirs = run_in_simulator(simulator, read_nir(path), inputs, graph.timesteps)
    assert theirs.keys() == {*trace.spikes, "output"}
    for name, spikes in trace.spikes.items():
        assert theirs[name].dtype == np.uint8 and np.array_equal(theirs[name], spikes)
    assert np.array_equal(theirs["output"], trace.sums["readout"] + graph["readout"].bias)


@everywhere
@settings(max_examples=8)
@given(seed=SEEDS, ties=st.booleans())
def test_currents_with_memory_emit_the_same_spikes(draw_graph, simulate, simulator, seed, ties):
    """CubaLIF: all three update the current before the potential, as `graph.Neuron` does."""
    graph = with_memory(draw_graph(seed, integer=True, plain=True, ties=ties))
    inputs = inputs_for(graph, 6, 3 if ties else 20, seed)
    trace = simulate(graph, inputs, graph.timesteps)
    found = compare_with_simulator(simulator, graph, inputs, trace.spikes)
    assert (found.mismatches, found.first) == (0, ())


@everywhere
def test_a_memory_of_the_current_matters(draw_graph, simulate, simulator):
    graph = with_memory(replace(draw_graph(1, integer=True, plain=True, ties=True), timesteps=4))
    inputs = inputs_for(graph, 8, 3)
    forgotten = simulate(with_memory(graph, 0.0), inputs, 4)
    assert compare_with_simulator(simulator, graph, inputs, forgotten.spikes).mismatches > 0


def with_memory(graph: Graph, decay: float = 0.5) -> Graph:
    """`graph` with currents that decay so, and without biases, which NIR can't say there but by v_leak."""
    populations = tuple(
        replace(
            p,
            bias=np.zeros_like(p.bias),
            neuron=None if p.neuron is None else replace(p.neuron, current_decay=decay),
        )
        for p in graph.populations
    )
    return replace(graph, populations=populations)


def test_norse_begins_at_the_leak_potential(draw_graph):
    graph = to_nir(with_memory(replace(draw_graph(1, integer=True, plain=True), timesteps=4)))
    graph.nodes["n3"].v_leak = graph.nodes["n3"].v_leak + 1
    for name, node in list(graph.nodes.items()):
        if isinstance(node, nir.Scale):
            del graph.nodes[name]
            graph.edges = [edge for edge in graph.edges if name not in edge]
    with pytest.raises(Refusal, match=r"n3: v_leak is 1\.0, the target allows 0"):
        run_in_simulator(NORSE, graph, np.zeros((1, *graph.nodes["input"].input_type["input"])), 1)


def test_those_networks_do_lie_on_their_thresholds(draw_graph, simulate):
    """Otherwise the test above would not test ties."""
    ties = 0
    for seed in range(5):
        graph = draw_graph(seed, integer=True, plain=True, ties=True)
        trace = simulate(graph, inputs_for(graph, 6, 3, seed), graph.timesteps)
        ties += sum(np.sum(trace.membranes[p.name] == p.neuron.threshold) for p in graph.spiking)
    assert ties > 500


@everywhere
def test_ties_at_large_thresholds_stay_exact(draw_graph, simulate, simulator):
    """Pixels up to 255, and thresholds near 131071 that membranes reach exactly."""
    timesteps = 4
    for seed in range(10):
        graph = replace(draw_graph(seed, integer=True, plain=True), timesteps=timesteps)
        inputs = inputs_for(graph, 10, 255)
        graph = with_reached_thresholds(graph, simulate(graph, inputs, 1).membranes["n1"])
        trace = simulate(graph, inputs, timesteps)
        assert np.sum(trace.membranes["n1"] == graph["n1"].neuron.threshold) >= 2
        found = compare_with_simulator(simulator, graph, inputs, trace.spikes)
        assert (found.mismatches, found.first) == (0, ())
        assert found.neuron_steps == sum(spikes.size for spikes in trace.spikes.values())


def with_reached_thresholds(graph: Graph, membranes: np.ndarray) -> Graph:
    """`graph` with n1's thresholds at each channel's largest membrane of the first step, up to 131071."""
    by_channel = membranes[:, 0].swapaxes(0, 1).reshape(membranes.shape[2], -1)
    reached = np.where(by_channel <= 131071, by_channel, -np.inf).max(axis=1).reshape(-1, 1, 1)
    first, *rest = graph.populations
    neuron = replace(first.neuron, threshold=np.maximum(reached, 1))
    return replace(graph, populations=(replace(first, neuron=neuron), *rest))


@everywhere
def test_one_weight_by_one_unit_is_found(draw_graph, simulate, simulator):
    graph = draw_graph(1, integer=True, plain=True, ties=True)
    graph = replace(graph, timesteps=4)
    inputs = inputs_for(graph, 8, 3)
    trace = simulate(graph, inputs, 4)
    assert compare_with_simulator(simulator, graph, inputs, trace.spikes).mismatches == 0
    for index in (0, 1):
        changed = one_weight_more(graph, index)
        found = compare_with_simulator(simulator, changed, inputs, trace.spikes)
        assert found.mismatches > 0
        assert {difference.population for difference in found.first} == {graph.populations[index].name}


def one_weight_more(graph: Graph, index: int) -> Graph:
    populations = list(graph.populations)
    population = populations[index]
    conv = population.synapses[0]
    weight = conv.weight.copy()
    weight[0, 0, 1, 1] += 1
    populations[index] = replace(
        population, synapses=(replace(conv, weight=weight), *population.synapses[1:])
    )
    return replace(graph, populations=tuple(populations))


@everywhere
def test_one_threshold_by_one_is_found(draw_graph, simulate, simulator):
    graph = replace(draw_graph(1, integer=True, plain=True, ties=True), timesteps=4)
    inputs = inputs_for(graph, 8, 3)
    trace = simulate(graph, inputs, 4)
    first, *rest = graph.populations
    raised = replace(first.neuron, threshold=first.neuron.threshold + 1)
    changed = replace(graph, populations=(replace(first, neuron=raised), *rest))
    found = compare_with_simulator(simulator, changed, inputs, trace.spikes, membrane_of(trace))
    assert found.mismatches > 0
    threshold = changed["n1"].neuron.threshold
    between = (trace.membranes["n1"] > threshold - 1) & (trace.membranes["n1"] <= threshold)
    for difference in found.first:
        at = (difference.sample, difference.step, *difference.neuron)
        assert difference.population == "n1" and between[at]
        assert not between[difference.sample, : difference.step].any()
        distance = trace.membranes["n1"][at] / threshold[difference.neuron[0], 0, 0] - 1
        assert difference.distance == pytest.approx(distance, abs=1e-12)


@everywhere
@settings(max_examples=10)
@given(seed=SEEDS)
def test_float_networks_differ_only_within_rounding(draw_graph, simulate, simulator, seed):
    graph = draw_graph(seed, integer=False, plain=True)
    inputs = inputs_for(graph, 16, 3, seed)
    trace = simulate(graph, inputs, graph.timesteps)
    found = compare_with_simulator(simulator, graph, inputs, trace.spikes, membrane_of(trace))
    assert all(difference.within_rounding for difference in found.first)
    assert len(found.first) <= 1


@everywhere
def test_a_lowered_student_emits_the_same_spikes(simulate, simulator):
    torch.manual_seed(0)
    family = MODELS.load("conv")
    task = TaskShape((1, 8, 8), 16, 10)
    student = family.student(task, 4, family.options(widths=(8, 8), strides=(1, 2), pooling=2), 0.5, 0.3)
    graph = student_to_graph(student)
    inputs = inputs_for(graph, 8, 16)
    trace = simulate(graph, inputs, 4)
    found = compare_with_simulator(simulator, graph, inputs, trace.spikes, membrane_of(trace))
    assert all(spikes.any() for spikes in trace.spikes.values())
    assert all(difference.within_rounding for difference in found.first) and len(found.first) <= 1


@everywhere
def test_a_real_difference_is_told_from_rounding(draw_graph, simulate, simulator):
    graph = replace(draw_graph(3, integer=False, plain=True), timesteps=4)
    inputs = inputs_for(graph, 16, 3)
    trace = simulate(graph, inputs, 4)
    found = compare_with_simulator(
        simulator, one_weight_more(graph, 0), inputs, trace.spikes, membrane_of(trace)
    )
    assert found.mismatches and not all(difference.within_rounding for difference in found.first)


def test_the_first_difference_is_the_cause(draw_graph, simulate):
    """A spike taken away by hand: it is the first, whatever else is different later."""
    graph = replace(draw_graph(1, integer=True, plain=True, ties=True), timesteps=4)
    inputs = inputs_for(graph, 8, 3)
    trace = simulate(graph, inputs, 4)
    theirs = {name: spikes.copy() for name, spikes in trace.spikes.items()}
    theirs["n2"][5, 1, 3, 1, 1] ^= 1
    theirs["n1"][5, 2, 0, 0, 0] ^= 1
    theirs["n4"][2, 3, 4] ^= 1
    found = compare_with_simulator(SPIKINGJELLY, graph, inputs, theirs)
    named = [(d.population, d.sample, d.step, d.neuron, d.distance) for d in found.first]
    assert named == [("n4", 2, 3, (4,), None), ("n2", 5, 1, (3, 1, 1), None)]
    assert found.mismatches == 3


def test_rounding_excuses_a_step_only_where_it_excuses_every_neuron_of_it(draw_graph, simulate):
    """Two spikes of one step are inverted; the first of the two as if its membrane lay on its threshold."""
    graph = replace(draw_graph(3, integer=False, plain=True), timesteps=4)
    inputs = inputs_for(graph, 4, 3)
    trace = simulate(graph, inputs, 4)
    theirs = run_in_simulator(SPIKINGJELLY, SPIKINGJELLY.view(graph).to_nir(), inputs, 4)
    assert compare_spikes(graph, theirs, theirs, membrane_of(trace)).mismatches == 0
    first, far = (0, 0, 0), (1, 2, 1)
    membranes = trace.membranes["n1"].copy()
    threshold = np.broadcast_to(graph["n1"].neuron.threshold, graph["n1"].shape)
    membranes[(2, 1, *first)] = threshold[first]
    membranes[(2, 1, *far)] = 1.5 * threshold[far]
    for neurons, wanted, excused in (([first], first, True), ([first, far], far, False)):
        ours = {name: spikes.copy() for name, spikes in theirs.items()}
        for neuron in neurons:
            ours["n1"][(2, 1, *neuron)] ^= 1
        (found,) = compare_spikes(graph, ours, theirs, lambda _, sample: membranes[sample]).first
        assert (found.population, found.step, found.neuron) == ("n1", 1, wanted)
        assert found.within_rounding == excused
        assert found.distance == pytest.approx(0 if excused else 0.5)


def test_torch_is_left_as_it_was(draw_graph):
    before = torch.float32, torch.get_num_threads()
    graph = draw_graph(1, integer=True, plain=True)
    run_in_simulator(SNNTORCH, SNNTORCH.view(graph).to_nir(), inputs_for(graph, 1, 3), 2)
    assert (torch.get_default_dtype(), torch.get_num_threads()) == before and torch.is_grad_enabled()


def test_nothing_is_printed(draw_graph, capsys):
    graph = draw_graph(1, integer=True, plain=True)
    for simulator in SIMULATORS:
        run_in_simulator(simulator, simulator.view(graph).to_nir(), inputs_for(graph, 1, 3), 2)
    assert capsys.readouterr().out == ""


def test_a_missing_simulator_gets_one_line(monkeypatch, draw_graph):
    graph = NORSE.view(draw_graph(1, integer=True, plain=True)).to_nir()
    monkeypatch.setitem(sys.modules, "norse.torch", None)
    with pytest.raises(InputError, match=r'norse can\'t be imported .*: pip install "snnkd\[simulators\]"'):
        run_in_simulator(NORSE, graph, np.zeros((1, 2, 8, 8)), 1)


def test_what_a_simulator_misreads_is_refused(draw_graph):
    graph = draw_graph(1, integer=True, plain=True)
    inputs = inputs_for(graph, 1, 3)
    for simulator in SIMULATORS:
        with pytest.raises(
            Refusal, match="n2_scale: type of node is Scale, the target allows Affine, Conv2d"
        ):
            run_in_simulator(simulator, to_nir(graph), inputs, 1)
    grouped = nir.NIRGraph(
        {
            "input": nir.Input({"input": np.array([2, 3, 3])}),
            "conv": nir.Conv2d((3, 3), np.ones((2, 1, 1, 1)), 1, 0, 1, 2, np.zeros(2)),
            "output": nir.Output({"output": np.array([2, 3, 3])}),
        },
        [("input", "conv"), ("conv", "output")],
        type_check=False,
    )
    with pytest.raises(Refusal, match="conv: convolution's groups is 2, the target allows 1"):
        run_in_simulator(NORSE, grouped, inputs, 1)


def test_what_a_reader_refuses_itself_is_passed_on(draw_graph):
    graph = SPIKINGJELLY.view(draw_graph(1, integer=True, plain=True)).to_nir()
    graph.nodes["n3"].tau[0] *= 2
    with pytest.raises(Refusal, match=r"spikingjelly can't read this graph: nir\.LIF\.tau must be uniform"):
        run_in_simulator(SPIKINGJELLY, graph, np.zeros((1, 2, 8, 8)), 1)
