"""What a distillation method is: hyper-parameters, and losses for one batch.

The training loop adds the cross-entropy of the student's mean logits, unless the method says that it
includes its own, sums the terms and logs each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict
from torch import Tensor, nn

from ...models.contract import StudentOutput, TeacherOutput

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""How a method's hyper-parameters are validated: unknown names, NaN and infinity are refused."""


def fill_in(method: Method, **own: float) -> None:
    """Give the hyper-parameters of a frozen `method` that are None their variant's own values."""
    for name, value in own.items():
        if getattr(method, name) is None:
            object.__setattr__(method, name, value)


@dataclass(frozen=True)
class Batch:
    """One training batch as a method sees it.

    Attributes:
        labels: int64 (B,).
        student, teacher: what the two networks emitted; no teacher where no method needs one.
        student_tap, teacher_tap: names of the features that distillation looks at.
        classifier_weight: the teacher's (K, C).
    """

    labels: Tensor
    student: StudentOutput
    student_tap: str
    teacher: TeacherOutput | None = None
    teacher_tap: str = ""
    classifier_weight: Tensor | None = None

    @property
    def student_logits(self) -> Tensor:
        """The student's logits averaged over time, (B, K)."""
        return self.student.logits.mean(0)

    def require_teacher(self) -> TeacherOutput:
        """The teacher's output; a method that declares `needs_teacher` always finds one."""
        assert self.teacher is not None, "this method needs a teacher"
        return self.teacher

    def require_classifier_weight(self) -> Tensor:
        """The teacher's classifier weight (K, C)."""
        assert self.classifier_weight is not None, "this method needs the teacher's classifier weight"
        return self.classifier_weight


class Method(ABC):
    """Base of the methods; a subclass is a frozen pydantic dataclass of its hyper-parameters.

    Attributes:
        needs_teacher: whether a teacher must be trained first.
        needs_tap: whether it looks at the tap, whose size must then be the same in student and teacher.
        includes_ce: whether its losses already hold the cross-entropy.
    """

    needs_teacher: ClassVar[bool] = True
    needs_tap: ClassVar[bool] = False
    includes_ce: ClassVar[bool] = False

    def prepare(self, student: nn.Module, teacher: nn.Module | None) -> nn.Module | None:
        """Training-only modules (trained with the student, never exported), or None."""
        return None

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Each term of the loss by name, a weighted scalar."""

    def on_epoch_end(self, validation: Mapping[str, float]) -> None:  # noqa: B027 (a hook: by default, nothing)
        """Told the validation metrics after each epoch."""


@dataclass(frozen=True)
class Joined(Method):
    """Several methods whose losses are summed (`samd+nld`)."""

    parts: tuple[Method, ...]

    @property
    def needs_teacher(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(part.needs_teacher for part in self.parts)

    @property
    def needs_tap(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(part.needs_tap for part in self.parts)

    @property
    def includes_ce(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(part.includes_ce for part in self.parts)

    def prepare(self, student: nn.Module, teacher: nn.Module | None) -> nn.Module | None:
        modules = [module for part in self.parts if (module := part.prepare(student, teacher)) is not None]
        return nn.ModuleList(modules) if modules else None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {name: loss for part in self.parts for name, loss in part.losses(batch).items()}

    def on_epoch_end(self, validation: Mapping[str, float]) -> None:
        for part in self.parts:
            part.on_epoch_end(validation)
