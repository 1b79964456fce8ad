"""Xylo's neuron against a plain loop, its gradient against autograd, and the students made of it."""

from __future__ import annotations

import pytest
import torch

from snnkd.export.student import deployability_problems, student_to_graph
from snnkd.models import neurons
from snnkd.models.contract import TaskShape
from snnkd.models.family import MODELS
from snnkd.models.xylo_neuron import STEEPNESS, XyloNeuron, kept, xylo_forward
from snnkd.toolchain.simulation.simulator import Simulator

TASK = TaskShape((16, 1, 1), 15, 10)


def currents(steps=7, size=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-60, 120, (steps, 3, size), generator=generator, dtype=torch.float64) / 16


@pytest.mark.parametrize(("most", "seen"), [(31, 3), (1, 1)])
def test_it_does_what_its_equations_say(most, seen):
    current = currents()
    spikes, membrane = xylo_forward(current, 0.5, 0.875, 1.25, most)
    u = v = torch.zeros_like(current[0])
    for step in range(len(current)):
        u = 0.5 * (u + current[step])
        v = 0.875 * v + u
        assert torch.equal(membrane[step], v)
        fired = torch.zeros_like(v)
        for _ in range(most):  # one after the other, as the chip does
            fires = v >= 1.25
            fired, v = fired + fires, v - 1.25 * fires
        assert torch.equal(spikes[step], fired)
    assert spikes.max() >= seen and spikes.min() == 0


def test_it_fires_at_the_threshold_and_keeps_the_rest():
    spikes, _ = xylo_forward(torch.tensor([[4.0], [0.0], [5.0]]), 0.5, 0.5, 1.0, 31)
    assert spikes.flatten().tolist() == [2, 1, 3]
    spikes, _ = xylo_forward(torch.tensor([[4.0], [0.0]]), 0.5, 0.5, 1.0, 1)
    assert spikes.flatten().tolist() == [1, 1]


@pytest.mark.parametrize("most", [31, 2, 1])
def test_backward_equals_autograd(most):
    current = currents().requires_grad_()
    weights = torch.randn(current.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    neuron = XyloNeuron(2, 3, 0.75, most)
    (actual,) = torch.autograd.grad((neuron(current) * weights).sum(), current)

    u = v = torch.zeros_like(current[0])
    total = torch.zeros((), dtype=torch.float64)
    for step in range(len(current)):
        u = kept(2) * (u + current[step])
        v = kept(3) * v + u
        fired = torch.floor(v.detach() / 0.75).clamp(0, most)
        away = torch.maximum(1 - v.detach() / 0.75, v.detach() / 0.75 - most).clamp(min=0)
        slope = 1 / (0.75 * (1 + STEEPNESS * away) ** 2)
        spike = fired + slope * (v - v.detach())  # value: the spikes; gradient: the surrogate
        total = total + (spike * weights[step]).sum()
        v = v - 0.75 * fired
    (expected,) = torch.autograd.grad(total, current)
    torch.testing.assert_close(actual, expected)
    assert (actual != 0).all()


def test_parts_of_a_batch_are_run_as_the_whole(monkeypatch):
    found = []
    for elements in (1 << 30, 70):
        monkeypatch.setattr(neurons, "CHUNK_ELEMENTS", elements)
        traced = currents().requires_grad_()
        spikes = XyloNeuron(1, 3)(traced)
        spikes.sum().backward()
        found.append((spikes.detach(), traced.grad))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def build(**options):
    family = MODELS.load("xylo")
    torch.manual_seed(0)
    student = family.student(TASK, 6, family.options(**options), 0.5, 1.0)
    with torch.no_grad():
        for weight in student.parameters():
            weight.mul_(4)  # so that neurons spike several times in a step, as trained ones do
    return student


def test_a_student_counts_its_output_spikes():
    student = build(widths=(30, 20)).eval()
    frames = torch.randint(0, 16, (6, 5, 16, 1, 1), generator=torch.Generator().manual_seed(2)).float()
    output = student(frames)
    assert output.logits.shape == (6, 5, 10)
    assert set(output.logits.unique().tolist()) == {0.0, 6.0}
    assert output.features["neuron2"].shape == (6, 5, 20, 1, 1)
    assert output.features["neuron1"].max() > 1


def test_a_student_lowered_spikes_the_same():
    student = build(widths=(30, 20), dropout=0.3).double().eval()
    assert deployability_problems(student) == []
    frames = torch.randint(0, 16, (6, 20, 16, 1, 1), generator=torch.Generator().manual_seed(2))
    output = student(frames.double())
    graph = student_to_graph(student)
    activity = Simulator(graph, 6).run(frames.transpose(0, 1))
    for name, counts in output.features.items():
        differing = activity.spikes[name] != counts[..., 0, 0]
        assert differing.double().mean() < 1e-3  # float32 beside float64
        assert activity.spikes[name].max() > 1
    assert (activity.totals == output.logits.sum(0).div(6)).double().mean() > 0.99


def test_its_twin_is_an_ann_of_the_same_widths():
    family = MODELS.load("xylo")
    teacher = family.teacher(TASK, family.options(widths=(30, 20)))
    output = teacher.eval()(torch.zeros(2, 16, 1, 1))
    assert output.logits.shape == (2, 10)
    assert [f.shape[1] for f in output.features.values()] == [30, 20]
