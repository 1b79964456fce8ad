"""Training: the teacher stays as it is, seeds decide everything, a killed run ends in the same weights."""

import json
import random
import shutil
import subprocess
import sys
import time

import pytest
import torch

import snnkd
from snnkd import InputError, Refusal
from snnkd.toolchain import training
from snnkd.toolchain.checkpoint import load_tensors
from snnkd.toolchain.recipe import load_recipe
from snnkd.toolchain.run import Run

SMALL = [
    "student.options.widths=[6, 8]",
    "teacher.options={widths=[6, 8], strides=[1, 2]}",
    "student.epochs=8",
    "teacher.epochs=8",
    "augmentation.rotate_degrees=0",
]


def rows_of(run):
    return [json.loads(line) for line in run.metrics_file.read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small student, trained by every method at once."""
    return snnkd.train("digits", [*SMALL, "method=samd+nld+kd"], tmp_path_factory.mktemp("run") / "a")


def test_a_run_s_folder_holds_what_the_stages_after_it_need(trained):
    summary, rows = trained.summary(), rows_of(trained)
    assert summary["student"]["test_accuracy"] > 0.5
    assert summary["teacher"]["test_accuracy"] > 0.3
    assert 0 < summary["student"]["spike_rate"] < 0.6
    assert trained.network_file.exists()
    student = [row for row in rows if row["role"] == "student"]
    assert [row["epoch"] for row in student] == list(range(1, 9))
    assert student[-1]["loss"] < student[0]["loss"]
    assert set(student[0]["terms"]) == {"ce", "samd", "nld", "kd"} == set(student[0]["tap_gradient_norms"])
    assert all(norm > 0 for row in student for norm in row["tap_gradient_norms"].values())
    assert -1 <= student[0]["map_agreement"] <= 1


def test_the_same_seed_gives_the_same_bits_and_another_one_others(trained, tmp_path):
    arguments = [*SMALL, "method=samd+nld+kd"]
    again = snnkd.train("digits", arguments, tmp_path / "again")
    assert again.student_file.read_bytes() == trained.student_file.read_bytes()
    assert again.teacher_file.read_bytes() == trained.teacher_file.read_bytes()
    other = snnkd.train(
        "digits", [*arguments, "seed=1", "student.epochs=1", "teacher.epochs=1"], tmp_path / "b"
    )
    assert other.student_file.read_bytes() != trained.student_file.read_bytes()


def test_distillation_leaves_the_teacher_s_weights_and_buffers_bit_for_bit(tmp_path):
    recipe = load_recipe("digits", [*SMALL, "method=samd+nld"])
    stage = training._Training.of(recipe, None)
    stage.train_teacher(Run(tmp_path))
    before = {name: tensor.clone() for name, tensor in stage.teacher.state_dict().items()}
    assert any("running_mean" in name for name in before)
    untrained = {name: tensor.clone() for name, tensor in stage.student.state_dict().items()}
    stage.train_student(Run(tmp_path))
    assert all(torch.equal(before[name], tensor) for name, tensor in stage.teacher.state_dict().items())
    assert not any(torch.equal(untrained[n], t) for n, t in stage.student.state_dict().items())


def test_gradients_reach_every_trainable_parameter():
    recipe = load_recipe("digits", [*SMALL, "method=samd+nld"])
    stage = training._Training.of(recipe, None)
    training.freeze(stage.teacher)
    task = training.StudentTask(
        stage.student, stage.teacher, stage.method, stage.data, stage.fabric, stage.recipe.seed
    )
    images, labels = next(training.batches(stage.data.train, 128, 0))
    step = task.step(images, labels)
    torch.stack(list(step.terms.values())).sum().backward()
    for name, parameter in stage.student.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert all(parameter.grad is None for parameter in stage.teacher.parameters())


def test_the_best_validation_epoch_is_kept(trained):
    student = [row for row in rows_of(trained) if row["role"] == "student"]
    best = max(row["validation_accuracy"] for row in student)
    tensors, _ = load_tensors(trained.student_file)
    stage = training._Training.of(trained.recipe, None)
    stage.student.load_state_dict(tensors)
    stage.student.eval()
    assert training.accuracy_on(stage.student, stage.data.validation, stage.fabric) == best


def test_resuming_after_the_teacher_keeps_its_metrics(trained, tmp_path):
    copy = Run(shutil.copytree(trained.folder, tmp_path / "copy"))
    for path in (copy.summary_file, copy.network_file, copy.student_file):
        path.unlink()
    training.resume(copy)
    assert copy.metrics_file.read_bytes() == trained.metrics_file.read_bytes()
    assert copy.student_file.read_bytes() == trained.student_file.read_bytes()
    assert copy.summary()["seconds"] == trained.summary()["seconds"]


def test_a_run_killed_at_any_moment_resumes_to_bit_identical_weights(tmp_path, start):
    """Five kills at random moments, whatever is under way: teacher, student, the last files."""
    sets = [part for override in SMALL for part in ("--set", override)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def train(folder, *arguments):
        return start(["train", "--run", folder, *arguments], tmp_path)

    begun = time.monotonic()
    assert train(whole, *sets).wait(timeout=300) == 0
    duration = time.monotonic() - begun

    moments = random.Random(7)
    kills = 0
    while kills < 5:
        under_way = train(killed, *(["--resume"] if (killed / "recipe.toml").exists() else sets))
        try:
            assert under_way.wait(timeout=moments.uniform(0.1, 0.7) * duration) == 0
            # Done before its time: begin again, so that all five kills count.
            for path in sorted(killed.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
        except subprocess.TimeoutExpired:
            under_way.kill()
            kills += 1
    rest = ["train", "--run", str(killed), *(["--resume"] if (killed / "recipe.toml").exists() else sets)]
    command = [sys.executable, "-m", "snnkd.toolchain.cli", *rest]  # begun from nothing: with other hashes
    subprocess.run(command, check=True, timeout=300)
    for name in ("student.safetensors", "teacher.safetensors", "student.nir"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(Run(killed))]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(Run(whole))]
    assert not [path for path in killed.rglob("*") if path.name.startswith(".recipe")]


def test_checkpoints_of_other_networks_and_broken_ones_are_refused(trained, tmp_path):
    from snnkd.toolchain.checkpoint import load_weights

    stage = training._Training.of(trained.recipe, None)
    with pytest.raises(InputError, match=r"is of another architecture: layers\."):
        load_weights(trained.teacher_file, torch.nn.ModuleDict({"layers": torch.nn.Linear(2, 2)}))
    truncated = tmp_path / "student.safetensors"
    truncated.write_bytes(trained.student_file.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated or not a safetensors file"):
        load_weights(truncated, stage.student)
    with pytest.raises(InputError, match="there is no checkpoint"):
        load_weights(tmp_path / "none.safetensors", stage.student)


def test_a_student_that_no_chip_can_hold_is_refused_before_training(tmp_path, monkeypatch):
    build = training.build_networks

    def with_relu(recipe, task):
        student, teacher = build(recipe, task)
        student.layers.neuron2 = torch.nn.ReLU()
        return student, teacher

    monkeypatch.setattr(training, "build_networks", with_relu)
    with pytest.raises(Refusal, match="ReLU"):
        snnkd.train("digits", SMALL, tmp_path / "run")


def test_a_diverging_loss_is_said_and_not_trained_on(tmp_path):
    with pytest.raises(InputError, match=r"teacher's loss became .* lower teacher\.learning_rate"):
        snnkd.train("digits", [*SMALL, "teacher.learning_rate=1e30"], tmp_path / "run")


def test_weights_that_break_in_the_last_step_are_said_too(tmp_path):
    """Its loss was computed before that step, and is a number."""
    one_step = ["data.train_samples=64", "student.epochs=1", "student.optimizer=sgd"]
    one_step += ["student.learning_rate=1e30", "student.weight_decay=1e30"]
    with pytest.raises(InputError, match=r"student's weights became NaN or infinite in epoch 1; lower"):
        snnkd.train("digits", [*SMALL, *one_step, "method=ce"], tmp_path / "run")
    assert not (tmp_path / "run" / "student.safetensors").exists()


def test_maps_of_different_sizes_are_refused_before_training_the_student(tmp_path):
    with pytest.raises(InputError, match="give both networks the same strides"):
        snnkd.train(
            "digits", [*SMALL, "teacher.options.strides=[1, 1]", "teacher.epochs=1"], tmp_path / "run"
        )
