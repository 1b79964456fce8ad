"""The neuron, defined once: leaky integrate-and-fire, strict threshold, hard reset.

    v[t] = a·v[t−1] + x[t];   s[t] = 1 if v[t] > θ else 0;   v[t] ← 0 where s[t] = 1

It is the neuron of the SAMD + NLD paper (arXiv 2511.06902), of Lava's LIF with `du = 4095`, and,
under the encoding in `export/nir.py`, NIR's LIF.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

DECAY = 0.5
THRESHOLD = 1.0

BOTH = 1.5
"""Above one spike, below two."""

CHUNK_ELEMENTS = 1 << 18
"""Neurons that are run over all steps at once: what they keep fits in a processor's cache.

Threads wait for each other at every operation on them, so fewer would take longer where waking takes long.
"""


def lif_forward(
    current: Tensor, decay: float, threshold: Tensor | float, overwrite: bool = False
) -> tuple[Tensor, Tensor]:
    """Run the neuron over time.

    Args:
        current: x, (T, …), any floating dtype, finite.
        decay: a, in [0, 1].
        threshold: θ, a number or a tensor broadcastable to one step.
        overwrite: whether the potentials take the place of `current` in memory, which has one for each step.

    Returns:
        spikes (T, …), 0 or 1 in the dtype of `current`, and the membrane potential before each reset, (T, …).
    """
    membrane, spikes = current if overwrite else _empty_like(current), _empty_like(current)
    per_sample = isinstance(threshold, Tensor) and threshold.dim() == current.dim() - 1
    parts = [(current, membrane, spikes)] if per_sample else cache_sized(current, membrane, spikes)
    for part_current, part_membrane, part_spikes in parts:
        if not overwrite:
            part_membrane[0].copy_(part_current[0])
        _run(part_current, part_membrane, part_spikes, decay, threshold)
    return spikes, membrane


def _empty_like(signal: Tensor) -> Tensor:
    """Room for as many steps, each laid out as those of `signal` (T, …), which may be one step repeated."""
    step = torch.empty_like(signal[0], device="meta")
    strides = (step.numel(), *step.stride())
    return torch.empty_strided(signal.shape, strides, dtype=signal.dtype, device=signal.device)


def cache_sized(*signals: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """`signals`, each (T, B, …), in parts of the batch that a cache holds."""
    first = signals[0]
    if first.dim() < 2 or first.device.type != "cpu":
        return [signals]
    samples = max(1, CHUNK_ELEMENTS // max(1, first[0, :1].numel()))
    return zip(*(signal.split(samples, dim=1) for signal in signals), strict=True)


def _run(current: Tensor, membrane: Tensor, spikes: Tensor, decay: float, threshold: Tensor | float) -> None:
    """Fill `membrane`, which may be `current` and has its first step, and `spikes`.

    Numbers in place of Booleans, which take longer to compute with.
    """
    threshold = _constant(threshold, current)
    state = torch.empty_like(current[0])
    steps = zip(current.unbind(), membrane.unbind(), spikes.unbind(), strict=True)
    for step, (now, potential, fired) in enumerate(steps):
        if step:
            torch.add(now, state, alpha=decay, out=potential)
        torch.gt(potential, threshold, out=fired)
        torch.addcmul(potential, potential, fired, value=-1, out=state)


def _constant(value: Tensor | float, signal: Tensor) -> Tensor:
    """A number as a tensor to compute with: torch would make one anew for each use."""
    exact = torch.float64 if signal.dtype == torch.float64 else torch.float32
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=exact)


class _LIFOverTime(torch.autograd.Function):
    """`lif_forward` with the triangular surrogate max(0, 1 − |v − θ|/θ)/θ; the reset passes no gradient."""

    @staticmethod
    def forward(
        ctx, current: Tensor, decay: float, threshold: float, compiled: bool, overwrite: bool
    ) -> Tensor:
        if compiled:
            spikes, membrane = _fused().lif_forward(current, decay, threshold)
        else:
            spikes, membrane = lif_forward(current, decay, threshold, overwrite)
        ctx.save_for_backward(membrane)
        ctx.decay, ctx.threshold, ctx.compiled = decay, threshold, compiled
        return spikes

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        (membrane,) = ctx.saved_tensors
        if ctx.compiled:
            grad = _fused().lif_backward(membrane, grad_outputs[0], ctx.decay, ctx.threshold)
            return grad, None, None, None, None
        grad_current = torch.empty_like(membrane) if _keeps_graph() else membrane.detach()
        for potential, grad_spikes, grad in cache_sized(membrane, grad_outputs[0], grad_current):
            _run_back(potential, grad_spikes, grad, ctx.decay, ctx.threshold)
        return grad_current, None, None, None, None


def _fused() -> Any:
    from . import fused

    return fused


def _keeps_graph() -> bool:
    """Whether what the running backward pass was given may be needed by another one."""
    if torch.compiler.is_compiling():
        return True
    torch_itself: Any = torch._C
    asked = getattr(torch_itself._autograd, "_get_current_graph_task_keep_graph", None)
    return asked is None or asked()


def _run_back(
    membrane: Tensor, grad_spikes: Tensor, grad_current: Tensor, decay: float, threshold: float
) -> None:
    """Fill `grad_current`, which may be `membrane`."""
    one, theta = _constant(1.0, membrane), _constant(threshold, membrane)
    room, kept = torch.empty_like(membrane[0]), torch.empty_like(membrane[0])
    later = None
    steps = zip(membrane.unbind(), grad_spikes.unbind(), grad_current.unbind(), strict=True)
    for potential, arriving, grad in reversed(list(steps)):
        if later is not None:
            torch.le(potential, theta, out=kept)
        scaled = potential if threshold == 1 else torch.div(potential, theta, out=room)
        distance = torch.sub(scaled, one, out=room).abs_()
        surrogate = torch.sub(one, distance, out=room).clamp_(min=0)
        if threshold != 1:
            surrogate.div_(theta)
        torch.mul(surrogate, arriving, out=grad)
        if later is not None:
            grad.addcmul_(later, kept, value=decay)
        later = grad


class SpikingNeuron(nn.Module):
    """A population of any neuron: current (T, …) in, what it emits (T, …) out, state zero before step 1."""


class LIF(SpikingNeuron):
    """The neuron of this module: it emits 0 or 1.

    Attributes:
        decay: a, what is left of the membrane potential after a step.
        threshold: θ.
        compiled: whether it runs compiled loops, see `compiling.compile_neurons`.
    """

    def __init__(self, decay: float = DECAY, threshold: float = THRESHOLD):
        super().__init__()
        self.decay, self.threshold, self.compiled = decay, threshold, False

    def forward(self, current: Tensor) -> Tensor:
        """Spikes (T, …) for the synaptic input `current` (T, …)."""
        return self._over_time(current, overwrite=False)

    def overwriting(self, current: Tensor) -> Tensor:
        """As `forward`, but the membrane potentials may take the place of `current`, and in the backward pass
        its gradient theirs, which spares memory.

        Only for what has memory for each step and nobody else uses, autograd neither: the result of a sum or
        BatchNorm, say, but not a ReLU's, which finds its gradient from what it returned.
        """
        return self._over_time(current, overwrite=True)

    def _over_time(self, current: Tensor, overwrite: bool) -> Tensor:
        return _LIFOverTime.apply(current, self.decay, self.threshold, self.compiled, overwrite)  # pyright: ignore[reportReturnType]

    def extra_repr(self) -> str:
        return f"decay={self.decay}, threshold={self.threshold}"


class Gate(LIF):
    """Neurons without memory that fire when two spikes arrive at one step: a logical "and"."""

    def __init__(self) -> None:
        super().__init__(decay=0.0, threshold=BOTH)
