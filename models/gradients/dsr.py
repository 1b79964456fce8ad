"""Differentiation on spike representation: integrate-and-fire with a soft reset, trained as a clamped rate.

Source: Meng et al., CVPR 2022 (arXiv 2205.00459), and its released code. A neuron with the trainable
threshold V takes in x[t] and emits s[t], which is 0 or V:

    u ← u + x[t];   s[t] = V·1[u ≥ αV];   u ← u − s[t]

Its mean output is about clamp(r, 0, V) with r = mean_t x[t], and that is what is differentiated. With G =
Σ_t ∂L/∂s[t], the gradient by the mean output:

    ∂L/∂x[t] = (1/T)·G·1[0 ≤ r ≤ V];      ∂L/∂V = Σ_neurons G·1[r > V]

V is one number for a population, and wherever it is used at least `lower_bound`. The paper's leaky
neuron, whose mean is weighted by exp(−(T − t)·Δt/τ), is not built: its weights aim at T = 20, and the
recipe's decay is a hard-reset neuron's. `neuron.decay` and `neuron.threshold` of a recipe don't count here.
"""

from __future__ import annotations

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from ... import InputError
from ..neurons import Gate, SpikingNeuron
from ..unrolled import SpikingStudent
from .backend import Gradient

THRESHOLD = 6.0
FIRING_SHARE = 0.5
LOWER_BOUND = 0.01


class DSR(Gradient):
    """The backend: it puts a `SoftResetIF` in the place of each neuron.

    Attributes:
        threshold: V before training (the paper's 6 for T = 20).
        firing_share: α.
        lower_bound: least V.
    """

    reset = "soft"

    threshold: PositiveFloat = THRESHOLD
    firing_share: float = Field(default=FIRING_SHARE, gt=0, le=1)
    lower_bound: PositiveFloat = LOWER_BOUND

    def install(self, student: SpikingStudent) -> None:
        for name, module in list(student.layers.named_modules()):
            if isinstance(module, SpikingNeuron):
                if isinstance(module, Gate):
                    raise InputError(
                        f"gradient 'dsr' would give {name}, a gate, a memory; use bptt or rate, or join "
                        "blocks by adding"
                    )
                neuron = SoftResetIF(self.threshold, self.firing_share, self.lower_bound)
                student.layers.set_submodule(name, neuron)
        student.gradient = None
        student.retrace()


class SoftResetIF(SpikingNeuron):
    """A population of integrate-and-fire neurons with a soft reset: current (T, …) in, 0 or V (T, …) out."""

    def __init__(
        self,
        threshold: float = THRESHOLD,
        firing_share: float = FIRING_SHARE,
        lower_bound: float = LOWER_BOUND,
    ):
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))
        self.firing_share, self.lower_bound = firing_share, lower_bound

    def forward(self, current: Tensor) -> Tensor:
        """What the neurons emit, (T, …), for the synaptic input `current` (T, …)."""
        with torch.no_grad():
            self.threshold.clamp_(min=self.lower_bound)
        return _SoftResetOverTime.apply(current, self.threshold, self.firing_share)  # pyright: ignore[reportReturnType]

    def extra_repr(self) -> str:
        return f"threshold={float(self.threshold):.4g}, firing_share={self.firing_share}"


def soft_reset_forward(current: Tensor, threshold: Tensor, firing_share: float) -> Tensor:
    """What the neurons emit, (T, …) of 0 and V, without gradient."""
    emitted, state = torch.empty_like(current), torch.zeros_like(current[0])
    firing = firing_share * threshold
    for step in range(len(current)):
        state += current[step]
        torch.mul(state >= firing, threshold, out=emitted[step])
        state -= emitted[step]
    return emitted


class _SoftResetOverTime(torch.autograd.Function):
    """`soft_reset_forward` with the gradient of this module."""

    @staticmethod
    def forward(ctx, current: Tensor, threshold: Tensor, firing_share: float) -> Tensor:
        threshold = threshold.to(current.dtype)
        rate = current.mean(0)
        ctx.save_for_backward((rate >= 0) & (rate <= threshold), rate > threshold)
        ctx.steps = len(current)
        return soft_reset_forward(current, threshold, firing_share)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        linear, saturated = ctx.saved_tensors
        total = grad_outputs[0].sum(0)
        by_current = (total * linear / ctx.steps).expand(ctx.steps, *total.shape)
        return by_current, (total * saturated).sum(), None
