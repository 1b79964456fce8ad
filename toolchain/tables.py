"""A stage's answer as a table for people; programs take the JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

Answer = dict[str, Any]

SI_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k"}


def train_table(answer: Answer) -> RenderableType:
    """What training found."""
    table = _facts(f"Trained: {answer['recipe']} (seed {answer['seed']}), {answer['method']}")
    if answer["teacher"]["test_accuracy"] is not None:
        table.add_row("teacher, test accuracy", f"{answer['teacher']['test_accuracy']:.4f}")
    student = answer["student"]
    table.add_row("student, test accuracy", f"{student['test_accuracy']:.4f}")
    table.add_row("parameters", f"{student['parameters']:,}")
    table.add_row("steps T", str(student["timesteps"]))
    table.add_row("spikes per neuron-step", f"{student['spike_rate']:.1%}")
    table.add_row("run", answer["run"])
    return table


def export_table(answer: Answer) -> RenderableType:
    """What was written, and each layer's range proof."""
    title = f"Exported to {answer['target']}: {answer['bits']} bits, {answer['cores']} cores"
    table = _table(title, "layer", "shape", "range", "accumulator", "membrane", "scale k")
    for layer in answer["layers"]:
        scales = (layer.get("scale_min"), layer.get("scale_max"))
        table.add_row(
            layer["name"],
            "×".join(map(str, layer.get("shape", []))),
            layer.get("range", ""),
            _share(layer.get("accumulator_share")),
            _share(layer.get("membrane_share")),
            "" if None in scales else " … ".join(f"{scale:,}" for scale in scales),
        )
    files = f"files in {answer['run']}/{answer['target']}: {', '.join(answer['files'])}"
    return Group(table, files)


def validation_table(answer: Answer) -> RenderableType:
    """Accuracy of each form of the network, and what differed."""
    title = f"Validated on {answer['target']} ({answer['backend']}; silicon {answer['silicon']})"
    table = _facts(title)
    accuracy = answer["accuracy"]
    count, chosen = f"{answer['samples']:,} samples", f"{answer['target_samples']:,} samples"
    if accuracy["float"] is not None:
        table.add_row(f"accuracy, float ({count})", f"{accuracy['float']:.4f}")
        table.add_row(f"accuracy, integer ({count})", f"{accuracy['integer']:.4f}")
        table.add_row(f"accuracy, integer ({chosen})", f"{answer['integer_accuracy_on_target_samples']:.4f}")
        table.add_row(f"accuracy, {answer['backend']} ({chosen})", f"{accuracy['target']:.4f}")
    table.add_row("same prediction, integer and float", f"{answer['integer_agreement_with_float']:.4f}")
    table.add_row(
        "spikes that differ",
        f"{answer['spike_mismatches']:,} of {answer['neuron_steps_compared']:,} neuron-steps "
        f"({answer['spikes_total']:,} spikes)",
    )
    table.add_row(
        "read-outs that differ", f"{answer['readout_mismatches']:,} of {answer['readouts_compared']:,}"
    )
    table.add_row("populations compared", str(answer["populations_compared"]))
    table.add_row("silent populations", ", ".join(answer["silent_populations"]) or "none")
    for name, rate in answer["firing_rates"].items():
        table.add_row(f"spikes per neuron-step, {name}", f"{rate:.1%}")
    first = answer["first_mismatch"]
    if first:
        table.add_row("first difference", ", ".join(f"{key} {value}" for key, value in first.items()))
    return table


def energy_table(answer: Answer) -> RenderableType:
    """Activity, then a row per profile, model, batch and mode."""
    activity = answer["activity"]
    counts = _facts(f"Activity per inference (mean of {answer['samples']:,} samples)")
    counts.add_row("spikes", f"{activity['spikes_per_inference']:,.0f}")
    counts.add_row("synaptic operations", f"{activity['synops_per_inference']:,.0f}")
    counts.add_row("neuron updates", f"{activity['neuron_updates_per_inference']:,.0f}")
    title = "Per inference: low … nominal … high"
    table = _table(title, "hardware", "network, mode", "energy", "of it dynamic", "latency")
    for row in answer["profiles"]:
        table.add_row(
            row["profile"],
            f"{row['model']}, {row['mode']}" + (f" ×{row['batch']}" if row["batch"] > 1 else ""),
            interval(row["energy_j"], "J"),
            interval(row["dynamic_j"], "J"),
            interval(row["latency_s"], "s"),
        )
    return Group(counts, table, *reading_notes(answer["profiles"]))


def reading_notes(rows: list[Answer]) -> Iterator[str]:
    """What each profile's joules include, and what is missing from them."""
    for profile, row in {row["profile"]: row for row in rows}.items():
        yield f"{profile} includes: {row['boundary']}"
        if row["unknown"]:
            yield f"{profile} is a lower bound; unknown: {'; '.join(row['unknown'])}"


def check_table(answer: Answer) -> RenderableType:
    """Every limit that is broken, or that none is."""
    if not answer["problems"]:
        return f"{answer['network']} fits {answer['target']}"
    table = _table(f"{answer['network']} doesn't fit {answer['target']}", "problem")
    for problem in answer["problems"]:
        table.add_row(problem)
    return table


def catalogue_table(answer: Answer) -> RenderableType:
    """Names and descriptions."""
    table = _table(None, answer["kind"], "")
    for entry in answer["entries"]:
        table.add_row(entry["name"], entry["description"])
    return table


def doctor_table(answer: Answer) -> RenderableType:
    """What is installed."""
    table = _table(None, "", "package", "version", "needed for", "to do")
    for check in answer["checks"]:
        mark = "ok" if check["ok"] else "—"
        remedy = "" if check["ok"] else check["remedy"]
        table.add_row(mark, check["name"], check["version"] or "missing", check["needed_for"], remedy)
    return table


def interval(bounds: dict[str, float], unit: str) -> str:
    """Low … nominal … high, three digits each, under the nominal value's SI prefix: 1.2 … 94 … 170 µJ."""
    nominal = abs(bounds["nominal"])
    exponent = max(-12, min(3, 3 * math.floor(math.log10(nominal) / 3))) if nominal else 0
    shown = (f"{float(f'{bounds[bound] / 10**exponent:.3g}'):,g}" for bound in ("low", "nominal", "high"))
    return f"{' … '.join(shown)} {SI_PREFIXES[exponent]}{unit}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _facts(title: str) -> Table:
    table = _table(title, "", "")
    table.show_header = False
    return table


def _table(title: str | None, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
