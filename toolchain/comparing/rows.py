"""A study's raw results: a row for each run, as CSV too."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...export.files import write_text
from .cells import Cell

Row = dict[str, Any]

OF_PROCESS = ("peak_memory_bytes", "peak_gpu_bytes", "threads", "teacher_sha256")

KEYS = (
    *("method", "seed", "settings", "status", "reason", "test_accuracy", "validation_accuracy", "epoch"),
    *("teacher_test_accuracy", "spike_rate", "map_agreement", "student_seconds"),
    *("energy_profile", "energy_j_low", "energy_j_nominal", "energy_j_high"),
    *("energy_lower_bound", "energy_reason"),
    *("peak_memory_bytes", "peak_gpu_bytes", "threads", "parameters", "timesteps", "teacher_sha256", "run"),
)
"""`epoch` is the selected one: the first with the best validation accuracy. `settings`: what was chosen for
it among several trials; energies are of an inference.
"""

TRIAL_KEYS = (
    *("method", "setting", "settings", "chosen", "status", "reason", "validation_accuracy", "epoch"),
    *("student_seconds", "seed", "run"),
)


def row_of(cell: Cell, profile: str = "") -> Row:
    """What is known of a run, and what it costs on a hardware profile; None where it isn't.

    Raises:
        InputError: a file of the run is damaged.
    """
    row: Row = dict.fromkeys(KEYS)
    assert cell.contender is not None
    row |= {
        "method": cell.contender.spec,
        "seed": cell.seed,
        "settings": settings_text(cell.setting.values),
        "status": cell.status,
        "reason": cell.reason(),
        "run": str(cell.run.folder),
    }
    if cell.status == "finished":
        row |= _found(cell)
    if cell.status == "finished" and (priced := cell.priced(profile)):
        row |= {"energy_profile": profile}
        row |= {f"energy_{key}": priced.get(key) for key in ("lower_bound", "reason")}
        row |= {f"energy_j_{bound}": joules for bound, joules in priced.get("energy_j", {}).items()}
    return row


def trial_row(cell: Cell, chosen: bool) -> Row:
    """What is known of a trial; None where it isn't. One whose loss became no number is "diverged".

    Raises:
        InputError: a file of the run is damaged.
    """
    row: Row = dict.fromkeys(TRIAL_KEYS)
    assert cell.contender is not None
    status, reason = cell.status, cell.reason()
    if status == "finished" and (diverged := cell.diverged()):
        status, reason = "diverged", diverged
    row |= {
        "method": cell.contender.spec,
        "setting": cell.setting.number,
        "settings": settings_text(cell.setting.values),
        "chosen": chosen,
        "status": status,
        "reason": reason,
        "seed": cell.seed,
        "run": str(cell.run.folder),
    }
    return row | _best_epoch(cell) if status == "finished" else row


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
    """The selected epoch of a finished run, and the time that all took."""
    epochs = [row for row in cell.run.metrics() if row["role"] == "student"]
    best = max(epochs, key=lambda row: row["validation_accuracy"])
    return {
        "validation_accuracy": best["validation_accuracy"],
        "epoch": best["epoch"],
        "student_seconds": sum(row["seconds"] for row in epochs),
    }
