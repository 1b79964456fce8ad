"""The paragraph to paste: a figure, its bounds, boundary, mode and sources, what is unverified or unknown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ... import __version__
from ..units import interval

USES = {
    "single-shot": "for a sample alone",
    "streaming": "for each sample of a stream",
    "batched": "for each sample of a batch",
}
"""Ways of working in plain words."""

Answer = Mapping[str, Any]
Row = Mapping[str, Any]


def quoted(answer: Answer) -> list[Row]:
    """The rows of the estimates to quote, the first of them the headline."""
    return [row for key in answer["quote"] for row in answer["profiles"] if is_row(row, key)]


def is_row(row: Row, key: Row) -> bool:
    """Whether the row of energy.json is the one that the key names."""
    return all(row[name] == key[name] for name in ("profile", "model", "mode", "batch"))


def citation(answer: Answer) -> str:
    """The paragraph about the rows to quote; it says so where there are none."""
    rows = quoted(answer)
    if not rows:
        why = [f"{unfit['profile']}: {'; '.join(unfit['reasons'])}" for unfit in answer["unfit"]]
        why = why or ["of chips and processors, none was asked for"]
        return f"snnkd {__version__} has no figure to quote for this network ({'; '.join(why)})."
    return " ".join([*_figures(rows, answer), *_requests(rows[0], answer), *_grounds(rows[0], answer)])


def figure(row: Row) -> str:
    """The energy with its bounds, and "at least" where something is left out of it."""
    least = "at least " if row["lower_bound"] else ""
    return least + interval(row["energy_j"], "J")


def device(row: Row) -> str:
    """The device that a row is about: its profile, or the chip that it stands in for."""
    meant = row["stands_in_for"]
    return f"{meant} by the constants of {row['profile']}" if meant else row["profile"]


def priced_events(activity: Mapping[str, Any]) -> str:
    """What is priced in the place of spikes, where several of a neuron in a step are one; else nothing."""
    spikes, events = activity["spikes_per_inference"], activity["spike_events_per_inference"]
    return f"{events:,.0f} spike events" if events != spikes else ""


def verdict(answer: Answer) -> str:
    """How the estimator fared against measurements of such hardware; no full stop."""
    judged = answer["judged"]
    if judged is None:
        return "The estimator has not been judged for such hardware (`snnkd energy --validate`)"
    if judged["coverage"] is None:
        return f"Of {judged['kind']} hardware there are too few measurements to judge the estimator by"
    return (
        f"Of {judged['cases']} published measurements of {judged['kind']} hardware from which nothing was "
        f"taken, {judged['coverage']:.0%} lay within such bounds, and the nominal figure was off by a factor "
        f"of {math.exp(judged['median_abs_log_ratio']):.2g} in the median (`snnkd energy --validate`)"
    )


def _figures(rows: list[Row], answer: Answer) -> Iterator[str]:
    first = rows[0]
    yield (
        f"The spiking network {_network(answer)} takes {figure(first)} per inference on {device(first)} "
        f"{USES[first['mode']]} ({_how(first)}; dynamic {interval(first['dynamic_j'], 'J')}, static "
        f"{interval(first['static_j'], 'J')}), with its answer after {interval(first['latency_s'], 's')}."
    )
    for row in rows[1:]:
        yield f"It takes {figure(row)} {USES[row['mode']]} ({_how(row)})."


def _network(answer: Answer) -> str:
    known = [f"SHA-256 {answer['network_hash'][:12]}…", f"T = {answer['activity']['timesteps']}"]
    accuracies = {network["name"]: network["accuracy"] for network in answer["networks"]}
    if accuracies.get("student") is not None:
        known.append(f"accuracy {accuracies['student']:.4f} on {answer['samples']:,} test samples")
    name = Path(answer["run"] or "").name
    return f"{name} ({', '.join(known)})".strip()


def _how(row: Row) -> str:
    steps = f"{row['steps']} steps"
    return f"batch {row['batch']}, {steps}" if row["batch"] > 1 else f"{row['mode']}, {steps}"


def _requests(row: Row, answer: Answer) -> Iterator[str]:
    """What requests at a rate cost, if that was asked."""
    for served in (answer["rate"] or {"rows": []})["rows"]:
        if served["profile"] == row["profile"] and served["model"] == row["model"]:
            rate = f"At {answer['rate']['hz']:g} requests a second"
            if served["refused"]:
                yield f"{rate} there is no figure: {served['refused']}."
            else:
                energy = figure(served)
                power = interval(served["average_power_w"], "W")
                yield f"{rate} it takes {energy} per inference, {power} on average, idle time included."


def _grounds(row: Row, answer: Answer) -> Iterator[str]:
    """What the figures rest on and what they leave out."""
    activity = answer["activity"]
    events = priced_events(activity)
    several = f" (several of a neuron in a step are priced as one: {events})" if events else ""
    yield (
        f"These are estimates by snnkd {__version__}, not measurements: operations counted in simulation "
        f"({activity['spikes_per_inference']:,.0f} spikes{several}, "
        f"{activity['synops_per_inference']:,.0f} synaptic operations and "
        f"{activity['graded_synops_per_inference']:,.0f} graded ones per inference, mean of "
        f"{answer['samples']:,} samples), priced constant by constant; in parentheses low–high, the "
        "uncertainty of these constants, which holds nothing of what is left out."
    )
    yield f"{verdict(answer)}."
    if row["stands_in_for"]:
        meant, other = row["stands_in_for"], f"those of {row['profile']}, another chip"
        yield f"No figures of {meant} are published: its constants are {other}, described here."
    yield f"Device: {row['description']}. Boundary: {row['boundary']}."
    if row["unknown"]:
        yield f"Left out, as no source gives it: {'; '.join(row['unknown'])}."
    if row["inferred"]:
        yield f"Inferred, as no source gives it for this device: {', '.join(row['inferred'])}."
    recalled = ", ".join(row["unverified"])
    yield f"Unverified (recalled, to be checked): {recalled}." if recalled else "No constant is recalled."
    yield f"Sources: {'; '.join(_sources(row))}."


def _sources(row: Row) -> Iterator[str]:
    """Each source once, with the constants that it stands behind."""
    behind: dict[str, list[str]] = {}
    for entry in row["sources"]:
        name, _, source = entry.partition(": ")
        behind.setdefault(source.rstrip("."), []).append(name)
    for source, names in behind.items():
        yield f"{source} ({', '.join(names)})"
