"""The matrix of networks and simulators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .layout import Answer, new_table

WHY_WIDTH = 40
"""Columns that a reason has at least; it is wrapped."""

MATRIX_WIDTH = 100
"""Columns that a part of the matrix has at most, with recipes' names of `NAMES_WIDTH` columns."""

NAMES_WIDTH, T_WIDTH, MARK_WIDTH = 16, 2, 7

MARKS = {"not installed": "missing", "not finished": "stopped"}
"""Verdicts whose names are too long for a column."""

LEGEND = {
    "≈": "≈ share of the spikes that differ, for the reason below",
    "≠": "≠ share of the spikes that differ, unexplained",
    "missing": "missing: the simulator isn't installed",
    "stopped": "stopped: it took longer than allowed",
    "–": "–: it isn't given such a network",
}


def conformance_table(answer: Answer) -> RenderableType:
    """A row for each network and simulator: exact, approximate, refused, and why."""
    return Group(_rows(answer), *_silent([answer]), *_more(answer["rows"]), *_not_executable(answer))


def recipes_table(answer: Answer) -> RenderableType:
    """The matrix of recipes and simulators, then whatever isn't exact with its reason."""
    matrices = answer["matrices"]
    rows = [row for matrix in matrices for row in matrix["rows"]]
    return Group(
        *_overview(matrices),
        *_legend(rows),
        *_silent(matrices),
        *_exceptions(matrices),
        *_more(rows),
        *_left_out(answer),
    )


def _rows(answer: Answer) -> Table:
    steps = f"{answer['samples']:,} samples, T = {answer['timesteps']}"
    title = f"Spikes compared with == ({answer['weights']} weights, {steps})"
    table = new_table(title, "network", "simulator", "", "spikes that differ", "why")
    for column in table.columns[:3]:
        column.no_wrap = True
    table.columns[4].min_width = WHY_WIDTH
    for row in answer["rows"]:
        table.add_row(row["network"], row["simulator"], row["verdict"], _differing(row), _why(row))
    return table


def _differing(row: Answer) -> str:
    if row["differing"] is None:
        return ""
    counted = f"{row['differing']:,} of {row['neuron_steps']:,}"
    if not row["differing"]:
        return counted
    return f"{counted} ({row['share']:.1e}), in {row['samples_differing']} samples"


def _why(row: Answer) -> str:
    """The reason; of several problems the first, and how many more there are."""
    first, *others = row["problems"] or [row["reason"]]
    return f"{first} … and {len(others)} more" if others else first


def _more(rows: Sequence[Answer]) -> Iterator[Text]:
    if any(len(row["problems"]) > 1 for row in rows):
        yield Text("“and n more”: --json names every problem; so does snnkd check for each target")


def _silent(matrices: Sequence[Answer]) -> Iterator[Text]:
    """The populations that never fired in what was executed: of those "exact" says little."""
    found: dict[str, list[str]] = {}
    for matrix in matrices:
        for row in matrix["rows"]:
            if row["silent"]:
                what = f"{matrix['recipe']}, " if "recipe" in matrix else ""
                where = f"{what}{row['network']}: {', '.join(row['silent'])}"
                found.setdefault(where, []).append(row["simulator"])
    for where, simulators in found.items():
        yield Text(f"never fired, so little is compared: {where} (in {', '.join(simulators)})")


def _not_executable(answer: Answer) -> Iterator[Text]:
    if names := answer["not_executable"]:
        yield Text(f"without a simulator that can be installed: {', '.join(names)}")


def _overview(matrices: Sequence[Answer]) -> Iterator[Table]:
    """Tables of marks: those that read NIR, given two networks; the others, as many as there is room for."""
    rows = [row for matrix in matrices for row in matrix["rows"]]
    readers = list(dict.fromkeys(row["simulator"] for row in rows if row["network"] == "float"))
    others = list(dict.fromkeys(row["simulator"] for row in rows if row["simulator"] not in readers))
    if readers:
        title = "Spikes compared with == (random weights), in simulators that read NIR"
        yield from _parts(matrices, title, readers, ("float", "integer"))
    if others:
        title = "Spikes compared with == (random weights), in each target's own integers and files"
        yield from _parts(matrices, title, others, ("integer",))


def _parts(
    matrices: Sequence[Answer], title: str, names: Sequence[str], networks: Sequence[str]
) -> Iterator[Table]:
    others = [NAMES_WIDTH, T_WIDTH, MARK_WIDTH, *([MARK_WIDTH] if len(networks) > 1 else [])]
    room = MATRIX_WIDTH - sum(width + 2 for width in others)
    part: list[str] = []
    for name in names:
        if part and sum(max(MARK_WIDTH, len(n)) + 2 for n in [*part, name]) > room:
            yield _part(matrices, title, part, networks)
            part = []
        part.append(name)
    yield _part(matrices, title, part, networks)


def _part(matrices: Sequence[Answer], title: str, names: Sequence[str], networks: Sequence[str]) -> Table:
    """A row for each network of recipes that have the same marks and T, a column for each of `names`."""
    alike: dict[tuple[int, tuple[str, ...]], list[Answer]] = {}
    for matrix in matrices:
        marks = tuple(_mark(matrix, network, name) for network in networks for name in names)
        alike.setdefault((matrix["timesteps"], marks), []).append(matrix)
    table = new_table(title)
    table.padding = 0, 1, 0, 0
    table.add_column("recipe", min_width=NAMES_WIDTH)
    several = len(networks) > 1
    for heading in ("T", "rates", *(["network"] if several else [])):
        table.add_column(heading, no_wrap=True)
    for name in names:
        table.add_column(name, no_wrap=True, min_width=max(MARK_WIDTH, len(name)))
    for (steps, marks), found in alike.items():
        recipes = ", ".join(matrix["recipe"] for matrix in found)
        for place, network in enumerate(networks):
            about = ("", "") if place else (recipes, str(steps))
            kind = [network] if several else []
            shown = marks[place * len(names) : (place + 1) * len(names)]
            table.add_row(*about, _firing(found, network, names), *kind, *shown)
    return table


def _firing(matrices: Sequence[Answer], network: str, names: Sequence[str]) -> str:
    """The rates of the layer that fires least and of the one that fires most, in what was executed."""
    rates = [
        rate
        for matrix in matrices
        for row in matrix["rows"]
        if row["network"] == network and row["simulator"] in names
        for rate in row["firing_rates"].values()
    ]
    if not rates:
        return ""
    low, high = (
        f"{100 * rate:.0f}" if rate >= 0.01 or not rate else "<1" for rate in (min(rates), max(rates))
    )
    return f"{low} %" if low == high else f"{low}–{high} %"


def _mark(matrix: Answer, network: str, simulator: str) -> str:
    for row in matrix["rows"]:
        if (row["network"], row["simulator"]) == (network, simulator):
            return _short(row)
    return "–"


def _short(row: Answer) -> str:
    if row["verdict"] == "approximate":
        return f"{'≈' if row['explained'] else '≠'} {row['share']:.0e}"
    verdict: str = row["verdict"]
    return MARKS.get(verdict, verdict)


def _legend(rows: Sequence[Answer]) -> Iterator[Text]:
    marks = {_short(row).split()[0] for row in rows}
    if said := [meaning for mark, meaning in LEGEND.items() if mark in marks]:
        yield Text(
            "; ".join(["rates: spikes per neuron and step, of the least and the most active layer", *said])
        )


def _exceptions(matrices: Sequence[Answer]) -> Iterator[Table]:
    """Reasons, each once, with the simulators and recipes that they hold for."""
    found: dict[tuple[str, str], dict[str, dict[str, int]]] = {}
    for matrix in matrices:
        for row in matrix["rows"]:
            if row["reason"]:
                first, *others = row["problems"] or [row["reason"]]
                where = found.setdefault((_short(row).split()[0], first), {}).setdefault(matrix["recipe"], {})
                where[row["simulator"]] = max(where.get(row["simulator"], 0), len(others))
    if not found:
        return
    table = new_table("Why not exact", "", "simulators", "recipes", "why")
    table.columns[0].no_wrap = True
    table.columns[1].max_width = table.columns[2].max_width = NAMES_WIDTH
    table.columns[3].min_width = WHY_WIDTH
    for (mark, first), recipes in found.items():
        alike: dict[tuple[str, ...], list[str]] = {}
        for recipe, simulators in recipes.items():
            alike.setdefault(tuple(simulators), []).append(recipe)
        for simulators, names in alike.items():
            counts = {recipes[name][simulator] for name in names for simulator in simulators}
            table.add_row(mark, ", ".join(simulators), ", ".join(names), f"{first}{_and_more(counts)}")
    yield table


def _and_more(counts: set[int]) -> str:
    if not max(counts):
        return ""
    most = f"{max(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f" … and {most} more"


def _left_out(answer: Answer) -> Iterator[Text]:
    for name, reason in answer["left_out"].items():
        yield Text(f"left out: {name} ({reason})")
