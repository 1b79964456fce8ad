"""Blurred knowledge distillation: a generator restores the teacher's features from the student's, blurred.

Source: BKDSNN, Xu et al., ECCV 2024 (arXiv 2407.09083), and its released code. At the last stage, with F̄_s
the student's spikes averaged over time, aligned to the teacher's channels by a trained 1×1 convolution where
they differ, M a random mask that drops each channel of each sample with probability 0.15, and G a trained
conv 3×3 – ReLU – conv 3×3:

    α·Σ (G(M·F̄_s) − F_t)² / B

and on the logits z, averaged over time in the student, with CE the cross-entropy on the label, p_t =
softmax(z_t/t) and t = 2:

    t²·mean_b[(1 − exp(−CE(z_s)/CE(z_t)))·(−Σ_k p_t·log softmax(z_s/t))]

no gradient passing through the factor. α is 7·10⁻⁵ for the paper's large networks, 2·10⁻³ for small ones
(our default). Inferred: that features are compared as maps (the code for transformers pools them first, and
rescales the teacher's by the largest of the student's), and that the term on logits has the weight 1.
Generator and alignment are dropped after training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from .method import STRICT, TEMPERATURES, WEIGHTS, Batch, Method, Range, tap_shapes

TEACHER_LOSS_OFFSET = 1e-7
"""Added to CE(z_t) by the released code, so that a sure teacher doesn't divide by zero."""


def bkd_feature_loss(restored: Tensor, teacher_features: Tensor) -> Tensor:
    """The loss on features without α, a scalar, for G(M·F̄_s) and F_t, (B, C, H, W) each."""
    return F.mse_loss(restored, teacher_features.detach(), reduction="sum") / len(restored)


def bkd_logits_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 2.0
) -> Tensor:
    """The loss on logits, a scalar, for logits (B, K) of student (averaged over time) and teacher."""
    teacher_logits = teacher_logits.detach()
    own = F.cross_entropy(student_logits.detach(), labels, reduction="none")
    taught = F.cross_entropy(teacher_logits, labels, reduction="none")
    factor = 1 - torch.exp(-own / (taught + TEACHER_LOSS_OFFSET))
    target = F.softmax(teacher_logits / temperature, dim=1)
    cross = -(target * F.log_softmax(student_logits / temperature, dim=1)).sum(1)
    return temperature**2 * (factor * cross).mean()


class Generator(nn.Module):
    """Alignment, blur and restoration of rates (B, C_s, H, W) to the teacher's (B, C_t, H, W)."""

    def __init__(self, channels: int, teacher_channels: int, drop: float):
        super().__init__()
        self.drop = drop
        same = channels == teacher_channels
        self.align = nn.Identity() if same else nn.Conv2d(channels, teacher_channels, 1)
        self.restore = nn.Sequential(
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
        )

    def forward(self, rates: Tensor, draw: Callable[..., Tensor] = torch.rand) -> Tensor:
        aligned = self.align(rates)
        kept = draw(*aligned.shape[:2], 1, 1, device=aligned.device) >= self.drop
        return self.restore(aligned * kept)


@dataclass(frozen=True, config=STRICT)
class BKD(Method):
    """Blurred knowledge distillation as a method.

    Attributes:
        feature_weight: α.
        logits_weight: factor before the loss on logits.
        drop: share of channels that the blur drops.
        temperature: t.
    """

    feature_weight: float = Field(default=2e-3, ge=0)
    logits_weight: float = Field(default=1.0, ge=0)
    drop: float = Field(default=0.15, ge=0, lt=1)
    temperature: float = Field(default=2.0, gt=0)

    needs_teacher = True
    needs_tap = True

    def prepare(self, student: Any, teacher: Any) -> nn.Module:
        channels, taught = tap_shapes(student)[student.tap][0], tap_shapes(teacher)[teacher.tap][0]
        return Generator(channels, taught, self.drop)

    def ranges(self) -> Mapping[str, Range]:
        return {
            "feature_weight": Range(2e-4, 2e-2),
            "logits_weight": WEIGHTS,
            "temperature": TEMPERATURES,
        }

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.helpers is not None
        teacher = batch.require_teacher()
        restored = batch.helpers(batch.student_rates(), partial(batch.drawn, torch.rand))
        features = bkd_feature_loss(restored, teacher.features[batch.teacher_tap])
        logits = bkd_logits_loss(batch.student_logits, teacher.logits, batch.labels, self.temperature)
        return {"bkd": self.feature_weight * features, "bkd-logits": self.logits_weight * logits}
