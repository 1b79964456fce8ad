"""Plain convolutional networks: a spiking student and its ANN twin, built by the same lines.

    [conv 3×3 – BatchNorm – neuron] × depth  →  average pooling over the map  →  linear read-out

The student's neuron is `LIF`, the twin's is ReLU. The pooling and the read-out fold into one matrix when
the student is lowered, so that nothing but spikes moves between populations.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .contract import StudentOutput, TaskShape, TeacherOutput
from .neurons import DECAY, LIF, THRESHOLD


def conv_layers(
    task: TaskShape, widths: tuple[int, ...], strides: tuple[int, ...], neuron: Callable[[], nn.Module]
) -> nn.Sequential:
    """The layers by name: conv1, norm1, neuron1, … , pool, flatten, readout."""
    channels, *size = task.input_shape
    layers = nn.Sequential()
    for index, (width, stride) in enumerate(zip(widths, strides, strict=True), start=1):
        layers.add_module(f"conv{index}", nn.Conv2d(channels, width, 3, stride, padding=1, bias=False))
        layers.add_module(f"norm{index}", nn.BatchNorm2d(width))
        layers.add_module(f"neuron{index}", neuron())
        channels, size = width, [(side - 1) // stride + 1 for side in size]
    layers.add_module("pool", nn.AvgPool2d(tuple(size)))
    layers.add_module("flatten", nn.Flatten())
    layers.add_module("readout", nn.Linear(channels, task.classes))
    return layers


class ConvTeacher(nn.Module):
    """The ANN twin: ReLU in place of spikes."""

    def __init__(self, task: TaskShape, widths: tuple[int, ...], strides: tuple[int, ...]):
        super().__init__()
        self.task = task
        self.tap = f"neuron{len(widths)}"
        self.layers = conv_layers(task, widths, strides, nn.ReLU)

    @property
    def classifier_weight(self) -> Tensor:
        """The read-out's weight, (K, C): what class activation maps are made of."""
        return self.layers.get_submodule("readout").weight  # pyright: ignore[reportReturnType]

    def forward(self, images: Tensor) -> TeacherOutput:
        """Logits (B, K) and the tap (B, C, H, W) for integer images (B, C, H, W)."""
        features = {}
        x = images / self.task.input_max
        for name, layer in self.layers.named_children():
            x = layer(x)
            if name == self.tap:
                features[name] = x
        return TeacherOutput(x, features)


class ConvStudent(nn.Module):
    """The spiking student. Time is folded into the batch for every layer but the neurons."""

    def __init__(
        self,
        task: TaskShape,
        timesteps: int,
        widths: tuple[int, ...],
        strides: tuple[int, ...],
        decay: float = DECAY,
        threshold: float = THRESHOLD,
    ):
        super().__init__()
        self.task, self.timesteps = task, timesteps
        self.tap = f"neuron{len(widths)}"
        self.layers = conv_layers(task, widths, strides, lambda: LIF(decay, threshold))

    def forward(self, inputs: Tensor) -> StudentOutput:
        """Per-step logits and the tap's spikes for integer images (B, C, H, W) or frames (T, B, C, H, W)."""
        static = inputs.dim() == len(self.task.input_shape) + 1
        batch = inputs.shape[0 if static else 1]
        x = (inputs if static else inputs.flatten(0, 1)) / self.task.input_max
        features = {}
        for name, layer in self.layers.named_children():
            if isinstance(layer, LIF):
                if static and name == "neuron1":  # the same current at every step: computed once
                    current = x.expand(self.timesteps, *x.shape)
                else:
                    current = x.unflatten(0, (-1, batch))
                spikes = layer(current)
                features[name] = spikes
                x = spikes.flatten(0, 1)
            else:
                x = layer(x)
        return StudentOutput(x.unflatten(0, (-1, batch)), {self.tap: features[self.tap]})
