"""Rate-based backpropagation: T steps without gradient, then one of their means with it; memory without T.

Source: Yu et al., NeurIPS 2024 (arXiv 2410.11488), and its released code. The spikes are those of the
forward pass over time, to the bit. Each neuron records its rate r = mean_t s[t] and its eligibility

    e[1] = 1;   e[t] = 1 + a·1[s[t−1] = 0]·e[t−1];      E = (1/T)·Σ_t h(v[t])·e[t]

with h the surrogate derivative. e[t] is ∂v[t]/∂c for a current that grows by c at all steps, so E is the
derivative of the rate by the mean current, exact where the gradient that arrives is the same at every step.
Backward, a neuron multiplies by E; every other layer is differentiated at the mean of what it was given. What
a linear layer makes of that mean is the mean of what it made of the steps, and isn't computed again. For
T = 1 that is backpropagation through time. What comes out of the network has the values of each step and the
gradient of their mean.

BatchNorm takes its statistics over samples and steps. Backward its mean and variance are those, and change
as the time mean's do (as in the released code). Different from that code: the reset passes no gradient to e,
as in `neurons`; layers without any state before the first neurons are run once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from ... import InputError
from ..contract import StudentOutput
from ..fused import Normalised, lif_rates
from ..joined import NormalisedNeurons
from ..neurons import LIF, SpikingNeuron, cache_sized, lif_forward
from ..unrolled import SpikingStudent, at_each_step, call
from .backend import Gradient
from .linear import is_linear, mean_through

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d)


class Rate(Gradient):
    """The backend; it has no options."""

    def install(self, student: SpikingStudent) -> None:
        for name, module in student.layers.named_modules():
            if isinstance(module, DROPOUTS) and module.p > 0:
                raise InputError(
                    f"gradient 'rate' can't go through {name}, a dropout; leave it out, or use bptt"
                )
            if isinstance(module, SpikingNeuron) and not isinstance(module, LIF):
                raise InputError(
                    f"gradient 'rate' knows LIF neurons, {name} is a {type(module).__name__}; use bptt"
                )
        student.gradient = run_rates


class _Signal:
    """A signal without gradient at each of S steps, (S, B, …), and its mean with gradient, (B, …).

    Args:
        mean: the mean, or what makes it, with its gradient, of its value, which is worked out when it is
            asked for.
        shown: at a tap, what the steps are with the gradient of their mean, which goes on from there.
    """

    def __init__(self, steps: Tensor, mean: Tensor | Callable[[Tensor], Tensor], shown: Tensor | None = None):
        self.steps, self._mean, self.shown = steps, mean, shown

    @property
    def mean(self) -> Tensor:
        return self._mean if isinstance(self._mean, Tensor) else self.mean_of(_mean(self.steps))

    def mean_of(self, value: Tensor) -> Tensor:
        """The mean, whose value is known."""
        if not isinstance(self._mean, Tensor):
            self._mean = self._mean(value)
        return self._mean


@torch.no_grad()
def _mean(steps: Tensor) -> Tensor:
    """In the layout of a step."""
    return torch.mean(steps, 0, out=torch.empty_like(steps[0]))


def run_rates(student: SpikingStudent, signal: Tensor, timesteps: int) -> StudentOutput:
    """A `unrolled.Runner` with the gradient of this module."""

    def emitted(layer: Any, signal: _Signal, *added: _Signal) -> _Signal:
        if isinstance(layer, NormalisedNeurons):
            return _joined_spikes(layer, signal, *added, timesteps=timesteps)
        if isinstance(layer, LIF):
            return _spikes(layer, signal, timesteps)
        if len(signal.steps) == 1:
            mean = layer(signal.mean)
            return _Signal(mean.detach()[None], mean)
        if isinstance(layer, BATCH_NORMS) and layer.training:
            return _normalised(layer, signal)
        if is_linear(layer, signal.steps):
            with torch.no_grad():
                steps = at_each_step(layer, signal.steps)
            return _Signal(steps, partial(mean_through, layer, signal.mean))
        mean = layer(
            signal.mean
        )  # first: under autocast a weight's copy has a gradient if its first user needs one
        with torch.no_grad():
            return _Signal(at_each_step(layer, signal.steps), mean)

    def called(node: fx.Node, signal_of) -> _Signal:
        mean = call(node, lambda source: signal_of(source).mean)
        with torch.no_grad():
            return _Signal(call(node, lambda source: signal_of(source).steps), mean)

    def tapped(signal: _Signal) -> _Signal:
        shown = _as_steps(signal, timesteps)
        return _Signal(signal.steps, _Mean.apply(shown, signal.mean.detach()), shown)  # pyright: ignore[reportArgumentType]

    mean = signal[0] if len(signal) == 1 else signal.mean(0)
    result, features = student.walk(_Signal(signal.detach(), mean), emitted, called, tapped)
    shown = {name: feature.shown for name, feature in features.items() if feature.shown is not None}
    return StudentOutput(_as_steps(result, timesteps), shown)


def _as_steps(signal: _Signal, timesteps: int) -> Tensor:
    """Each step's values with the gradient of their mean, (T, B, …)."""
    steps = signal.steps.expand(timesteps, *signal.steps.shape[1:])
    return _Steps.apply(steps, signal.mean)  # pyright: ignore[reportReturnType]


class _Steps(torch.autograd.Function):
    """Values of all steps that hand their gradients on to a mean as if each of them were it."""

    @staticmethod
    def forward(ctx, steps: Tensor, mean: Tensor) -> Tensor:
        return steps.view_as(steps)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[None, Tensor]:
        return None, grad_outputs[0].sum(0)


class _Mean(torch.autograd.Function):
    """The mean of all steps, which is known."""

    @staticmethod
    def forward(ctx, steps: Tensor, mean: Tensor) -> Tensor:
        ctx.shape = steps.shape
        return mean.view_as(mean)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return (grad_outputs[0] / ctx.shape[0]).expand(ctx.shape), None


def _spikes(neuron: LIF, signal: _Signal, timesteps: int) -> _Signal:
    with torch.no_grad():
        current = signal.steps.expand(timesteps, *signal.steps.shape[1:])
        if neuron.compiled:
            spikes, rate, derivative = lif_rates(current, neuron.decay, neuron.threshold)
        else:
            spikes, membrane = lif_forward(current, neuron.decay, neuron.threshold)
            rate = _mean(spikes)
            derivative = eligibility(membrane, spikes, neuron.decay, neuron.threshold)
    return _Signal(spikes, _Rate.apply(signal.mean, rate, derivative))  # pyright: ignore[reportArgumentType]


def _joined_spikes(
    layer: NormalisedNeurons, x: _Signal, added: _Signal | None = None, *, timesteps: int
) -> _Signal:
    """Of BatchNorm, what is added, and neurons."""
    norm, neurons = layer
    added_steps = None if added is None else added.steps
    if not layer.fit(timesteps, x.steps, added_steps):
        return _apart(layer, x, added, timesteps)
    with torch.no_grad():
        constants = neurons.decay, neurons.threshold
        run = Normalised(x.steps, added_steps, constants)
        moments = run.moments(norm.weight, norm.bias, norm.eps)
        spikes, rate, derivative, mean = run.rates(moments)
        layer.follow(moments.mean, moments.variance, x.steps.numel() // len(moments.mean))
    found = _NormalisedRate.apply(
        x.mean_of(mean),
        None if added is None else added.mean,
        *(norm.weight, norm.bias, moments.mean, moments.inverse, norm.eps, rate, derivative),
    )
    return _Signal(spikes, found)  # pyright: ignore[reportArgumentType]


def _apart(layer: NormalisedNeurons, x: _Signal, added: _Signal | None, timesteps: int) -> _Signal:
    """As `_joined_spikes`, layer after layer."""
    if layer.norm.training and len(x.steps) > 1:
        current = _normalised(layer.norm, x)
    else:
        mean = layer.norm(x.mean)
        with torch.no_grad():
            steps = mean.detach()[None] if len(x.steps) == 1 else at_each_step(layer.norm, x.steps)
        current = _Signal(steps, mean)
    if added is not None:
        current = _Signal(current.steps + added.steps, current.mean + added.mean)
    return _spikes(layer.neurons, current, timesteps)


def eligibility(membrane: Tensor, spikes: Tensor, decay: float, threshold: float) -> Tensor:
    """E of this module, (…), for spikes and the potentials before them, (T, …), which are overwritten."""
    total = torch.zeros_like(membrane[:1])
    for potentials, fired, result in cache_sized(membrane, spikes, total):
        surrogate = potentials.sub_(threshold).abs_().neg_().add_(threshold).clamp_(min=0)
        trace = torch.ones_like(result[0])
        for step in range(len(surrogate)):
            result[0].addcmul_(surrogate[step], trace)
            trace.addcmul_(trace, fired[step], value=-1).mul_(decay).add_(1)
    return total[0].div_(len(membrane) * threshold**2)


class _Rate(torch.autograd.Function):
    """A rate whose derivative by the mean current is known."""

    @staticmethod
    def forward(ctx, current: Tensor, rate: Tensor, derivative: Tensor) -> Tensor:
        ctx.save_for_backward(derivative)
        return rate.view_as(rate)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (derivative,) = ctx.saved_tensors
        return derivative * grad_outputs[0], None, None  # in the layout of the first factor


class _NormalisedRate(torch.autograd.Function):
    """`_Rate` of `_NormalisedMean` of a mean and what is added to it."""

    @staticmethod
    def forward(
        ctx: Any,
        mean: Tensor,
        added: Tensor | None,
        weight: Any,
        bias: Any,
        centre: Tensor,
        inverse: Tensor,
        eps: float,
        rate: Tensor,
        derivative: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(mean, weight, centre, inverse, derivative)
        ctx.eps, ctx.affine, ctx.sums = eps, (weight is not None, bias is not None), added is not None
        return rate.view_as(rate)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        mean, weight, centre, inverse, derivative = ctx.saved_tensors
        by_current = derivative * grad_outputs[0]
        found = _through_norm(by_current, mean, weight, centre, inverse, ctx.eps, ctx.affine)
        return (found[0], by_current if ctx.sums else None, *found[1:], *[None] * 5)


def _normalised(layer: Any, signal: _Signal) -> _Signal:
    """What BatchNorm in training makes of a signal; the mean by the statistics of all steps."""
    seen = layer.num_batches_tracked
    if seen is not None:
        seen.add_(1)
    momentum = layer.momentum if layer.momentum is not None or seen is None else 1 / seen.item()
    with torch.no_grad():
        steps, centre, inverse = torch.native_batch_norm(
            signal.steps.flatten(0, 1),
            layer.weight,
            layer.bias,
            layer.running_mean,
            layer.running_var,
            True,
            momentum or 0.0,
            layer.eps,
        )
    mean = _NormalisedMean.apply(signal.mean, layer.weight, layer.bias, centre, inverse, layer.eps)
    return _Signal(steps.unflatten(0, signal.steps.shape[:2]), mean)  # pyright: ignore[reportArgumentType]


class _NormalisedMean(torch.autograd.Function):
    """BatchNorm of a mean by given statistics that count as its own: they move with it."""

    @staticmethod
    def forward(
        ctx, mean: Tensor, weight: Any, bias: Any, centre: Tensor, inverse: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(mean, weight, centre, inverse)
        ctx.eps, ctx.affine = eps, (weight is not None, bias is not None)
        variance = inverse.pow(-2) - eps
        return torch.native_batch_norm(mean, weight, bias, centre, variance, False, 0.0, eps)[0]

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Any, ...]:
        mean, weight, centre, inverse = ctx.saved_tensors
        found = _through_norm(grad_outputs[0], mean, weight, centre, inverse, ctx.eps, ctx.affine)
        return (*found, None, None, None)


def _through_norm(
    grad: Tensor,
    mean: Tensor,
    weight: Any,
    centre: Tensor,
    inverse: Tensor,
    eps: float,
    affine: tuple[bool, bool],
) -> tuple[Tensor | None, ...]:
    """BatchNorm's gradients at a mean, by it and by weight and bias, the given statistics its own."""
    return torch.ops.aten.native_batch_norm_backward(
        grad, mean, weight, None, None, centre, inverse, True, eps, [True, *affine]
    )
