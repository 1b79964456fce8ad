"""Feature distillation: the student's mean spikes at the last stage follow the teacher's activations.

Source: KDSNN, Xu et al., CVPR 2023 (arXiv 2304.05627), its feature-based form:

    mean of (R·F̄_s − F_t)² over samples, channels and positions

with F̄_s the student's spikes averaged over time and R a trained 1×1 convolution to the teacher's channels,
which is dropped after training. Inferred: that only the last stage counts (the paper takes features of
several layers), that the mean and not the sum of squares is taken, and the weight, which the paper tunes per
network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from .method import STRICT, WEIGHTS, Batch, Method, Range, tap_shapes


def kd_feature_loss(mapped: Tensor, teacher_features: Tensor) -> Tensor:
    """The loss, a scalar, for R·F̄_s and F_t, (B, C, H, W) each."""
    return F.mse_loss(mapped, teacher_features.detach())


@dataclass(frozen=True, config=STRICT)
class KDFeature(Method):
    """Feature distillation as a method.

    Attributes:
        weight: factor before the loss.
    """

    weight: float = Field(default=1.0, ge=0)

    needs_teacher = True
    needs_tap = True

    def prepare(self, student: Any, teacher: Any) -> nn.Module:
        return nn.Conv2d(tap_shapes(student)[student.tap][0], tap_shapes(teacher)[teacher.tap][0], 1)

    def ranges(self) -> Mapping[str, Range]:
        return {"weight": WEIGHTS}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.helpers is not None
        mapped = batch.helpers(batch.student_rates())
        loss = kd_feature_loss(mapped, batch.require_teacher().features[batch.teacher_tap])
        return {"kd-feature": self.weight * loss}
