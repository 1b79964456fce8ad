"""Random networks within the chip's rules, and xylosim's answer for them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.xylo.target import Xylo

STATES = (60, 3000, 32767)
"""The largest thresholds: neurons that spike often, now and then, and hardly ever."""


def draw(seed: int, shifts: int = 7, calm: bool = False) -> Graph:
    """A network of up to three layers, the middle ones in parallel parts with decays of their own.

    Args:
        shifts: how far weights are shifted at most.
        calm: small weights, with which nothing saturates.
    """
    rng = np.random.default_rng(seed)
    largest = 8 if calm else 128
    most = 200 if calm else STATES[seed % 3]

    def dense(source: str, shape: tuple[int, ...], size: int, shift: int) -> Synapse:
        weight = rng.integers(-largest, largest, (size, int(np.prod(shape)))).astype(float)
        weight[rng.random(weight.shape) < 0.2] = 0
        return Synapse(source, "dense", weight * 2**shift, shape, (size,))

    def neuron(size: int, spikes: int) -> Neuron:
        decays = (1 - 2.0 ** -rng.integers(1, 16, 2)).tolist()
        threshold = rng.integers(1, most + 1, size).astype(float)
        return Neuron(decays[0], threshold, decays[1], "subtract", spikes, decays_input=True)

    shift = rng.integers(0, 1 if calm else shifts + 1, 3).tolist()
    port = InputPort("input", (int(rng.integers(1, 17)), 1, 1), 15)
    before, populations = [("input", port.shape)], []
    for depth in range(1, int(rng.integers(2, 4))):
        layer = []
        for part in range(int(rng.integers(1, 3))):
            size, name = int(rng.integers(1, 12)), f"layer{depth}{'ab'[part]}"
            paths = tuple(dense(source, shape, size, shift[depth > 1]) for source, shape in before)
            bias = rng.integers(-200, 200, size).astype(float) * (depth == 1 and not calm)
            populations.append(Population(name, (size,), paths, bias, neuron(size, 31), depth))
            layer.append((name, (size,)))
        before = layer
    outputs = int(rng.integers(1, 17))
    paths = tuple(dense(source, shape, outputs, shift[2]) for source, shape in before)
    end = Population(
        "end", (outputs,), paths, np.zeros(outputs), neuron(outputs, 1), populations[-1].depth + 1
    )
    return Graph((port,), (*populations, end), 20, 8)


def samples(graph: Graph, seed: int, count: int = 3) -> np.ndarray:
    """Events (N, T, channels, 1, 1), at most steps few channels."""
    rng = np.random.default_rng(seed)
    shape = (count, graph.steps, *graph.inputs[0].shape)
    return (rng.integers(0, 16, shape) * (rng.random(shape) < 0.5)).astype(np.uint8)


@pytest.fixture(scope="session")
def draw_network():
    """(seed, shifts, calm) → Graph."""
    return draw


@pytest.fixture(scope="session")
def draw_samples():
    """(graph, seed, count) → uint8 (N, T, channels, 1, 1)."""
    return samples


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """(graph, inputs) → what xylosim makes of the exported folder: spike counts by layer."""
    from snnkd.export.xylo.runner.run import read_network, record

    def run(graph: Graph, inputs: np.ndarray) -> dict[str, np.ndarray]:
        folder = tmp_path_factory.mktemp("xylo")
        Xylo().export(graph, folder)
        assert json.loads((folder / "manifest.json").read_text())["target"] == "xylo"
        recorded = record(*read_network(folder), inputs.reshape(*inputs.shape[:2], -1))
        return {
            name.removeprefix("spikes/"): values for name, values in recorded.items() if name != "seconds"
        }

    return run
