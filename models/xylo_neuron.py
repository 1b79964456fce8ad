"""The neuron of SynSense's Xylo, in floating point: a current with memory, a leak, a reset by subtraction.

    u[t] = b·(u[t−1] + x[t]);   v[t] = a·v[t−1] + u[t]
    s[t] = min(⌊v[t]/θ⌋, most) where v[t] ≥ θ, else 0;   v[t] ← v[t] − s[t]·θ

The chip shifts bits: a and b are 1 − 2^−d, d a whole number of at least 1, its "dash". A hidden neuron spikes
up to 31 times in a step, an output neuron once. (rockpool.ai, overview of the Xylo family; the order within a
step is that of SynSense's simulator, xylosim.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from .neurons import SpikingNeuron, cache_sized

DASH_MAX = 15
"""A dash has four bits."""

HIDDEN_SPIKES = 31
OUTPUT_SPIKES = 1
"""The most in a step."""

STEEPNESS = 3.0
"""Of the surrogate's fall."""


def kept(dash: int) -> float:
    """What a step leaves of a state that decays by `dash`: 1 − 2^−dash."""
    return 1 - 2.0**-dash


def xylo_forward(
    current: Tensor, current_decay: float, decay: float, threshold: float, most: int
) -> tuple[Tensor, Tensor]:
    """Run the neuron over time.

    Args:
        current: x, (T, …), any floating dtype, finite.
        current_decay, decay: b and a, in [0, 1).
        threshold: θ, positive.
        most: how many spikes a step may have.

    Returns:
        spikes (T, …), whole numbers in the dtype of `current`, and the potential before each reset, (T, …).
    """
    spikes, membrane = torch.empty_like(current), torch.empty_like(current)
    for arriving, fired, potential in cache_sized(current, spikes, membrane):
        u, v = torch.zeros_like(arriving[0]), torch.zeros_like(arriving[0])
        for step in range(len(arriving)):
            u = u.add_(arriving[step]).mul_(current_decay)
            torch.add(u, v, alpha=decay, out=potential[step])
            torch.div(potential[step], threshold, out=fired[step]).floor_().clamp_(0, most)
            torch.add(potential[step], fired[step], alpha=-threshold, out=v)
    return spikes, membrane


class _XyloOverTime(torch.autograd.Function):
    """`xylo_forward` with a surrogate for ∂s/∂v: between θ and most·θ the mean slope of the stairs, 1/θ.

    Beyond either end, d thresholds away, it is 1/(1 + 3·d)² of that (the fast sigmoid's, arXiv 1705.11146).
    The reset passes no gradient.
    """

    @staticmethod
    def forward(
        ctx, current: Tensor, current_decay: float, decay: float, threshold: float, most: int
    ) -> Tensor:
        spikes, membrane = xylo_forward(current, current_decay, decay, threshold, most)
        ctx.save_for_backward(membrane)
        ctx.constants = current_decay, decay, threshold, most
        return spikes

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        (membrane,) = ctx.saved_tensors
        current_decay, decay, threshold, most = ctx.constants
        grad_current = torch.empty_like(membrane)
        for potential, grad_spikes, grad in cache_sized(membrane, grad_outputs[0], grad_current):
            scaled = potential / threshold
            beyond = torch.maximum(1 - scaled, scaled - most).clamp_(min=0)
            slope = grad_spikes / beyond.mul_(STEEPNESS).add_(1).square_().mul_(threshold)
            by_v, by_u = torch.zeros_like(slope[0]), torch.zeros_like(slope[0])
            for step in range(len(slope) - 1, -1, -1):
                by_v = by_v.mul_(decay).add_(slope[step])
                by_u = by_u.add_(by_v).mul_(current_decay)
                grad[step] = by_u
        return grad_current, None, None, None, None


class XyloNeuron(SpikingNeuron):
    """A population: synaptic input (T, …) in, spike counts (T, …) out.

    Attributes:
        current_dash, dash: of the synaptic current and of the membrane potential, 1 … 15.
        threshold: θ.
        most: how many spikes a step may have.
    """

    def __init__(self, current_dash: int, dash: int, threshold: float = 1.0, most: int = HIDDEN_SPIKES):
        super().__init__()
        self.current_dash, self.dash = current_dash, dash
        self.threshold, self.most = threshold, most

    def forward(self, current: Tensor) -> Tensor:
        """Spike counts (T, …) for the synaptic input `current` (T, …)."""
        constants = kept(self.current_dash), kept(self.dash), self.threshold, self.most
        return _XyloOverTime.apply(current, *constants)  # pyright: ignore[reportReturnType]

    def extra_repr(self) -> str:
        return (
            f"current_dash={self.current_dash}, dash={self.dash}, threshold={self.threshold}, "
            f"most={self.most}"
        )
