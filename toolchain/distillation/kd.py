"""Response distillation: the student's softened logits follow the teacher's.

Source: Hinton et al. 2015 (arXiv 1503.02531); for spiking students KDSNN (arXiv 2304.05627):
τ²·KL(softmax(z_t/τ) ‖ softmax(z_s/τ)), averaged over the batch.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from .method import STRICT, TEMPERATURES, Batch, Method, Range


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """The loss, a scalar, for logits (B, K) of student (averaged over time) and teacher."""
    return temperature**2 * F.kl_div(
        F.log_softmax(student_logits / temperature, dim=1),
        F.log_softmax(teacher_logits.detach() / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )


@dataclass(frozen=True, config=STRICT)
class KD(Method):
    """Response distillation as a method.

    Attributes:
        weight: factor before the loss.
        temperature: τ.
    """

    weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=2.0, gt=0)

    needs_teacher = True

    def ranges(self) -> Mapping[str, Range]:
        return {"weight": Range(0.05, 5.0), "temperature": TEMPERATURES}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        loss = kd_loss(batch.student_logits, batch.require_teacher().logits, self.temperature)
        return {"kd": self.weight * loss}
