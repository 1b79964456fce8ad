"""Strong to weak: a student's surest step teaches its least sure one.

    τ²·KL(softmax(z_strong/τ) ‖ softmax(z_weak/τ))

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
class StrongToWeak(Method):
    """The method.

    Attributes:
        weight: factor before the loss.
        temperature: τ.
    """

    weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=2.0, gt=0)

    needs_teacher = False

    def check(self, student: Any, teacher: Any) -> None:
        require_several_steps(student, "s2w")

    def ranges(self) -> Mapping[str, Range]:
        return {"weight": WEIGHTS, "temperature": TEMPERATURES}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        strong, weak = strong_and_weak(batch.student.logits)
        return {"s2w": self.weight * between_steps_loss(weak, strong, self.temperature)}
