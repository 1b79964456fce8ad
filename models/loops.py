"""The neuron's loops over time as torch.compile takes them: plain Python that `fused` has compiled.

The first three are of neurons alone, on matrices (T, n). The others have BatchNorm, and a sum with another
current, within: they take a signal x (T, B, R, C), channels innermost, R places of a map, and see BatchNorm
as x·scale + shift. They work the normalised currents out anew wherever they need them, so that nothing but x
and spikes is ever kept.

Decay and threshold are tensors of one number: numbers of Python would be compiled to double precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

Affine = tuple[Tensor, Tensor]
"""BatchNorm's scale and shift, (C,) each."""


def spikes_and_membrane(current: Tensor, decay: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and the potentials before each reset, (T, n) each, of currents (T, n)."""
    potentials, fired = _run(list(current), decay, threshold)
    return torch.stack([spikes.to(current.dtype) for spikes in fired]), torch.stack(potentials)


def gradient(membrane: Tensor, arriving: Tensor, decay: Tensor, threshold: Tensor) -> tuple[Tensor]:
    """The gradient by the currents, (T, n), for potentials and what arrives at the spikes."""
    grads: list[Tensor] = []
    for potential, grad_spikes in zip(reversed(membrane.unbind()), reversed(arriving.unbind()), strict=True):
        grad = torch.clamp(1 - (potential / threshold - 1).abs(), min=0) / threshold * grad_spikes
        if grads:
            grad = grad + decay * torch.where(potential <= threshold, grads[-1], 0.0)
        grads.append(grad)
    return (torch.stack(grads[::-1]),)


def spikes_and_eligibility(
    current: Tensor, decay: Tensor, threshold: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes (T, n), their rate and the rate's derivative by the mean current, (n,), see `gradients.rate`."""
    return _rates(list(current), decay, threshold)


def moments(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What BatchNorm needs of x: mean, biased variance, 1/√(variance + ε), scale and shift, (C,) each.

    The variance is taken around the mean of the first sample's first step, so that little cancels.
    """
    centre = x[0, 0].mean(0)
    total, squares = torch.zeros_like(x[0]), torch.zeros_like(x[0])
    for now in x.unbind():
        apart = now - centre
        total, squares = total + apart, squares + apart * apart
    count = x.numel() // x.shape[-1]
    shifted = total.sum(1).sum(0) / count
    mean = centre + shifted
    variance = (squares.sum(1).sum(0) / count - shifted * shifted).clamp(min=0)
    inverse = torch.rsqrt(variance + eps)
    scale = inverse if weight is None else inverse * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return mean, variance, inverse, scale, shift


def normalised_spikes(
    x: Tensor, added: Tensor | None, affine: Affine, decay: Tensor, threshold: Tensor
) -> tuple[Tensor]:
    """Spikes (T, B, R, C) of normalised x and what is added to it."""
    _, fired = _run(_currents(x, added, affine), decay, threshold)
    return (torch.stack([spikes.to(x.dtype) for spikes in fired]),)


def normalised_rates(
    x: Tensor, added: Tensor | None, affine: Affine, decay: Tensor, threshold: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `spikes_and_eligibility` of `normalised_spikes`, and x's mean over time, (B, R, C)."""
    mean = sum(x.unbind()[1:], start=x[0]) / len(x)
    return (*_rates(_currents(x, added, affine), decay, threshold), mean)


def gradient_sums(
    x: Tensor,
    added: Tensor | None,
    arriving: Tensor,
    affine: Affine,
    mean: Tensor,
    decay: Tensor,
    threshold: Tensor,
) -> tuple[Tensor, Tensor]:
    """Sums by channel, (C,), of the gradient g by the normalised x and of g·(x − mean)."""
    total, projected = torch.zeros_like(x[0]), torch.zeros_like(x[0])
    for grad, now in zip(_gradients(x, added, arriving, affine, decay, threshold), x.unbind(), strict=True):
        total = total + grad
        projected = projected + grad * (now - mean)
    return total.sum(1).sum(0), projected.sum(1).sum(0)


def gradient_by_signals(
    x: Tensor,
    added: Tensor | None,
    arriving: Tensor,
    affine: Affine,
    moved: tuple[Tensor, Tensor, Tensor],
    decay: Tensor,
    threshold: Tensor,
) -> tuple[Tensor, ...]:
    """The gradients by x, and by what is added, (T, B, R, C) each.

    Args:
        moved: (mean, a, b), (C,) each: what the statistics take of the gradient by x is a + b·(x − mean).
    """
    grads = _gradients(x, added, arriving, affine, decay, threshold)
    mean, constant, slope = moved
    by_x = [
        affine[0] * grad - constant - slope * (now - mean)
        for grad, now in zip(grads, x.unbind(), strict=True)
    ]
    return (torch.stack(by_x),) if added is None else (torch.stack(by_x), torch.stack(grads))


def _currents(x: Tensor, added: Tensor | None, affine: Affine) -> list[Tensor]:
    scale, shift = affine
    currents = [now * scale + shift for now in x.unbind()]
    if added is None:
        return currents
    return [current + more for current, more in zip(currents, added.unbind(), strict=True)]


def _run(currents: list[Tensor], decay: Tensor, threshold: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The potential before each reset, and whether it fires, step by step."""
    potentials, spikes = [], []
    state = torch.zeros_like(currents[0])
    for now in currents:
        potential = now + decay * state
        fired = potential > threshold
        state = torch.where(fired, 0.0, potential)
        potentials.append(potential)
        spikes.append(fired)
    return potentials, spikes


def _gradients(
    x: Tensor, added: Tensor | None, arriving: Tensor, affine: Affine, decay: Tensor, threshold: Tensor
) -> list[Tensor]:
    """The gradient by each step's current; divisions take long, so it is scaled at the end."""
    potentials, _ = _run(_currents(x, added, affine), decay, threshold)
    grads: list[Tensor] = []
    for potential, grad_spikes in zip(reversed(potentials), reversed(arriving.unbind()), strict=True):
        grad = torch.clamp(threshold - (potential - threshold).abs(), min=0) * grad_spikes
        if grads:
            grad = grad + decay * torch.where(potential <= threshold, grads[-1], 0.0)
        grads.append(grad)
    return [grad * threshold**-2 for grad in reversed(grads)]


def _rates(currents: list[Tensor], decay: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes of every step, their rate, and its derivative by the mean current."""
    spikes = []
    state, total, count = (torch.zeros_like(currents[0]) for _ in range(3))
    trace = torch.ones_like(state)
    for now in currents:
        potential = now + decay * state
        fired = potential > threshold
        total = total + torch.clamp(threshold - (potential - threshold).abs(), min=0) * trace
        trace = 1 + decay * torch.where(fired, 0.0, trace)
        state = torch.where(fired, 0.0, potential)
        spikes.append(fired.to(now.dtype))
        count = count + spikes[-1]
    steps = len(currents)
    return torch.stack(spikes), count / steps, total / (steps * threshold**2)
