"""Float networks of every shape, the limits of Loihi 2, and a student trained for a few seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.student import student_to_graph
from snnkd.export.target import Constraints
from snnkd.models.contract import TaskShape
from snnkd.models.conv import ConvOptions, ConvStudent


@pytest.fixture(scope="session")
def loihi2() -> Constraints:
    """Loihi 2's integers, from the limits of Lava's registers."""
    return Constraints(tuple(range(2, 9)), 2**17 - 1, 2**12 - 1, 2**17 - 1, 2**17 - 1, 6, 255)


def random_network(seed: int, decay: float, payload: int, spread: float, thresholds: bool) -> Graph:
    """Convolution → residual block → dense → read-out; a channel's magnitude lies within 10^±spread."""
    rng = np.random.default_rng(seed)
    source, shape = (2, 4, 3), (4, 4, 3)

    def magnitudes(channels: int, dimensions: int) -> np.ndarray:
        return 10 ** rng.uniform(-spread, spread, channels).reshape(-1, *[1] * (dimensions - 1))

    def weights(*size: int) -> np.ndarray:
        return rng.normal(size=size) * magnitudes(size[0], len(size)) * rng.integers(0, 2, size)

    def bias(*size: int) -> np.ndarray:
        return rng.normal(size=size) * 0.3 * magnitudes(size[0], len(size)) * rng.integers(0, 2, size)

    def neuron(*size: int) -> Neuron:
        return Neuron(decay, rng.uniform(0.1, 3, size) if thresholds else np.ones(1))

    first = Synapse("in", "conv", weights(4, 2, 3, 3) / payload, source, shape, padding=(1, 1))
    again = Synapse("a", "conv", weights(4, 1, 3, 3), shape, shape, padding=(1, 1), groups=4)
    skip = Synapse("a", "identity", np.ones((1, 1, 1)), shape, shape, delay=1)
    dense = Synapse("b", "dense", weights(5, 48), shape, (5,))
    return Graph(
        (InputPort("in", source, payload),),
        (
            Population("a", shape, (first,), bias(4, 1, 1), neuron(4, 1, 1), 1),
            Population("b", shape, (again, skip), bias(*shape), neuron(4, 1, 1), 2),
            Population("c", (5,), (dense,), bias(5), neuron(5), 3),
            Population("out", (3,), (Synapse("c", "dense", weights(3, 5), (5,), (3,)),), bias(3), None, 4),
        ),
    )


@pytest.fixture(scope="session")
def network() -> Callable[..., Graph]:
    """`random_network`."""
    return random_network


@pytest.fixture(scope="session")
def layer() -> Callable[..., Graph]:
    """One dense population "n" of weights (neurons, inputs), without a read-out."""

    def build(weights, bias=0.0, threshold=1.0, decay=0.5, payload=1) -> Graph:
        weights = np.array(weights, float)
        neurons, sources = weights.shape
        path = Synapse("in", "dense", weights, (sources,), (neurons,))
        neuron = Neuron(decay, np.broadcast_to(np.array(threshold, float), (neurons,)))
        bias = np.broadcast_to(np.array(bias, float), (neurons,))
        return Graph(
            (InputPort("in", (sources,), payload),), (Population("n", (neurons,), (path,), bias, neuron, 1),)
        )

    return build


@dataclass(frozen=True)
class Trained:
    """A student as a float graph, and the samples that it was and wasn't trained on."""

    graph: Graph
    calibration: np.ndarray
    inputs: np.ndarray
    labels: np.ndarray


@pytest.fixture(scope="session")
def digits() -> Trained:
    """A spiking student trained on 1,200 handwritten digits."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = data.images[order, None].astype(np.uint8)
    labels = data.target[order]
    student = _train(torch.tensor(images[:1200]).float(), torch.tensor(labels[:1200]))
    return Trained(student_to_graph(student), images[:256], images[1200:], labels[1200:])


def _train(images: torch.Tensor, labels: torch.Tensor) -> ConvStudent:
    """Cross-entropy and momentum by hand: importing torch's optimisers takes longer than the training."""
    torch.manual_seed(0)
    options = ConvOptions(widths=(8, 16), strides=(1, 2), pooling=1)
    student = ConvStudent(TaskShape((1, 8, 8), 16, 10), 4, options)
    parameters = list(student.parameters())
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    for _ in range(8):
        for batch in torch.randperm(len(images)).split(64):
            loss = F.cross_entropy(student(images[batch]).logits.mean(0), labels[batch])
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
                    parameter -= 0.05 * velocity.mul_(0.9).add_(gradient)
    return student.eval()
