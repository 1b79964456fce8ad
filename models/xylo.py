"""Students for SynSense's Xylo: fully connected layers of its own neuron, the classes' spikes counted.

    flatten  →  [linear – neuron] × depth  →  linear – output neuron

Without bias: on the chip each layer works a step behind the one before, and a bias would not wait for it. The
chip's output neurons spike once a step at most. The ANN twin is `dense`'s.
"""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from .contract import StudentOutput, TaskShape
from .dense import DenseOptions, DenseTeacher
from .family import ModelFamily
from .neurons import DECAY, THRESHOLD
from .unrolled import SpikingStudent
from .xylo_neuron import DASH_MAX, OUTPUT_SPIKES, XyloNeuron


class XyloOptions(BaseModel):
    """What a recipe may choose.

    Attributes:
        widths: neurons of each hidden layer, as many as the network is deep.
        current_dash, dash: of hidden neurons: a step leaves 1 − 2^−dash of the synaptic current, and of the
            membrane potential. They take the place of the recipe's `neuron.decay`.
        output_current_dash, output_dash: the same of the output neurons.
        dropout: the share of a hidden layer's neurons that training silences.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[PositiveInt, ...] = Field((128, 128), min_length=1)
    current_dash: int = Field(default=1, ge=1, le=DASH_MAX)
    dash: int = Field(default=3, ge=1, le=DASH_MAX)
    output_current_dash: int = Field(default=2, ge=1, le=DASH_MAX)
    output_dash: int = Field(default=4, ge=1, le=DASH_MAX)
    dropout: float = Field(default=0.0, ge=0, lt=1)


def xylo_layers(task: TaskShape, options: XyloOptions, threshold: float) -> nn.Sequential:
    """The layers by name: flatten, linear1, neuron1, (dropout1,) … , linear, output."""
    layers = nn.Sequential()
    layers.add_module("flatten", nn.Flatten())
    inputs = math.prod(task.input_shape)
    for index, width in enumerate(options.widths, start=1):
        layers.add_module(f"linear{index}", _linear(inputs, width))
        layers.add_module(f"neuron{index}", XyloNeuron(options.current_dash, options.dash, threshold))
        if options.dropout:
            layers.add_module(f"dropout{index}", nn.Dropout(options.dropout))
        inputs = width
    layers.add_module("linear", _linear(inputs, task.classes))
    output = XyloNeuron(options.output_current_dash, options.output_dash, threshold, OUTPUT_SPIKES)
    layers.add_module("output", output)
    return layers


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Weights that make neurons of either sign of input spike from the beginning."""
    linear = nn.Linear(inputs, outputs, bias=False)
    nn.init.kaiming_uniform_(linear.weight, a=1)
    return linear


class XyloStudent(SpikingStudent):
    """The spiking student. Its features are what the hidden layers emit, one pixel wide: (T, B, C, 1, 1).

    The logits of a step are T times its output spikes, so that their mean over T is how many there were.
    """

    def __init__(
        self,
        task: TaskShape,
        timesteps: int,
        options: XyloOptions,
        decay: float = DECAY,
        threshold: float = THRESHOLD,
    ):
        taps = tuple(f"neuron{index}" for index in range(1, len(options.widths) + 1))
        super().__init__(xylo_layers(task, options, threshold), task, timesteps, taps)

    def forward(self, inputs: Tensor, timesteps: int | None = None) -> StudentOutput:
        spikes, features = super().forward(inputs, timesteps)
        seen = {name: counts[..., None, None] for name, counts in features.items()}
        return StudentOutput(spikes * len(spikes), seen)


class XyloTeacher(DenseTeacher):
    """The ANN twin: as many neurons, with BatchNorm, biases and ReLU."""

    def __init__(self, task: TaskShape, options: XyloOptions):
        super().__init__(task, DenseOptions(widths=options.widths))


FAMILY = ModelFamily(
    description="fully connected layers of Xylo's neuron, the classes' spikes counted",
    options=XyloOptions,
    student=XyloStudent,
    teacher=XyloTeacher,
)
