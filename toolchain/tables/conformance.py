"""The matrix of networks and simulators."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .layout import Answer, new_table

WHY_WIDTH = 40
"""Columns that a reason has at least; it is wrapped."""


def conformance_table(answer: Answer) -> RenderableType:
    """A row for each network and simulator: exact, approximate, refused, and why."""
    return Group(_rows(answer, _title(answer)), *_not_executable(answer))


def recipes_table(answer: Answer) -> RenderableType:
    """The matrix of recipes and simulators, then whatever isn't exact with its reason."""
    return Group(_overview(answer), *_exceptions(answer), *_left_out(answer))


def _title(answer: Answer) -> str:
    steps = f"{answer['samples']:,} samples, T = {answer['timesteps']}"
    return f"Spikes compared with == ({answer['weights']} weights, {steps})"


def _rows(answer: Answer, title: str) -> Table:
    table = new_table(title, "network", "simulator", "", "spikes that differ", "why")
    table.columns[4].min_width = WHY_WIDTH
    for row in answer["rows"]:
        table.add_row(row["network"], row["simulator"], row["verdict"], _differing(row), row["reason"])
    return table


def _differing(row: Answer) -> str:
    if row["differing"] is None:
        return ""
    counted = f"{row['differing']:,} of {row['neuron_steps']:,}"
    if not row["differing"]:
        return counted
    return f"{counted} ({row['share']:.1e}), in {row['samples_differing']} samples"


def _not_executable(answer: Answer) -> Iterator[Text]:
    if names := answer["not_executable"]:
        yield Text(f"without a simulator that can be installed: {', '.join(names)}")


def _overview(answer: Answer) -> Table:
    """A row for each network, a column for each simulator that has a verdict somewhere."""
    names = list(dict.fromkeys(row["simulator"] for matrix in answer["matrices"] for row in matrix["rows"]))
    title = "Spikes compared with ==: students with random weights"
    table = new_table(title, "recipe", "T", "firing", "network", *names)
    for matrix in answer["matrices"]:
        for network in dict.fromkeys(row["network"] for row in matrix["rows"]):
            rows = {row["simulator"]: row for row in matrix["rows"] if row["network"] == network}
            about = matrix["recipe"], str(matrix["timesteps"]), _firing(matrix)
            table.add_row(*about, network, *(_cell(rows.get(name)) for name in names))
    return table


def _firing(matrix: Answer) -> str:
    """The rates of the layer that fires least and of the one that fires most."""
    rates = matrix["firing_rates"].values()
    return f"{min(rates):.0%} … {max(rates):.0%}" if rates else ""


def _cell(row: Answer | None) -> str:
    if row is None:
        return "–"
    return f"≈ {row['share']:.0e}" if row["verdict"] == "approximate" else row["verdict"]


def _exceptions(answer: Answer) -> Iterator[Table]:
    """Reasons, each once, with the simulators and recipes that they hold for."""
    where: dict[tuple[str, str], dict[str, list[str]]] = {}
    for matrix in answer["matrices"]:
        for row in matrix["rows"]:
            if row["reason"]:
                for key, name in (("simulators", row["simulator"]), ("recipes", matrix["recipe"])):
                    names = where.setdefault((row["verdict"], row["reason"]), {}).setdefault(key, [])
                    names += [name] if name not in names else []
    if where:
        table = new_table(None, "", "simulators", "recipes", "why")
        table.columns[3].min_width = WHY_WIDTH
        for (verdict, reason), found in where.items():
            table.add_row(verdict, ", ".join(found["simulators"]), ", ".join(found["recipes"]), reason)
        yield table


def _left_out(answer: Answer) -> Iterator[Text]:
    for name, reason in answer["left_out"].items():
        yield Text(f"left out: {name} ({reason})")
