"""The loops that are compiled, against those that run step after step."""

import pytest
import torch

from snnkd import InputError
from snnkd.models import fused, loops
from snnkd.models.compiling import compile_neurons
from snnkd.models.gradients.rate import eligibility
from snnkd.models.neurons import LIF, lif_forward

CONSTANTS = [(0.5, 1.0), (0.0, 1.0), (1.0, 2.5)]
SHAPES = [(4, 3, 5, 6, 7), (4, 3, 20), (1, 2, 3)]


def currents(shape, threshold=1.0, channels_last=False):
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 1.5 * threshold
    if channels_last and len(shape) == 5:
        folded = drawn.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        drawn = folded.unflatten(0, shape[:2])
    return drawn


def check(decay, threshold, shape, channels_last=False):
    """Spikes, potentials, gradients, and what `rate` needs, of both."""
    current = currents(shape, threshold, channels_last)
    spikes, membrane = lif_forward(current, decay, threshold)
    own_spikes, own_membrane = fused.lif_forward(current, decay, threshold)
    assert torch.equal(own_spikes, spikes)
    assert torch.equal(own_membrane, membrane)
    assert 0 < spikes.mean() < 1

    arriving = currents(shape)
    needing = current.clone().requires_grad_()
    LIF(decay, threshold)(needing).backward(arriving)
    assert torch.equal(fused.lif_backward(own_membrane, arriving, decay, threshold), needing.grad)
    assert needing.grad.any()

    own_spikes, rate, derivative = fused.lif_rates(current, decay, threshold)
    assert torch.equal(own_spikes, spikes)
    assert torch.equal(rate, spikes.mean(0))
    torch.testing.assert_close(derivative, eligibility(membrane, spikes, decay, threshold))
    assert own_spikes.stride()[1:] == derivative.stride() == current[0].stride()


@pytest.mark.parametrize(("decay", "threshold"), CONSTANTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_loops_equal_those_step_after_step(monkeypatch, decay, threshold, shape):
    monkeypatch.setattr(
        fused, "_compiled", lambda loop, *variant: loop
    )  # as Python; compiled, in the next test
    check(decay, threshold, shape)
    check(decay, threshold, shape, channels_last=True)


def test_other_decays_round_otherwise():
    current = currents((6, 500))
    _, membrane = lif_forward(current, 0.9, 1.0)
    _, own = loops.spikes_and_membrane(current, torch.tensor(0.9), torch.tensor(1.0))
    torch.testing.assert_close(own, membrane)


@pytest.mark.slow
@pytest.mark.parametrize(("decay", "threshold"), CONSTANTS[:2])
def test_compiled_they_still_do(decay, threshold):
    for shape in (*SHAPES, (4, 2, 16, 32, 32)):
        check(decay, threshold, shape)
        check(decay, threshold, shape, channels_last=True)


def test_one_step_shown_again_and_again_keeps_its_layout():
    """Else everything behind a student's first neurons would lie in another order, and be slower."""
    step = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    spikes, membrane = lif_forward(step.expand(6, *step.shape), 0.5, 1.0)
    assert spikes.stride() == membrane.stride() == (step.numel(), *step.stride())


def test_without_a_compiler_it_is_refused_in_one_line(monkeypatch):
    def nothing(loop, *variant):
        raise RuntimeError("no C++ compiler found\nand much more")

    monkeypatch.setattr(fused, "_compiled", nothing)
    with pytest.raises(InputError, match=r"can't be compiled \(no C\+\+ compiler found\); install"):
        compile_neurons(torch.nn.Sequential(LIF()), timesteps=2)
