"""A study's figures: accuracy against spikes or energy, paired differences, and where the networks look."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from ..report.figures import ACCENT, STUDENT, TEACHER
from ..tables.comparing import differences
from ..tables.layout import Answer
from .cells import Cell

Maps = Mapping[str, np.ndarray]

LINE = 0.16
"""Height of a line of small print, inches."""


def accuracy_against_spikes(answer: Answer) -> Figure | None:
    """A faint point for each run, a strong one with both spreads for each method; None without runs."""
    known = [method for method in answer["methods"] if method["finished"]]
    if not known:
        return None
    figure, axes = _beside_legend([method["method"] for method in known])
    for place, method in enumerate(known):
        colour = _colour(place, len(known))
        runs = [
            row
            for row in answer["runs"]
            if row["method"] == method["method"] and row["spike_rate"] is not None
        ]
        axes.plot(
            [row["spike_rate"] for row in runs],
            [row["test_accuracy"] for row in runs],
            "o",
            color=colour,
            alpha=0.3,
            ms=4,
        )
        rate, accuracy = method["spike_rate"], method["test_accuracy"]
        axes.errorbar(
            rate["mean"],
            accuracy["mean"],
            xerr=rate["std"],
            yerr=accuracy["std"],
            fmt="o",
            color=colour,
            capsize=2,
            label=in_lines(method["method"]),
        )
    axes.set(xlabel="spikes per neuron-step (test split)", ylabel="test accuracy")
    axes.set_title("accuracy against spikes: runs, mean and standard deviation")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    return figure


def accuracy_against_energy(answer: Answer) -> Figure | None:
    """A faint point for each run, a strong one for each method with the energy's bounds; None without any."""
    known = [m for m in answer["methods"] if m["energy"] and m["energy"]["nominal_j"]]
    if not known:
        return None
    figure, axes = _beside_legend([method["method"] for method in known])
    for place, method in enumerate(known):
        colour = _colour(place, len(known))
        runs = [
            row
            for row in answer["runs"]
            if row["method"] == method["method"] and row["energy_j_nominal"] is not None
        ]
        energies = [row["energy_j_nominal"] for row in runs]
        axes.plot(energies, [row["test_accuracy"] for row in runs], "o", color=colour, alpha=0.3, ms=4)
        energy, accuracy = method["energy"], method["test_accuracy"]["mean"]
        axes.plot([energy["low_j"], energy["high_j"]], [accuracy] * 2, color=colour, lw=1, alpha=0.4)
        axes.plot(energy["nominal_j"]["mean"], accuracy, "o", color=colour, label=in_lines(method["method"]))
    axes.xaxis.set_major_formatter(EngFormatter("J"))
    profile = known[0]["energy"]["profile"]
    at_least = "at least, " if any(m["energy"]["lower_bound"] for m in known) else ""
    axes.set(xlabel=f"energy of an inference on {profile} ({at_least}estimated)", ylabel="test accuracy")
    axes.set_title("accuracy against energy: runs and means; lines: the estimate's bounds, common to all")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    return figure


def difference_intervals(answer: Answer) -> Figure | None:
    """Each paired difference with its interval; None without any."""
    shown = list(differences(answer))
    if not shown:
        return None
    names = [in_lines(name, 50) for name, *_ in shown]
    row = max(0.36, LINE * max(_height(name) for name in names))
    figure = Figure(figsize=(9, 0.9 + row * len(shown)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=TEACHER, lw=1)
    for place, (_, *splits, _) in enumerate(shown):
        for found, colour, shift in zip(splits, (STUDENT, ACCENT), (-0.12, 0.12), strict=True):
            if found["low"] is not None:
                axes.plot([found["low"], found["high"]], [place + shift] * 2, color=colour, lw=2, alpha=0.6)
            axes.plot(found["mean"], place + shift, "o", color=colour, ms=4)
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.set(ylim=(len(shown) - 0.5, -0.5), xlabel="difference in accuracy, 95 % interval")
    axes.set_title("paired differences: blue on the test split, orange on validation")
    return figure


def maps_side_by_side(cells: Sequence[Cell]) -> Figure | None:
    """Test samples, where the teacher looks and where each method's student does; None without maps.

    Of the first seed that has any.
    """
    found = dict(_first_maps(cells))
    if not found:
        return None
    first = next(iter(found.values()))
    columns = {"image": _as_pictures(first["images"]), "teacher": first["teacher"]}
    columns |= {name: maps["student"] for name, maps in found.items()}
    down = len(first["labels"])
    names = [in_lines(name, 18) for name in columns]
    above = LINE * max(_height(name) for name in names)
    figure = Figure(figsize=(1.3 * len(columns), above + 1.4 * down), layout="constrained")
    panels = figure.subplots(down, len(columns), squeeze=False)
    for column, (name, pictures) in enumerate(zip(names, columns.values(), strict=True)):
        panels[0, column].set_title(name, fontsize=8)
        for row in range(down):
            _draw(panels[row, column], pictures[row])
    return figure


def in_lines(name: str, width: int = 40) -> str:
    """A contender's name, `kd:methods.kd.weight=1`, in lines of at most so many letters."""
    return textwrap.fill(name.replace(":methods.", ", ").replace(":", ", "), width)


def _height(text: str) -> int:
    return text.count("\n") + 1


def _colour(place: int, count: int) -> tuple[float, ...]:
    return colormaps["tab10"](place) if count <= 10 else colormaps["tab20"](place % 20)


def _beside_legend(names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure as high as the legend of these."""
    height = LINE * sum(_height(in_lines(name)) for name in names)
    figure = Figure(figsize=(9, max(3.4, height + 0.4)), layout="constrained")
    return figure, figure.subplots()


def _first_maps(cells: Sequence[Cell]) -> Iterator[tuple[str, Maps]]:
    """The maps of each method's run with the first seed that has any; they have one teacher."""
    having = [cell for cell in cells if cell.status == "finished" and cell.maps_file.exists()]
    for cell in having:
        if cell.seed == having[0].seed and cell.contender:
            with np.load(cell.maps_file, allow_pickle=False) as file:
                yield cell.contender.name, dict(file)


def _as_pictures(images: np.ndarray) -> np.ndarray:
    """Inputs (N, C, H, W) as (N, H, W, 3), or (N, H, W) where they aren't in three colours."""
    if images.shape[1] == 3:
        return images.transpose(0, 2, 3, 1)
    return images.mean(1).astype(images.dtype)


def _draw(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray" if picture.dtype == np.uint8 else "magma", interpolation="nearest")
    axes.set_axis_off()
