"""Integer networks against a brute-force transcription of Lava's arithmetic: every spike, every sum."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnkd.export.graph import Graph, InputPort, Population, Synapse
from snnkd.toolchain.simulation.simulator import Simulator


@dataclass
class Reference:
    """What brute force found: spikes and sums (N, T, *shape), and how often anything unusual took place."""

    spikes: dict[str, np.ndarray] = field(default_factory=dict)
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=lambda: {"wrapped": 0, "saturated": 0, "truncated": 0})


def brute_force(graph: Graph, inputs: np.ndarray, timesteps: int) -> Reference:
    """Sample by sample, step by step, neuron by neuron, as lava.proc.lif, .dense and .conv reckon."""
    reference = Reference()
    emitted = {graph.inputs[0].name: _frames(inputs, graph.inputs[0], timesteps)}
    for population in graph.populations:
        steps = np.zeros((len(inputs), timesteps, *population.shape), np.int64)
        for synapse in population.synapses:
            for n, t in np.ndindex(len(inputs), timesteps):
                if t >= synapse.delay:
                    steps[n, t] += _path_sum(synapse, emitted[synapse.source][n, t - synapse.delay])
        if population.neuron is None:
            reference.sums[population.name] = steps
        else:
            spikes = np.stack([_neurons(population, sample, reference.events) for sample in steps])
            emitted[population.name] = reference.spikes[population.name] = spikes
    return reference


def _frames(inputs: np.ndarray, port: InputPort, timesteps: int) -> np.ndarray:
    static = inputs.ndim == 1 + len(port.shape)
    return np.stack([inputs] * timesteps, axis=1).astype(np.int64) if static else inputs.astype(np.int64)


def _path_sum(synapse: Synapse, source: np.ndarray) -> np.ndarray:
    weight = synapse.weight.astype(np.int64)
    if synapse.kind == "identity":
        return weight * source
    if synapse.kind == "dense":
        return (weight @ source.reshape(-1)).reshape(synapse.shape)
    (above, beside), (down, right) = synapse.padding, synapse.stride
    padded = np.pad(source, ((0, 0), (above, above), (beside, beside)))
    inputs_per_group, outputs_per_group = weight.shape[1], len(weight) // synapse.groups
    sums = np.zeros(synapse.shape, np.int64)
    for channel, y, x in np.ndindex(*synapse.shape):
        first = channel // outputs_per_group * inputs_per_group
        rows = y * down + synapse.dilation[0] * np.arange(weight.shape[2])
        columns = x * right + synapse.dilation[1] * np.arange(weight.shape[3])
        window = padded[first : first + inputs_per_group][:, rows][:, :, columns]
        sums[channel, y, x] = (window * weight[channel]).sum()
    return (sums + 2**23) % 2**24 - 2**23


def _neurons(population: Population, sums: np.ndarray, events: dict[str, int]) -> np.ndarray:
    """Spikes (T, *shape) of one sample."""
    assert population.neuron is not None
    kept = 4096 - round(4096 * (1 - population.neuron.decay))
    bias = np.broadcast_to(population.bias, population.shape).astype(np.int64)
    threshold = np.broadcast_to(population.neuron.threshold, population.shape).astype(np.int64)
    spikes = np.zeros_like(sums)
    for index in np.ndindex(*population.shape):
        v = 0
        for t in range(len(sums)):
            u = int(np.left_shift(np.int32(sums[(t, *index)]), np.int32(6)))
            events["wrapped"] += u > 2**23 or u <= -(2**23)
            u += -(2**24) if u > 2**23 else 2**24 if u <= -(2**23) else 0
            events["truncated"] += abs(v) * kept % 4096 != 0
            decayed = (abs(v) * kept >> 12) * (1 if v > 0 else -1)
            v = decayed + u + 64 * int(bias[index])
            events["saturated"] += abs(v) > 2**23 - 1
            v = max(-(2**23) + 1, min(2**23 - 1, v))
            if v > 64 * int(threshold[index]):
                spikes[(t, *index)] = 1
                v = 0
    return spikes


def assert_equal(simulator: Simulator, inputs: np.ndarray, reference: Reference) -> None:
    """The simulator emits what brute force does, all of it."""
    graph, timesteps = simulator.graph, simulator.timesteps
    activity = simulator.run(torch.from_numpy(inputs))
    for name, spikes in reference.spikes.items():
        assert np.array_equal(activity.spikes[name].transpose(0, 1).numpy(), spikes), name
    for name, sums in reference.sums.items():
        assert np.array_equal(activity.sums[name].transpose(0, 1).numpy(), sums), name
    totals = sum(sums.sum(axis=1) + timesteps * graph[name].bias for name, sums in reference.sums.items())
    assert np.array_equal(activity.totals.numpy(), totals)
    assert np.array_equal(activity.logits.numpy(), totals / graph.readout_scale)


@given(
    seed=st.integers(0, 2**32 - 1),
    timesteps=st.integers(1, 32),
    decay=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1 - 1 / 4096, 1.0]),
    scale=st.sampled_from([1, 20, 254, 4000, 100_000]),
    payload=st.sampled_from([1, 255]),
    geometry=st.integers(0, 5),
    delays=st.tuples(st.integers(0, 3), st.integers(0, 40)),
    static=st.booleans(),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_network(networks, geometries, seed, timesteps, decay, scale, payload, geometry, delays, static):
    made = networks(
        seed, decay=decay, scale=scale, payload=payload, geometry=geometries[geometry], delays=delays
    )
    graph, inputs = made.graph(), made.inputs(2, None if static else timesteps)
    reference = brute_force(graph, inputs, timesteps)
    simulator = Simulator(graph, timesteps)
    assert_equal(simulator, inputs, reference)
    if simulator.engine == "exact-float32":
        assert_equal(Simulator(graph, timesteps, "fixed-point"), inputs, reference)


@pytest.mark.parametrize(
    ("happens", "choices"),
    [
        ("truncated", {"decay": 0.9}),
        ("truncated", {"decay": 0.5}),
        ("wrapped", {"scale": 4000}),
        ("saturated", {"scale": 4000}),
    ],
)
def test_what_makes_fixed_point_hard_is_met(networks, happens, choices):
    made = networks(5, **choices)
    graph, inputs = made.graph(), made.inputs(2, 16)
    reference = brute_force(graph, inputs, 16)
    assert reference.events[happens] > 10
    assert_equal(Simulator(graph, 16), inputs, reference)
    assert all(0.02 < spikes.mean() < 0.9 for spikes in reference.spikes.values())


@pytest.mark.parametrize("changed", ["weight", "bias", "threshold", "delay", "decay"])
def test_a_small_change_is_found(networks, changed):
    made = networks(3, scale=6, payload=1)
    graph, inputs = made.graph(), made.inputs(4, 20)
    population = graph["b"]
    assert population.neuron is not None
    synapse, neuron = population.synapses[0], population.neuron
    altered = {
        "weight": replace(
            population, synapses=(replace(synapse, weight=synapse.weight + 1), *population.synapses[1:])
        ),
        "bias": replace(population, bias=population.bias + 1),
        "threshold": replace(population, neuron=replace(neuron, threshold=neuron.threshold + 1)),
        "delay": replace(population, synapses=(replace(synapse, delay=1), *population.synapses[1:])),
        "decay": replace(population, neuron=replace(neuron, decay=0.52)),
    }[changed]
    other = replace(graph, populations=tuple(altered if p.name == "b" else p for p in graph.populations))
    reference = brute_force(graph, inputs, 20)
    assert_equal(Simulator(graph, 20), inputs, reference)
    with pytest.raises(AssertionError):
        assert_equal(Simulator(other, 20), inputs, reference)
