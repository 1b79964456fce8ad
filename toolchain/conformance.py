"""`snnkd conformance`: networks in every simulator that a target has, compared spike by spike.

Simulators that read NIR are given the float and the integer network; any other target the integer network
that it quantises, as it exports and runs it. In the float network a spike may differ where the membrane lies
within rounding of its threshold. In the integer network none may, but where the chip's registers cut off what
a simulator keeps; then none may from the same network without that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import InputError, Refusal, SnnkdError
from ..export.target import TARGETS, Target, get_target, is_executable
from .progress import progress
from .recipe import load_recipe, recipe_names
from .run import VALIDATION_SAMPLES, Run
from .samples import choose, size, take
from .verdicts import FLOAT, INTEGER, Subject, judged, networks_in

TIME_LIMIT = 600.0
"""Seconds that a simulator may take for one network unless asked otherwise."""

RECIPE_SAMPLES = 4
"""Samples that an untrained student is shown unless asked otherwise."""

LARGE = 40_000
"""Neurons from which on a shipped recipe's student takes simulators minutes."""


def conformance_of_run(
    run: Run,
    samples: int = VALIDATION_SAMPLES,
    target: str = "loihi2",
    data_root: Path | None = None,
    only: Sequence[str] = (),
    time_limit: float = TIME_LIMIT,
) -> dict[str, Any]:
    """Show samples to a run's networks here and in each simulator, and compare every spike with ==.

    Args:
        samples: how many of the test samples, spread evenly over the split.
        target: whose integer network is taken, for all that have the same integers.
        data_root: where data sets are kept; None: the default.
        only: targets whose simulators are asked; empty: all that can be run.
        time_limit: seconds for each network in each simulator.

    Returns:
        The answer of `snnkd conformance --json`: {"run", "target", "weights", "samples", "timesteps",
        "firing_rates" (the float network's), "rows", "not_executable"}, a row for each network and simulator
        as `verdicts.judged` gives it. `explained`: whether nothing differs but for the `reason`.

    Raises:
        InputError: the run isn't exported to `target`, its samples can't be read, or there is no such target.
    """
    integers = run.integer_graph(target)
    given = run.samples(data_root)
    subject = Subject(
        floats=run.float_graph(),
        made_for=get_target(target),
        integers=integers,
        inputs=take(given.inputs, choose(given.inputs, samples)),
        calibration=given.calibration,
        bits=integers.weight_bits or 8,
    )
    weights = "given" if run.from_nir else "trained"
    return {"run": str(run.folder), "weights": weights, **_matrix(subject, only, time_limit)}


def conformance_of_recipes(
    names: Sequence[str] = (),
    samples: int = RECIPE_SAMPLES,
    target: str = "loihi2",
    data_root: Path | None = None,
    only: Sequence[str] = (),
    time_limit: float = TIME_LIMIT,
    large: bool = False,
) -> dict[str, Any]:
    """The same for the untrained students of recipes, with random weights; no run is needed.

    Args:
        names: recipes or TOML files; empty: all that ship, whose data is there, and which aren't large.
        large: take large ones too.

    Returns:
        {"target", "matrices": an answer of `conformance_of_run` for each recipe, "recipe" in place of "run",
        "left_out": {recipe: why}}.

    Raises:
        InputError: a recipe that is named, or its data, can't be used.
    """
    from .untrained import neurons_of, untrained

    matrices, left_out = [], {}
    for name in names or recipe_names():
        recipe = load_recipe(name)
        try:
            if not (names or large) and (neurons := neurons_of(recipe)) >= LARGE:
                left_out[name] = f"{neurons:,} neurons; --large takes it"
                continue
            student = untrained(recipe, data_root, fetch=bool(names))
        except SnnkdError as error:
            if names and not isinstance(error, Refusal):
                raise
            left_out[name] = str(error)
            continue
        chosen = take(student.inputs, choose(student.inputs, samples))
        subject = Subject(
            student.graph, get_target(target), None, chosen, student.calibration, recipe.quantization.bits
        )
        found = _matrix(subject, only, time_limit, f"{name} in ")
        matrices.append({"recipe": name, "weights": "untrained", **found})
    return {"target": target, "matrices": matrices, "left_out": left_out}


def simulators() -> list[Target]:
    """The targets that can be run, those of other packages among them."""
    return [room for room in map(get_target, TARGETS.names()) if is_executable(room)]


def unexplained(answer: dict[str, Any]) -> list[str]:
    """The rows that differ without an excuse, or that failed, each in a line."""
    return [
        f"{_of(matrix)}{row['network']} network in {row['simulator']}: {_difference(row)}"
        for matrix in answer.get("matrices", [answer])
        for row in matrix["rows"]
        if not row["explained"]
    ]


def _of(matrix: dict[str, Any]) -> str:
    return f"{matrix['recipe']}'s " if "recipe" in matrix else ""


def _difference(row: dict[str, Any]) -> str:
    if row["differing"] is None:
        return f"{row['verdict']}, {row['reason']}"
    return f"{row['differing']:,} spikes differ, {row['reason']}"


def _matrix(subject: Subject, only: Sequence[str], time_limit: float, what: str = "") -> dict[str, Any]:
    """All rows, and what was asked for them."""
    rooms = _chosen(only)
    cells = [(name, room) for name in (FLOAT, INTEGER) for room in rooms if name in networks_in(room)]
    rows = []
    with progress(f"{what}simulators", len(cells)) as report:
        for network, room in cells:
            note = f"{network} in {room.name}"
            report(len(rows), note)

            def inside(done: int, total: int, before: int = len(rows), note: str = note) -> None:
                report(before + done / max(1, total), note)

            rows.append(judged(room, network, subject, time_limit, inside))
            report(len(rows), note)
    spikes = subject.float_recording().spikes
    return {
        "target": subject.made_for.name,
        "samples": size(subject.inputs),
        "timesteps": subject.floats.steps,
        "firing_rates": {name: float(emitted.mean()) for name, emitted in spikes.items()},
        "rows": rows,
        "not_executable": [
            name for name in TARGETS.names() if not only and not is_executable(get_target(name))
        ],
    }


def _chosen(only: Sequence[str]) -> list[Target]:
    """The simulators asked for.

    Raises:
        InputError: there is no such target, or nothing to run it in.
    """
    rooms = simulators()
    if not only:
        return rooms
    for name in only:
        if name not in {room.name for room in rooms}:
            get_target(name)  # it says so where there is none
            raise InputError(f"{name} has no simulator; there are: {', '.join(room.name for room in rooms)}")
    return [room for room in rooms if room.name in only]
