"""The simulator against a brute-force transcription of Lava's fixed-point arithmetic: every spike, every sum."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.toolchain.simulation import synapses
from snnkd.toolchain.simulation.simulator import Simulator, record, simulate

pytestmark = pytest.mark.filterwarnings("error")
QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
GEOMETRIES = [  # kernel, stride, padding, dilation, groups
    ((3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((3, 3), (2, 2), (1, 1), (1, 1), 2),
    ((2, 3), (2, 1), (1, 2), (1, 1), 1),
    ((3, 2), (1, 1), (2, 1), (2, 2), 2),
    ((1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((5, 5), (3, 2), (2, 2), (1, 1), 1),
]


@dataclass
class Reference:
    """What brute force found: spikes (N, T, …), sums (N, T, …), and which kinds of overflow took place."""

    spikes: dict[str, np.ndarray] = field(default_factory=dict)
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)


def brute_force(graph: Graph, inputs: np.ndarray, timesteps: int) -> Reference:
    """Sample by sample, step by step, neuron by neuron, in the integers of lava.proc.lif, .dense and .conv."""
    reference = Reference()
    port = graph.inputs[0]
    emitted = {port.name: _frames(inputs, port, timesteps)}
    for population in graph.populations:
        steps = np.zeros((len(inputs), timesteps, *population.shape), np.int64)
        for synapse in population.synapses:
            for n, t in np.ndindex(len(inputs), timesteps):
                if t >= synapse.delay:
                    steps[n, t] += _path_sum(synapse, emitted[synapse.source][n, t - synapse.delay])
        if population.neuron is None:
            reference.sums[population.name] = steps
        else:
            spikes = np.stack([_neurons(population, steps[n], reference.events) for n in range(len(inputs))])
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
    (height, width), (down, right) = synapse.padding, synapse.stride
    padded = np.pad(source, ((0, 0), (height, height), (width, width)))
    kernel_height, kernel_width = weight.shape[2:]
    inputs_per_group, outputs_per_group = weight.shape[1], len(weight) // synapse.groups
    sums = np.zeros(synapse.shape, np.int64)
    for channel, y, x in np.ndindex(*synapse.shape):
        first = channel // outputs_per_group * inputs_per_group
        rows = y * down + synapse.dilation[0] * np.arange(kernel_height)
        columns = x * right + synapse.dilation[1] * np.arange(kernel_width)
        window = padded[first : first + inputs_per_group][:, rows][:, :, columns]
        sums[channel, y, x] = (window * weight[channel]).sum()
    return (sums + 2**23) % 2**24 - 2**23


def _neurons(population: Population, sums: np.ndarray, events: set[str]) -> np.ndarray:
    """Spikes (T, *shape) of one sample."""
    neuron = population.neuron
    assert neuron is not None
    dv = round(4096 * (1 - neuron.decay))
    bias = np.broadcast_to(population.bias, population.shape).astype(np.int64)
    threshold = np.broadcast_to(neuron.threshold, population.shape).astype(np.int64)
    spikes = np.zeros_like(sums)
    for index in np.ndindex(*population.shape):
        v = 0
        for t in range(len(sums)):
            u = int(np.left_shift(np.int32(sums[(t, *index)]), np.int32(6)))
            if u > 2**23:
                u -= 2**24
                events.add("wrapped")
            elif u <= -(2**23):
                u += 2**24
                events.add("wrapped")
            product = v * (4096 - dv)
            decayed = (1 if product > 0 else -1) * (abs(product) >> 12)
            if abs(product) % 4096:
                events.add("truncated")
            v = decayed + u + 64 * int(bias[index])
            if abs(v) > 2**23 - 1:
                events.add("saturated")
            v = max(-(2**23) + 1, min(2**23 - 1, v))
            if v > 64 * int(threshold[index]):
                spikes[(t, *index)] = 1
                v = 0
    return spikes


def random_graph(
    rng: np.random.Generator, decay: float, scale: int, payload: int, conv: tuple, delays: tuple[int, int]
) -> Graph:
    """Convolution → residual block (convolution, identity skip, projection) → dense → two-path read-out."""
    kernel, stride, padding, dilation, groups = conv

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-scale, scale + 1, shape).astype(np.float64)

    def neuron(*shape: int) -> Neuron:
        return Neuron(decay, rng.integers(1, 4 * scale + 2, shape).astype(np.float64))

    def bias(*shape: int) -> np.ndarray:
        return rng.integers(-min(scale, 4095), min(scale, 4095) + 1, shape).astype(np.float64)

    source = (2, 5, 4)
    size = [
        (source[1 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)
    ]
    shape = (4, size[0], size[1])
    first = Synapse("in", "conv", weights(4, 2 // groups, *kernel), source, shape, stride, padding, dilation, groups)
    again = Synapse("a", "conv", weights(4, 2, 3, 3), shape, shape, padding=(1, 1), groups=2)
    skip = Synapse("a", "identity", weights(4, 1, 1), shape, shape, delay=delays[0])
    side = Synapse("in", "conv", weights(4, 2 // groups, *kernel), source, shape, stride, padding, dilation, groups, delays[1])
    size_b = int(np.prod(shape))
    dense = Synapse("b", "dense", weights(5, size_b), shape, (5,))
    return Graph(
        (InputPort("in", source, payload),),
        (
            Population("a", shape, (first,), bias(4, 1, 1), neuron(4, 1, 1), 1),
            Population("b", shape, (again, skip, side), bias(*shape), neuron(*shape), 2),
            Population("c", (5,), (dense,), bias(5), neuron(5), 3),
            Population(
                "out",
                (3,),
                (
                    Synapse("c", "dense", weights(3, 5), (5,), (3,)),
                    Synapse("b", "dense", weights(3, size_b), shape, (3,), delay=delays[0]),
                ),
                bias(3),
                None,
                4,
            ),
        ),
        weight_bits=8,
        readout_scale=7.0,
    )


def random_inputs(rng: np.random.Generator, payload: int, timesteps: int, static: bool) -> np.ndarray:
    shape = (2, 2, 5, 4) if static else (2, timesteps, 2, 5, 4)
    return rng.integers(0, payload + 1, shape).astype(np.uint8)


def assert_equal(graph: Graph, inputs: np.ndarray, timesteps: int, **options) -> Simulator:
    """The simulator emits what brute force does, all of it; returns the simulator."""
    simulator = Simulator(graph, timesteps, **options)
    activity = simulator.run(torch.from_numpy(inputs))
    reference = brute_force(graph, inputs, timesteps)
    for name, spikes in reference.spikes.items():
        assert np.array_equal(activity.spikes[name].transpose(0, 1).numpy(), spikes), name
    for name, sums in reference.sums.items():
        assert np.array_equal(activity.sums[name].transpose(0, 1).numpy(), sums), name
    totals = sum(s.sum(axis=1) + timesteps * graph[n].bias.astype(np.int64) for n, s in reference.sums.items())
    assert np.array_equal(activity.totals.numpy(), totals)
    assert np.array_equal(activity.logits.numpy(), totals / graph.readout_scale)
    return simulator


@given(
    seed=st.integers(0, 2**32 - 1),
    timesteps=st.integers(1, 32),
    decay=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1 - 1 / 4096, 1.0]),
    scale=st.sampled_from([1, 20, 254, 4000, 100_000]),
    payload=st.sampled_from([1, 255]),
    conv=st.sampled_from(GEOMETRIES),
    delays=st.tuples(st.integers(0, 3), st.integers(0, 40)),
    static=st.booleans(),
)
@QUICK
def test_integer_networks_equal_brute_force(seed, timesteps, decay, scale, payload, conv, delays, static):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, decay, scale, payload, conv, delays)
    inputs = random_inputs(rng, payload, timesteps, static)
    simulator = assert_equal(graph, inputs, timesteps)
    if simulator.engine == "exact-float32":
        assert_equal(graph, inputs, timesteps, arithmetic="fixed-point")
