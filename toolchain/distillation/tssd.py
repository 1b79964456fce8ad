"""Temporal-spatial self-distillation: more steps teach the first T, the output teaches a head in the middle.

Source: Zuo et al. (arXiv 2406.07862): CE + α·L_temporal + β·L_spatial, without an ANN. The student is run
for T_t = `extension`·T steps; z_T is the mean of the first T steps' logits (what the student is at
inference, and what the cross-entropy sees), z_{T_t} that of all, z_m the logits of a head on the middle
stage's spikes, averaged over the first T steps and over positions, then a linear layer, which is dropped
after training:

    L_temporal = τ²·KL(softmax(z_{T_t}/τ) ‖ softmax(z_T/τ))
    L_spatial = τ²·KL(softmax(z_T/τ) ‖ softmax(z_m/τ))

averaged over the batch, no gradient through the targets. Inferred: the divergence and its τ, α = β = 1, T_t
= 2·T, and the head's form. BatchNorm in training counts all T_t steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from .kd import kd_loss
from .method import STRICT, TEMPERATURES, WEIGHTS, Batch, Method, Range, require_middle_taps, tap_shapes


class Head(nn.Module):
    """A classifier on a stage's rates: (B, C, H, W) → (B, K)."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, rates: Tensor) -> Tensor:
        return self.linear(rates.mean((2, 3)))


@dataclass(frozen=True, config=STRICT)
class TSSD(Method):
    """Temporal-spatial self-distillation as a method.

    Attributes:
        temporal_weight: α.
        spatial_weight: β.
        temperature: τ.
        extension: T_t/T.
    """

    temporal_weight: float = Field(default=1.0, ge=0)
    spatial_weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=2.0, gt=0)
    extension: int = Field(default=2, ge=2, le=16)

    needs_teacher = False

    def check(self, student: Any, teacher: Any) -> None:
        require_middle_taps(student, "tssd")

    def prepare(self, student: Any, teacher: Any) -> nn.Module:
        return Head(tap_shapes(student)[_middle(student.taps)][0], student.task.classes)

    def training_steps(self, timesteps: int) -> int:
        return self.extension * timesteps

    def for_finetuning(self) -> None:
        return None  # a network of integers runs for T steps

    def ranges(self) -> Mapping[str, Range]:
        return {"temporal_weight": WEIGHTS, "spatial_weight": WEIGHTS, "temperature": TEMPERATURES}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.helpers is not None
        own = batch.student_logits
        terms = {"tssd-spatial": self.spatial_weight * self._spatial(batch, own)}
        if batch.longer is not None:  # in training
            longer = batch.longer.logits[: self.training_steps(len(batch.student.logits))].mean(0)
            terms["tssd-temporal"] = self.temporal_weight * kd_loss(own, longer, self.temperature)
        return terms

    def _spatial(self, batch: Batch, own: Tensor) -> Tensor:
        assert batch.helpers is not None
        middle = batch.helpers(batch.student_rates(_middle(batch.student_taps)))
        return kd_loss(middle, own, self.temperature)


def _middle(taps: tuple[str, ...]) -> str:
    return taps[(len(taps) - 1) // 2]
