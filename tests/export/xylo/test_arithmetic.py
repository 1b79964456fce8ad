"""Our model of the chip's integers against xylosim, spike for spike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnkd import InputError, Refusal
from snnkd.export.graph import Graph
from snnkd.export.xylo.arithmetic import XyloArithmetic, play
from snnkd.export.xylo.network import dash_of

ARITHMETIC = XyloArithmetic()


def differing(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> int:
    assert ours.keys() == theirs.keys()
    return sum(int(np.count_nonzero(ours[name] != theirs[name])) for name in ours)


def recorded(graph: Graph, inputs: np.ndarray) -> dict[str, np.ndarray]:
    return ARITHMETIC.record(graph, inputs, graph.steps).spikes


@pytest.mark.parametrize("seed", range(24))
def test_every_spike_is_xylosim_s(draw_network, draw_samples, simulated, seed):
    graph = draw_network(seed)
    inputs = draw_samples(graph, seed)
    assert differing(recorded(graph, inputs), simulated(graph, inputs)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 2000, 100))
def test_every_spike_of_many_networks_is_xylosim_s(draw_network, draw_samples, simulated, start):
    for seed in range(start, start + 100):
        graph = draw_network(seed)
        inputs = draw_samples(graph, seed)
        assert differing(recorded(graph, inputs), simulated(graph, inputs)) == 0, seed


def test_these_networks_put_the_arithmetic_to_the_test(draw_network, draw_samples):
    """They saturate, spike several times in a step, reach 31, and keep bits when they decay."""
    graphs = [draw_network(seed) for seed in range(24)]
    played = [p for seed, graph in enumerate(graphs) for p in play(graph, draw_samples(graph, seed), 20)]
    assert sum(p.saturated > 0 for p in played) >= 24
    counts = np.bincount(np.concatenate([p.spikes.reshape(-1) for p in played]), minlength=32)
    assert counts[0] > 0 and counts[1] > 100 and counts[2:31].sum() > 100 and counts[31] > 100
    assert any(p.saturated == 0 and p.spikes.any() for p in played)


@pytest.mark.parametrize("what", ["weight", "threshold", "dash", "current dash", "bias"])
def test_the_least_change_is_found(draw_network, draw_samples, simulated, what):
    """One weight, threshold, dash or bias changed by one: xylosim spikes otherwise, in some networks."""
    found = 0
    for seed in range(8):
        graph = draw_network(seed, shifts=0, calm=seed % 2 == 0)
        inputs = draw_samples(graph, seed, count=8)
        ours = recorded(graph, inputs)
        assert differing(ours, simulated(graph, inputs)) == 0
        found += differing(ours, simulated(changed(graph, what), inputs)) > 0
    assert found >= 3


def changed(graph: Graph, what: str) -> Graph:
    first, *rest = graph.populations
    neuron, (path,) = first.neuron, first.synapses
    one = np.eye(1, first.size).reshape(-1)
    if what == "weight":
        weight = path.weight.copy()
        weight[0, 0] -= 1 if weight[0, 0] > -128 else -1
        first = replace(first, synapses=(replace(path, weight=weight),))
    elif what == "threshold":
        first = replace(first, neuron=replace(neuron, threshold=neuron.threshold + one))
    elif what == "bias":
        first = replace(first, bias=first.bias + one)
    else:
        name = "decay" if what == "dash" else "current_decay"
        dash = (dash_of(getattr(neuron, name)) or 0) % 15 + 1
        first = replace(first, neuron=replace(neuron, **{name: 1 - 2.0**-dash}))
    return replace(graph, populations=(first, *rest))


def test_a_sample_is_the_same_alone_and_shown_at_every_step(draw_network, draw_samples):
    graph = draw_network(5)
    inputs = draw_samples(graph, 5, count=4)
    together = recorded(graph, inputs)
    for index in range(4):
        alone = recorded(graph, inputs[index : index + 1])
        assert all(np.array_equal(alone[name][0], together[name][index]) for name in alone)
    static = inputs[:, 0]
    frames = np.repeat(static[:, None], graph.steps, axis=1)
    assert differing(recorded(graph, static), recorded(graph, frames)) == 0


def test_potentials_are_those_that_spike(draw_network, draw_samples):
    graph = draw_network(4)
    inputs = draw_samples(graph, 4)
    population = graph.populations[0]
    potentials = ARITHMETIC.membrane(graph, inputs, graph.steps, population.name)
    spikes = recorded(graph, inputs)[population.name].swapaxes(0, 1)
    assert potentials.shape == spikes.shape
    threshold = population.neuron.threshold
    fitting = np.where(potentials >= threshold, potentials // threshold, 0)
    assert np.array_equal(np.minimum(fitting, 31), spikes)


def test_what_it_can_not_run_is_named(draw_network, draw_samples):
    graph = draw_network(6)
    inputs = draw_samples(graph, 6)
    with pytest.raises(InputError, match=r"the inputs' shape is .*, expected \(N, 20, "):
        ARITHMETIC.record(graph, inputs[:, :-1], graph.steps)
    with pytest.raises(InputError, match="aren't integers 0 … 15"):
        ARITHMETIC.record(graph, inputs + 16, graph.steps)
    with pytest.raises(InputError, match="aren't integers"):
        ARITHMETIC.record(graph, inputs / 2, graph.steps)
    with pytest.raises(Refusal, match="float network; quantise it"):
        ARITHMETIC.record(replace(graph, weight_bits=None), inputs, graph.steps)
    first = graph.populations[0]
    for neuron, reason in (
        (replace(first.neuron, reset="zero"), "take their threshold away"),
        (replace(first.neuron, decay=0.7), "decays are 1 − 2"),
    ):
        other = replace(graph, populations=(replace(first, neuron=neuron), *graph.populations[1:]))
        with pytest.raises(Refusal, match=reason):
            ARITHMETIC.record(other, inputs, graph.steps)
