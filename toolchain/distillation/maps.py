"""Where a network looks: the teacher's class activation map, the student's spike counts, their agreement."""

from __future__ import annotations

import torch
from torch import Tensor


def teacher_map(features: Tensor, classifier_weight: Tensor, classes: Tensor) -> Tensor:
    """Class activation map relu(Σ_c W[k, c]·f_c) of one class per sample, summed in float32 at least.

    With global pooling and one linear layer this is Grad-CAM of class k, times H·W.

    Args:
        features: last-stage activations (B, C, H, W).
        classifier_weight: W (K, C).
        classes: k, int64 (B,).

    Returns:
        (B, H, W).
    """
    return _weighted_sum(features, classifier_weight[classes]).relu()


def _weighted_sum(features: Tensor, weight: Tensor) -> Tensor:
    """Σ_c w_c·f_c of features (B, C, H, W) and weights (B, C), whatever autocast would make of it."""
    with torch.autocast(features.device.type, enabled=False):
        return torch.einsum("bchw,bc->bhw", _wide(features), _wide(weight))


def _wide(values: Tensor) -> Tensor:
    """Values in float32, or in float64 where they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def grad_cam(features: Tensor, logits: Tensor, classes: Tensor) -> Tensor:
    """The map of `teacher_map` for any stage: relu(Σ_c α_c·f_c) with α_c = Σ_{h,w} ∂z_k/∂f_c[h, w].

    That is Grad-CAM (arXiv 1610.02391) times H·W; behind the last stage α_c is W[k, c], and the two are one.

    Args:
        features: a stage's activations (B, C, H, W), in the graph of `logits`.
        logits: z (B, K), each row of its own sample alone.
        classes: k, int64 (B,).

    Returns:
        (B, H, W), without gradient.
    """
    chosen = logits.gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, features, retain_graph=True)
    return _weighted_sum(features.detach(), _wide(gradient).sum((2, 3))).relu()


def student_map(spikes: Tensor) -> Tensor:
    """Spike counts over time and channels, Σ_t Σ_c F[t, c]: (T, B, C, H, W) → (B, H, W)."""
    return _wide(spikes).sum(dim=(0, 2))


def map_agreement(student: Tensor, teacher: Tensor) -> Tensor:
    """Pearson correlation over H×W of each sample's two maps, (B, H, W) each → (B,); 0 where one is flat."""
    student, teacher = (m.flatten(1) - m.flatten(1).mean(1, keepdim=True) for m in (student, teacher))
    norms = student.norm(dim=1) * teacher.norm(dim=1)
    products = (student * teacher).sum(1)
    return torch.where(norms > 0, products / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0.0)
