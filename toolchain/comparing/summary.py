"""What the runs of a study come to so far: the answer of `snnkd compare --json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .cells import Cell, teacher_of
from .plan import REFERENCES, SEARCH_SEED, Contender, Plan
from .rows import Row, row_of
from .search import Search
from .statistics import Difference, holm, paired_difference, spread

ACCURACIES = ("test_accuracy", "validation_accuracy")
COSTS = ("spike_rate", "map_agreement", "student_seconds", "peak_memory_bytes", "peak_gpu_bytes")
COMPARED = (*ACCURACIES, "map_agreement")
"""What a paired difference is made of."""

ABOUT_INTERVALS = (
    "Spread and intervals are over training seeds: weights, batch order, augmentation and teacher. The "
    "splits are the same in all runs, so what another test split would change isn't in them."
)
ABOUT_VALIDATION = (
    "The validation split chose each run's epoch, and the setting where several were tried, so differences "
    "on it favour methods with more to choose from. Judge by the test split."
)
ABOUT_TRIALS = (
    "Of each method {trials} settings were tried, the recipe's own first, each with one seed that isn't in "
    "the table; the best by validation accuracy was trained with all seeds."
)
ABOUT_FAILED_TRIALS = "Of {name} {failed} of {trials} trials failed: its setting is of the others."
ABOUT_ENERGY = (
    "Energy is of one inference of the integer network on {profile}, a sample alone, estimated: nominal (low–"
    "high). The constants behind the bounds are the same for all methods, so they move all of them together."
)
ABOUT_HARD_RESET = (
    "{name} goes on from the students of {soft}: it had {epochs} more epochs than the others, and its "
    "seconds are of these alone."
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
        `against` each reference the paired differences of the accuracies and the maps' agreement. `runs`,
        `trials`: a row each. `teachers`, `budget`, `notes`. `failed`: what didn't end as it should, among it
        finished runs that couldn't be priced.

    Raises:
        InputError: a run's file is damaged.
    """
    plan, study = search.plan, search.study
    runs = [row_of(cell, profile) for cell in cells]
    tried = search.rows()
    trials = [row for rows in tried.values() for row in rows]
    names = [contender.name for contender in plan.table]
    done = [row for row in runs if row["status"] == "finished"]
    finished = {name: [row for row in done if row["method"] == name] for name in names}
    softs = {c.name: c.spec for c in plan.table if c.hardens}
    against = _against(finished, softs)
    return {
        "study": str(study),
        "recipe": cells[0].recipe.name,
        "dataset": cells[0].recipe.dataset,
        "seeds": list(plan.seeds),
        "budget": _budget(plan),
        "methods": [
            {
                "method": (name := contender.name),
                "runs": len(plan.seeds),
                "finished": len(finished[name]),
                **{key: _spread(finished[name], key) for key in (*ACCURACIES, *COSTS)},
                "energy": _energy(finished[name], profile),
                "settings": _settings(search, contender),
                "against": against[name],
            }
            for contender in plan.table
        ],
        "teachers": _teachers(plan, study),
        "runs": runs,
        "trials": trials,
        "failed": [
            *(_failed(row, "seed") for row in runs if row["reason"]),
            *(_failed(row, "setting") for row in trials if row["status"] == "failed"),
        ],
        "notes": [
            *_notes(search, tried, profile),
            *_on_hard_resets(finished, softs),
            *_without_energy(finished, profile),
        ],
    }


def _failed(row: Row, which: str) -> Row:
    return {key: row[key] for key in ("method", which, "reason")}


def _settings(search: Search, contender: Contender) -> Row | None:
    """The value of each key that is tuned, as it was chosen; None where nothing is, or not yet."""
    chosen = search.chosen(contender)
    return dict(chosen.values) if chosen and chosen.values else None


def _energy(rows: Sequence[Row], profile: str) -> Row | None:
    """Joules of an inference over the runs: {mean, std, n} of the nominal figure, the means of its bounds.

    Over as many of the finished `runs` as `nominal_j` says; `reasons`: why the others have no figure. None
    where nobody looked yet.
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
        "runs": len(rows),
        "reasons": sorted({row["energy_reason"] for row in rows if row["energy_reason"]}),
    }


def _notes(search: Search, tried: dict[str, list[Row]], profile: str) -> list[str]:
    """What to know besides."""
    notes = [ABOUT_INTERVALS, ABOUT_VALIDATION, ABOUT_TIMES]
    if len(search.plan.seeds) == 1:
        notes.append(ABOUT_ONE_SEED)
    if search.plan.trials > 1:
        notes.append(ABOUT_TRIALS.format(trials=search.plan.trials))
        for name, rows in tried.items():
            failed = sum(row["status"] == "failed" for row in rows)
            if 0 < failed < len(rows):
                notes.append(ABOUT_FAILED_TRIALS.format(name=name, failed=failed, trials=len(rows)))
        alone = [spec for spec, settings in search.settings.items() if len(settings) == 1]
        notes += [f"{spec} has nothing to tune: its one setting is the recipe's." for spec in alone]
    if profile:
        notes.append(ABOUT_ENERGY.format(profile=profile))
    return notes


def _on_hard_resets(finished: dict[str, list[Row]], softs: dict[str, str]) -> Iterator[str]:
    """What the runs had besides that go on from others."""
    for name, soft in softs.items():
        for epochs in sorted({row["epochs"] for row in finished[name]}):
            yield ABOUT_HARD_RESET.format(name=name, soft=soft, epochs=epochs)


def _without_energy(finished: dict[str, list[Row]], profile: str) -> Iterator[str]:
    """Why runs have no figure of energy: for each reason its first limit, and whose runs meet it."""
    by_reason: dict[str, list[str]] = {}
    for name, rows in finished.items():
        met = Counter(row["energy_reason"].split("; ")[0] for row in rows if row["energy_reason"])
        for reason, count in met.items():
            whose = name if count == len(rows) else f"{name} ({count} of {len(rows)} runs)"
            by_reason.setdefault(reason, []).append(whose)
    for reason, names in by_reason.items():
        yield f"No energy on {profile} of {', '.join(names)}: {reason}."


def _spread(rows: Sequence[Row], key: str) -> dict[str, Any] | None:
    found = spread([row[key] for row in rows if row[key] is not None])
    return asdict(found) if found else None


def _against(finished: dict[str, list[Row]], softs: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The paired differences of each method over common seeds: from each reference that takes part.

    And, where it goes on from another's students (`softs`), from that one.
    """
    against: dict[str, dict[str, Any]] = {name: {} for name in finished}
    for reference, others in _comparisons(list(finished), softs):
        for key in COMPARED:
            found = [_difference(finished[name], finished[reference], key) for name in others]
            adjusted = holm([difference.p if difference else None for difference in found])
            for name, difference, p in zip(others, found, adjusted, strict=True):
                entry = against[name].setdefault(reference, {})
                entry[key] = {**asdict(difference), "p_holm": p} if difference else None
    return against


def _comparisons(names: Sequence[str], softs: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """What is compared with what: a family of tests each, of which Holm's adjustment is made."""
    for place, reference in enumerate(REFERENCES):
        if reference in names:
            yield reference, [name for name in names if name not in REFERENCES[: place + 1]]
    for name, soft in softs.items():
        if soft not in REFERENCES:
            yield soft, [name]


def _difference(ours: Sequence[Row], theirs: Sequence[Row], key: str) -> Difference | None:
    of = {row["seed"]: row[key] for row in theirs if row[key] is not None}
    pairs = [(row[key], of[row["seed"]]) for row in ours if row["seed"] in of and row[key] is not None]
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
