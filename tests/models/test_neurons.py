"""The neuron against norse, and its hand-written backward pass against autograd."""

import norse.torch as norse
import pytest
import torch
from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters

from snnkd.models.neurons import LIF, lif_forward


def test_spikes_equal_norse_step_for_step():
    current = torch.randint(-24, 40, (8, 64, 50), generator=torch.Generator().manual_seed(0)) / 16
    spikes, _ = lif_forward(current, 0.5, 1.0)

    # norse integrates dt/τ·((v_leak − v) + x) with τ = dt/(1 − a): our state scaled by 1 − a.
    parameters = LIFBoxParameters(
        tau_mem_inv=torch.tensor(0.5 / 1e-3), v_th=torch.tensor(0.5), v_leak=torch.tensor(0.0)
    )
    cell = norse.LIFBoxCell(p=parameters, dt=1e-3)
    state = LIFBoxFeedForwardState(v=torch.zeros(64, 50))
    for step in range(len(current)):
        expected, state = cell(current[step], state)
        assert torch.equal(spikes[step], expected)
    assert 0.05 < spikes.mean() < 0.6


def test_threshold_is_strict_and_reset_is_hard():
    current = torch.tensor([[1.0], [0.6], [0.1]])
    spikes, membrane = lif_forward(current, 0.5, 1.0)
    assert spikes.flatten().tolist() == [0, 1, 0]
    assert membrane.flatten().tolist() == pytest.approx([1.0, 1.1, 0.1])


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("threshold", [1.0, 2.5])
def test_backward_equals_autograd(decay, threshold):
    generator = torch.Generator().manual_seed(1)
    current = (torch.randn(6, 40, generator=generator, dtype=torch.float64) * threshold).requires_grad_()
    weights = torch.randn(6, 40, generator=generator, dtype=torch.float64)
    (actual,) = torch.autograd.grad((LIF(decay, threshold)(current) * weights).sum(), current)

    state, total = torch.zeros(40, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for step in range(6):
        membrane = decay * state + current[step]
        fired = (membrane > threshold).double()
        slope = (1 - (membrane.detach() / threshold - 1).abs()).clamp(min=0) / threshold
        spike = fired + slope * (membrane - membrane.detach())  # value: the spike; gradient: the surrogate
        total = total + (spike * weights[step]).sum()
        state = membrane * (1 - fired)
    (expected,) = torch.autograd.grad(total, current)
    torch.testing.assert_close(actual, expected)
    assert (actual != 0).any()
