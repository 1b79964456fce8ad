"""The `compare` stage: methods × seeds of one recipe, each an ordinary run; then what they come to."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ... import InputError
from ...export.files import read_json, write_json
from ...hardware_profiles import load_profile
from ..run import RUNS
from .cells import Cell
from .choices import Choices
from .page import write_page
from .plan import Plan
from .rows import TRIAL_KEYS, write_rows
from .runner import Ways, alone_with, train_all, visible_gpus
from .search import Search
from .summary import summary

DEFAULT_PROFILE = "loihi2"
"""The hardware profile that students are priced on."""

NO_PROFILE = "none"
"""In its place: they aren't."""


def compare(
    recipe: str | Path | None = None,
    methods: Sequence[str] = (),
    seeds: int | None = None,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    jobs: int = 1,
    time_limit: float | None = None,
    data_root: Path | None = None,
    trials: int | None = None,
    tune_learning_rate: bool | None = None,
    profile: str = DEFAULT_PROFILE,
    to_hard_reset: bool | None = None,
) -> dict[str, Any]:
    """Train each method with each seed of a recipe, and compare them.

    A study that was begun is gone on with: what is finished isn't repeated, the rest is tried again. All runs
    of a seed have the same initial weights, batch order and teacher, which is trained once.

    What isn't chosen of recipe, methods, seeds, overrides, trials, tune_learning_rate and to_hard_reset is as
    the study in `folder` has it, or where none was begun there, what stands last below.

    Args:
        recipe: a recipe that ships with snnkd, or a TOML file; digits.
        methods: those in the table, each `METHOD[:KEY=VALUE…]`, as "samd:methods.samd.variant=paper"; ce, kd,
            samd+nld, bkd.
        seeds: how many, from the recipe's own on; 5.
        overrides: changes to the recipe for all methods, as `student.epochs=5`; none.
        folder: of the study; None: that of the study with the same plan, or a new one below `runs/`.
        jobs: runs at a time.
        time_limit: seconds that a run may take; None: any.
        data_root: where data sets are kept; None: the default.
        trials: settings of each method's hyper-parameters that are tried first, with one seed that isn't in
            the table (see `trials`); the best by validation accuracy is compared. 1, the recipe's own.
        tune_learning_rate: whether the student's learning rate is among these, of every method; True.
        profile: name of a hardware profile, or a TOML file, that students are priced on; "none": they aren't.
        to_hard_reset: whether each method whose students have a soft reset gets a further row, of runs that
            go on from these students with a hard reset; False.

    Returns:
        What `study.json` holds: see `summary`.

    Raises:
        InputError: recipe, methods, data or folder can't be used. That a run failed, or couldn't be priced,
            is no error: it stands in `failed`.
    """
    if jobs < 1:
        raise InputError(f"--jobs must be at least 1, found {jobs}")
    priced_on = "" if profile == NO_PROFILE else profile
    if priced_on:
        load_profile(priced_on)
    choices = Choices(recipe, methods, seeds, overrides, trials, tune_learning_rate, to_hard_reset)
    plan = choices.plan(_begun(folder) if folder else None, _threads(jobs))
    study = folder or _folder_of(plan)
    return _carry_on(plan, study, Ways(jobs, time_limit, data_root, priced_on, visible_gpus()))


def _carry_on(plan: Plan, study: Path, ways: Ways) -> dict[str, Any]:
    """Train what is missing of `plan` in the folder `study`, and write what all of it comes to."""
    begun = _begun(study)
    if begun and not plan.extends(begun):
        raise InputError(
            f"{study} compares on another recipe, or tunes other hyper-parameters; leave these choices out "
            "to go on with it, or choose another folder with --run"
        )
    print(f"study: {study}", file=sys.stderr)
    with alone_with(study):
        plan = replace(plan, threads=begun.threads if begun else plan.threads)
        write_json(plan_file(study), plan.as_dict())
        search = Search(plan, study)
        trials, cells = search.cells(), search.runs()
        _fetch([*trials, *cells], ways)

        def write() -> dict[str, Any]:
            answer = summary(search, cells, ways.profile)
            write_json(study / "study.json", answer)
            write_rows(study / "study.csv", answer["runs"])
            write_rows(study / "study-trials.csv", answer["trials"], TRIAL_KEYS)
            return answer

        if trials:
            train_all(plan, study, trials, ways, write, "trials")
            cells = search.runs()
        train_all(plan, study, search.ready(cells), ways, write)
        answer = write()
        write_page(study, plan, cells, answer)
    return answer


def _fetch(cells: Sequence[Cell], ways: Ways) -> None:
    """Fetch the data set once, before the runs would all do it."""
    if any(cell.status != "finished" for cell in cells):
        from ..data.datasets import fetch_dataset

        fetch_dataset(cells[0].recipe.dataset, ways.data_root)


def plan_file(study: Path) -> Path:
    """Where it stands what a study compares."""
    return study / "plan.json"


def _begun(study: Path) -> Plan | None:
    """The plan of the study in a folder, if there is one."""
    path = plan_file(study)
    return Plan.restored(read_json(path), str(path)) if path.exists() else None


def _folder_of(plan: Plan) -> Path:
    """The folder of the study with this very plan, or a fresh one: runs/compare-NAME-1, -2, …"""
    name = f"compare-{plan.teacher_recipe(plan.seeds[0]).name}"
    number = 1
    while (study := RUNS / f"{name}-{number}").exists():
        if _is_of(study, plan):
            return study
        number += 1
    return study


def _is_of(study: Path, plan: Plan) -> bool:
    """Whether that folder's study has this plan, however many threads its runs have."""
    try:
        begun = _begun(study)
    except InputError:  # another study's damaged file is no fault of this one
        return False
    return begun is not None and {**begun.as_dict(), "threads": 0} == {**plan.as_dict(), "threads": 0}


def _threads(jobs: int) -> int:
    """CPU threads for each of the runs that go on at a time."""
    import torch

    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    return max(1, torch.get_num_threads() // jobs)
