"""Temporal logit decoupling: every step learns from the label, the teacher, and the steps that are right.

Source: Yu et al., ICML 2025 (arXiv 2501.15925), and its released code. With z_t the student's logits at step
t, z_a the teacher's, z_e the mean of those steps' logits that predict the label (zero where none does), all
KL averaged over the batch:

    (1/T)·Σ_t [CE(z_t) + α·τ²·KL(softmax(z_a/τ) ‖ softmax(z_t/τ)) + β·τ²·KL(softmax(z_e/τ) ‖ softmax(z_t/τ))]

with τ = 3, α = 0.2, β = 0.5. No gradient passes through z_e. It holds the cross-entropy, of every step
instead of the mean. Under the gradient `rate` each step has the gradient of their mean.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from .kd import kd_loss
from .method import STRICT, TEMPERATURES, Batch, Method, Range


def right_steps(logits: Tensor, labels: Tensor) -> Tensor:
    """z_e (B, K) of per-step logits (T, B, K), detached."""
    logits = logits.detach()
    right = (logits.argmax(2) == labels).unsqueeze(2).to(logits.dtype)
    return (logits * right).sum(0) / right.sum(0).clamp_min(1)


def each_step_loss(logits: Tensor, target_logits: Tensor, temperature: float) -> Tensor:
    """τ²·KL(softmax(target/τ) ‖ softmax(z_t/τ)), a mean over steps and batch, of (T, B, K) and (B, K)."""
    target = target_logits.expand_as(logits).flatten(0, 1)
    return kd_loss(logits.flatten(0, 1), target, temperature)


@dataclass(frozen=True, config=STRICT)
class Temporal(Method):
    """Temporal logit decoupling as a method.

    Attributes:
        teacher_weight: α.
        ensemble_weight: β.
        temperature: τ.
    """

    teacher_weight: float = Field(default=0.2, ge=0)
    ensemble_weight: float = Field(default=0.5, ge=0)
    temperature: float = Field(default=3.0, gt=0)

    needs_teacher = True
    includes_ce = True

    def ranges(self) -> Mapping[str, Range]:
        return {
            "teacher_weight": Range(0.05, 2.0),
            "ensemble_weight": Range(0.05, 2.0),
            "temperature": TEMPERATURES,
        }

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = batch.student.logits
        ce = F.cross_entropy(logits.flatten(0, 1), batch.labels.repeat(len(logits)))
        taught = each_step_loss(logits, batch.require_teacher().logits, self.temperature)
        ensemble = each_step_loss(logits, right_steps(logits, batch.labels), self.temperature)
        return {
            "ce": ce,
            "temporal-teacher": self.teacher_weight * taught,
            "temporal-ensemble": self.ensemble_weight * ensemble,
        }
