"""The neuron, defined once: leaky integrate-and-fire, strict threshold, hard reset.

    v[t] = a·v[t−1] + x[t];   s[t] = 1 if v[t] > θ else 0;   v[t] ← 0 where s[t] = 1

It is the neuron of the SAMD + NLD paper (arXiv 2511.06902), of Lava's LIF with `du = 4095`, and,
under the encoding in `export/nir.py`, NIR's LIF.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

DECAY = 0.5
THRESHOLD = 1.0


def lif_forward(current: Tensor, decay: float, threshold: Tensor | float) -> tuple[Tensor, Tensor]:
    """Run the neuron over time.

    Args:
        current: x, (T, …), any floating dtype.
        decay: a, in [0, 1].
        threshold: θ, a number or a tensor broadcastable to one step.

    Returns:
        spikes (T, …), 0 or 1 in the dtype of `current`, and the membrane potential before each reset, (T, …).
    """
    membrane = torch.empty_like(current)
    spikes = torch.empty_like(current)
    state = torch.zeros_like(current[0])
    for step in range(current.shape[0]):
        potential = torch.add(current[step], state, alpha=decay, out=membrane[step])
        fired = potential > threshold
        spikes[step] = fired
        state = potential.masked_fill(fired, 0)
    return spikes, membrane


class _LIFOverTime(torch.autograd.Function):
    """`lif_forward` with the triangular surrogate max(0, 1 − |v − θ|/θ)/θ; the reset passes no gradient."""

    @staticmethod
    def forward(ctx, current: Tensor, decay: float, threshold: float) -> Tensor:
        spikes, membrane = lif_forward(current, decay, threshold)
        ctx.save_for_backward(membrane)
        ctx.decay, ctx.threshold = decay, threshold
        return spikes

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (membrane,) = ctx.saved_tensors
        decay, threshold = ctx.decay, ctx.threshold
        surrogate = (1 - (membrane / threshold - 1).abs()).clamp_(min=0).div_(threshold)
        grad_current = surrogate.mul_(grad_outputs[0])
        kept = (membrane <= threshold).to(membrane.dtype)
        for step in range(membrane.shape[0] - 2, -1, -1):
            grad_current[step].addcmul_(grad_current[step + 1], kept[step], value=decay)
        return grad_current, None, None


class LIF(nn.Module):
    """A population of neurons: current (T, …) in, spikes (T, …) out, state zero before step 1.

    Attributes:
        decay: a, what is left of the membrane potential after a step.
        threshold: θ.
    """

    def __init__(self, decay: float = DECAY, threshold: float = THRESHOLD):
        super().__init__()
        self.decay, self.threshold = decay, threshold

    def forward(self, current: Tensor) -> Tensor:
        """Spikes (T, …) for the synaptic input `current` (T, …)."""
        return _LIFOverTime.apply(current, self.decay, self.threshold)  # pyright: ignore[reportReturnType]

    def extra_repr(self) -> str:
        return f"decay={self.decay}, threshold={self.threshold}"
