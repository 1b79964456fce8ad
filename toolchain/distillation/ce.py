"""Training without a teacher's help: cross-entropy alone, the control of every comparison."""

from __future__ import annotations

from pydantic.dataclasses import dataclass
from torch import Tensor

from .method import STRICT, Batch, Method


@dataclass(frozen=True, config=STRICT)
class CE(Method):
    """Nothing beside the cross-entropy that the training loop adds to every method."""

    needs_teacher = False

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {}
