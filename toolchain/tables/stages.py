"""Tables of training, quantisation and validation."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from ..units import amount, interval
from .floats import float_rows
from .layout import Answer, facts, fraction, new_table


def train_table(answer: Answer) -> RenderableType:
    """What training found."""
    table = facts(f"Trained: {answer['recipe']} (seed {answer['seed']}), {answer['method']}")
    if answer["teacher"]["test_accuracy"] is not None:
        table.add_row("teacher, test accuracy", f"{answer['teacher']['test_accuracy']:.4f}")
    student = answer["student"]
    table.add_row("student, test accuracy", f"{student['test_accuracy']:.4f}")
    table.add_row("parameters", f"{student['parameters']:,}")
    table.add_row("steps T", str(student["timesteps"]))
    table.add_row("spikes per neuron-step", f"{student['spike_rate']:.3g}")
    table.add_row("run", answer["run"])
    return table


def quantize_table(answer: Answer) -> RenderableType:
    """Accuracy against bits, the float network's first."""
    title = f"Bits of a weight, for {answer['target']} ({answer['samples']['test']:,} test samples)"
    table = new_table(title, "weights", "", "validation", "test", "against float", "same prediction")
    floats = answer["float"]
    table.add_row("float", "", *(fraction(floats[f"{split}_accuracy"]) for split in ("validation", "test")))
    for row in answer["rows"]:
        table.add_row(
            row["name"],
            "fine-tuned" if row["finetuned"] else "post-training",
            fraction(row["validation_accuracy"]),
            fraction(row["test_accuracy"]),
            fraction(row["difference"], "+.4f"),
            fraction(row["agreement"]),
        )
    return table


def validation_table(answer: Answer) -> RenderableType:
    """Accuracy of each form of the network, and what differed."""
    title = f"Validated on {answer['target']} ({answer['backend']}; silicon {answer['silicon']})"
    table = facts(title)
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
    if answer["readouts_compared"]:
        table.add_row(
            "read-outs that differ", f"{answer['readout_mismatches']:,} of {answer['readouts_compared']:,}"
        )
    table.add_row("populations compared", str(answer["populations_compared"]))
    table.add_row("silent populations", ", ".join(answer["silent_populations"]) or "none")
    for name, rate in answer["firing_rates"].items():
        table.add_row(f"spikes per neuron-step, {name}", f"{rate:.3g}")
    for row in _simulated(answer["simulated"]):
        table.add_row(*row)
    for row in float_rows(answer.get("float_networks")):
        table.add_row(*row)
    first = answer["first_mismatch"]
    if first:
        table.add_row("first difference", ", ".join(f"{key} {value}" for key, value in first.items()))
    return table


def _simulated(simulated: Answer | None) -> Iterator[tuple[str, str]]:
    """What the target's simulation says a sample takes, and our estimate for the same network there."""
    if simulated is None:
        return
    ours = simulated["estimate"]
    for what, name, figure, unit in (
        ("energy", "energy_j", "dynamic_j", "J"),
        ("latency", "latency_s", "latency_s", "s"),
    ):
        beside = f"; estimated for {ours['profile']}: {interval(ours[figure], unit)}" if ours else ""
        yield f"{what} per sample, simulated", f"{amount(simulated[name], unit)}{beside}"
    yield "these figures hold", simulated["boundary"]
