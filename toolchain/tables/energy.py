"""Tables of what an inference costs: which figure to quote, then device by device, then how they compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from ...hardware_profiles.schema import BOUNDS
from ..energy.citation import USES, device, figure, priced_events, quoted, verdict
from ..units import amount, interval
from .layout import Answer, facts, fraction, new_table
from .measured import measured_table

Row = Mapping[str, Any]

READING = {
    "≥": "a lower bound: what no source gives is left out (named below each device)",
    "single-shot": "a sample alone: it waits for every layer's step, and pays static power for all that time",
    "streaming": "sample after sample: each pays for T steps; its answer takes T + layers of these, busier",
    "batch n": "n samples together; energy for each of them, latency of all",
    "dynamic, static": "what activity costs; what being switched on for that long costs. Nominals add up",
    "*unverified*": "rests on a constant that nobody looked up: don't quote it, no ratio is formed",
}
"""What the notation means, for a reader who sees it for the first time."""

WIDTHS = (22, 21, 18, 18, 18)
"""Of the columns of a device's table but the last, so that the tables of all devices line up."""


def energy_table(answer: Answer) -> RenderableType:
    """The whole answer."""
    return Group(
        f"Energy per inference of {answer['run']}: estimates, nothing here was measured on silicon",
        "",
        *_quote(answer),
        *_legend(answer),
        *_networks(answer),
        *_activity(answer),
        *(part for _, rows in groupby(answer["profiles"], _device) for part in _device_block(list(rows))),
        *_unfit(answer),
        *_rate(answer),
        *_always_on(answer),
        *_ratios(answer),
        *_measured(answer),
    )


def citation_text(answer: Answer) -> str:
    """The paragraph alone."""
    return answer["citation"]


def _quote(answer: Answer) -> Iterator[RenderableType]:
    table = facts("Quote, by how samples come")
    for row in quoted(answer):
        mark = " *unverified*: don't" if row["unverified"] else ""
        where = f"{row['model']} on {device(row)}, {_way(row)}"
        table.add_row(f"{USES[row['mode']]}{mark}", figure(row), where)
    for served in _quoted_at_rate(answer):
        where = f"{served['model']} on {_meant(answer, served)}, {_way(served)}"
        table.add_row(f"at {answer['rate']['hz']:g} requests a second", figure(served), where)
    if not table.rows:
        yield "Quote nothing: there is no figure for the student on any of these devices"
        return
    yield table
    yield f"{verdict(answer)}."
    yield "Say what it includes and leaves out: `snnkd energy --cite` prints a paragraph to paste"


def _quoted_at_rate(answer: Answer) -> Iterator[Row]:
    """The headline's network and device at the rate that was asked for, if it keeps up."""
    headline = {(row["profile"], row["model"]) for row in quoted(answer)}
    for served in (answer["rate"] or {"rows": []})["rows"]:
        if not served["refused"] and (served["profile"], served["model"]) in headline:
            yield served


def _meant(answer: Answer, key: Row) -> str:
    """The device of a row that has no more than its profile's name."""
    return next(
        (device(row) for row in answer["profiles"] if row["profile"] == key["profile"]), key["profile"]
    )


def _networks(answer: Answer) -> Iterator[RenderableType]:
    table = new_table("Networks", "", "", "computed in", "passes", "accuracy")
    for network in answer["networks"]:
        accuracy = fraction(network["accuracy"]) or "unknown"
        student = network["name"] == "student"
        computed = f"{network['precision']}{'; integers on chips' if student else ''}"
        table.add_row(network["name"], network["what"], computed, str(network["passes"]), accuracy)
    yield table
    yield from answer["hints"]


def _activity(answer: Answer) -> Iterator[RenderableType]:
    activity = answer["activity"]
    events = priced_events(activity)
    priced = f" (priced as {events}: several of a neuron in a step are one)" if events else ""
    counts = {
        f"spikes{priced}": activity["spikes_per_inference"],
        "synaptic operations": activity["synops_per_inference"],
        "graded ones": activity["graded_synops_per_inference"],
        "neuron updates": activity["neuron_updates_per_inference"],
    }
    listed = ", ".join(f"{count:,.0f} {name}" for name, count in counts.items())
    yield f"The student's activity per inference, mean of {answer['samples']:,} samples: {listed}"
    metrics = answer["neurobench"]
    if metrics:
        operations, updates = metrics["synaptic_operations"], metrics["membrane_updates"]
        counted = f"{updates or 0:,.0f} (of {metrics['membrane_updates_samples']:,} samples)"
        yield (
            f"By NeuroBench's definitions: footprint {metrics['footprint']:,} bytes, sparsity of connections "
            f"{metrics['connection_sparsity']:.3f}, of activations {metrics['activation_sparsity']:.3f}; "
            f"effective MACs {operations['Effective_MACs']:,.0f} and ACs {operations['Effective_ACs']:,.0f}, "
            f"dense {operations['Dense']:,.0f}; membrane updates "
            f"{'not counted' if updates is None else counted}"
        )


def _device(row: Row) -> tuple[str, str]:
    return row["profile"], row["kind"]


def _device_block(rows: list[Row]) -> Iterator[RenderableType]:
    """One device: its rows, then what holds for all of them."""
    first = rows[0]
    size = ""
    if first["cores"] == first["chips"] == 1:
        size = ", 1 core on 1 chip"
    elif first["cores"] is not None:
        size = f", {first['cores']:,} of its cores on {first['chips']:,} chip{'s' * (first['chips'] != 1)}"
    if first["family"] == "technology":
        size = " table: no device, not to be quoted for one"
    columns = ("network", "energy", "dynamic", "static", "latency", "accuracy")
    table = _tight(new_table(f"{device(first)} ({first['kind']}{size})", *columns), WIDTHS)
    for row in rows:
        mark = "\n*unverified*" if row["unverified"] else ""
        table.add_row(
            f"{row['model']}, {_way(row)}{mark}",
            ("≥ " if row["lower_bound"] else "") + interval(row["energy_j"], "J"),
            *(_quantity(row[name], unit) for name, unit in _SHOWN),
            fraction(row["accuracy"]) or "–",
        )
    yield from ("", table)
    for note in device_notes(rows):
        yield Padding(note, (0, 0, 0, 2))


_SHOWN = (("dynamic_j", "J"), ("static_j", "J"), ("latency_s", "s"))


def _tight(table: Table, widths: Sequence[int]) -> Table:
    """The table without space around its cells, its first columns at least so wide."""
    table.padding, table.show_edge = (0, 0), False
    for column, width in zip(table.columns, widths, strict=False):
        column.min_width = width
    return table


def _quantity(bounds: Mapping[str, float] | None, unit: str) -> str:
    return interval(bounds, unit) if bounds else "unknown"


def _way(row: Row) -> str:
    return f"batch {row['batch']}" if row["mode"] == "batched" else row["mode"]


def device_notes(rows: list[Row]) -> Iterator[str]:
    """What a device's joules include, what is missing from them, and what else to know about each row."""
    first = rows[0]
    yield first["description"]
    yield f"includes: {first['boundary']}"
    if first["unknown"]:
        yield f"left out, unknown: {'; '.join(first['unknown'])}"
    recalled = dict.fromkeys(name for row in rows for name in row["unverified"])
    if recalled:
        yield f"unverified constants: {', '.join(recalled)}"
    by_note: dict[str, list[str]] = {}
    for row in rows:
        for note in row["notes"]:
            by_note.setdefault(note, []).append(f"{row['model']}, {_way(row)}")
    for note, who in by_note.items():
        yield note if len(who) == len(rows) else f"{note}: {'; '.join(who)}"


def reading_notes(rows: list[Row]) -> Iterator[str]:
    """What each device's joules include, and what is missing from them, the device named."""
    for (profile, _), own in groupby(rows, _device):
        for note in device_notes(list(own)):
            yield f"{profile}: {note}"


def _unfit(answer: Answer) -> Iterator[RenderableType]:
    for unfit in answer["unfit"]:
        yield ""
        yield f"{unfit['profile']} ({unfit['kind']}): no figure, the network doesn't fit"
        for reason in unfit["reasons"]:
            yield Padding(reason, (0, 0, 0, 2))


def _rate(answer: Answer) -> Iterator[RenderableType]:
    """Requests with idle time between them."""
    rate = answer["rate"]
    if rate is None:
        return
    title = f"At {rate['hz']:g} requests a second, the time between them spent idle"
    table = new_table(title, "device", "network", "average power", "energy per inference", "at work")
    for row in rate["rows"]:
        if row["refused"]:
            table.add_row(_meant(answer, row), row["model"], row["refused"])
            continue
        least = "≥ " if row["lower_bound"] else ""
        doubt = "" if row["keeps_up_throughout"] else ", may not keep up"
        table.add_row(
            _meant(answer, row),
            f"{row['model']}, {_way(row)}" + ("\n*unverified*" if row["unverified"] else ""),
            least + interval(row["average_power_w"], "W"),
            least + interval(row["energy_j"], "J"),
            f"{row['utilisation']:.2%}{doubt}",
        )
    yield table


def _always_on(answer: Answer) -> Iterator[RenderableType]:
    """Listening without pause."""
    listening = answer["always_on"]
    if listening is None:
        return
    title = (
        f"Listening without pause, a sample every {amount(listening['window_s'], 's')}: "
        f"{listening['input_events_per_s']:,.0f} input events, {listening['spikes_per_s']:,.0f} spikes and "
        f"{listening['synops_per_s']:,.0f} synaptic operations a second"
    )
    table = new_table(title, "device", "network", "power (J a second)", "of it dynamic", "at work")
    for row in listening["rows"]:
        if row["refused"]:
            table.add_row(_meant(answer, row), row["model"], row["refused"])
            continue
        least = "≥ " if row["lower_bound"] else ""
        doubt = "" if row["keeps_up_throughout"] else ", may not keep up"
        table.add_row(
            _meant(answer, row),
            f"{row['model']}, {_way(row)}" + ("\n*unverified*" if row["unverified"] else ""),
            least + interval(row["power_w"], "W"),
            least + interval(row["dynamic_w"], "W"),
            f"{row['utilisation']:.2%}{doubt}",
        )
    yield table


def _ratios(answer: Answer) -> Iterator[RenderableType]:
    """How many times the energy, and whether that is sure."""
    if not answer["ratios"]:
        return
    columns = ("this", "takes, of the energy of that", "times", "so it takes")
    table = _tight(new_table("How they compare", *columns), (32, 32, 24, 22))
    for entry in answer["ratios"]:
        ours, theirs = (_named(answer, entry[side]) for side in ("of", "to"))
        if entry["nominal"] is None:
            table.add_row(ours, theirs, "no ratio", "*unverified*")
        else:
            table.add_row(ours, theirs, _times(entry), _outcome(entry))
    yield from ("", table)
    yield "undecided: the intervals overlap. *: of what is counted; what takes less leaves something out."
    yield "Both on one device: errors common to both cancel."


def _measured(answer: Answer) -> Iterator[RenderableType]:
    """What this machine was found to take, if it was asked."""
    if "measured" in answer:
        yield from ("", measured_table(answer["measured"]))


def _times(entry: Row) -> str:
    low, nominal, high = (
        f"{float(f'{entry[bound]:.2g}'):,g}" if entry[bound] is not None else "?" for bound in BOUNDS
    )
    return f"{nominal} ({low}–{high})"


def _outcome(entry: Row) -> str:
    if entry["overlaps"]:
        return "undecided"
    return ("less" if entry["nominal"] < 1 else "more") + ("*" if entry["left_out"] else "")


def _named(answer: Answer, key: Row) -> str:
    return f"{key['model']} on {_meant(answer, key)}, {_way(key)}"


def _legend(answer: Answer) -> Iterator[RenderableType]:
    table: Table = facts("How to read it")
    rows = quoted(answer) or answer["profiles"]
    if rows:
        example = interval(rows[0]["energy_j"], "J")
        table.add_row(example, "the estimate, and how far the constants behind it may move it, low–high")
        table.add_row("", "the high end holds nothing of what is left out")
    for notation, meaning in READING.items():
        table.add_row(notation, meaning)
    yield table
