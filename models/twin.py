"""The ANN twin of a spiking student: the same layers with ReLU in place of spikes, run once."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from .contract import Student, TaskShape, TeacherOutput
from .neurons import SpikingNeuron
from .unrolled import trace


class AnnTwin(nn.Module):
    """A `contract.Ann` with a copy of `student`'s layers, weights and all, as they are now.

    It taps no features. Where the student's classes spike, the twin's are what those neurons take in.
    """

    def __init__(self, student: Student, task: TaskShape | None = None):
        """`task`: what the twin is for, if not the student's own."""
        super().__init__()
        self.task: TaskShape = task or student.task
        self.layers = copy.deepcopy(student.layers)
        (end,) = trace(self.layers).output_node().all_input_nodes
        for name, module in list(self.layers.named_modules()):
            if isinstance(module, SpikingNeuron):
                self.layers.set_submodule(name, nn.Identity() if name == end.target else nn.ReLU())

    def forward(self, images: Tensor) -> TeacherOutput:
        """Logits (B, K) for integer images (B, C, H, W)."""
        return TeacherOutput(self.layers(images / self.task.input_max), {})
