"""What a distillation method is: hyper-parameters, and losses for one batch.

The training loop adds the cross-entropy of the student's mean logits, unless the method says that it
includes its own, sums the terms and logs each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import ConfigDict
from torch import Tensor, nn

from ... import InputError
from ...models.contract import StudentOutput, TeacherOutput
from ...models.gradients.backend import Reset
from ..parallel.share import Share

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""How a method's hyper-parameters are validated: unknown names, NaN and infinity are refused."""


class Range(NamedTuple):
    """Between what a search tries a hyper-parameter, logarithmically; both ends are above zero."""

    low: float
    high: float


WEIGHTS = Range(0.1, 10.0)
TEMPERATURES = Range(1.0, 8.0)
"""What most methods have their weights and temperatures tried between."""


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
        images: what the networks were shown, (B, C, H, W); of frames the mean over time.
        student_taps, teacher_taps: names of the features of every stage, the first stage's first.
        longer: what the student emitted in all the steps that the method asked for (`Method.training_steps`),
            of which `student` holds the first T.
        helpers: what the method's `prepare` gave.
        share: which samples of the whole batch these are; None: all.
    """

    labels: Tensor
    student: StudentOutput
    student_tap: str
    teacher: TeacherOutput | None = None
    teacher_tap: str = ""
    classifier_weight: Tensor | None = None
    images: Tensor | None = None
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    longer: StudentOutput | None = None
    helpers: nn.Module | None = None
    share: Share | None = None

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

    @property
    def part(self) -> float:
        """How much of the whole batch these samples are: 1 but where it is looked at in shares."""
        return 1.0 if self.share is None else self.share.count / self.share.total

    def drawn(self, draw: Callable[..., Tensor], rows: int, *shape: int, **options: Any) -> Tensor:
        """Random numbers for the batch's samples, (rows, *shape): the same in whatever shares it comes.

        Args:
            draw: `torch.randn` or `torch.rand`, given the whole batch's size and `options`.
            rows: samples, or samples × windows, the first window's of all samples first.
        """
        if self.share is None:
            return draw(rows, *shape, **options)
        windows = rows // self.share.count
        whole = draw(windows * self.share.total, *shape, **options).unflatten(0, (windows, -1))
        return whole[:, self.share.start : self.share.stop].flatten(0, 1)

    def student_rates(self, tap: str | None = None) -> Tensor:
        """Mean over time of what the student emits at a tap, (B, C, H, W)."""
        return self.student.features[tap or self.student_tap].mean(0)


class Method(ABC):
    """Base of the methods; a subclass is a frozen pydantic dataclass of its hyper-parameters.

    Attributes:
        needs_teacher: whether a teacher must be trained first.
        needs_tap: whether it looks at the tap, whose size must then be the same in student and teacher.
        needs_stages: whether it looks at every stage's tap; number and sizes must then be the same.
        needs_teacher_graph: whether it differentiates the teacher's logits by its features.
        needs_whole_batch: whether it compares samples with each other, so that the losses of a batch's shares
            don't add up to its own.
        includes_ce: whether its losses already hold the cross-entropy.
        resets: the neurons that it can train, by what a spike does to their potential.
    """

    needs_teacher: ClassVar[bool] = True
    needs_tap: ClassVar[bool] = False
    needs_stages: ClassVar[bool] = False
    needs_teacher_graph: ClassVar[bool] = False
    needs_whole_batch: ClassVar[bool] = False
    includes_ce: ClassVar[bool] = False
    resets: ClassVar[tuple[Reset, ...]] = ("hard", "soft")

    def check(self, student: Any, teacher: Any) -> None:  # noqa: B027 (a hook: by default, nothing)
        """See that the method can train this student, before a teacher is trained for it.

        Raises:
            InputError: it can't.
        """

    def prepare(self, student: Any, teacher: Any) -> nn.Module | None:
        """Training-only modules (trained with the student, never exported), or None.

        Weights of the student may be parametrised anew here, as long as `finish` undoes it.
        """
        return None

    def finish(self, student: Any) -> None:  # noqa: B027 (a hook: by default, nothing)
        """Undo what `prepare` did to the student, once its training has ended and before it is saved."""

    def training_steps(self, timesteps: int) -> int:
        """How many steps the student runs in training, at least its own `timesteps`."""
        return timesteps

    def ranges(self) -> Mapping[str, Range]:
        """What a search (`snnkd compare --trials`) tries of its hyper-parameters; by default, none."""
        return {}

    def for_finetuning(self) -> Method | None:
        """The part of the method that quantisation-aware fine-tuning can use, or None."""
        return self

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Each term of the loss by name, a weighted scalar: means over the batch's samples.

        Where a batch comes in shares, the means are weighted by how many samples each has. What sums over
        samples divides by `Batch.part`, and random numbers are asked of `Batch.drawn`; nothing else changes.
        """

    def on_epoch_end(self, validation: Mapping[str, float], helpers: nn.Module | None) -> None:  # noqa: B027
        """Told the validation metrics after each epoch.

        What a method has to remember from epoch to epoch it keeps in buffers of its `helpers`, what `prepare`
        gave: these survive an interruption.
        """


@dataclass(frozen=True)
class Joined(Method):
    """Several methods whose losses are summed (`samd+nld`).

    Raises:
        InputError: more than one of them holds the cross-entropy itself.
    """

    parts: tuple[Method, ...]

    def __post_init__(self) -> None:
        with_ce = [type(part).__name__ for part in self.parts if part.includes_ce]
        if len(with_ce) > 1:
            raise InputError(
                f"methods {' and '.join(with_ce)} each hold the cross-entropy themselves, so they can't be "
                "joined; take one of them"
            )

    @property
    def needs_teacher(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(part.needs_teacher for part in self.parts)

    @property
    def needs_tap(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(part.needs_tap for part in self.parts)

    @property
    def needs_stages(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(part.needs_stages for part in self.parts)

    @property
    def needs_teacher_graph(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(part.needs_teacher_graph for part in self.parts)

    @property
    def needs_whole_batch(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(part.needs_whole_batch for part in self.parts)

    @property
    def includes_ce(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(part.includes_ce for part in self.parts)

    @property
    def resets(self) -> tuple[Reset, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return tuple(reset for reset in Method.resets if all(reset in part.resets for part in self.parts))

    def check(self, student: Any, teacher: Any) -> None:
        for part in self.parts:
            part.check(student, teacher)

    def prepare(self, student: Any, teacher: Any) -> nn.Module | None:
        modules = {str(index): part.prepare(student, teacher) for index, part in enumerate(self.parts)}
        found = {index: module for index, module in modules.items() if module is not None}
        return nn.ModuleDict(found) if found else None

    def finish(self, student: Any) -> None:
        for part in self.parts:
            part.finish(student)

    def training_steps(self, timesteps: int) -> int:
        return max(part.training_steps(timesteps) for part in self.parts)

    def for_finetuning(self) -> Method | None:
        found = tuple(part for method in self.parts if (part := method.for_finetuning()) is not None)
        return Joined(found) if found else None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for index, part in enumerate(self.parts):
            own = part.losses(replace(batch, helpers=_own(batch.helpers, index)))
            if both := terms.keys() & own.keys():
                raise InputError(
                    f"two of the joined methods call a loss {both.pop()!r}, and one would be lost; rename it"
                )
            terms |= own
        return terms

    def on_epoch_end(self, validation: Mapping[str, float], helpers: nn.Module | None) -> None:
        for index, part in enumerate(self.parts):
            part.on_epoch_end(validation, _own(helpers, index))


def _own(helpers: nn.Module | None, index: int) -> nn.Module | None:
    """What the part of that index prepared."""
    if not isinstance(helpers, nn.ModuleDict) or str(index) not in helpers:
        return None
    return helpers[str(index)]


@torch.no_grad()
def tap_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """The shape (C, H, W) of what comes out at each tap of a student or teacher."""
    training, device = model.training, next(model.parameters()).device
    features = model.eval()(torch.zeros(1, *model.task.input_shape, device=device)).features
    model.train(training)
    return {name: tuple(feature.shape[-3:]) for name, feature in features.items()}


def require_middle_taps(student: Any, method: str) -> None:
    """See that a student has taps before its last one.

    Raises:
        InputError: it hasn't.
    """
    if len(student.taps) < 2:
        raise InputError(
            f"method {method!r} puts a branch before the last stage, and the student has one stage; "
            "give it more"
        )
