"""The plain convolutional pair: shapes, one computation of the static first layer, and the pooling option."""

import pytest
import torch

from snnkd.models.contract import Student, TaskShape
from snnkd.models.conv import ConvOptions, ConvStudent, ConvTeacher

TASK = TaskShape((2, 8, 8), 16, 5)
OPTIONS = ConvOptions(widths=(6, 8), strides=(1, 2), pooling=2)


def test_outputs_have_the_contract_s_shapes():
    student, teacher = ConvStudent(TASK, 3, OPTIONS), ConvTeacher(TASK, OPTIONS)
    assert isinstance(student, Student)
    images = torch.randint(0, 17, (4, 2, 8, 8)).float()
    emitted, taught = student(images), teacher(images)
    assert emitted.logits.shape == (3, 4, 5)
    assert emitted.features[student.tap].shape == (3, 4, 8, 4, 4)
    assert set(emitted.features[student.tap].unique().tolist()) <= {0.0, 1.0}
    assert taught.logits.shape == (4, 5)
    assert taught.features[teacher.tap].shape == (4, 8, 4, 4)
    assert teacher.classifier_weight.shape == (5, 8)


def test_static_images_equal_the_same_frame_shown_at_every_step():
    torch.manual_seed(0)
    student = ConvStudent(TASK, 3, OPTIONS).eval()
    images = torch.randint(0, 17, (4, 2, 8, 8)).float()
    static, frames = student(images), student(images.expand(3, *images.shape))
    assert torch.equal(static.features[student.tap], frames.features[student.tap])


def test_pooling_that_does_not_divide_the_map_is_refused():
    with pytest.raises(ValueError, match="pooling 3 doesn't divide the last map, 4×4"):
        ConvStudent(TASK, 3, ConvOptions(widths=(6, 8), strides=(1, 2), pooling=3))


def test_classes_that_spike_have_their_spikes_for_logits_and_need_no_biases():
    torch.manual_seed(0)
    options = ConvOptions(**OPTIONS.model_dump() | {"readout": "spikes", "normalization": "none"})
    student, teacher = ConvStudent(TASK, 3, options, decay=1.0), ConvTeacher(TASK, options)
    assert not [name for name, _ in student.named_parameters() if not name.endswith("weight")]
    assert not [layer for layer in student.layers if isinstance(layer, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter *= 3
        logits = student(torch.randint(0, 17, (8, 2, 8, 8)).float()).logits
    assert set(logits.unique().tolist()) == {0.0, 10.0}
    loss = student(torch.randint(0, 17, (8, 2, 8, 8)).float()).logits.mean()
    loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in student.parameters())
    assert isinstance(list(teacher.layers)[-1], torch.nn.Linear), "a teacher's logits are sums"
