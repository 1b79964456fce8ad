"""A chip with one threshold for a layer, weights in whole units, and neurons better off without biases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnkd import Refusal
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.integers import weight_exponent
from snnkd.export.target import get_target
from snnkd.toolchain.quantization.quantize import quantize
from snnkd.toolchain.simulation.simulator import record

SPECK = get_target("speck")
T = 6


def network(biased: bool = False) -> Graph:
    """Two layers whose channels differ in size; one channel has no weights at all."""
    rng = np.random.default_rng(0)
    shape, maps = (2, 6, 6), (5, 6, 6)
    sizes = np.array([1.0, 0.7, 0.5, 0.4, 0.0]).reshape(-1, 1, 1, 1)
    weight = sizes * rng.normal(0.1, 0.3, (5, 2, 3, 3))
    conv = Synapse("input", "conv", weight, shape, maps, padding=(1, 1))
    dense = Synapse("maps", "dense", rng.normal(0.01, 0.2, (3, 180)), maps, (3,))
    bias = 0.05 * np.arange(5.0).reshape(-1, 1, 1) * biased
    populations = (
        Population("maps", maps, (conv,), bias, Neuron(1.0, np.ones((1, 1, 1))), 1),
        Population("classes", (3,), (dense,), np.zeros(3), Neuron(1.0, np.ones(1)), 2),
    )
    return Graph((InputPort("input", shape, 1),), populations, T)


@pytest.fixture(scope="module")
def frames():
    return (np.random.default_rng(1).random((60, T, 2, 6, 6)) < 0.3).astype(np.uint8)


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("bits", [8, 4])
def test_all_channels_share_the_largest_scale_that_holds(bits, calibrated, frames):
    graph = network()
    quantized = quantize(graph, SPECK.constraints, T, bits, frames if calibrated else None)
    integers = quantized.graph
    assert SPECK.check(integers) == []
    for floats, population in zip(graph.populations, integers.populations, strict=True):
        (exact,), (path,) = floats.synapses, population.synapses
        (scale,) = set(np.asarray(population.neuron.threshold).ravel().tolist())
        most = 2 ** (bits - 1) - 1
        assert np.array_equal(path.weight, np.clip(np.round(scale * exact.weight), -most, most))
        assert not population.bias.any() and weight_exponent(path.weight, bits) == 0
        ratio = np.abs(path.weight).max() / most
        assert ratio > 0.9 or (quantized.layers[population.depth - 1].membrane_share or 0) > 0.9
    fired = record(integers, frames, T).spikes
    assert fired["maps"][:, :, :4].any(axis=(0, 1, 3, 4)).all() and fired["classes"].any()


def test_a_network_with_biases_keeps_and_may_correct_them(frames):
    integers = quantize(network(biased=True), SPECK.constraints, T, 8, frames).graph
    assert integers["maps"].bias.any() and not integers["classes"].bias.any()
    assert np.abs(integers["maps"].bias).max() <= 127 and SPECK.check(integers) == []


def test_the_sixteen_bits_are_kept_however_long_a_sample_is():
    scales = []
    for timesteps in (6, 60, 600):
        integers = quantize(replace(network(), timesteps=timesteps), SPECK.constraints, timesteps, 8).graph
        assert SPECK.check(integers) == []
        scales.append(float(integers["classes"].neuron.threshold.flat[0]))
    assert scales[0] > scales[1] > scales[2] > 0
    with pytest.raises(Refusal, match=r"channel \d takes .* times the target's membrane range even at the"):
        quantize(replace(network(), timesteps=10**5), SPECK.constraints, 10**5, 8)
