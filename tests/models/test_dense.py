"""The fully connected pair: its neurons step by step in NumPy, its twin, its lowered network."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from snnkd.export.ann import ann_to_graph
from snnkd.export.student import student_to_graph
from snnkd.models.contract import Ann, Student, TaskShape
from snnkd.models.dense import DenseOptions, DenseStudent, DenseTeacher

TASK = TaskShape((6, 1, 1), 3, 5)
OPTIONS = DenseOptions(widths=(9, 7))
STEPS = 4


def trained_looking(model: nn.Module) -> nn.Module:
    """Its BatchNorms as after training."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.weight.data = 1 + torch.rand(module.num_features)
            module.bias.data = torch.rand(module.num_features)
            module.running_mean = torch.randn(module.num_features) / 5
            module.running_var = 0.1 + torch.rand(module.num_features) / 4
    return model.eval()


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def folded(layers: nn.Module, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a layer with its BatchNorm folded in."""
    linear, norm = layers.get_submodule(f"linear{index}"), layers.get_submodule(f"norm{index}")
    scale = numbers(norm.weight) / np.sqrt(numbers(norm.running_var) + norm.eps)
    return numbers(linear.weight) * scale[:, None], numbers(norm.bias) - numbers(norm.running_mean) * scale


def test_every_step_is_that_of_the_equations():
    torch.manual_seed(0)
    student = trained_looking(DenseStudent(TASK, STEPS, OPTIONS))
    assert isinstance(student, Student)
    frames = torch.randint(0, 4, (STEPS, 8, 6, 1, 1)).float()
    emitted = student(frames)
    shown = numbers(frames).reshape(STEPS, 8, 6) / TASK.input_max
    for index, name in enumerate(student.taps, start=1):
        weight, bias = folded(student.layers, index)
        state, spikes = 0.0, []
        for step in shown:
            state = 0.5 * state + step @ weight.T + bias
            spikes.append((state > 1.0).astype(float))
            state = state * (1 - spikes[-1])
        shown = np.array(spikes)
        assert 0.05 < shown.mean() < 0.95
        assert emitted.features[name].shape == (STEPS, 8, (9, 7)[index - 1], 1, 1)
        assert np.array_equal(numbers(emitted.features[name]).reshape(shown.shape), shown)
    readout = student.layers.get_submodule("readout")
    expected = shown @ numbers(readout.weight).T + numbers(readout.bias)
    assert np.allclose(numbers(emitted.logits), expected, atol=1e-6)
    other = student(frames.flip(0)).features[student.tap].flip(0)
    assert not torch.equal(other, emitted.features[student.tap])


@pytest.mark.parametrize("shape", [(2, 4, 3), (700, 1, 1)])
def test_any_input_is_lowered_to_a_chain(shape):
    task = TaskShape(shape, 1, 5)
    graph = student_to_graph(trained_looking(DenseStudent(task, STEPS, OPTIONS)))
    assert [port.shape for port in graph.inputs] == [shape]
    assert [population.size for population in graph.populations] == [9, 7, 5]
    assert [population.neuron is None for population in graph.populations] == [False, False, True]


def test_the_twin_has_the_same_layers_without_time():
    student, teacher = DenseStudent(TASK, STEPS, OPTIONS), trained_looking(DenseTeacher(TASK, OPTIONS))
    assert isinstance(teacher, Ann)
    names = [name for name, _ in student.layers.named_children()]
    assert [name for name, _ in teacher.layers.named_children()] == names
    images = torch.randint(0, 4, (8, 6, 1, 1)).float()
    taught = teacher(images)
    hidden = numbers(images).reshape(8, 6) / TASK.input_max
    for index, name in enumerate(teacher.taps, start=1):
        weight, bias = folded(teacher.layers, index)
        hidden = np.maximum(hidden @ weight.T + bias, 0)
        assert np.allclose(numbers(taught.features[name])[..., 0, 0], hidden, atol=1e-6)
    assert teacher.classifier_weight.shape == (5, 7)
    assert taught.logits.shape == (8, 5)
    ann_to_graph(teacher)


def test_a_network_without_a_hidden_layer_is_refused():
    with pytest.raises(ValidationError, match="at least 1 item"):
        DenseOptions(widths=())
