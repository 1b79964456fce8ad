"""What a dense machine (GPU, CPU) does in one pass of a network: multiply, move bytes, start operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...export.graph import Graph, Population, Synapse

Precision = Literal["float32", "float16", "int8"]

BYTES: dict[Precision, int] = {"float32": 4, "float16": 2, "int8": 1}
"""Of a weight and of an activation."""


@dataclass(frozen=True)
class LayerOperations:
    """One layer's dense work, for one input and one step.

    Attributes:
        macs: multiply-accumulates as dense hardware computes them: with the zeros of the padding and of
            pruned weights, whatever the input's sparsity. An identity path adds and multiplies nothing.
        weight_bytes: weights and biases, read once a pass whatever the batch.
        activation_bytes: the layer's inputs read and its outputs written, per input.
        launches: operations started: one per synapse path, one more where there is a neuron (or a ReLU).
    """

    name: str
    macs: int
    weight_bytes: int
    activation_bytes: int
    launches: int


@dataclass(frozen=True)
class Workload:
    """A network on a dense machine.

    Attributes:
        name: what it is called in the results: "student", "ann-twin", "teacher", "int8-twin".
        layers: the work of one pass.
        passes: dense passes per inference: T for a spiking network; 1 for an ANN, or one for each window.
        precision: of weights and activations.
        accuracy: on the test split, a fraction; None where it isn't known.
    """

    name: str
    layers: tuple[LayerOperations, ...]
    passes: int = 1
    precision: Precision = "float32"
    accuracy: float | None = None


def dense_operations(graph: Graph, precision: Precision = "float32") -> tuple[LayerOperations, ...]:
    """The work of one dense pass by layer: an ANN twin's inference, or one time step of the network on a GPU.

    Counted from the lowered graph, where pooling is already part of the maps around it.
    """
    return tuple(_layer_operations(population, BYTES[precision]) for population in graph.populations)


def macs(synapse: Synapse) -> int:
    """Multiply-accumulates of one path, padding included."""
    if synapse.kind == "identity":
        return 0
    if synapse.kind == "dense":
        return synapse.weight.size
    positions = int(np.prod(synapse.shape[1:]))
    return positions * synapse.weight.size


def _layer_operations(population: Population, bytes_per_value: int) -> LayerOperations:
    weights = sum(path.weight.size for path in population.synapses if path.kind != "identity")
    inputs = sum(int(np.prod(path.source_shape)) for path in population.synapses)
    return LayerOperations(
        name=population.name,
        macs=sum(macs(path) for path in population.synapses),
        weight_bytes=bytes_per_value * (weights + population.bias.size),
        activation_bytes=bytes_per_value * (inputs + population.size),
        launches=len(population.synapses) + (population.neuron is not None),
    )
