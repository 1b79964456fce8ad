"""Weak to strong: a student's least sure step teaches its surest one.

    τ²·KL(softmax(z_weak/τ) ‖ softmax(z_strong/τ))

averaged over the batch, τ = 2, no gradient through the target; source, and what is inferred: `confidence`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from .confidence import between_steps_loss, require_several_steps, strong_and_weak
from .method import STRICT, TEMPERATURES, WEIGHTS, Batch, Method, Range


@dataclass(frozen=True, config=STRICT)
class WeakToStrong(Method):
    """The method.

    Attributes:
        weight: factor before the loss.
        temperature: τ.
    """

    weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=2.0, gt=0)

    needs_teacher = False

    def check(self, student: Any, teacher: Any) -> None:
        require_several_steps(student, "w2s")

    def ranges(self) -> Mapping[str, Range]:
        return {"weight": WEIGHTS, "temperature": TEMPERATURES}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        strong, weak = strong_and_weak(batch.student.logits)
        return {"w2s": self.weight * between_steps_loss(strong, weak, self.temperature)}
