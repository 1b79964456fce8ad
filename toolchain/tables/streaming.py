"""The table of a stream."""

from __future__ import annotations

from rich.console import Group, RenderableType

from .layout import Answer, facts, fraction, new_table


def stream_table(answer: Answer) -> RenderableType:
    """What was read from each window, how much of it was right, and what differed on the target."""
    ran = f"on {answer['target']} ({answer['backend']}; silicon {answer['silicon']})"
    where = ran if answer["backend"] else "in the integer simulator"
    title = f"{answer['windows']:,} samples of {answer['timesteps']} steps as one stream, {where}"
    table = facts(title)
    for name, accuracy in answer["accuracy"].items():
        if accuracy is not None:
            table.add_row(f"accuracy, {name}", fraction(accuracy))
    if answer["accuracy_with_resets"] is not None:
        table.add_row("accuracy, reset before each", fraction(answer["accuracy_with_resets"]))
    table.add_row("same class as with resets", fraction(answer["agreement_with_resets"]))
    if answer["backend"]:
        table.add_row(
            "spikes that differ",
            f"{answer['spike_mismatches']:,} of {answer['neuron_steps_compared']:,} neuron-steps "
            f"({answer['spikes_total']:,} spikes)",
        )
        if answer["readouts_compared"]:
            compared = f"{answer['readout_mismatches']:,} of {answer['readouts_compared']:,}"
            table.add_row("read-outs that differ", compared)
    for problem in answer["range_problems"]:
        table.add_row("not proven for so long", problem)
    return Group(table, _windows(answer))


def _windows(answer: Answer) -> RenderableType:
    """A row for each window."""
    reads = list(answer["accuracy"])
    table = new_table(None, "window", "sample", "label", *reads, "with resets", "")
    for row in answer["classes"]:
        right = row["label"] is None or all(row[name] == row["label"] for name in reads)
        label = "" if row["label"] is None else str(row["label"])
        read = (str(row[name]) for name in (*reads, "with_resets"))
        table.add_row(str(row["window"]), str(row["sample"]), label, *read, "" if right else "wrong")
    return table
