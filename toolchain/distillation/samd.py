"""Saliency-scaled Activation Map Distillation: the student's spikes shall fall where the teacher looks.

Source: "A Closer Look at Knowledge Distillation in SNN Training" (arXiv 2511.06902). The paper's text and
its released code differ, and neither balances against cross-entropy, so there are three variants. With
M_t the teacher's class activation map, M_s the student's spike-count map (`maps`), P = softmax over H×W of
map/𝒯, and KL averaged over the batch:

- `paper`: 𝒯²·KL(P_t ‖ P_s), 𝒯 = 2, maps as they are. (That the class activation map carries no factor
  1/(H·W), as strict Grad-CAM would, is our reading.)
- `released`: both maps are shifted by the minimum and divided by the maximum (+ 10⁻³) of the *whole batch*;
  KL(P_t + 10⁻¹⁰ ‖ P_s + 10⁻¹⁰), 𝒯 = 2, without 𝒯².
- `normalized`: each map is scaled to [0, 1] by its own minimum and maximum; KL(P_t ‖ P_s). A flat map
  becomes zero, hence a uniform distribution, and passes no gradient. 𝒯 = 1 and the weight 5 were chosen by
  `tests/benchmarks/method_constants.py`.

The paper looks at the last stage. `stage` takes an earlier one, whose teacher map is Grad-CAM (`maps`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from ... import InputError
from .maps import grad_cam, student_map, teacher_map
from .method import STRICT, Batch, Method, Range, fill_in

Variant = Literal["paper", "released", "normalized"]

WEIGHT: dict[str, float] = {"paper": 1.0, "released": 1.0, "normalized": 5.0}
TEMPERATURE: dict[str, float] = {"paper": 2.0, "released": 2.0, "normalized": 1.0}
WEIGHT_RANGE = {
    "paper": Range(0.01, 1.0),
    "released": Range(1.0, 100.0),
    "normalized": Range(0.5, 20.0),
}
"""What weights a search tries: from where the loss hardly counts to where it drowns cross-entropy."""
RELEASED_RANGE_OFFSET = 1e-3
RELEASED_PROBABILITY_OFFSET = 1e-10


def samd_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    classifier_weight: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    variant: Variant = "normalized",
    temperature: float | None = None,
) -> Tensor:
    """The SAMD loss, a scalar.

    Args:
        student_features: spikes of the last stage (T, B, C_s, H, W).
        teacher_features: activations of the last stage (B, C, H, W), same H and W.
        classifier_weight: the teacher's (K, C).
        teacher_logits: (B, K).
        labels: int64 (B,), the class whose map is taken; None: the class that the teacher predicts.
        variant: see the module.
        temperature: 𝒯; None: the variant's own.

    Raises:
        ValueError: unknown variant, or maps of different sizes.
    """
    if variant not in TEMPERATURE:
        raise ValueError(f"unknown SAMD variant {variant!r}; there are: {', '.join(TEMPERATURE)}")
    if student_features.shape[-2:] != teacher_features.shape[-2:]:
        raise ValueError(
            f"SAMD compares maps of one size: student {tuple(student_features.shape[-2:])}, "
            f"teacher {tuple(teacher_features.shape[-2:])}"
        )
    classes = teacher_logits.argmax(1) if labels is None else labels
    target = teacher_map(teacher_features, classifier_weight, classes).detach()
    return map_loss(student_features, target, variant, temperature)


def map_loss(
    student_features: Tensor, teacher_map: Tensor, variant: Variant, temperature: float | None = None
) -> Tensor:
    """`samd_loss` for a teacher map that is known, (B, H, W)."""
    target, student = teacher_map.flatten(1), student_map(student_features).flatten(1)
    scale = TEMPERATURE[variant] if temperature is None else temperature
    if variant == "paper":
        return scale**2 * _divergence(target / scale, student / scale)
    if variant == "normalized":
        return _divergence(_to_unit_range(target) / scale, _to_unit_range(student) / scale)
    p_teacher, p_student = (
        F.softmax(_to_batch_range(m) / scale, dim=1) + RELEASED_PROBABILITY_OFFSET for m in (target, student)
    )
    return F.kl_div(p_student.log(), p_teacher, reduction="batchmean")


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) ‖ softmax(student)) over the last axis, averaged over the batch."""
    return F.kl_div(
        F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1), reduction="batchmean", log_target=True
    )


def _to_unit_range(maps: Tensor) -> Tensor:
    """Each map (B, H·W) scaled to [0, 1]; a flat one to a constant 0 without gradient."""
    low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
    flat = high <= low
    return ((maps - low) / torch.where(flat, 1, high - low)).masked_fill(flat, 0)


def _to_batch_range(maps: Tensor) -> Tensor:
    """All maps (B, H·W) scaled by the minimum and maximum over the batch."""
    shifted = maps - maps.min()
    return shifted / (shifted.max() + RELEASED_RANGE_OFFSET)


@dataclass(frozen=True, config=STRICT)
class SAMD(Method):
    """SAMD as a distillation method.

    Attributes:
        variant: which reading of the method (see the module).
        weight: factor before the loss; None: the variant's own.
        temperature: 𝒯; None: the variant's own.
        stage: whose maps are compared, 1 for the first; 0: the last.
    """

    variant: Variant = "normalized"
    weight: float | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, gt=0)
    stage: int = Field(default=0, ge=0)

    needs_teacher = True
    needs_tap = True

    @property
    def needs_stages(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.stage > 0

    @property
    def needs_teacher_graph(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.stage > 0

    @property
    def needs_whole_batch(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.variant == "released"

    def __post_init__(self) -> None:
        fill_in(self, weight=WEIGHT[self.variant], temperature=TEMPERATURE[self.variant])

    def ranges(self) -> Mapping[str, Range]:
        return {"weight": WEIGHT_RANGE[self.variant], "temperature": Range(0.25, 4.0)}

    def check(self, student: Any, teacher: Any) -> None:
        if self.stage > len(student.taps):
            raise InputError(
                f"methods.samd.stage is {self.stage}, and the student has {len(student.taps)} stages; "
                "choose one of these, or 0 for the last"
            )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        teacher = batch.require_teacher()
        classes = teacher.logits.argmax(1) if self.variant == "released" else batch.labels
        if self.stage:
            own, taught = (taps[self.stage - 1] for taps in (batch.student_taps, batch.teacher_taps))
            target = grad_cam(teacher.features[taught], teacher.logits, classes)
            loss = map_loss(batch.student.features[own], target, self.variant, self.temperature)
        else:
            loss = samd_loss(
                batch.student.features[batch.student_tap],
                teacher.features[batch.teacher_tap],
                batch.require_classifier_weight(),
                teacher.logits,
                classes,
                self.variant,
                self.temperature,
            )
        return {"samd": loss * (self.weight or 0)}
