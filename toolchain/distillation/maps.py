"""Where a network looks: the teacher's class activation map, the student's spike counts, their agreement."""

from __future__ import annotations

import torch
from torch import Tensor


def teacher_map(features: Tensor, classifier_weight: Tensor, classes: Tensor) -> Tensor:
    """Class activation map relu(Σ_c W[k, c]·f_c) of one class per sample.

    With global pooling and one linear layer this is Grad-CAM of class k, times H·W.

    Args:
        features: last-stage activations (B, C, H, W).
        classifier_weight: W (K, C).
        classes: k, int64 (B,).

    Returns:
        (B, H, W), in the dtype of `features`.
    """
    return torch.einsum("bchw,bc->bhw", features, classifier_weight[classes]).relu()


def grad_cam(features: Tensor, logits: Tensor, classes: Tensor) -> Tensor:
    """The map of `teacher_map` for any stage: relu(Σ_c α_c·f_c) with α_c = Σ_{h,w} ∂z_k/∂f_c[h, w].

    That is Grad-CAM (arXiv 1610.02391) times H·W; behind the last stage α_c is W[k, c], and the two are one.

    Args:
        features: a stage's activations (B, C, H, W), in the graph of `logits`.
        logits: z (B, K), each row of its own sample alone.
        classes: k, int64 (B,).

    Returns:
        (B, H, W), in the dtype of `features`, without gradient.
    """
    chosen = logits.gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, features, retain_graph=True)
    return torch.einsum("bchw,bc->bhw", features.detach(), gradient.sum((2, 3))).relu()


def student_map(spikes: Tensor) -> Tensor:
    """Spike counts over time and channels, Σ_t Σ_c F[t, c]: (T, B, C, H, W) → (B, H, W)."""
    return spikes.sum(dim=(0, 2))


def map_agreement(student: Tensor, teacher: Tensor) -> Tensor:
    """Pearson correlation over H×W of each sample's two maps, (B, H, W) each → (B,); 0 where one is flat."""
    student, teacher = (m.flatten(1) - m.flatten(1).mean(1, keepdim=True) for m in (student, teacher))
    norms = student.norm(dim=1) * teacher.norm(dim=1)
    products = (student * teacher).sum(1)
    return torch.where(norms > 0, products / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0.0)
