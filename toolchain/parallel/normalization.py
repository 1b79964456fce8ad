"""BatchNorm whose statistics are those of the whole batch, of which each process has a share.

Forward, with n values of a channel in all shares, μ = Σx/n and σ² = Σ(x − μ)²/n, each sum over all processes;
backward, with x̂ = (x − μ)/√(σ² + ε) and g the gradient that arrives,

    ∂x = w/√(σ² + ε)·(g − Σg/n − x̂·Σ(g·x̂)/n)        ∂w = Σ_own g·x̂        ∂b = Σ_own g

(Ioffe & Szegedy 2015). The gradients of w and b are the process's own: they are summed with all others.
`torch.nn.SyncBatchNorm` does the same on GPUs alone.
"""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


class WholeBatchNorm:
    """While the block runs, the BatchNorm layers below `root` normalise by whole batches in training.

    Args:
        processes: how many share a batch; where it is one, nothing changes.

    Attributes:
        alone: set it while each process looks at a whole batch itself.
    """

    def __init__(self, root: nn.Module, processes: int):
        self.alone = False
        shared = processes > 1
        self._layers = [m for m in root.modules() if isinstance(m, _BatchNorm)] if shared else []

    def __enter__(self) -> WholeBatchNorm:
        for layer in self._layers:
            layer.forward = partial(self._forward, layer)  # pyright: ignore[reportAttributeAccessIssue]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer in self._layers:
            del layer.forward

    def _forward(self, layer: Any, signal: Tensor) -> Tensor:
        if self.alone or not layer.training:
            return type(layer).forward(layer, signal)
        result, mean, variance, count = _Normalised.apply(signal, layer.weight, layer.bias, layer.eps)  # pyright: ignore[reportGeneralTypeIssues]
        if layer.track_running_stats:
            _follow(layer, mean, variance * (count / (count - 1).clamp(min=1)))
        return result


@torch.no_grad()
def _follow(layer: Any, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics towards a batch's."""
    layer.num_batches_tracked.add_(1)
    share = 1 / layer.num_batches_tracked.item() if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), share)
    layer.running_var.lerp_(variance.to(layer.running_var.dtype), share)


class _Normalised(torch.autograd.Function):
    """The normalised signal, mean and biased variance by channel, float64, and n."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, weight: Any, bias: Any, eps: float) -> tuple[Any, ...]:
        exact = signal if signal.dtype == torch.float64 else signal.float()
        axes = [axis for axis in range(signal.dim()) if axis != 1]
        along = [1, -1, *[1] * (signal.dim() - 2)]
        own_count = exact.new_tensor([signal.numel() / signal.shape[1]])
        total = _summed(torch.cat([exact.sum(axes), own_count]))
        count = total[-1]
        mean = total[:-1] / count
        centred = exact - mean.to(exact.dtype).view(along)
        variance = _summed(centred.square().sum(axes)) / count
        inverse = (variance + eps).rsqrt().to(exact.dtype).view(along)
        scale = inverse if weight is None else inverse * weight.to(exact.dtype).view(along)
        result = centred * scale
        if bias is not None:
            result = result + bias.to(exact.dtype).view(along)
        ctx.save_for_backward(signal, mean, inverse, scale)
        ctx.axes, ctx.along, ctx.count = axes, along, count
        ctx.weight = None if weight is None else weight.dtype
        ctx.bias = None if bias is None else bias.dtype
        ctx.mark_non_differentiable(mean, variance, count)
        return result.to(signal.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        signal, mean, inverse, scale = ctx.saved_tensors
        grad = grad_outputs[0].to(inverse.dtype)
        unit = (signal.to(inverse.dtype) - mean.to(inverse.dtype).view(ctx.along)) * inverse
        own, projected = grad.sum(ctx.axes), (grad * unit).sum(ctx.axes)
        means = (_summed(torch.stack([own, projected])) / ctx.count).to(grad.dtype)
        moved = means[0].view(ctx.along) + unit * means[1].view(ctx.along)
        return (
            (scale * (grad - moved)).to(signal.dtype),
            None if ctx.weight is None else projected.to(ctx.weight),
            None if ctx.bias is None else own.to(ctx.bias),
            None,
        )


def _summed(own: Tensor) -> Tensor:
    """Each value summed over all processes, float64."""
    total = own.double()
    distributed.all_reduce(total)
    return total
