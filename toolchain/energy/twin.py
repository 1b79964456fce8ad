"""A run's ANN twin: the student's layers with ReLU in place of spikes, trained once and written in int8 too.

It is trained on labels as the run's teacher was, by the recipe's teacher section; in a run without teacher,
by the student's. The validation split chooses the epoch and calibrates int8; the test split judges, in torch
and in onnxruntime.

Files in RUN/twin/: twin.safetensors, twin.onnx, twin-int8.onnx and, written last, twin.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from ... import InputError
from ...export.ann import ann_to_graph
from ...export.files import require_writable, write_json
from ...export.onnx.ann import LOGITS, ann_model
from ...export.onnx.packages import require
from ...export.onnx.quantized import batches_of, quantized_model
from ...export.onnx.session import Session, write_model
from ...models.contract import TaskShape
from ...models.twin import AnnTwin
from .. import checkpoint
from ..data.batches import batches
from ..data.datasets import DataSet, Split
from ..distillation.registry import build_method
from ..fitting import Row, derived_seed, fit
from ..networks import build_networks, freeze
from ..progress import progress
from ..recipe import NetworkSection, Recipe
from ..run import Run
from ..samples import load_with_progress, task_of
from ..tasks import TeacherTask, ann_accuracy_on
from ..teaching import over_time, teacher_task
from ..training import precision_of

ROLE = "twin"


class _TwinTask(TeacherTask):
    """The teacher's task, with random numbers of its own."""

    role = ROLE


def trained_twin(run: Run, data_root: Path | None = None) -> dict[str, Any]:
    """The run's twin, trained and written first if it isn't; an interrupted training is taken up again.

    Args:
        data_root: where data sets are kept; None: the default.

    Returns:
        What stands in twin.json: "test_accuracy", "int8_test_accuracy", "same_prediction" (int8 and float32),
        "validation_accuracy", "epochs", "seconds", "trained_as", "calibration_samples"; fractions in [0, 1].

    Raises:
        InputError: the run began with a NIR file, onnx or onnxruntime isn't installed, or the data or the
            run's files can't be used.
        Refusal: the student's layers aren't an ANN that can be lowered.
    """
    if known := run.twin_facts():
        return known
    if run.from_nir:
        raise InputError(f"{run.folder} began with a NIR file, which has no recipe to train a twin by")
    require("onnx")
    require("onnxruntime")
    require_writable(run.twin_file)
    data = load_with_progress(run.recipe, data_root)
    twin = _new_twin(run.recipe, data)
    ann_to_graph(twin)  # whether it can be lowered is asked before the epochs are spent
    fabric = Fabric(devices=1, precision=precision_of(run.recipe))  # pyright: ignore[reportArgumentType]
    facts = _trained(run, twin, data, fabric)
    facts |= _written(run, twin, data)
    write_json(run.twin_file, facts)
    return facts


def load_twin(run: Run) -> AnnTwin:
    """The trained twin in float32, frozen.

    Raises:
        InputError: its weights are missing, damaged or of another network.
    """
    twin = _built(run.recipe, task_of(run.recipe))
    checkpoint.load_weights(run.twin_weights_file, twin)
    freeze(twin)
    return twin


def _new_twin(recipe: Recipe, data: DataSet) -> AnnTwin:
    torch.manual_seed(derived_seed(recipe.seed, f"{ROLE} weights"))
    return _built(recipe, data.task)


def _built(recipe: Recipe, task: TaskShape) -> AnnTwin:
    student, _ = build_networks(recipe, task)
    return AnnTwin(student, teacher_task(recipe, task))


def _trained(run: Run, twin: AnnTwin, data: DataSet, fabric: Fabric) -> dict[str, Any]:
    """Train `twin`, or load what was trained; leave it on the CPU, frozen."""
    path = run.twin_weights_file
    if not path.exists():
        role, section = _section(run.recipe)
        rows = _fit(run, _TwinTask(twin, data.validation, fabric), section, data)
        facts = {
            "test_accuracy": ann_accuracy_on(twin, data.test, fabric),
            "validation_accuracy": max(row["validation_accuracy"] for row in rows),
            "epochs": section.epochs,
            "seconds": sum(row["seconds"] for row in rows),
            "trained_as": role,
        }
        checkpoint.save_weights(path, twin, facts)
    facts = checkpoint.load_weights(path, twin)
    twin.cpu()
    freeze(twin)
    return facts


def _section(recipe: Recipe) -> tuple[str, NetworkSection]:
    """How the twin is trained, and whose way that is."""
    if build_method(recipe.method, recipe.methods).needs_teacher:
        return "teacher", recipe.teacher
    return "student", recipe.student


def _fit(run: Run, task: _TwinTask, section: NetworkSection, data: DataSet) -> list[Row]:
    recipe = run.recipe
    with progress(f"{task.role}, {section.epochs} epochs", section.epochs) as report:

        def on_epoch(rows: list[Row]) -> None:
            report(len(rows), f"validation {rows[-1]['validation_accuracy']:.4f}" if rows else "")

        return fit(
            task,
            section,
            batches=lambda seed: batches(data.train, section.batch_size, seed, recipe.augmentation),
            batches_per_epoch=-(-len(data.train.labels) // section.batch_size),
            seed=recipe.seed,
            fabric=task.fabric,
            state_path=run.folder / "resume" / f"{ROLE}.safetensors",
            on_epoch=on_epoch,
        )


def _written(run: Run, twin: AnnTwin, data: DataSet) -> dict[str, Any]:
    """Write the twin as ONNX, in float32 and int8, and score both files in onnxruntime."""
    model = ann_model(ann_to_graph(twin))
    samples = over_time(data.validation.inputs[: run.recipe.quantization.calibration_samples].numpy())
    int8 = quantized_model(model, batches_of(model, samples))
    write_model(run.twin_onnx("float32"), model)
    write_model(run.twin_onnx("int8"), int8)
    labels = data.test.labels.numpy()
    in_float = _predicted("twin in float32", run.twin_onnx("float32"), data.test)
    in_int8 = _predicted("twin in int8", run.twin_onnx("int8"), data.test, unsaturated=True)
    return {
        "int8_test_accuracy": float(np.mean(in_int8 == labels)),
        "same_prediction": float(np.mean(in_int8 == in_float)),
        "calibration_samples": len(samples),
    }


def _predicted(what: str, path: Path, split: Split, unsaturated: bool = False) -> np.ndarray:
    """The class of every sample, as onnxruntime has it."""
    session = Session(path, torch.get_num_threads(), unsaturated)
    with progress(what, len(split.labels)) as report:
        answers = session.over(over_time(split.inputs.numpy()), lambda done, _total: report(done))
    return answers[LOGITS].argmax(axis=1)
