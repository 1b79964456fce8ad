"""Joint training: the student's layers run as an ANN too, with branches at its stages, and learn from that.

Source: Joint A-SNN, Guo et al. (arXiv 2305.02099), and its released code. Every convolution's weight is, at
each position of its kernel, W = U·diag(σ)·V; U and V are shared by the spiking network and the ANN, while σ,
BatchNorm and the classifier are each one's own. At every stage but the last stands a branch (conv 1×1, conv
k×k with stride k, conv 1×1, each with BatchNorm and neuron, then pooling and a classifier), run in both
modes likewise. With b over the branches and, last, the network's own output, z its logits, f its pooled
features, both of the spiking network averaged over time, H(p → q) = −Σ_k softmax(p/τ)·log softmax(q/τ)
averaged over the batch:

    (1 − α)·Σ_b [CE(z_b^ann) + CE(z_b^snn)]
    + α·τ²·[Σ_{b < last} H(z_last^ann → z_b^ann) + Σ_b H(z_b^ann → z_b^snn)]
    + β·Σ_b Σ (f_b^snn − f_b^ann)² where either is positive

with α = 0.1, τ = 3, β = 10⁻⁶. The ANN is trained with the student: there is no teacher before. Different
from the released code: it sums logits and features over time where we average, so that nothing depends on T.
Inferred: that no gradient passes through the targets; branches are as wide as the last stage, with a quarter
of that inside, for networks of other shapes than the paper's. ANN, branches and the factors of W are dropped
after training: the student keeps its W.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from ...models.contract import TaskShape
from ...models.neurons import SpikingNeuron
from ...models.twin import AnnTwin
from ...models.unrolled import SpikingStudent
from .method import STRICT, TEMPERATURES, Batch, Method, Range, require_middle_taps, tap_shapes


class Outcome(NamedTuple):
    """Logits (B, K) and pooled features (B, C) of every branch and, last, of the network's own output."""

    logits: list[Tensor]
    features: list[Tensor]


def soft_cross_entropy(teacher_logits: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """H(p → q), a scalar, for logits (B, K) each; no gradient passes through the teacher's."""
    target = F.softmax(teacher_logits.detach() / temperature, dim=1)
    return -(target * F.log_softmax(logits / temperature, dim=1)).sum(1).mean()


def joint_loss(
    ann: Outcome,
    snn: Outcome,
    labels: Tensor,
    alpha: float = 0.1,
    temperature: float = 3.0,
    beta: float = 1e-6,
) -> dict[str, Tensor]:
    """The three sums of the loss by name, weighted scalars."""
    labelled = [F.cross_entropy(logits, labels) for logits in (*ann.logits, *snn.logits)]
    *branches, last = ann.logits
    taught = [soft_cross_entropy(last, logits, temperature) for logits in branches]
    taught += [soft_cross_entropy(a, s, temperature) for a, s in zip(ann.logits, snn.logits, strict=True)]
    near = [_distance(a.detach(), s) for a, s in zip(ann.features, snn.features, strict=True)]
    return {
        "ce": (1 - alpha) * torch.stack(labelled).sum(),
        "joint-logits": alpha * temperature**2 * torch.stack(taught).sum(),
        "joint-features": beta * torch.stack(near).sum(),
    }


def _distance(ann: Tensor, snn: Tensor) -> Tensor:
    return ((snn - ann).square() * ((snn > 0) | (ann > 0))).sum()


def compose(left: Tensor, scale: Tensor, right: Tensor) -> Tensor:
    """U·diag(σ)·V at each position, (kH, kW, …) → the weight (C_out, C_in, kH, kW)."""
    return ((left * scale.unsqueeze(-2)) @ right).permute(2, 3, 0, 1)


class Factors(nn.Module):
    """A convolution's weight as the product of U, σ and V, each trained."""

    def forward(self, left: Tensor, scale: Tensor, right: Tensor) -> Tensor:
        return compose(left, scale, right)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        left, scale, right = torch.linalg.svd(weight.permute(2, 3, 0, 1), full_matrices=False)
        return left, scale, right


class SharedFactors(nn.Module):
    """A weight that has U and V of another's `Factors`, and a σ of its own."""

    def __init__(self, factors: Any):
        super().__init__()
        self._factors = [factors]  # in a list, so that U and V are the other's parameters alone

    def forward(self, scale: Tensor) -> Tensor:
        return compose(self._factors[0].original0, scale, self._factors[0].original2)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self._factors[0].original1.detach().clone()


class DualMode(nn.Module):
    """A student's layers as an ANN that shares U and V with them; it can show what comes out at the taps."""

    def __init__(self, student: SpikingStudent):
        super().__init__()
        self.taps = student.taps
        self.layers = AnnTwin(student).layers
        for name, own in list(student.layers.named_modules()):
            if isinstance(own, nn.Conv2d):
                parametrize.register_parametrization(own, "weight", Factors())
                factors: Any = own.parametrizations
                shared = SharedFactors(factors.weight)
                parametrize.register_parametrization(self.layers.get_submodule(name), "weight", shared)

    def forward(self, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, K) and the taps (B, C, H, W) for inputs in [0, 1]."""
        features: dict[str, Tensor] = {}
        handles = [
            self.layers.get_submodule(tap).register_forward_hook(partial(_keep, features, tap))
            for tap in self.taps
        ]
        try:
            return self.layers(inputs), features
        finally:
            for handle in handles:
                handle.remove()


def _keep(features: dict[str, Tensor], tap: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
    features[tap] = output


class JointNetworks(nn.Module):
    """All that is trained beside the student: the ANN, and the branches in both modes."""

    def __init__(self, student: SpikingStudent):
        super().__init__()
        shapes = tap_shapes(student)
        *before, last = student.taps
        neuron = next(module for module in student.layers.modules() if isinstance(module, SpikingNeuron))
        self.input_max, self.before, self.last = student.task.input_max, before, last
        self.branches = nn.ModuleList(_branch(shapes[tap], shapes[last], student, neuron) for tap in before)
        self.ann_branches = nn.ModuleList(DualMode(branch) for branch in self.branches)  # pyright: ignore[reportArgumentType]
        self.ann = DualMode(student)

    def run_ann(self, images: Tensor) -> Outcome:
        """What the ANN makes of integer images (B, C, H, W)."""
        logits, seen = self.ann(images / self.input_max)
        shown = [branch(seen[tap]) for branch, tap in zip(self.ann_branches, self.before, strict=True)]
        features = [next(iter(taps.values())) for _, taps in shown]
        return Outcome(
            [*(logits for logits, _ in shown), logits], [f.mean((2, 3)) for f in (*features, seen[self.last])]
        )

    def run_snn(self, batch: Batch) -> Outcome:
        """What the branches make of the student's spikes."""
        spikes = batch.student.features
        shown = [branch(spikes[tap]) for branch, tap in zip(self.branches, self.before, strict=True)]
        features = [next(iter(output.features.values())) for output in shown]
        return Outcome(
            [*(output.logits.mean(0) for output in shown), batch.student_logits],
            [f.mean((0, 3, 4)) for f in (*features, spikes[self.last])],
        )


def _branch(
    shape: tuple[int, ...], last: tuple[int, ...], student: SpikingStudent, neuron: SpikingNeuron
) -> SpikingStudent:
    """A spiking branch for a tap of `shape`, as wide as the last one."""
    channels, height, width = shape
    deep, *end = last
    middle = max(1, deep // 4)
    kernel = (max(1, height // end[0]), max(1, width // end[1]))
    convolutions = (
        nn.Conv2d(channels, middle, 1, bias=False),
        nn.Conv2d(middle, middle, kernel, kernel, bias=False),
        nn.Conv2d(middle, deep, 1, bias=False),
    )
    layers = nn.Sequential()
    for index, convolution in enumerate(convolutions, start=1):
        layers.add_module(f"conv{index}", convolution)
        layers.add_module(f"norm{index}", nn.BatchNorm2d(convolution.out_channels))
        layers.add_module(f"neuron{index}", copy.deepcopy(neuron))
    layers.add_module("pool", nn.AvgPool2d((height // kernel[0], width // kernel[1])))
    layers.add_module("flatten", nn.Flatten())
    layers.add_module("readout", nn.Linear(deep, student.task.classes))
    task = TaskShape((channels, height, width), 1, student.task.classes)
    return SpikingStudent(layers, task, student.timesteps, ["neuron3"], student.channels_last)


@dataclass(frozen=True, config=STRICT)
class Joint(Method):
    """Joint training as a method.

    Attributes:
        alpha: α, the share of what is learnt from softened outputs.
        temperature: τ.
        beta: β, the weight of features.
    """

    alpha: float = Field(default=0.1, ge=0, le=1)
    temperature: float = Field(default=3.0, gt=0)
    beta: float = Field(default=1e-6, ge=0)

    needs_teacher = False
    includes_ce = True

    def check(self, student: Any, teacher: Any) -> None:
        require_middle_taps(student, "joint")

    def prepare(self, student: Any, teacher: Any) -> nn.Module:
        return JointNetworks(student)

    def finish(self, student: Any) -> None:
        for module in student.layers.modules():
            if isinstance(module, nn.Conv2d) and parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)

    def for_finetuning(self) -> None:
        return None  # a network of integers is no ANN

    def ranges(self) -> Mapping[str, Range]:
        return {"alpha": Range(0.02, 0.5), "temperature": TEMPERATURES}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch.helpers, JointNetworks)
        assert batch.images is not None
        ann, snn = batch.helpers.run_ann(batch.images), batch.helpers.run_snn(batch)
        beta = self.beta / batch.part  # its term is a sum over the batch, the others are means
        return joint_loss(ann, snn, batch.labels, self.alpha, self.temperature, beta)
