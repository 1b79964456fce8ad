"""What is minimised: a teacher's loss, a student's, and how often each is right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from .. import InputError
from ..models.contract import StudentOutput, TeacherOutput
from .data.batches import batches
from .data.datasets import DataSet, Split
from .distillation.maps import map_agreement, student_map, teacher_map
from .distillation.method import Batch, Method
from .fitting import Step, derived_seed
from .networks import spike_rates
from .parallel.share import Share
from .teaching import by_window, mean_frame, over_windows, teacher_input

EVALUATION_BATCH = 250


class TeacherTask:
    """Cross-entropy on labels, those of a sample's windows being its own (see `teaching`)."""

    role = "teacher"
    helpers: nn.Module | None = None

    def __init__(self, model: nn.Module, validation: Split, fabric: Fabric, windows: int = 1):
        self.model, self.validation, self.fabric, self.windows = model, validation, fabric, windows

    def step(self, images: Tensor, labels: Tensor, share: Share | None = None) -> Step:
        output: TeacherOutput = self.model(teacher_input(images, self.windows))
        loss = F.cross_entropy(output.logits, labels.repeat(self.windows))
        return Step({"ce": loss}, over_windows(output.logits.detach(), self.windows))

    def evaluate(self) -> dict[str, float]:
        accuracy = ann_accuracy_on(self.model, self.validation, self.fabric, self.windows)
        return {"validation_accuracy": accuracy}

    def on_epoch_end(self, validation: dict[str, float]) -> None:
        pass


class StudentTask:
    """Cross-entropy on labels and the method's losses against the frozen teacher, if it needs one.

    Args:
        windows: W, how many the teacher looks at; see `teaching`.
    """

    role = "student"

    def __init__(
        self,
        model: Any,
        teacher: Any,
        method: Method,
        data: DataSet,
        fabric: Fabric,
        seed: int,
        *,
        windows: int = 1,
    ):
        self.model, self.teacher, self.method, self.fabric = model, teacher, method, fabric
        self.validation, self.windows = data.validation, windows if teacher is not None else 1
        torch.manual_seed(derived_seed(seed, "helpers"))
        self.helpers = self.method.prepare(self.model, self.teacher)
        self._taught_maps: list[Tensor] = []

    def step(self, images: Tensor, labels: Tensor, share: Share | None = None) -> Step:
        steps = self.method.training_steps(self.model.timesteps)
        if steps == self.model.timesteps:
            batch = self._batch(self.model(images), images, labels)
        else:
            longer: StudentOutput = self.model(images, timesteps=steps)
            batch = self._batch(_first_steps(longer, self.model.timesteps), images, labels, longer)
        batch = replace(batch, share=share)
        terms = {} if self.method.includes_ce else {"ce": F.cross_entropy(batch.student_logits, labels)}
        terms.update(self.method.losses(self._taught(batch, images)))
        return Step(terms, batch.student_logits.detach(), batch.student.features[self.model.tap])

    def evaluate(self) -> dict[str, float]:
        correct, agreement = 0.0, math.nan if self.teacher is None else 0.0
        with torch.inference_mode(), spike_rates(self.model) as rates:
            for index, (images, labels) in enumerate(_evaluation_batches(self.validation, self.fabric)):
                output: StudentOutput = self.model(images)
                correct += float((output.logits.mean(0).argmax(1) == labels).sum())
                if self.teacher is not None:
                    agreement += self._agreement(output, self._taught_map(index, images, labels))
        samples = len(self.validation.labels)
        metrics = {"validation_accuracy": correct / samples, "spike_rate": rates.mean()}
        return metrics if math.isnan(agreement) else {**metrics, "map_agreement": agreement / samples}

    def on_epoch_end(self, validation: dict[str, float]) -> None:
        self.method.on_epoch_end(validation, self.helpers)

    def _batch(
        self, output: StudentOutput, images: Tensor, labels: Tensor, longer: StudentOutput | None = None
    ) -> Batch:
        """The student's side of a batch."""
        return Batch(
            labels,
            output,
            self.model.tap,
            images=mean_frame(images),
            student_taps=taps_of(self.model),
            longer=longer,
            helpers=self.helpers,
        )

    def _taught(self, own: Batch, images: Tensor) -> Batch:
        """The same with the teacher's side, each window a sample of its own."""
        if self.teacher is None:
            return own
        differentiated = self.method.needs_teacher_graph
        with torch.set_grad_enabled(differentiated):
            shown = teacher_input(images, self.windows).detach().requires_grad_(differentiated)
            taught = self.teacher(shown)
        return replace(
            own,
            labels=own.labels.repeat(self.windows),
            student=by_window(own.student, self.windows),
            images=mean_frame(images, self.windows),
            teacher=taught,
            teacher_tap=self.teacher.tap,
            classifier_weight=self.teacher.classifier_weight.detach(),
            teacher_taps=taps_of(self.teacher),
        )

    def _taught_map(self, index: int, images: Tensor, labels: Tensor) -> Tensor:
        """The teacher's maps of a validation batch for the true classes, looked at in the first epoch."""
        if index == len(self._taught_maps):
            seen: TeacherOutput = self.teacher(teacher_input(images, self.windows))
            weight, classes = self.teacher.classifier_weight, labels.repeat(self.windows)
            self._taught_maps.append(teacher_map(seen.features[self.teacher.tap], weight, classes))
        return self._taught_maps[index]

    def _agreement(self, output: StudentOutput, taught: Tensor) -> float:
        """The sum over samples of how well the student's map agrees with the teacher's; NaN: sizes differ.

        Of several windows the mean over them.
        """
        own = student_map(by_window(output, self.windows).features[self.model.tap])
        if own.shape != taught.shape:
            return math.nan
        return float(map_agreement(own, taught).sum()) / self.windows


def _evaluation_batches(split: Split, fabric: Fabric) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in batches(split, EVALUATION_BATCH):
        yield fabric.to_device(batch)


def accuracy_on(student: nn.Module, split: Split, fabric: Fabric) -> float:
    """Share of `split` that a student classifies rightly; its logits are averaged over time."""
    return _accuracy(lambda images: student(images).logits.mean(0), split, fabric)


def ann_accuracy_on(ann: nn.Module, split: Split, fabric: Fabric, windows: int = 1) -> float:
    """Share of `split` that an ANN classifies rightly, its logits averaged over the windows that it sees."""

    def logits(images: Tensor) -> Tensor:
        return over_windows(ann(teacher_input(images, windows)).logits, windows)

    return _accuracy(logits, split, fabric)


@torch.inference_mode()
def _accuracy(logits: Callable[[Tensor], Tensor], split: Split, fabric: Fabric) -> float:
    correct = 0
    for images, labels in _evaluation_batches(split, fabric):
        correct += int((logits(images).argmax(1) == labels).sum())
    return correct / len(split.labels)


def _first_steps(output: StudentOutput, timesteps: int) -> StudentOutput:
    """What a student emitted in its first steps."""
    features = {name: spikes[:timesteps] for name, spikes in output.features.items()}
    return StudentOutput(output.logits[:timesteps], features)


def taps_of(model: Any) -> tuple[str, ...]:
    """The names of a network's features, the first stage's first; of one that names none, its tap."""
    return tuple(getattr(model, "taps", (model.tap,)))


def check_method(method: Method, student: Any, teacher: Any, split: Split) -> None:
    """See that `method` can teach this student by this teacher, before any epoch is spent.

    Args:
        split: samples to look at.

    Raises:
        InputError: it can't; the maps that it compares aren't of one size.
    """
    method.check(student, teacher)
    if method.needs_tap or method.needs_stages:
        _check_taps(student, teacher, split, method.needs_stages)


@torch.inference_mode()
def _check_taps(student: Any, teacher: Any, split: Split, every_stage: bool) -> None:
    """See that the maps that a method compares are of one size."""
    images, _ = next(batches(split, 2))
    device = next(student.parameters()).device
    sizes = []
    for model, shown in ((student, images), (teacher, teacher_input(images))):
        training = model.training
        features = model.eval()(shown.to(device)).features
        model.train(training)
        taps = taps_of(model) if every_stage else (model.tap,)
        sizes.append([tuple(features[tap].shape[-2:]) for tap in taps])
    if sizes[0] != sizes[1]:
        own, taught = (", then ".join(map(str, size)) for size in sizes)
        raise InputError(
            f"the student's map has the size {own}, the teacher's {taught}; "
            "give both networks the same strides, or teach by logits alone (--method kd)"
        )
