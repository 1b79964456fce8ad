"""The report's figures of training, few bits, validation and spikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ...export.target import get_target
from ..arithmetic import record_on
from ..run import Run
from ..samples import take

STUDENT, TEACHER, ACCENT = "#2457c5", "#8a8f98", "#c8501e"
RASTER_NEURONS = 120
"""Neurons of a population that a raster shows, spread evenly."""

matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "snnkd",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
    }
)

Row = dict[str, Any]


def learning_curves(rows: Sequence[Row]) -> Figure:
    """Accuracy of both networks, the student's loss terms, and what the distillation does at the tap."""
    student = [row for row in rows if row["role"] == "student"]
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    accuracy, losses, tap = figure.subplots(1, 3)
    for role, colour in (("teacher", TEACHER), ("student", STUDENT)):
        part = [row for row in rows if row["role"] == role]
        if part:
            epochs = [row["epoch"] for row in part]
            accuracy.plot(epochs, [row["validation_accuracy"] for row in part], color=colour, label=role)
            accuracy.plot(epochs, [row["train_accuracy"] for row in part], color=colour, alpha=0.4, ls=":")
    accuracy.set(title="accuracy", xlabel="epoch")
    accuracy.legend(title="dotted: on training images")
    for name in student[0]["terms"] if student else ():
        losses.plot([row["epoch"] for row in student], [row["terms"][name] for row in student], label=name)
    losses.set(title="student's loss, weighted terms", xlabel="epoch", yscale="log")
    losses.legend()
    _plot_tap(tap, student)
    return figure


def _plot_tap(axes: Any, student: Sequence[Row]) -> None:
    """Gradient norms relative to cross-entropy's, and how well the maps agree."""
    epochs = [row["epoch"] for row in student]
    norms = [row.get("tap_gradient_norms", {}) for row in student]
    for name in norms[0] if norms else ():
        if name != "ce" and "ce" in norms[0]:
            ratios = [
                norm[name] / norm["ce"] if norm["ce"] else float("nan") for norm in norms
            ]  # none if all is silent
            axes.plot(epochs, ratios, label=f"|∇{name}| / |∇ce|")
    if student and "map_agreement" in student[0]:
        axes.plot(epochs, [row["map_agreement"] for row in student], color=ACCENT, label="map agreement")
    axes.set(title="at the tap", xlabel="epoch")
    if axes.lines:
        axes.legend()


def accuracy_bars(validation: Row) -> Figure:
    """Accuracy of the float network, the integers, and the target on its own samples."""
    accuracy = validation["accuracy"]
    every, chosen = (f"{validation[key]:,} samples" for key in ("samples", "target_samples"))
    bars = {
        f"float\n({every})": accuracy["float"],
        f"integer\n({every})": accuracy["integer"],
        f"integer\n({chosen})": validation["integer_accuracy_on_target_samples"],
        f"{validation['backend']}\n({chosen})": accuracy["target"],
    }
    figure = Figure(figsize=(6, 2.4))
    axes = figure.subplots()
    drawn = axes.bar(list(bars), list(bars.values()), color=[TEACHER, STUDENT, STUDENT, ACCENT], width=0.6)
    axes.bar_label(drawn, fmt="%.4f")
    axes.set(ylim=(0, 1.08), title="accuracy of every stage (test split)")
    return figure


def accuracy_against_bits(answer: Row) -> Figure | None:
    """Test accuracy of the integers against bits, and the float network's; None where no labels are known."""
    floats = answer["float"]["test_accuracy"]
    if floats is None or not answer["rows"]:
        return None
    figure = Figure(figsize=(6, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.axhline(floats, color=TEACHER, ls="--", label="float")
    for finetuned, colour, label in ((False, STUDENT, "post-training"), (True, ACCENT, "fine-tuned")):
        part = [row for row in answer["rows"] if row["finetuned"] is finetuned]
        if part:
            axes.plot(
                [row["bits"] for row in part],
                [row["test_accuracy"] for row in part],
                "o-",
                color=colour,
                label=label,
            )
    axes.set(title="accuracy against bits (test split)", xlabel="bits of a weight, in every layer")
    axes.set_xticks(sorted({row["bits"] for row in answer["rows"]}))
    axes.invert_xaxis()
    axes.legend()
    return figure


def spike_raster(run: Run, target: str) -> Figure:
    """Spikes of every population of the integer network for one test sample."""
    graph = run.integer_graph(target)
    timesteps = graph.steps
    sample = take(run.samples().inputs, slice(1))
    spikes = record_on(get_target(target), graph, sample, timesteps).spikes
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    panels = figure.subplots(1, len(graph.spiking), squeeze=False)[0]
    for axes, population in zip(panels, graph.spiking, strict=True):
        by_step = spikes[population.name][0].reshape(timesteps, -1)
        every = max(1, by_step.shape[1] // RASTER_NEURONS)
        steps, neurons = by_step[:, ::every].nonzero()
        axes.scatter(steps + 1, neurons * every, s=120, marker="_", linewidths=0.8, color=STUDENT)
        axes.set(
            title=f"{population.name}: {by_step.mean():.1%} of neuron-steps",
            xlabel="step",
            xlim=(0.5, timesteps + 0.5),
            xticks=range(1, timesteps + 1, 1 + timesteps // 12),
            ylim=(0, by_step.shape[1]),
        )
    panels[0].set_ylabel("neuron")
    return figure
