"""What the runs of a study come to so far: the answer of `snnkd compare --json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .cells import Cell, teacher_of
from .plan import REFERENCES, SEARCH_SEED, Plan
from .rows import row_of
from .search import Search
from .statistics import Difference, holm, paired_difference, spread

Row = dict[str, Any]

ACCURACIES = ("test_accuracy", "validation_accuracy")
COSTS = ("spike_rate", "map_agreement", "student_seconds", "peak_memory_bytes", "peak_gpu_bytes")

ABOUT_INTERVALS = (
    "Spread and intervals are over training seeds: weights, batch order, augmentation and teacher. The "
    "splits are the same in all runs, so what another test split would change isn't in them."
)
ABOUT_TRIALS = (
    "Of each method {trials} settings were tried, the recipe's own first, each with one seed that isn't in "
    "the table; the best by validation accuracy was trained with all seeds."
)
ABOUT_ENERGY = (
    "Energy is of one inference of the integer network on {profile}, a sample alone, estimated: nominal (low–"
    "high). The constants behind the bounds are the same for all methods, so they move all of them together."
)
ABOUT_ONE_SEED = "One seed has no spread: no interval, no test. Five or more tell something."
ABOUT_TIMES = "Seconds are of the student's epochs, by the clock: runs beside each other slow down."


def summary(search: Search, cells: Sequence[Cell], profile: str) -> dict[str, Any]:
    """What the runs of a study come to so far.

    Args:
        cells: the runs of the table.
        profile: what students are priced on; "": nothing.

    Returns:
        `methods`: for each, over its finished runs, {mean, std, n} of the accuracies (the test split's once
        each, the validation split's of the selected epoch), of spikes per neuron-step on the test split, of
        the maps' agreement with the teacher's on the validation split, of the student's training seconds and
        of peak memory in bytes; `energy`, see `_energy`; `settings`, what was chosen of what is tuned; and
        `against` each reference the paired differences of the accuracies. `runs`, `trials`: a row each.
        `teachers`, `failed`, `budget`, `notes`.

    Raises:
        InputError: a run's file is damaged.
    """
    plan, study = search.plan, search.study
    runs = [row_of(cell, profile) for cell in cells]
    trials = search.rows()
    names = [contender.spec for contender in plan.contenders]
    done = [row for row in runs if row["status"] == "finished"]
    finished = {name: [row for row in done if row["method"] == name] for name in names}
    against = _against(finished)
    return {
        "study": str(study),
        "recipe": cells[0].recipe.name,
        "dataset": cells[0].recipe.dataset,
        "seeds": list(plan.seeds),
        "budget": _budget(plan),
        "methods": [
            {
                "method": name,
                "runs": len(plan.seeds),
                "finished": len(finished[name]),
                **{key: _spread(finished[name], key) for key in (*ACCURACIES, *COSTS)},
                "energy": _energy(finished[name], profile),
                "settings": _settings(search, name, trials[name]),
                "against": against[name],
            }
            for name in names
        ],
        "teachers": _teachers(plan, study),
        "runs": runs,
        "trials": [row for name in names for row in trials[name]],
        "failed": [
            *(_failed(row, "seed") for row in runs if row["status"] == "failed"),
            *(_failed(row, "setting") for name in names for row in trials[name] if row["status"] == "failed"),
        ],
        "notes": [*_notes(search, profile), *_without_energy(finished, profile)],
    }


def _failed(row: Row, which: str) -> Row:
    return {key: row[key] for key in ("method", which, "reason")}


def _settings(search: Search, name: str, trials: Sequence[Row]) -> Row | None:
    """The value of each key that is tuned, as it was chosen; None where nothing is, or not yet."""
    numbers = [row["setting"] for row in trials if row["chosen"]]
    return dict(search.settings[name][numbers[0]].values) if numbers else None


def _energy(rows: Sequence[Row], profile: str) -> Row | None:
    """Joules of an inference over the runs: {mean, std, n} of the nominal figure, the means of its bounds.

    With `reasons` why some of them have no figure; None where nobody looked yet.
    """
    if not any(row["energy_profile"] for row in rows):
        return None
    bounds = {bound: _spread(rows, f"energy_j_{bound}") for bound in ("low", "nominal", "high")}
    return {
        "profile": profile,
        "nominal_j": bounds["nominal"],
        "low_j": bounds["low"]["mean"] if bounds["low"] else None,
        "high_j": bounds["high"]["mean"] if bounds["high"] else None,
        "lower_bound": any(row["energy_lower_bound"] for row in rows),
        "reasons": sorted({row["energy_reason"] for row in rows if row["energy_reason"]}),
    }


def _notes(search: Search, profile: str) -> list[str]:
    """What to know besides."""
    notes = [ABOUT_INTERVALS, ABOUT_TIMES]
    if len(search.plan.seeds) == 1:
        notes.append(ABOUT_ONE_SEED)
    if search.plan.trials > 1:
        notes.append(ABOUT_TRIALS.format(trials=search.plan.trials))
        alone = [spec for spec, settings in search.settings.items() if len(settings) == 1]
        notes += [f"{spec} has nothing to tune: its one setting is the recipe's." for spec in alone]
    if profile:
        notes.append(ABOUT_ENERGY.format(profile=profile))
    return notes


def _without_energy(finished: dict[str, list[Row]], profile: str) -> Iterator[str]:
    """Why methods have no figure of energy: for each reason its first limit, and who meets it."""
    by_reason: dict[str, list[str]] = {}
    for name, rows in finished.items():
        for reason in dict.fromkeys(row["energy_reason"] for row in rows if row["energy_reason"]):
            by_reason.setdefault(reason.split("; ")[0], []).append(name)
    for reason, names in by_reason.items():
        yield f"No energy on {profile} of {', '.join(dict.fromkeys(names))}: {reason}."


def _spread(rows: Sequence[Row], key: str) -> dict[str, Any] | None:
    found = spread([row[key] for row in rows if row[key] is not None])
    return asdict(found) if found else None


def _against(finished: dict[str, list[Row]]) -> dict[str, dict[str, Any]]:
    """The paired differences of each method from each reference that takes part, over common seeds."""
    against: dict[str, dict[str, Any]] = {name: {} for name in finished}
    for place, reference in enumerate(REFERENCES):
        compared = [name for name in finished if name not in REFERENCES[: place + 1]]
        others = compared if reference in finished else []
        for accuracy in ACCURACIES:
            found = [_difference(finished[name], finished[reference], accuracy) for name in others]
            adjusted = holm([difference.p if difference else None for difference in found])
            for name, difference, p in zip(others, found, adjusted, strict=True):
                entry = against[name].setdefault(reference, {})
                entry[accuracy] = {**asdict(difference), "p_holm": p} if difference else None
    return against


def _difference(ours: Sequence[Row], theirs: Sequence[Row], key: str) -> Difference | None:
    of = {row["seed"]: row[key] for row in theirs}
    pairs = [(row[key], of[row["seed"]]) for row in ours if row["seed"] in of]
    return paired_difference([own for own, _ in pairs], [other for _, other in pairs])


def _teachers(plan: Plan, study: Path) -> list[Row]:
    """A row for each seed's teacher, that of the trials last, where any method has one."""
    seeds = [*plan.seeds, *([SEARCH_SEED] if plan.trials > 1 else [])]
    cells = [teacher_of(plan, study, seed) for seed in seeds] if plan.taught else []
    return [
        {"seed": cell.seed, "status": cell.status, "reason": cell.reason(), **_teacher_facts(cell)}
        for cell in cells
    ]


def _teacher_facts(cell: Cell) -> Row:
    if cell.status != "finished":
        return {"test_accuracy": None, "sha256": None, "seconds": None}
    found = cell.outcome()
    seconds = sum(row["seconds"] for row in cell.run.metrics())
    return {"test_accuracy": found["test_accuracy"], "sha256": found["teacher_sha256"], "seconds": seconds}


def _budget(plan: Plan) -> Row:
    """What every run of the study has alike."""
    recipe = plan.teacher_recipe(plan.seeds[0])
    return {
        "student_epochs": recipe.student.epochs,
        "teacher_epochs": recipe.teacher.epochs if plan.taught else 0,
        "batch_size": recipe.student.batch_size,
        "train_samples": recipe.data.train_samples or "all",
        "split_seed": recipe.data.split_seed,
        "trials": plan.trials,
        "tunes_learning_rate": plan.trials > 1 and plan.tunes_rate,
        "threads": plan.threads,
    }
