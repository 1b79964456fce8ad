"""Networks for Speck: layers in a row and branching, with pooling, ties and biases."""

from __future__ import annotations

import numpy as np
import pytest

from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse

TIMESTEPS = 6


def conv_population(
    rng, name, source, source_shape, features, kernel, stride, padding, threshold, biased=False
):
    """A convolution with small weights, so that potentials often hit the threshold."""
    channels, height, width = source_shape
    sides = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
    shape = (features, *sides)
    weight = rng.integers(-9, 12, (features, channels, kernel, kernel)).astype(float)
    path = Synapse(source, "conv", weight, source_shape, shape, (stride, stride), (padding, padding))
    bias = rng.integers(-3, 4, (features, 1, 1)).astype(float) if biased else np.zeros((features, 1, 1))
    return Population(name, shape, (path,), bias, Neuron(1.0, np.full((1, 1, 1), float(threshold))), 1)


def dense_population(rng, name, source, source_shape, features, threshold, pooling=1):
    """A dense path over a map that may be sum-pooled, with small weights."""
    weight = rng.integers(
        -9, 11, (features, *[s // p for s, p in zip(source_shape, (1, pooling, pooling), strict=True)])
    )
    full = np.kron(weight, np.ones((1, 1, pooling, pooling))).reshape(features, -1).astype(float)
    path = Synapse(source, "dense", full, source_shape, (features,))
    return Population(
        name, (features,), (path,), np.zeros(features), Neuron(1.0, np.full(1, float(threshold))), 1
    )


@pytest.fixture
def row():
    """Three layers in a row, the last over a pooled map."""
    rng = np.random.default_rng(0)
    populations = (
        conv_population(rng, "first", "input", (2, 8, 8), 4, 3, 1, 1, 13),
        conv_population(rng, "second", "first", (4, 8, 8), 5, 3, 2, 1, 21),
        dense_population(rng, "classes", "second", (5, 4, 4), 3, 30, pooling=2),
    )
    return Graph((InputPort("input", (2, 8, 8), 1),), populations, TIMESTEPS, 8)


@pytest.fixture
def tree():
    """A layer that feeds two, one of them with biases."""
    rng = np.random.default_rng(1)
    populations = (
        conv_population(rng, "stem", "input", (1, 9, 9), 3, 5, 2, 2, 9),
        conv_population(rng, "left", "stem", (3, 5, 5), 2, 2, 1, 0, 11, biased=True),
        dense_population(rng, "right", "stem", (3, 5, 5), 4, 25),
    )
    return Graph((InputPort("input", (1, 9, 9), 1),), populations, TIMESTEPS, 8)


@pytest.fixture
def frames():
    """Makes events for a network, uint8 (N, T, *shape)."""

    def make(graph: Graph, samples: int, seed: int = 2) -> np.ndarray:
        shape = (samples, TIMESTEPS, *graph.inputs[0].shape)
        return (np.random.default_rng(seed).random(shape) < 0.3).astype(np.uint8)

    return make
