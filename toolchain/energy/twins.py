"""What a run's student is compared with on processors: its teacher, and its ANN twin in float32 and int8."""

from __future__ import annotations

import sys
from pathlib import Path

from ... import Refusal
from ..run import Run
from .operations import LayerOperations, Workload, dense_operations

UNTRAINED = "the ANN twin isn't trained, so its accuracy is unknown: `snnkd energy --twins` trains it"


def workloads_of_run(run: Run, data_root: Path | None = None, train_twin: bool = False) -> list[Workload]:
    """The dense networks that `run` has, each with its accuracy on the test split.

    "teacher", where the method has one: float32, a pass of its own layers for each window that it looks at.
    "ann-twin" and "int8-twin": one pass of the student's layers with ReLU for its neurons; their accuracies
    are known once they are trained, which takes about as long as training the teacher and happens only if
    asked for.

    Args:
        data_root: where data sets are kept; None: the default.
        train_twin: whether to train the twin if it isn't.

    Returns:
        Nothing for a run that began with a NIR file. A teacher whose layers can't be lowered, and so not be
        counted, is left out, and stderr says so.

    Raises:
        InputError: the run isn't trained, its files are damaged, or the twin can't be trained.
    """
    if run.from_nir:
        return []
    graph = run.float_graph()
    if train_twin:
        from .twin import trained_twin

        trained_twin(run, data_root)
    found = known_accuracies(run)
    return [
        *_teacher(run),
        Workload("ann-twin", dense_operations(graph), accuracy=found["ann-twin"]),
        Workload("int8-twin", dense_operations(graph, "int8"), precision="int8", accuracy=found["int8-twin"]),
    ]


def known_accuracies(run: Run) -> dict[str, float | None]:
    """The test accuracy of each of the run's networks, by the workload's name; None where it isn't known."""
    summary, twin = run.summary(), run.twin_facts() or {}
    return {
        "student": summary["student"]["test_accuracy"],
        "teacher": summary["teacher"]["test_accuracy"],
        "ann-twin": twin.get("test_accuracy"),
        "int8-twin": twin.get("int8_test_accuracy"),
    }


def _teacher(run: Run) -> list[Workload]:
    if not run.teacher_file.exists():
        return []
    try:
        layers = _teacher_layers(run)
    except Refusal as refusal:
        print(f"the teacher is left out: {refusal}", file=sys.stderr)
        return []
    accuracy, windows = known_accuracies(run)["teacher"], run.recipe.teacher.windows
    return [Workload("teacher", layers, windows, accuracy=accuracy)]


def _teacher_layers(run: Run) -> tuple[LayerOperations, ...]:
    """Counted in the recipe's teacher; its weights don't matter."""
    from ...export.ann import ann_to_graph
    from ..networks import build_networks
    from ..samples import task_of

    _, teacher = build_networks(run.recipe, task_of(run.recipe))
    return dense_operations(ann_to_graph(teacher))
