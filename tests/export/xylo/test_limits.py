"""Every limit of the chips is named when it is broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnkd import InputError, Refusal
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.student import student_to_graph
from snnkd.export.target import get_target
from snnkd.toolchain.networks import build_networks
from snnkd.toolchain.recipe import load_recipe
from snnkd.toolchain.samples import task_of

NEURON = Neuron(0.875, np.full(1, 50.0), 0.5, "subtract", 31, decays_input=True)


def network(widths=(8, 8), outputs=4, channels=16, sparse=1.0, **changes) -> Graph:
    rng = np.random.default_rng(0)
    source, size, populations = "input", channels, []
    for depth, width in enumerate((*widths, outputs), start=1):
        last = depth > len(widths)
        weight = rng.integers(1, 9, (width, size)) * (rng.random((width, size)) < sparse)
        path = Synapse(source, "dense", weight.astype(float), (size,), (width,))
        neuron = replace(NEURON, max_spikes=1) if last else NEURON
        name = "end" if last else f"hidden{depth}"
        populations.append(Population(name, (width,), (path,), np.zeros(width), neuron, depth))
        source, size = name, width
    graph = Graph((InputPort("input", (channels,), 15),), tuple(populations), 4, 8)
    for name, change in changes.items():
        part = tuple(replace(p, **change(p)) if p.name == name else p for p in graph.populations)
        graph = replace(graph, populations=part)
    return graph


def neuron(**changes):
    return lambda p: {"neuron": replace(p.neuron, **changes)}


def path(**changes):
    return lambda p: {"synapses": (replace(p.synapses[0], **changes),)}


BROKEN = {
    "channels": (lambda: network(channels=17), "input: number of input channels is 17, .* allows 16"),
    "hidden": (
        lambda: network((128, 250, 120), sparse=0.1),
        "network: number of hidden neurons is 498, .* 496",
    ),
    "outputs": (lambda: network(outputs=17), "network: number of output neurons is 17, .* allows 16"),
    "input projection": (lambda: network((129, 9)), "up to the last that takes input is 129, .* allows 128"),
    "output projection": (lambda: network((9, 129)), "from the first that feeds outputs on is 129, .* 128"),
    "synapses": (
        lambda: network((128, 128, 128)),
        "synapses between hidden neurons is 32768, .* allows 31744",
    ),
    "reset": (
        lambda: network(hidden1=neuron(reset="zero", max_spikes=31)),
        "hidden1: reset is to zero",
    ),
    "hidden spikes": (
        lambda: network(hidden2=neuron(max_spikes=1)),
        "hidden2: number of spikes of a hidden neuron in a step is at most 1, .* allows up to 31",
    ),
    "output spikes": (
        lambda: network(end=neuron(max_spikes=31)),
        "end: number of spikes of an output neuron in a step is at most 31, .* allows at most 1",
    ),
    "decay": (
        lambda: network(hidden1=neuron(decay=0.9)),
        r"hidden1: decay is 0\.9, .* 1 − 2\^−d with d = 1 … 15",
    ),
    "no leak": (lambda: network(hidden1=neuron(decay=1.0)), "hidden1: decay is 1, "),
    "no memory": (lambda: network(hidden1=neuron(current_decay=0.0)), "hidden1: current decay is 0, "),
    "threshold": (lambda: network(hidden1=neuron(threshold=np.array([-3.0]))), "hidden1: threshold is -3"),
    "large threshold": (
        lambda: network(hidden1=neuron(threshold=np.array([40000.0]))),
        "hidden1: threshold is 40000, .* 1 … 32767",
    ),
    "read-out": (
        lambda: network(end=lambda p: {"neuron": None}),
        "end: what it emits is sums, .* spikes, counted",
    ),
    "potentials": (
        lambda: network(end=neuron(threshold=np.full(1, np.inf))),
        "end: what it emits is potentials",
    ),
    "bias": (
        lambda: network(hidden2=lambda p: {"bias": np.ones(8)}),
        "hidden2: bias is one behind the first",
    ),
    "half bias": (
        lambda: network(hidden1=lambda p: {"bias": np.full(8, 0.5)}),
        "hidden1: bias is 0.5, .* whole",
    ),
    "delay": (lambda: network(hidden2=path(delay=2)), "hidden2: delay of the path from hidden1 is 2"),
    "weights": (lambda: network(hidden2=path(weight=np.full((8, 8), 0.5))), "group 'recurrent' is up to 0.5"),
    "large weights": (
        lambda: network(hidden1=path(weight=np.tile([1.0, 20000.0], (8, 8)))),
        "weights of the group 'input' is up to 20000",
    ),
    "bits": (lambda: replace(network(), weight_bits=1), "network: bits of a weight is 1"),
    "own input": (lambda: network(hidden1=neuron(decays_input=False)), "hidden1: neuron is a current that"),
    "payload": (
        lambda: replace(network(), inputs=(InputPort("input", (16,), 16),)),
        "input: events of a channel in a step is 16, .* allows 15",
    ),
    "empty": (lambda: replace(network(), populations=()), "number of populations is 0"),
    "unfed": (lambda: network(hidden1=lambda p: {"synapses": ()}), "hidden1: number of sources is 0"),
    "two paths": (
        lambda: network(hidden2=lambda p: {"synapses": p.synapses * 2}),
        "hidden2: paths from hidden1 is 2, .* allows 1; add their weights",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_each_limit_is_named(case, tmp_path):
    import re

    build, reason = BROKEN[case]
    graph, room = build(), get_target("xylo")
    found = [str(problem) for problem in room.check(graph)]
    assert any(re.search(reason, problem) for problem in found), found
    with pytest.raises(Refusal, match="doesn't fit xylo"):
        room.export(graph, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_at_the_limits_it_fits(tmp_path):
    graph = network((128, 128), outputs=16)
    assert get_target("xylo").check(graph) == []
    assert get_target("xylo").export(graph, tmp_path).files == ["network.npz", "run.py", "manifest.json"]


def test_a_skip_is_refused_since_the_chip_would_deliver_it_a_step_early():
    graph = network()
    skip = Synapse("hidden1", "dense", np.ones((4, 8)), (8,), (4,))
    graph = network(end=lambda p: {"synapses": (*p.synapses, skip)})
    (problem,) = map(str, get_target("xylo").check(graph))
    assert "end: layers that the path from hidden1 skips is 1" in problem
    direct = Synapse("input", "dense", np.ones((8, 16)), (16,), (8,))
    graph = network(hidden2=lambda p: {"synapses": (*p.synapses, direct)})
    assert any("path from input skips is 1" in str(p) for p in get_target("xylo").check(graph))


def test_audio_2_has_fewer_outputs_and_a_smaller_fan_out():
    found = [str(problem) for problem in get_target("xylo-audio2").check(network((100, 100), outputs=10))]
    assert len(found) == 2
    assert "number of output neurons is 10, the target allows 8" in found[0]
    assert "hidden1: synapses from a hidden neuron to others is 100, the target allows 64" in found[1]
    assert get_target("xylo-audio2").check(network((900, 64), outputs=8, sparse=0.5)) == []


def test_float_networks_are_not_exported(tmp_path):
    with pytest.raises(InputError, match="takes integers and this is a float network"):
        get_target("xylo").export(replace(network(), weight_bits=None), tmp_path)


def test_the_ordinary_digits_student_is_refused_with_every_limit():
    recipe = load_recipe("digits")
    student, _ = build_networks(recipe, task_of(recipe))
    found = "; ".join(map(str, get_target("xylo").check(student_to_graph(student.eval()))))
    for reason in (
        "number of input channels is 64",
        "events of a channel in a step is 16",
        "neuron1: reset is to zero, the target allows by taking the threshold away",
        "neuron1: number of spikes of a hidden neuron in a step is at most 1, the target allows up to 31",
        "neuron1: current decay is 0",
        "path from input is a convolution",
        "readout: what it emits is sums",
        "number of hidden neurons is 3072",
    ):
        assert reason in found


def test_the_shipped_recipe_s_student_fits():
    recipe = load_recipe("digits-xylo")
    student, _ = build_networks(recipe, task_of(recipe))
    assert get_target("xylo").check(student_to_graph(student.eval())) == []
