"""The neuron against norse, and its hand-written backward pass against autograd."""

import norse.torch as norse
import pytest
import torch
from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters

from snnkd.models import neurons
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


@pytest.mark.parametrize("shape", [(4, 9, 3, 5, 5), (3, 1, 40), (4, 7), (40,)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_parts_of_a_batch_are_run_as_the_whole(monkeypatch, shape, channels_last):
    """Every batch size and memory layout gives the very same spikes, potentials and gradients."""
    generator = torch.Generator().manual_seed(2)
    current = 2 * torch.randn(shape, generator=generator)
    gradient = torch.randn(shape, generator=generator)
    if channels_last and len(shape) == 5:
        folded = current.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        current = folded.unflatten(0, shape[:2])
    found = []
    for elements in (1 << 30, 150, 1):
        monkeypatch.setattr(neurons, "CHUNK_ELEMENTS", elements)
        traced = current.clone().requires_grad_()
        LIF(0.9, 0.7)(traced).backward(gradient)
        found.append((*lif_forward(current, 0.9, 0.7), traced.grad))
    assert 0.02 < found[0][0].mean() < 0.6
    for others in found[1:]:
        assert all(torch.equal(whole, parts) for whole, parts in zip(found[0], others, strict=True))


def test_potentials_may_take_the_place_of_currents():
    generator = torch.Generator().manual_seed(2)
    current = 2 * torch.randn((4, 9, 3, 5, 5), generator=generator)
    found = []
    for way in (LIF.forward, LIF.overwriting):
        source = current.clone().requires_grad_()
        arriving = source.clone()
        spikes = way(LIF(0.9, 0.7), arriving)
        left = arriving.detach().clone()
        spikes.backward(current.cos())
        found.append((spikes, source.grad, left))
    spikes, membrane = lif_forward(current, 0.9, 0.7)
    assert torch.equal(found[0][2], current) and torch.equal(found[1][2], membrane)
    assert all(torch.equal(spikes, own) and torch.equal(found[0][1], grad) for own, grad, _ in found)


@pytest.mark.parametrize("way", [LIF.forward, LIF.overwriting])
def test_a_gradient_is_no_part_of_the_graph(way):
    """Though it lies where a tensor of the graph did."""
    arriving = torch.randn((4, 9), generator=torch.Generator().manual_seed(2)).requires_grad_().clone()
    (grad,) = torch.autograd.grad(way(LIF(), arriving).sum(), arriving)
    assert grad.any() and not grad.requires_grad


@pytest.mark.parametrize("way", [LIF.forward, LIF.overwriting])
def test_a_kept_graph_gives_its_gradient_again(way):
    """The last pass may write over the potentials, no other."""
    generator = torch.Generator().manual_seed(2)
    current = (2 * torch.randn((4, 9, 3, 5, 5), generator=generator)).requires_grad_()
    arriving = torch.randn(current.shape, generator=generator)
    spikes = way(LIF(0.9, 0.7), current.clone())
    grads = [
        torch.autograd.grad(spikes, current, arriving, retain_graph=kept)[0].clone()
        for kept in (True, True, False)
    ]
    assert grads[0].any()
    assert torch.equal(grads[0], grads[1]) and torch.equal(grads[0], grads[2])


def test_torch_compile_takes_it_whole():
    generator, found = torch.Generator(), []
    for layer in (LIF(), torch.compile(LIF(), fullgraph=True, backend="aot_eager")):
        current = torch.randn((4, 9), generator=generator.manual_seed(2)).requires_grad_()
        layer(current).sum().backward()
        found.append(current.grad)
    assert found[0].any() and torch.equal(*found)


def test_a_threshold_may_differ_from_neuron_to_neuron(monkeypatch):
    monkeypatch.setattr(neurons, "CHUNK_ELEMENTS", 8)
    generator = torch.Generator().manual_seed(3)
    current = torch.randn((4, 6, 3, 2, 2), generator=generator)
    for shape in ((3, 1, 1), (6, 3, 2, 2), (1, 3, 2, 2), ()):
        threshold = torch.rand(shape, generator=generator)
        spikes, membrane = lif_forward(current, 0.5, threshold)
        state = torch.zeros(6, 3, 2, 2)
        for step in range(4):
            state = 0.5 * state + current[step]
            assert torch.equal(membrane[step], state)
            assert torch.equal(spikes[step], (state > threshold).float())
            state = torch.where(state > threshold, 0, state)
        assert 0.05 < spikes.mean() < 0.6
