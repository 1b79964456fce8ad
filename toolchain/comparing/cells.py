"""The runs of a study: where each lies, how far it has come, and what it found.

STUDY/plan.json                     what is compared
STUDY/teachers/seed-0/              a seed's teacher, which all methods of the seed share
STUDY/<method>/seed-0/              a run like any other, and besides
    outcome.json                    what its process found, written last: without it a run isn't finished
    failure.json                    why it failed, or why it couldn't be priced, until it is tried again
    maps.npz                        where student and teacher look, on a few test samples
    priced.json                     what an inference costs on the study's hardware profile
    log.txt                         what its processes printed
STUDY/<method>/trial/               the run with the seed that settings are tried with; its teacher likewise
STUDY/<method>/setting-2/…          the same with a setting other than the recipe's own
STUDY/<method>-hard-reset-…/seed-0/ a run that goes on from <method>/seed-0 with a hard reset
STUDY/study.json, study.csv, study-trials.csv, study.html
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ... import InputError
from ...export.files import read_json, write_bytes, write_json, write_text
from ...hardware_profiles import load_profile
from ..recipe import Recipe, dump
from ..run import Run
from .plan import SEARCH_SEED, Contender, Plan
from .trials import OWN, Setting

Status = Literal["finished", "failed", "interrupted", "waiting"]

TEACHERS = "teachers"

DIVERGED = "diverged"
"""In the outcome of a run that ended in a loss that is no number: why."""


@dataclass(frozen=True)
class Cell:
    """A contender's run with one seed, or (without a contender) a seed's teacher.

    Attributes:
        recipe: what it is trained as, or what the one that it goes on from is.
        after: the run that it goes on from with a hard reset.
    """

    study: Path
    seed: int
    contender: Contender | None
    recipe: Recipe
    setting: Setting = OWN
    after: Cell | None = None

    @property
    def is_trial(self) -> bool:
        """Whether it is there only to choose a setting by."""
        return self.seed == SEARCH_SEED

    @property
    def name(self) -> str:
        """What messages call it."""
        who = self.contender.name if self.contender else "teacher"
        if self.is_trial:
            return f"{who}, setting {self.setting.number}" if self.contender else f"{who} of all trials"
        return f"{who}, seed {self.seed}"

    @property
    def run(self) -> Run:
        folder = self.study / (self.contender.folder if self.contender else TEACHERS)
        if self.setting.number:
            folder /= f"setting-{self.setting.number}"
        return Run(folder / ("trial" if self.is_trial else f"seed-{self.seed}"))

    @property
    def outcome_file(self) -> Path:
        return self.run.folder / "outcome.json"

    @property
    def failure_file(self) -> Path:
        return self.run.folder / "failure.json"

    @property
    def maps_file(self) -> Path:
        return self.run.folder / "maps.npz"

    @property
    def priced_file(self) -> Path:
        return self.run.folder / "priced.json"

    @property
    def log_file(self) -> Path:
        return self.run.folder / "log.txt"

    @property
    def status(self) -> Status:
        if self.outcome_file.exists():
            return "finished"
        if self.failure_file.exists():
            return "failed"
        return "interrupted" if self.run.recipe_file.exists() else "waiting"

    def outcome(self) -> dict[str, Any]:
        """What its process found.

        Raises:
            InputError: the file is damaged.
        """
        found = read_json(self.outcome_file)
        if not isinstance(found, dict) or "threads" not in found:
            raise InputError(f"{self.outcome_file} is damaged; delete it and compare again")
        return found

    def diverged(self) -> str:
        """Why a finished trial has no student; nothing where it has one."""
        return self.outcome().get(DIVERGED, "")

    def priced(self, profile: str) -> dict[str, Any] | None:
        """What an inference costs on that hardware profile, see `pricing`.

        None where nobody looked yet, or where the profile or the student has been another one then.

        Raises:
            InputError: the file is damaged, or the profile can't be read.
        """
        if not profile or not self.priced_file.exists():
            return None
        found = read_json(self.priced_file)
        if not isinstance(found, dict) or "profile" not in found:
            raise InputError(f"{self.priced_file} is damaged; delete it and compare again")
        facts = facts_of_pricing(self.run, profile)
        return found if all(found.get(name) == digest for name, digest in facts.items()) else None

    def is_done(self, profile: str) -> bool:
        """Whether nothing is left to do: it is trained, and priced on that profile unless that is ""."""
        if self.status != "finished":
            return False
        return not profile or self.is_trial or self.contender is None or self.priced(profile) is not None

    def reason(self) -> str:
        """Why it failed; nothing where it hasn't."""
        return self._failure() if self.status == "failed" else ""

    def unpriced(self) -> str:
        """Why what followed its training failed, which is pricing; nothing where nothing did."""
        return self._failure() if self.status == "finished" else ""

    def _failure(self) -> str:
        return read_json(self.failure_file)["reason"] if self.failure_file.exists() else ""

    def begin(self, teacher: Path | None) -> None:
        """Make its folder ready to be trained in, or to go on in.

        Args:
            teacher: weights to put there; None: it has no teacher, or is one.

        Raises:
            InputError: another recipe's run lies there, or the one that it goes on from hasn't finished.
        """
        if self.after and self.after.status != "finished":
            raise InputError(f"{self.after.name}, which it goes on from, {self.after.why_unfinished()}")
        self.require_own_recipe()
        self.failure_file.unlink(missing_ok=True)
        if teacher and not self.run.teacher_file.exists():
            write_bytes(self.run.teacher_file, teacher.read_bytes())
        own = self._own_recipe()
        if not self.run.recipe_file.exists() or self.run.recipe != own:
            write_text(self.run.recipe_file, dump(own))

    def why_unfinished(self) -> str:
        """Its status, and the reason where it failed."""
        return f"{self.status}: {self.reason()}" if self.reason() else f"is {self.status}"

    def require_own_recipe(self) -> None:
        """See that what lies in its folder was asked for like this, as far as that is known yet.

        Raises:
            InputError: it wasn't.
        """
        if not self.run.recipe_file.exists() or (self.after and self.after.status != "finished"):
            return
        found, own = self.run.recipe, self._own_recipe()
        if self.after:  # studies are moved
            student = found.student.model_copy(update={"start": own.student.start})
            found = found.model_copy(update={"student": student})
        if found != own:
            raise InputError(
                f"{self.run.folder} holds a run of another recipe; delete it, or choose another --run"
            )

    def _own_recipe(self) -> Recipe:
        """The recipe of its run.

        Raises:
            InputError: it goes on from a run that isn't trained.
        """
        if self.after is None:
            return self.recipe
        from ..hardening import hard_reset_recipe  # which imports torch

        return hard_reset_recipe(self.after.run)

    def fail(self, reason: str) -> None:
        """Remember why it failed."""
        write_json(self.failure_file, {"reason": reason})


def facts_of_pricing(run: Run, profile: str) -> dict[str, str]:
    """What a price rests on, as hashes: what stands in the hardware profile, and the student's weights.

    Raises:
        InputError: the profile can't be read, or there is no student.
    """
    device, student = repr(load_profile(profile)).encode(), run.student_file
    if not student.exists():
        raise InputError(f"{student} is missing; delete {run.folder} and compare again")
    return {
        "profile_sha256": hashlib.sha256(device).hexdigest(),
        "student_sha256": hashlib.sha256(student.read_bytes()).hexdigest(),
    }


def cell_of(plan: Plan, study: Path, contender: Contender, seed: int, setting: Setting) -> Cell:
    """A contender's run with one seed and setting."""
    after = cell_of(plan, study, contender.named, seed, setting) if contender.hardens else None
    recipe = after.recipe if after else contender.recipe(plan.values, seed, setting.overrides)
    return Cell(study, seed, contender, recipe, setting, after)


def teacher_of(plan: Plan, study: Path, seed: int) -> Cell:
    """The teacher that the methods of a seed share."""
    return Cell(study, seed, None, plan.teacher_recipe(seed))
