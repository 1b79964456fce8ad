"""Noise-smoothed Logits Distillation: the student's logits follow the teacher's through noise of their own.

Source: "A Closer Look at Knowledge Distillation in SNN Training" (arXiv 2511.06902). With z_s, z_t the
logits (the student's averaged over time), μ and σ mean and unbiased standard deviation of z_s over the
classes of a sample, n standard normal, KL averaged over the batch, τ = 2 and λ = 0.1:

- `paper`: z̃ = z_s + λ·(μ + σ·n); τ²·KL(softmax(z_t/τ) ‖ softmax(z̃/τ)); no gradient through μ and σ.
- `released`: q = (1 − λ)·softmax(z_s/τ) + λ·softmax((μ + σ²·n)/τ), mixing probabilities and not logits;
  τ²·KL(softmax(z_t/τ) ‖ q); gradients through μ and σ² are kept.
- `normalized`: as `paper` with noise of mean zero, z̃ = z_s + λ·σ·n (the shift λμ is the same for every
  class, so softmax never sees it). Its weight 1 is what a study on CIFAR-10 chose (README); on digits 0.2 was
  better (`tests/benchmarks/method_constants.py`), and the recipes for digits keep that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from .method import STRICT, TEMPERATURES, Batch, Method, Range

Variant = Literal["paper", "released", "normalized"]

VARIANTS: tuple[str, ...] = get_args(Variant)
TEMPERATURE = 2.0
NOISE = 0.1


def nld_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    noise: Tensor | None = None,
    variant: Variant = "normalized",
    temperature: float = TEMPERATURE,
    noise_weight: float = NOISE,
) -> Tensor:
    """The NLD loss, a scalar.

    Args:
        student_logits: z_s (B, K), averaged over time.
        teacher_logits: z_t (B, K).
        noise: n, standard normal (B, K); None draws it.
        variant: see the module.
        temperature: τ.
        noise_weight: λ.

    Raises:
        ValueError: unknown variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown NLD variant {variant!r}; there are: {', '.join(VARIANTS)}")
    noise = torch.randn_like(student_logits) if noise is None else noise
    statistics = student_logits if variant == "released" else student_logits.detach()
    mean, spread = statistics.mean(1, keepdim=True), statistics.std(1, keepdim=True)
    if variant == "released":
        smoothed = (1 - noise_weight) * F.softmax(student_logits / temperature, dim=1)
        blurred = (smoothed + noise_weight * F.softmax((mean + noise * spread**2) / temperature, dim=1)).log()
    else:
        shift = mean if variant == "paper" else 0
        blurred = F.log_softmax(
            (student_logits + noise_weight * (shift + spread * noise)) / temperature, dim=1
        )
    target = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    return temperature**2 * F.kl_div(blurred, target, reduction="batchmean", log_target=True)


@dataclass(frozen=True, config=STRICT)
class NLD(Method):
    """NLD as a distillation method.

    Attributes:
        variant: which reading of the method (see the module).
        weight: factor before the loss.
        temperature: τ.
        noise: λ.
    """

    variant: Variant = "normalized"
    weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=TEMPERATURE, gt=0)
    noise: float = Field(default=NOISE, ge=0, le=1)

    needs_teacher = True

    def ranges(self) -> Mapping[str, Range]:
        return {"weight": Range(0.05, 5.0), "temperature": TEMPERATURES}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = batch.student_logits
        loss = nld_loss(
            logits,
            batch.require_teacher().logits,
            batch.drawn(torch.randn, *logits.shape, dtype=logits.dtype, device=logits.device),
            variant=self.variant,
            temperature=self.temperature,
            noise_weight=self.noise,
        )
        return {"nld": loss * self.weight}
