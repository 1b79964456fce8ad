"""A teacher that looks at windows of time, and a student that learns from each in its own steps."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from snnkd import InputError, train
from snnkd.models.contract import StudentOutput
from snnkd.toolchain import training
from snnkd.toolchain.checkpoint import load_weights
from snnkd.toolchain.comparing import looking
from snnkd.toolchain.comparing.looking import look
from snnkd.toolchain.distillation.maps import map_agreement
from snnkd.toolchain.networks import build_networks, freeze
from snnkd.toolchain.recipe import load_recipe
from snnkd.toolchain.run import Run
from snnkd.toolchain.teaching import by_window, mean_frame, over_time, over_windows, teacher_input

RATED = [
    "student.options.widths=[4, 6]",
    "teacher.options={widths=[4, 6], strides=[1, 2]}",
    "student.epochs=1",
    "teacher.epochs=1",
    "encoding.kind=rate",
    "timesteps=6",
]


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """A student and a teacher of three windows, trained for an epoch."""
    recipe = load_recipe("digits", [*RATED, "teacher.windows=3", "method=samd+kd"])
    stage = training._Training.of(recipe, None)
    stage.train_teacher(Run(tmp_path_factory.mktemp("windows")))
    return stage


def task_of(stage):
    return training.StudentTask(
        *(stage.student, stage.teacher, stage.method, stage.data, stage.fabric, 0), windows=3
    )


def test_windows_are_sums_of_their_steps():
    frames = torch.randint(0, 3, (6, 4, 2, 5, 5)).float()
    seen = teacher_input(frames, 3)
    assert seen.shape == (12, 2, 5, 5)
    for window in range(3):
        for sample in range(4):
            expected = frames[2 * window, sample] + frames[2 * window + 1, sample]
            assert torch.equal(seen[4 * window + sample], expected)
    assert torch.equal(mean_frame(frames, 3), seen / 2)
    assert torch.equal(teacher_input(frames), frames.sum(0))
    by_sample = over_time(frames.transpose(0, 1).byte().numpy(), 3)
    assert np.array_equal(by_sample, seen.reshape(3, 4, 2, 5, 5).transpose(0, 1).flatten(0, 1).numpy())
    images = torch.rand(4, 2, 5, 5)
    assert teacher_input(images, 1) is images


def test_a_student_s_steps_go_with_their_window():
    logits, spikes = torch.rand(6, 4, 10), torch.rand(6, 4, 3, 2, 2)
    cut = by_window(StudentOutput(logits, {"tap": spikes}), 3)
    assert cut.logits.shape == (2, 12, 10)
    for step in range(6):
        window, within = divmod(step, 2)
        for sample in range(4):
            assert torch.equal(cut.logits[within, 4 * window + sample], logits[step, sample])
            assert torch.equal(cut.features["tap"][within, 4 * window + sample], spikes[step, sample])
    assert torch.equal(over_windows(cut.logits.mean(0), 3), logits.unflatten(0, (3, 2)).mean(1).mean(0))


def test_the_losses_are_the_means_over_windows(staged):
    """Each computed here window by window, from what teacher and student say of it."""
    from snnkd.toolchain.distillation.kd import kd_loss
    from snnkd.toolchain.distillation.samd import samd_loss

    task = task_of(staged)
    staged.student.eval()
    images, labels = next(training.batches(staged.data.train, 16, 0))
    terms = task.step(images, labels).terms
    output = staged.student(images)
    samd, kd = 0.0, 0.0
    for window in range(3):
        steps = slice(2 * window, 2 * window + 2)
        taught = staged.teacher(images[steps].sum(0))
        features = output.features[staged.student.tap][steps], taught.features[staged.teacher.tap]
        weight = staged.teacher.classifier_weight
        samd += samd_loss(*features, weight, taught.logits, labels).item() / 3
        kd += (
            kd_loss(output.logits[steps].mean(0), taught.logits, staged.method.parts[1].temperature).item()
            / 3
        )
    assert terms["samd"].item() == pytest.approx(staged.method.parts[0].weight * samd, rel=1e-5)
    assert terms["kd"].item() == pytest.approx(staged.method.parts[1].weight * kd, rel=1e-5)
    assert terms["ce"].item() == pytest.approx(
        F.cross_entropy(output.logits.mean(0), labels).item(), rel=1e-6
    )


def test_a_window_teaches_its_own_steps_alone(staged):
    """With other frames in the last window, the gradient at the first two windows' logits is the same."""
    task = task_of(staged)
    images, labels = next(training.batches(staged.data.train, 8, 0))
    other = images.clone()
    other[4:] = other[4:].flip(-1)
    assert not torch.equal(images, other)
    gradients = []
    with torch.no_grad():
        output = staged.student.eval()(images)
    for shown in (images, other):
        logits = output.logits.clone().requires_grad_()
        batch = task._batch(StudentOutput(logits, output.features), shown, labels)
        task.method.losses(task._taught(batch, shown))["kd"].backward()
        gradients.append(logits.grad)
    assert gradients[0].abs().sum() > 0
    assert torch.equal(gradients[0][:4], gradients[1][:4])
    assert not torch.equal(gradients[0][4:], gradients[1][4:])


def test_one_window_is_what_a_student_learned_from_before(staged):
    """With W = 1 the method sees the very tensors that the networks gave."""
    output = StudentOutput(torch.rand(6, 4, 10), {"tap": torch.rand(6, 4, 3, 2, 2)})
    assert by_window(output, 1) is output
    logits = torch.rand(4, 10)
    assert over_windows(logits, 1) is logits


def test_the_teacher_is_scored_on_the_mean_of_its_windows(staged):
    split = staged.data.validation
    found = training.ann_accuracy_on(staged.teacher, split, staged.fabric, 3)
    seen = over_time(split.inputs.numpy(), 3)
    with torch.inference_mode():
        logits = staged.teacher(torch.from_numpy(seen).float()).logits.reshape(len(split.labels), 3, -1)
    assert found == (logits.mean(1).argmax(1) == split.labels).double().mean().item()
    assert staged.teacher.task.input_max == 2  # two binary steps are added up


def test_the_agreement_of_a_study_is_that_of_its_metrics(tmp_path):
    """Both are means over samples and windows; that of maps averaged over windows first is another."""
    run = train("digits", [*RATED, "teacher.windows=3", "method=samd"], tmp_path / "run")
    (row,) = [row for row in run.metrics() if row["role"] == "student"]
    found = look(run, run.teacher_file, tmp_path / "maps.npz")
    assert found == pytest.approx(row["map_agreement"], rel=1e-5)
    with np.load(tmp_path / "maps.npz") as file:
        assert file["student"].shape == file["teacher"].shape == (4, *file["teacher"].shape[1:])
        assert file["student"].ndim == 3
    data = training.load_with_progress(run.recipe, None)
    student, teacher = build_networks(run.recipe, data.task)
    load_weights(run.student_file, student)
    load_weights(run.teacher_file, teacher)
    freeze(student)
    freeze(teacher)
    own, taught = looking._maps(student.cpu(), teacher.cpu(), data.validation, 3)
    averaged = float(map_agreement(own.mean(1), taught.mean(1)).mean())
    assert averaged != pytest.approx(row["map_agreement"], abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["teacher.windows=4"], "doesn't divide 6 timesteps"),
        (["teacher.windows=2", "encoding.kind=none"], "is for samples over time"),
        (["teacher.windows=0"], "teacher.windows"),
    ],
)
def test_windows_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        load_recipe("digits", [*RATED, *settings])
