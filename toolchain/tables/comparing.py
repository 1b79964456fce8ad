"""The tables of a comparison of methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from ..units import interval
from .layout import Answer, new_table

MEBIBYTE = 1 << 20


def comparison_table(answer: Answer) -> RenderableType:
    """A line for each method, a line for each paired difference, then what to know besides."""
    parts: list[RenderableType] = [_methods(answer)]
    if answer["trials"]:
        parts.append(_trials(answer))
    if any(entry for method in answer["methods"] for entry in method["against"].values()):
        parts.append(_differences(answer))
    return Group(*parts, *_failures(answer), *answer["notes"], f"study: {answer['study']}")


def _methods(answer: Answer) -> Table:
    budget = answer["budget"]
    table = new_table(
        f"Compared on {answer['recipe']}: mean ± standard deviation over seeds, {budget['student_epochs']} "
        f"epochs each ({budget['train_samples']} training samples)",
        *("method", "runs", "test accuracy", "validation", "spike rate", "energy"),
        *("maps", "seconds", "peak memory"),
    )
    for method in answer["methods"]:
        table.add_row(
            method["method"],
            f"{method['finished']} of {method['runs']}",
            spread_text(method["test_accuracy"], ".4f"),
            spread_text(method["validation_accuracy"], ".4f"),
            mean_text(method["spike_rate"], ".1%"),
            energy_text(method["energy"]),
            spread_text(method["map_agreement"], ".2f"),
            mean_text(method["student_seconds"], ".3g"),
            memory_text(method),
        )
    return table


def _trials(answer: Answer) -> Table:
    table = new_table(
        "Settings tried, with one seed that isn't above; * is what was chosen",
        *("method", "", "setting", "validation"),
    )
    for row in answer["trials"]:
        found = number(row["validation_accuracy"], ".4f")
        table.add_row(
            row["method"],
            "*" if row["chosen"] else "",
            row["settings"],
            found if row["status"] == "finished" else row["status"],
        )
    return table


def _differences(answer: Answer) -> Table:
    table = new_table(
        "Paired differences in test accuracy (and on validation, and in maps): mean [95 % interval]",
        *("difference", "seeds", "test", "p", "p, Holm", "detectable", "validation", "maps"),
    )
    for name, test, validation, maps in differences(answer):
        table.add_row(
            name,
            str(test["n"]),
            difference_text(test),
            number(test["p"], ".2g"),
            number(test["p_holm"], ".2g"),
            number(test["detectable"], ".4f"),
            difference_text(validation),
            difference_text(maps),
        )
    return table


Found = Mapping[str, Any]


def differences(answer: Answer) -> Iterator[tuple[str, Found, Found, Found | None]]:
    """Each comparison that has runs: its name, the differences in accuracy on test and validation split.

    And that in how well the maps agree with the teacher's, on the validation split; None where they don't.
    """
    for method in answer["methods"]:
        for reference, found in method["against"].items():
            if found["test_accuracy"]:
                name = f"{method['method']} − {reference}"
                yield name, found["test_accuracy"], found["validation_accuracy"], found["map_agreement"]


def _failures(answer: Answer) -> Iterator[str]:
    for row in answer["failed"]:
        yield f"failed: {failed_name(row)}: {row['reason']}"


def failed_name(row: Mapping[str, Any]) -> str:
    """What messages call a run that failed."""
    return ", ".join([row["method"], *(f"{key} {row[key]}" for key in ("setting", "seed") if key in row)])


def energy_text(energy: Mapping[str, Any] | None) -> str:
    """Mean nominal energy of an inference, the means of its bounds, and of how many runs if not of all.

    A dash where there is none.
    """
    if energy is None or energy["nominal_j"] is None:
        return "–"
    bounds = {"low": energy["low_j"], "nominal": energy["nominal_j"]["mean"], "high": energy["high_j"]}
    of, runs = energy["nominal_j"]["n"], energy["runs"]
    text = ("≥ " if energy["lower_bound"] else "") + interval(bounds, "J")
    return text if of == runs else f"{text}, {of} of {runs} runs"


def spread_text(found: Mapping[str, Any] | None, form: str) -> str:
    """Mean ± standard deviation, or the mean alone where there is no spread; a dash for no value."""
    if found is None:
        return "–"
    mean = format(found["mean"], form)
    return mean if found["std"] is None else f"{mean} ± {found['std']:{form}}"


def mean_text(found: Mapping[str, Any] | None, form: str) -> str:
    """The mean alone; a dash for no value."""
    return number(found["mean"] if found else None, form)


def memory_text(method: Mapping[str, Any]) -> str:
    """Mean peak memory of a run's process, and on the GPU."""
    found, gpu = method["peak_memory_bytes"], method["peak_gpu_bytes"]
    text = f"{found['mean'] / MEBIBYTE:,.0f} MiB" if found else "–"
    return text + (f", GPU {gpu['mean'] / MEBIBYTE:,.0f} MiB" if gpu else "")


def difference_text(found: Mapping[str, Any] | None) -> str:
    """Mean [low, high], or the mean alone where there is no interval; a dash for no value."""
    if found is None:
        return "–"
    mean = f"{found['mean']:+.4f}"
    return mean if found["low"] is None else f"{mean} [{found['low']:+.4f}, {found['high']:+.4f}]"


def number(value: float | None, form: str) -> str:
    """A number, or a dash where it isn't known."""
    return "–" if value is None else format(value, form)
