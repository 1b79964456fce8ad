"""The neuron's loops over time compiled into one pass over memory each, by torch.compile.

Of neurons alone they compute what `neurons` and `gradients.rate` compute step after step: to the bit where
the decay is a power of two or zero, otherwise but for rounding. Together with the BatchNorm before them
(`joined`) they agree with it but for rounding. Compiling takes about a minute, once on a machine, and needs a
C++ compiler (or a GPU). Nothing depends on it: the recipe asks for it (`student.compiled`).
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import loops

INLINED_STEPS = 4
"""Up to so many a pass over memory holds all steps in registers; compiling such takes 2^T as long."""

INLINED: dict[str, Any] = {
    "realize_opcount_threshold": 10000,
    "realize_reads_threshold": 10000,
    "realize_acc_reads_threshold": 10000,
}


def lif_forward(current: Tensor, decay: float, threshold: float) -> tuple[Tensor, Tensor]:
    """`neurons.lif_forward`, for one threshold."""
    return _run(loops.spikes_and_membrane, [current], decay, threshold)


def lif_backward(membrane: Tensor, grad_spikes: Tensor, decay: float, threshold: float) -> Tensor:
    """The gradient by the currents, (T, …), for what `lif_forward` kept and the gradient by the spikes."""
    return _run(loops.gradient, [membrane, grad_spikes], decay, threshold)[0]


def lif_rates(current: Tensor, decay: float, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes (T, …), their rate (…) and its derivative by the mean current (…), see `gradients.rate`."""
    return _run(loops.spikes_and_eligibility, [current], decay, threshold)


class Moments(NamedTuple):
    """What BatchNorm finds in a batch: (C,) each, the variance biased; it gives x·scale + shift."""

    mean: Tensor
    variance: Tensor
    inverse: Tensor
    scale: Tensor
    shift: Tensor


class Normalised:
    """Signals of one shape, (T, B, C, H, W) each, run through BatchNorm and neurons.

    Args:
        x: what is normalised; its channels lie innermost, see `fits`.
        added: what is added to it then, or None; it may lie in any order.
        constants: the neurons' decay and threshold.
    """

    def __init__(self, x: Tensor, added: Tensor | None, constants: tuple[float, float]):
        self._map = x.shape[-2:]
        self._x, self._added = _innermost(x), None if added is None else _innermost(added)
        self._constants = _constants(*constants, x.dtype, x.device)

    @staticmethod
    def fits(x: Tensor) -> bool:
        """Whether the channels of x (T, B, C, H, W) lie innermost, without gaps."""
        return x.dim() == 5 and x.permute(0, 1, 3, 4, 2).is_contiguous()

    def moments(self, weight: Tensor | None, bias: Tensor | None, eps: float) -> Moments:
        """The statistics of x, scale and shift with BatchNorm's weight and bias."""
        return Moments(*self._compiled(loops.moments)(self._x, weight, bias, eps))

    def spikes(self, moments: Moments) -> Tensor:
        """(T, B, C, H, W)."""
        (spikes,) = self._loop(loops.normalised_spikes, moments)
        return self._outermost(spikes)

    def rates(self, moments: Moments) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Spikes, their rate, its derivative by the mean current, and x's mean, see `gradients.rate`."""
        found = self._loop(loops.normalised_rates, moments)
        return tuple(self._outermost(values) for values in found)  # pyright: ignore[reportReturnType]

    def gradients(
        self, moments: Moments, grad_spikes: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """By x, by what is added, and by BatchNorm's weight and bias, x's moments its own."""
        arriving = _innermost(grad_spikes)
        total, projected = self._loop(loops.gradient_sums, moments, [arriving], [moments.mean])
        count = self._x.numel() // len(total)
        by_weight = projected * moments.inverse
        moved = (moments.mean, moments.scale * total / count,
                 moments.scale * moments.inverse * by_weight / count)  # fmt: skip
        found = self._loop(loops.gradient_by_signals, moments, [arriving], [moved])
        by_x, by_added = [self._outermost(values) for values in found] + [None] * (2 - len(found))
        return by_x, by_added, by_weight, total  # pyright: ignore[reportReturnType]

    def _loop(
        self,
        loop: Callable[..., Any],
        moments: Moments,
        arriving: Iterable[Tensor] = (),
        more: Iterable[Any] = (),
    ) -> Any:
        affine = moments.scale, moments.shift
        return self._compiled(loop, self._added is not None)(
            self._x, self._added, *arriving, affine, *more, *self._constants
        )

    def _compiled(self, loop: Callable[..., Any], *variant: object) -> Callable[..., Any]:
        steps = len(self._x)
        return _compiled(loop, steps <= INLINED_STEPS, steps, self._x.dtype, self._x.device.type, *variant)

    def _outermost(self, values: Tensor) -> Tensor:
        return values.unflatten(-2, self._map).movedim(-1, -3)


def _innermost(signal: Tensor) -> Tensor:
    """(T, B, C, H, W) as (T, B, H·W, C) in that order in memory."""
    return signal.permute(0, 1, 3, 4, 2).contiguous().flatten(2, 3)


def _run(loop: Callable[..., Any], signals: list[Tensor], decay: float, threshold: float) -> Any:
    """A compiled loop on signals (T, …) as matrices (T, n), in the order in which the first lies in memory.

    Their bare sizes would be compiled anew for each layer.
    """
    first = signals[0]
    places = first.dim()
    order = sorted(range(1, places), key=first.stride, reverse=True)
    back = [order.index(place) for place in range(1, places)]
    sizes = [first.shape[place] for place in order]
    compiled = _compiled(loop, False, len(first), first.dtype, first.device.type)
    constants = _constants(decay, threshold, first.dtype, first.device)
    found = compiled(*(signal.permute(0, *order).flatten(1) for signal in signals), *constants)
    return tuple(_placed(values.unflatten(-1, sizes), back) for values in found)


def _placed(values: Tensor, back: list[int]) -> Tensor:
    """Values with their places in the usual order again, whether they have a time before them or not."""
    before = values.dim() - len(back)
    return values.permute(*range(before), *(before + place for place in back))


@functools.cache
def _constants(
    decay: float, threshold: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    exact = dtype if dtype == torch.float64 else torch.float32
    with torch.inference_mode(False):
        return tuple(torch.tensor(value, dtype=exact, device=device) for value in (decay, threshold))  # pyright: ignore[reportReturnType]


@functools.cache
def _compiled(loop: Callable[..., Any], inlined: bool, *_variant: object) -> Callable[..., Any]:
    """A loop for signals of any size but so many steps: a copy of it, since dynamo counts variants of one."""
    own = types.FunctionType(loop.__code__.replace(), loop.__globals__, loop.__name__)  # pyright: ignore[reportAttributeAccessIssue]
    return torch.compile(own, dynamic=True, fullgraph=True, options=INLINED if inlined else None)
