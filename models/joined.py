"""BatchNorm, a sum and the neurons behind them as one call.

    convolution → BatchNorm → neurons;        convolution → BatchNorm → sum with another current → neurons

`join` finds these in the calls of a student's layers. Nothing else sees what BatchNorm and the sum make, so
the sum and then the membrane potentials overwrite it: the same numbers with less memory to go through.

A compiled student in training, where BatchNorm's statistics are the batch's, never writes it at all: one pass
over memory finds the statistics, a second makes the spikes; backward, one pass makes the sums by channel that
BatchNorm's gradient needs (Ioffe & Szegedy 2015), a second the gradients. They agree with the layers run one
after the other but for rounding. That isn't done outside training, where x is the same at every step, where
the channels don't lie innermost, and for half precision; and where somebody has hooks on a layer, or another
forward in it, the layers run untouched.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.module import _has_any_global_hook  # pyright: ignore[reportPrivateUsage]

from .fused import Moments, Normalised
from .neurons import LIF, Gate

NORM = "norm"
"""The key of a node's `meta` below which the path of its BatchNorm stands."""

NEURONS = (LIF, Gate)
"""Whose forward is known; a subclass may have its own."""

SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")


def join(calls: fx.Graph, layers: nn.Module, taps: tuple[str, ...]) -> fx.Graph:
    """`calls` with one call, of x and what is added to it, for BatchNorm, a sum and LIF neurons.

    A BatchNorm or a sum whose result is used elsewhere too stays as it is.
    """

    def is_norm(node: Any) -> bool:
        if not isinstance(node, fx.Node) or node.op != "call_module" or len(node.users) != 1:
            return False
        if len(node.args) != 1 or node.kwargs or node.target in taps:
            return False
        return type(layers.get_submodule(str(node.target))) is nn.BatchNorm2d

    for neurons in list(calls.nodes):
        if neurons.op != "call_module" or len(neurons.args) != 1 or neurons.kwargs:
            continue
        if type(layers.get_submodule(str(neurons.target))) not in NEURONS:
            continue
        before = neurons.args[0]
        terms = before.args if _is_sum(before) else (before,)
        norm = next((term for term in reversed(terms) if is_norm(term)), None)
        if norm is None or len(set(terms)) < len(terms):
            continue
        neurons.args = (norm.args[0], *(term for term in terms if term is not norm))
        neurons.meta[NORM] = str(norm.target)
        for node in (before, norm):
            if not node.users and node in calls.nodes:
                calls.erase_node(node)
    return calls


def _is_sum(node: fx.Node) -> bool:
    """Whether it is a sum of two signals that is used once."""
    return (
        node.op in ("call_function", "call_method")
        and node.target in SUMS
        and len(node.users) == 1
        and not node.kwargs
        and len(node.args) == 2
        and all(isinstance(term, fx.Node) for term in node.args)
    )


class NormalisedNeurons(NamedTuple):
    """What one joined call runs."""

    norm: nn.BatchNorm2d
    neurons: LIF

    def over_time(self, timesteps: int, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Spikes (T, B, C, H, W) for x, and what is added to it when it is normalised, (S, B, C, H, W).

        S is T, or 1 for what is the same at every step.
        """
        if not torch.is_grad_enabled() or not self.fit(timesteps, x, added):
            return self.apart(timesteps, x, added)
        norm = self.norm
        constants = self.neurons.decay, self.neurons.threshold
        spikes, mean, variance = _NormalisedSpikes.apply(  # pyright: ignore[reportGeneralTypeIssues]
            x, added, norm.weight, norm.bias, norm.eps, constants
        )
        self.follow(mean, variance, x.numel() // len(mean))
        return spikes

    def apart(self, timesteps: int, x: Tensor, added: Tensor | None) -> Tensor:
        """As `over_time`, one layer after the other."""
        current = self.norm(x.flatten(0, 1))
        private = self.plain
        if added is not None and private and added.shape == x.shape and added.dtype == current.dtype:
            current = current.add_(added.flatten(0, 1)).unflatten(0, x.shape[:2])
        else:
            current = current.unflatten(0, x.shape[:2])
            current = current if added is None else current + added
        if private and len(current) == timesteps:
            return self.neurons.overwriting(current)
        return self.neurons(current.expand(timesteps, *current.shape[1:]))

    @property
    def plain(self) -> bool:
        """Whether the layers are those that were joined, and nobody watches them."""
        known = type(self.norm) is nn.BatchNorm2d and type(self.neurons) in NEURONS
        return known and not _has_any_global_hook() and not any(_is_watched(layer) for layer in self)

    def fit(self, timesteps: int, x: Tensor, added: Tensor | None) -> bool:
        """Whether the compiled passes can be run on these."""
        if not self.plain or not self.neurons.compiled or not self.norm.training:
            return False
        if len(x) != timesteps or not Normalised.fits(x):
            return False
        if x.numel() <= x.shape[2] or (added is not None and added.shape != x.shape):
            return False
        own = [self.norm.weight, self.norm.bias, self.norm.running_mean, added]
        return x.dtype in (torch.float32, torch.float64) and all(
            tensor is None or tensor.dtype == x.dtype for tensor in own
        )

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move BatchNorm's running statistics, if it has any, towards those of `count` values by channel."""
        norm = self.norm
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        if norm.running_mean is None or norm.running_var is None:
            return
        if norm.momentum is not None:
            share = norm.momentum
        else:
            share = 0.0 if norm.num_batches_tracked is None else 1 / norm.num_batches_tracked.item()
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(variance * (count / (count - 1)), share)


def _is_watched(layer: nn.Module) -> bool:
    """Whether calling it does more than its class's forward."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return "forward" in layer.__dict__ or any(hooks)


class _NormalisedSpikes(torch.autograd.Function):
    """Spikes of normalised x and what is added to it, with the surrogate of `neurons`; x's moments."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        added: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        constants: tuple[float, float],
    ) -> tuple[Tensor, Tensor, Tensor]:
        run = Normalised(x, added, constants)
        moments = run.moments(weight, bias, eps)
        ctx.save_for_backward(x, added, *moments)
        ctx.constants = constants
        ctx.affine = weight is not None, bias is not None
        ctx.mark_non_differentiable(moments.mean, moments.variance)
        ctx.set_materialize_grads(False)
        return run.spikes(moments), moments.mean, moments.variance

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Any, ...]:
        x, added, *moments = ctx.saved_tensors
        if grad_outputs[0] is None:
            return (None,) * 6
        run = Normalised(x, added, ctx.constants)
        by_x, by_added, by_weight, by_bias = run.gradients(Moments(*moments), grad_outputs[0])
        wanted = [by if there else None for by, there in zip((by_weight, by_bias), ctx.affine, strict=True)]
        return by_x, by_added, *wanted, None, None
