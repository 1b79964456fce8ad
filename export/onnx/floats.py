"""A run's float networks as ONNX files: teacher, the student over all steps and one by one, and int8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import read_json, write_json
from ..float_networks import FloatNetworks
from ..graph import Graph
from ..target import Inputs
from .ann import ann_model
from .folder import MANIFEST, Models, described
from .quantized import CALIBRATION_BATCH, Feed, quantized_model
from .session import write_model
from .spiking import MAX_STEPS, step_model, unrolled_model

if TYPE_CHECKING:
    from onnx import ModelProto

STUDENT, STEP, TEACHER = "student", "step", "teacher"
INT8 = "-int8"


def write_floats(networks: FloatNetworks, folder: Path) -> dict[str, Any]:
    """Write what there is of teacher.onnx, student.onnx, step.onnx, teacher-int8.onnx and student-int8.onnx.

    Returns:
        "files", "left_out" (each model that isn't written, and why), "calibrated_on" and
        "calibration_samples".

    Raises:
        InputError: a package is missing, or the files can't be written.
    """
    drawn, left_out = _student_models(networks), {}
    if networks.student.graph.steps > MAX_STEPS:
        reason = f"{networks.student.graph.steps} steps, {MAX_STEPS} can be unrolled; use `step`"
        left_out |= {STUDENT: reason, STUDENT + INT8: reason}
    if networks.teacher is None:
        left_out |= {TEACHER: networks.no_teacher, TEACHER + INT8: networks.no_teacher}
    else:
        drawn |= _teacher_models(networks.teacher.graph, networks.calibration)
    for name, (model, _) in drawn.items():
        write_model(folder / f"{name}.onnx", model)
    for name in left_out:
        (folder / f"{name}.onnx").unlink(missing_ok=True)
    models = {name: {"file": f"{name}.onnx", **facts} for name, (_, facts) in drawn.items()}
    _add_to_manifest(folder, models)
    return {
        "files": [facts["file"] for facts in models.values()],
        "left_out": left_out,
        "calibrated_on": networks.calibrated_on,
        "calibration_samples": _count(networks.calibration),
    }


Drawn = dict[str, "tuple[ModelProto, dict[str, Any]]"]
"""Each model by its name, with what the script needs to know of it."""


def _student_models(networks: FloatNetworks) -> Drawn:
    graph = networks.student.graph
    decider = graph.deciding[0]
    last = decider.is_readout and decider.neuron is not None
    drawn: Drawn = {STEP: (step_model(graph), {"kind": "step", "logits": "last" if last else "mean"})}
    if graph.steps > MAX_STEPS:
        return drawn
    frames = is_temporal(graph, networks.calibration)
    facts = {"kind": "unrolled", "timesteps": graph.steps, "frames": frames}
    student = unrolled_model(graph, frames)
    int8 = quantized_model(student, _feeds(graph, networks.calibration, frames), spiking=True)
    return {STUDENT: (student, facts), **drawn, STUDENT + INT8: (int8, {**facts, "int8": True})}


def _teacher_models(graph: Graph, calibration: Inputs) -> Drawn:
    teacher = ann_model(graph)
    (port,) = graph.inputs
    assert isinstance(calibration, np.ndarray), "a run with a teacher has one input"
    seen = calibration if calibration.shape[1:] == port.shape else calibration.sum(axis=1, dtype=np.int64)
    int8 = quantized_model(teacher, _batches({port.name: seen}))
    return {
        TEACHER: (teacher, {"kind": "ann"}),
        TEACHER + INT8: (int8, {"kind": "ann", "int8": True}),
    }


def is_temporal(graph: Graph, inputs: Inputs) -> bool:
    """Whether some input of `graph` is given frames, (N, T, *shape)."""
    given = _by_port(graph, inputs)
    return any(given[port.name].shape[1:] != port.shape for port in graph.inputs)


def _feeds(graph: Graph, inputs: Inputs, frames: bool) -> Iterator[Feed]:
    given = _by_port(graph, inputs)
    for port in graph.inputs:
        if frames and given[port.name].shape[1:] == port.shape:
            given[port.name] = np.repeat(given[port.name][:, None], graph.steps, axis=1)
    return _batches(given)


def _batches(given: dict[str, np.ndarray]) -> Iterator[Feed]:
    for start in range(0, _count(given), CALIBRATION_BATCH):
        yield {name: values[start : start + CALIBRATION_BATCH] for name, values in given.items()}


def _by_port(graph: Graph, inputs: Inputs) -> dict[str, np.ndarray]:
    return {graph.inputs[0].name: inputs} if isinstance(inputs, np.ndarray) else dict(inputs)


def _count(inputs: Inputs) -> int:
    return len(inputs if isinstance(inputs, np.ndarray) else next(iter(inputs.values())))


def _add_to_manifest(folder: Path, models: Models) -> None:
    content = read_json(folder / MANIFEST)
    more = described(folder, models)
    content["files"] = sorted({*content["files"], *(facts["file"] for facts in models.values())})
    for key, entries in more.items():
        content[key] |= entries
    write_json(folder / MANIFEST, content)
