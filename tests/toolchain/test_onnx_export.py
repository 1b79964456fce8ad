"""`--target onnx` on a trained run: every network in onnxruntime over the whole test split."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from snnkd import InputError, Refusal
from snnkd.toolchain.run import Run
from snnkd.toolchain.validation import agrees, disagreement

SAMPLES = 16
FILES = ("network", "student", "step", "student-int8", "teacher", "teacher-int8")


@pytest.fixture(scope="module")
def onnx_run(exported, tmp_path_factory) -> Run:
    folder = shutil.copytree(exported.folder, tmp_path_factory.mktemp("onnx") / "run")
    run = Run(folder)
    run.export("onnx")
    return run


def test_everything_agrees_on_the_whole_test_split(onnx_run):
    answer = onnx_run.validate("onnx", samples=SAMPLES)
    assert (answer["backend"], answer["spike_mismatches"], answer["readout_mismatches"]) == (
        "onnxruntime",
        0,
        0,
    )
    floats = answer["float_networks"]
    assert (floats["reference"], floats["samples"]) == ("torch", answer["samples"])
    student, step = floats["models"]["student"], floats["models"]["step"]
    assert student["predictions_that_differ"] == 0
    assert student["largest_difference_within_tolerance"] <= 1e-5
    assert step["samples_apart_from_student"] == 0
    assert student["accuracy"] == student["reference_accuracy"] == answer["accuracy"]["float"]
    teacher = floats["models"]["teacher"]
    assert teacher["predictions_that_differ"] == teacher["samples_beyond_tolerance"] == 0
    summary = onnx_run.summary()
    assert teacher["accuracy"] == pytest.approx(summary["teacher"]["test_accuracy"])
    for name in ("student-int8", "teacher-int8"):
        facts = floats["models"][name]
        exact = floats["models"][name.removesuffix("-int8")]
        assert abs(facts["accuracy"] - exact["accuracy"]) < 0.1 and facts["same_prediction"] > 0.9
    assert floats["unexplained"] == [] and agrees(answer)


def test_the_files_are_what_onnxruntime_reads_by_itself(onnx_run):
    """student.onnx in onnxruntime, fed by us, against the answer of the run's own student."""
    from snnkd.toolchain.checkpoint import load_weights
    from snnkd.toolchain.networks import build_networks
    from snnkd.toolchain.samples import task_of

    folder = onnx_run.target_folder("onnx")
    assert all((folder / f"{name}.onnx").is_file() for name in FILES)
    student, _ = build_networks(onnx_run.recipe, task_of(onnx_run.recipe))
    load_weights(onnx_run.student_file, student)
    images = onnx_run.samples().inputs
    session = onnxruntime.InferenceSession(str(folder / "student.onnx"), providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    assert port.shape[0] == "batch"
    found = session.run(None, {port.name: images.astype(np.float32)})[0]
    with torch.no_grad():
        wanted = student.eval()(torch.from_numpy(images).float()).logits.mean(0).numpy()
    assert (found.argmax(1) == wanted.argmax(1)).all()
    assert (np.abs(found - wanted).max(1) <= 1e-5).mean() > 0.98


def changed(run: Run, folder, name: str) -> Run:
    """A copy of the run in which the largest weight of one of its models is 1% larger."""
    copy = Run(shutil.copytree(run.folder, folder / "run"))
    path = copy.target_folder("onnx") / f"{name}.onnx"
    model = onnx.load(path)
    tensor = max((t for t in model.graph.initializer if t.name.endswith("weight")), key=lambda t: len(t.dims))
    weight = numpy_helper.to_array(tensor).copy()
    weight.flat[np.abs(weight).argmax()] *= 1.01
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    onnx.save(model, path)
    return copy


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("student", "student.onnx: "),
        pytest.param("step", "step.onnx: .* samples' logits aren't student.onnx's", marks=pytest.mark.slow),
        pytest.param("teacher", "teacher.onnx: logits up to .* off", marks=pytest.mark.slow),
    ],
)
def test_one_weight_changed_is_seen(onnx_run, tmp_path, name, line):
    answer = changed(onnx_run, tmp_path, name).validate("onnx", samples=1)
    assert not agrees(answer)
    with pytest.raises(Refusal, match=line):
        raise Refusal(disagreement(answer))


@pytest.mark.slow
def test_int8_is_calibrated_on_the_validation_split(onnx_run):
    from snnkd.export.onnx.quantized import batches_of, quantized_model

    answer = onnx_run.export("onnx")["float_networks"]
    assert (answer["calibrated_on"], answer["left_out"]) == ("validation split", {})
    folder = onnx_run.target_folder("onnx")
    calibration = onnx_run.samples().calibration
    assert answer["calibration_samples"] == len(calibration)
    teacher = onnx.load(folder / "teacher.onnx")
    again = quantized_model(teacher, batches_of(teacher, calibration))
    assert again.SerializeToString() == (folder / "teacher-int8.onnx").read_bytes()


@pytest.mark.slow
def test_a_file_that_is_gone_is_one_line(onnx_run, tmp_path):
    copy = Run(shutil.copytree(onnx_run.folder, tmp_path / "run"))
    (copy.target_folder("onnx") / "teacher.onnx").unlink()
    with pytest.raises(InputError, match=r"can't read .*teacher.onnx") as raised:
        copy.validate("onnx", samples=1)
    assert "\n" not in str(raised.value)
