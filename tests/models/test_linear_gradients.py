"""A linear layer's gradient for a mean whose result is known, against autograd's."""

import copy

import pytest
import torch
from torch import nn

from snnkd.models.gradients.linear import is_linear, mean_through

LAYERS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1),
    "strided": nn.Conv2d(4, 6, 3, stride=2, padding=(1, 0), bias=False),
    "grouped": nn.Conv2d(4, 8, (3, 1), groups=2, dilation=(2, 1)),
    "linear": nn.Linear(7, 5),
    "without bias": nn.Linear(7, 5, bias=False),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_are_the_layer_s(name, frozen):
    layer = copy.deepcopy(LAYERS[name]).double()
    layer.weight.requires_grad_(not frozen)
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(5, 3, 4, 7, 7, dtype=torch.float64, generator=generator)
    assert is_linear(layer, steps)
    with torch.no_grad():
        known = layer(steps.flatten(0, 1)).unflatten(0, (5, 3)).mean(0)
    leaves = [steps.mean(0).requires_grad_() for _ in range(2)]
    results = [layer(leaves[0]), mean_through(layer, leaves[1], known)]
    torch.testing.assert_close(results[1], results[0])  # of a linear layer the mean is the mean's
    arriving = torch.randn(known.shape, dtype=torch.float64, generator=generator)
    wanted = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    for ours, theirs in zip(
        torch.autograd.grad(results[1], [leaves[1], *wanted], arriving),
        torch.autograd.grad(results[0], [leaves[0], *wanted], arriving),
        strict=True,
    ):
        assert theirs.any()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_other_layers_are_run():
    steps = torch.zeros(1)
    assert not is_linear(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), steps)
    assert not is_linear(nn.Conv2d(2, 2, 3, padding="same"), steps)
    assert not is_linear(nn.ReLU(), steps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_linear(nn.Linear(2, 2), steps)
