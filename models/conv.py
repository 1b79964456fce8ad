"""Plain convolutional networks: a spiking student and its ANN twin, built by the same lines.

    [conv 3×3 – BatchNorm – neuron] × depth  →  average pooling  →  linear read-out  (→  a neuron per class)

The student's neuron is `LIF`, the twin's is ReLU. The pooling and the read-out fold into one matrix when
the student is lowered, so that nothing but spikes moves between populations. Where a chip emits spikes alone,
the read-out has neurons too, and the class is that of most spikes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from .contract import StudentOutput, TaskShape, TeacherOutput
from .family import ModelFamily
from .neurons import DECAY, LIF, THRESHOLD
from .unrolled import SpikingStudent

CLASSES = "classes"
"""The neurons of a read-out that spikes."""

SPIKE_LOGIT = 10.0
"""What a class that spikes at every step has for a logit: enough for cross-entropy to be satisfied."""


class ConvOptions(BaseModel):
    """What a recipe may choose.

    Attributes:
        widths, strides: channels and stride of each convolution, as many as the network is deep.
        pooling: side of the average-pooling window before the student's read-out; 0 pools the whole map, 1
            lets the read-out see every neuron. Pooling folds into the read-out and costs nothing on a chip.
        normalization: "batch", or "none": then neither convolutions nor a read-out that spikes have biases,
            and nothing happens where no spike arrives.
        readout: what the student's classes emit: "sums" of their synaptic input, or "spikes".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[PositiveInt, ...] = Field((32, 64), min_length=1)
    strides: tuple[PositiveInt, ...] = (1, 2)
    pooling: NonNegativeInt = 0
    normalization: Literal["batch", "none"] = "batch"
    readout: Literal["sums", "spikes"] = "sums"

    @model_validator(mode="after")
    def _one_stride_per_width(self) -> ConvOptions:
        if len(self.widths) != len(self.strides):
            raise ValueError(
                f"widths and strides must be equally long, found {len(self.widths)} and {len(self.strides)}"
            )
        return self


def conv_layers(
    task: TaskShape,
    options: ConvOptions,
    pooling: int,
    neuron: Callable[[], nn.Module],
    spiking: bool = False,
) -> nn.Sequential:
    """The layers by name: conv1, norm1, neuron1, … , pool, flatten, readout.

    Args:
        pooling: side of the average-pooling window; 0: the whole map.
        neuron: makes a layer of neurons.
        spiking: whether neurons, `CLASSES`, end the network.

    Raises:
        ValueError: the pooling window doesn't divide the last map.
    """
    channels, *size = task.input_shape
    layers, normalized = nn.Sequential(), options.normalization == "batch"
    for index, (width, stride) in enumerate(zip(options.widths, options.strides, strict=True), start=1):
        layers.add_module(f"conv{index}", nn.Conv2d(channels, width, 3, stride, padding=1, bias=False))
        if normalized:
            layers.add_module(f"norm{index}", nn.BatchNorm2d(width))
        layers.add_module(f"neuron{index}", neuron())
        channels, size = width, [(side - 1) // stride + 1 for side in size]
    height, width = size
    window = (pooling or height, pooling or width)
    if height % window[0] or width % window[1]:
        raise ValueError(f"pooling {pooling} doesn't divide the last map, {height}×{width}")
    positions = (height // window[0]) * (width // window[1])
    layers.add_module("pool", nn.AvgPool2d(window))
    layers.add_module("flatten", nn.Flatten())
    biased = normalized or not spiking
    layers.add_module("readout", nn.Linear(channels * positions, task.classes, bias=biased))
    if spiking:
        layers.add_module(CLASSES, neuron())
    return layers


def stage_ends(options: ConvOptions) -> tuple[str, ...]:
    """The last neurons before each change of the map's size, and before the read-out."""
    following = (*options.strides[1:], 2)
    return tuple(f"neuron{index}" for index, stride in enumerate(following, start=1) if stride > 1)


class ConvTeacher(nn.Module):
    """The ANN twin: ReLU in place of spikes, and always global pooling, which class activation maps need."""

    def __init__(self, task: TaskShape, options: ConvOptions):
        super().__init__()
        self.task = task
        self.taps = stage_ends(options)
        self.tap = self.taps[-1]
        self.layers = conv_layers(task, options, 0, nn.ReLU)

    @property
    def classifier_weight(self) -> Tensor:
        """The read-out's weight, (K, C): what class activation maps are made of."""
        return self.layers.get_submodule("readout").weight  # pyright: ignore[reportReturnType]

    def forward(self, images: Tensor) -> TeacherOutput:
        """Logits (B, K) and the taps, each (B, C, H, W), for integer images (B, C, H, W)."""
        features = {}
        x = images / self.task.input_max
        for name, layer in self.layers.named_children():
            x = layer(x)
            if name in self.taps:
                features[name] = x
        return TeacherOutput(x, features)


class ConvStudent(SpikingStudent):
    """The spiking student. Its features are what the stages emit: maps of one size are one stage.

    Of a read-out that spikes, a step's logits are its spikes times `SPIKE_LOGIT`.
    """

    def __init__(
        self,
        task: TaskShape,
        timesteps: int,
        options: ConvOptions,
        decay: float = DECAY,
        threshold: float = THRESHOLD,
    ):
        spiking = options.readout == "spikes"
        layers = conv_layers(task, options, options.pooling, lambda: LIF(decay, threshold), spiking)
        super().__init__(layers, task, timesteps, stage_ends(options))
        self.logit_scale = SPIKE_LOGIT if spiking else 1.0

    def forward(self, inputs: Tensor, timesteps: int | None = None) -> StudentOutput:
        """As `SpikingStudent.forward`."""
        output = super().forward(inputs, timesteps)
        return output if self.logit_scale == 1 else output._replace(logits=self.logit_scale * output.logits)


FAMILY = ModelFamily(
    description="plain convolutions, average pooling, linear read-out",
    options=ConvOptions,
    student=ConvStudent,
    teacher=ConvTeacher,
)
