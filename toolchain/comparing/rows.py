"""A study's raw results: a row for each run, as CSV too."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ... import InputError
from ...export.files import write_text
from .cells import Cell

Row = dict[str, Any]
"""What is known of a run, by its keys; None where it isn't."""

OF_PROCESS = ("peak_memory_bytes", "peak_gpu_bytes", "threads", "teacher_sha256")

KEYS = (
    *("method", "seed", "settings", "status", "reason", "test_accuracy", "validation_accuracy", "epoch"),
    *("epochs", "teacher_test_accuracy", "spike_rate", "map_agreement", "student_seconds"),
    *("energy_profile", "energy_j_low", "energy_j_nominal", "energy_j_high"),
    *("energy_lower_bound", "energy_reason"),
    *("peak_memory_bytes", "peak_gpu_bytes", "threads", "parameters", "timesteps", "teacher_sha256", "run"),
)
"""`epoch` is the selected one of `epochs`: the first with the best validation accuracy. `settings`: what was
chosen for it among several trials; energies are of an inference. `reason`: why it failed, or why a finished
one couldn't be priced.
"""

TRIAL_KEYS = (
    *("method", "setting", "settings", "chosen", "status", "reason", "validation_accuracy", "epoch"),
    *("epochs", "student_seconds", "seed", "run"),
)


def row_of(cell: Cell, profile: str = "") -> Row:
    """What is known of a run, and what it costs on a hardware profile; None where it isn't.

    Raises:
        InputError: a file of the run is damaged.
    """
    row: Row = dict.fromkeys(KEYS)
    assert cell.contender is not None
    row |= {
        "method": cell.contender.name,
        "seed": cell.seed,
        "settings": settings_text(cell.setting.values),
        "status": cell.status,
        "reason": cell.reason(),
        "run": str(cell.run.folder),
    }
    if cell.status == "finished":
        row |= _found(cell) | (_price(cell, profile) if profile else {})
    return row


def _price(cell: Cell, profile: str) -> Row:
    """What an inference of a finished run costs, or why nobody could say; nothing where nobody tried."""
    if priced := cell.priced(profile):
        return {
            "energy_profile": profile,
            **{f"energy_{key}": priced.get(key) for key in ("lower_bound", "reason")},
            **{f"energy_j_{bound}": joules for bound, joules in priced.get("energy_j", {}).items()},
        }
    if reason := cell.unpriced():
        return {"energy_profile": profile, "energy_reason": reason, "reason": f"no energy: {reason}"}
    return {}


def trial_row(cell: Cell) -> Row:
    """What is known of a trial, but for whether it was chosen; None where it isn't.

    One whose loss became no number is "diverged"; one of which can't be read how good it is "failed", so that
    its method isn't kept from the table.
    """
    assert cell.contender is not None
    row: Row = dict.fromkeys(TRIAL_KEYS) | {
        "method": cell.contender.spec,
        "setting": cell.setting.number,
        "settings": settings_text(cell.setting.values),
        "seed": cell.seed,
        "run": str(cell.run.folder),
    }
    try:
        return row | _trial_found(cell)
    except InputError as error:
        return row | {"status": "failed", "reason": str(error)}


def _trial_found(cell: Cell) -> Row:
    """How far a trial has come, and how good it is.

    Raises:
        InputError: a file of the run is damaged.
    """
    if cell.status != "finished":
        return {"status": cell.status, "reason": cell.reason()}
    if diverged := cell.diverged():
        return {"status": "diverged", "reason": diverged}
    return {"status": "finished", "reason": "", **_best_epoch(cell)}


def settings_text(values: Sequence[tuple[str, float]]) -> str:
    """Keys and values as users write them: `student.learning_rate=0.002 methods.kd.weight=1`."""
    return " ".join(f"{key}={value:g}" for key, value in values)


def write_rows(path: Path, rows: Sequence[Row], keys: Sequence[str] = KEYS) -> None:
    """Write the rows as CSV, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _found(cell: Cell) -> Row:
    summary, outcome = cell.run.summary(), cell.outcome()
    student = summary["student"]
    return {
        **{key: student[key] for key in ("test_accuracy", "spike_rate", "parameters", "timesteps")},
        **_best_epoch(cell),
        "teacher_test_accuracy": summary["teacher"]["test_accuracy"],
        "map_agreement": outcome.get("map_agreement"),
        **{key: outcome.get(key) for key in OF_PROCESS},
    }


def _best_epoch(cell: Cell) -> Row:
    """The selected epoch of a finished run, and how long all took.

    Raises:
        InputError: its metrics are damaged.
    """
    try:
        epochs = [row for row in cell.run.metrics() if row["role"] == "student"]
        best = max(epochs, key=lambda row: row["validation_accuracy"])
        found = {"validation_accuracy": float(best["validation_accuracy"]), "epoch": best["epoch"]}
        seconds = sum(row["seconds"] for row in epochs)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{cell.run.metrics_file} is damaged ({error!r}); delete {cell.run.folder} and compare again"
        ) from error
    if not math.isfinite(found["validation_accuracy"]):
        raise InputError(
            f"{cell.run.metrics_file} holds a validation accuracy of {found['validation_accuracy']}; delete "
            f"{cell.run.folder} and compare again"
        )
    return found | {"epochs": len(epochs), "student_seconds": seconds}
