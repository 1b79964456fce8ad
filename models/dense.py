"""Fully connected networks for any input: a spiking student and its ANN twin, built by the same lines.

    flatten  →  [linear – BatchNorm – neuron] × depth  →  linear read-out

The student's neuron is `LIF`, the twin's is ReLU. What is flattened is an image row by row, or channels
without a place (C, 1, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from .contract import StudentOutput, TaskShape, TeacherOutput
from .family import ModelFamily
from .neurons import DECAY, LIF, THRESHOLD
from .unrolled import SpikingStudent


class DenseOptions(BaseModel):
    """What a recipe may choose.

    Attributes:
        widths: neurons of each hidden layer, as many as the network is deep.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[PositiveInt, ...] = Field((256, 128), min_length=1)


def dense_layers(task: TaskShape, options: DenseOptions, neuron: Callable[[], nn.Module]) -> nn.Sequential:
    """The layers by name: flatten, linear1, norm1, neuron1, … , readout."""
    layers = nn.Sequential()
    layers.add_module("flatten", nn.Flatten())
    inputs = math.prod(task.input_shape)
    for index, width in enumerate(options.widths, start=1):
        layers.add_module(f"linear{index}", nn.Linear(inputs, width, bias=False))
        layers.add_module(f"norm{index}", nn.BatchNorm1d(width))
        layers.add_module(f"neuron{index}", neuron())
        inputs = width
    layers.add_module("readout", nn.Linear(inputs, task.classes))
    return layers


def taps_of(options: DenseOptions) -> tuple[str, ...]:
    """Every hidden layer is a stage."""
    return tuple(f"neuron{index}" for index in range(1, len(options.widths) + 1))


class DenseTeacher(nn.Module):
    """The ANN twin: ReLU in place of spikes."""

    def __init__(self, task: TaskShape, options: DenseOptions):
        super().__init__()
        self.task = task
        self.taps = taps_of(options)
        self.tap = self.taps[-1]
        self.layers = dense_layers(task, options, nn.ReLU)

    @property
    def classifier_weight(self) -> Tensor:
        """The read-out's weight, (K, C)."""
        return self.layers.get_submodule("readout").weight  # pyright: ignore[reportReturnType]

    def forward(self, images: Tensor) -> TeacherOutput:
        """Logits (B, K) and the taps, each (B, C, 1, 1), for integer images (B, C, H, W)."""
        features = {}
        x = images / self.task.input_max
        for name, layer in self.layers.named_children():
            x = layer(x)
            if name in self.taps:
                features[name] = x[..., None, None]
        return TeacherOutput(x, features)


class DenseStudent(SpikingStudent):
    """The spiking student. Its features are what the hidden layers emit, one pixel wide: (T, B, C, 1, 1)."""

    def __init__(
        self,
        task: TaskShape,
        timesteps: int,
        options: DenseOptions,
        decay: float = DECAY,
        threshold: float = THRESHOLD,
    ):
        layers = dense_layers(task, options, lambda: LIF(decay, threshold))
        super().__init__(layers, task, timesteps, taps_of(options))

    def forward(self, inputs: Tensor, timesteps: int | None = None) -> StudentOutput:
        logits, features = super().forward(inputs, timesteps)
        return StudentOutput(logits, {name: spikes[..., None, None] for name, spikes in features.items()})


FAMILY = ModelFamily(
    description="fully connected layers, linear read-out",
    options=DenseOptions,
    student=DenseStudent,
    teacher=DenseTeacher,
)
