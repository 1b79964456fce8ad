"""Convolutions and linear layers of a mean whose result is known: that of what they make of the steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def is_linear(layer: nn.Module, steps: Tensor) -> bool:
    """Whether `mean_through` can do the layer, on such a signal."""
    if torch.is_autocast_enabled(steps.device.type):
        return False
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return type(layer) is nn.Linear


def mean_through(layer: Any, mean: Tensor, result: Tensor) -> Tensor:
    """`result`, with the gradient that the layer gives it for `mean`."""
    how = (
        (layer.stride, layer.padding, layer.dilation, layer.groups) if isinstance(layer, nn.Conv2d) else None
    )
    return _Known.apply(mean, layer.weight, layer.bias, result, how)  # pyright: ignore[reportReturnType]


class _Known(torch.autograd.Function):
    """A linear function whose value is known."""

    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, weight: Tensor, bias: Tensor | None, result: Tensor, how: Any
    ) -> Tensor:
        ctx.save_for_backward(mean, weight)
        ctx.how, ctx.bias = how, bias is not None
        return result.view_as(result)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        mean, weight = ctx.saved_tensors
        grad = grad_outputs[0]
        if ctx.how is None:
            rows = grad.flatten(0, -2)
            found = [grad @ weight, rows.T @ mean.flatten(0, -2), rows.sum(0) if ctx.bias else None]
            return (*found, None, None)
        stride, padding, dilation, groups = ctx.how
        biases, wanted = ([len(weight)] if ctx.bias else None), list(ctx.needs_input_grad[:3])
        found = torch.ops.aten.convolution_backward(
            *(grad, mean, weight, biases, stride, padding, dilation, False, [0, 0], groups, wanted)
        )
        return (*found, None, None)
