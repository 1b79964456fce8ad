"""Layer-wise attention transfer: at every stage the student looks where the teacher does.

Source: LaSNN, Hong et al. (arXiv 2304.09101); the form of its attention is that of Zagoruyko & Komodakis
(arXiv 1612.03928, section 3.1). With F̄_s the student's spikes averaged over time and a(F) = Σ_c F_c²,
flattened over positions:

    Σ_stages mean_b ‖a(F_t)/‖a(F_t)‖₂ − a(F̄_s)/‖a(F̄_s)‖₂‖₂

The paper gives no formula in what we could read: that maps are normalised by their Euclidean norm, the
distance isn't squared, and its weight are inferred. A silent stage has a zero map, and passes no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from .method import STRICT, WEIGHTS, Batch, Method, Range


def attention(features: Tensor) -> Tensor:
    """Where features (B, C, H, W) are large, (B, H·W), of norm 1 for each sample."""
    return F.normalize(features.square().sum(1).flatten(1), dim=1)


def lasnn_loss(student_features: list[Tensor], teacher_features: list[Tensor]) -> Tensor:
    """The loss, a scalar.

    Args:
        student_features: of each stage (B, C_s, H, W), averaged over time.
        teacher_features: of each stage (B, C_t, H, W), of the same H and W.
    """
    distances = [
        torch.linalg.vector_norm(attention(taught.detach()) - attention(own), dim=1).mean()
        for own, taught in zip(student_features, teacher_features, strict=True)
    ]
    return torch.stack(distances).sum()


@dataclass(frozen=True, config=STRICT)
class LaSNN(Method):
    """Layer-wise attention transfer as a method.

    Attributes:
        weight: factor before the loss.
    """

    weight: float = Field(default=1.0, ge=0)

    needs_teacher = True
    needs_stages = True

    def ranges(self) -> Mapping[str, Range]:
        return {"weight": WEIGHTS}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        teacher = batch.require_teacher()
        own = [batch.student_rates(tap) for tap in batch.student_taps]
        return {"lasnn": self.weight * lasnn_loss(own, [teacher.features[tap] for tap in batch.teacher_taps])}
