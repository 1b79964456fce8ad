"""The trials of a study: which runs they are, and what each contender is trained with for the table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .cells import Cell, cell_of
from .plan import SEARCH_SEED, Contender, Plan
from .rows import Row, trial_row
from .trials import OWN, Setting, best, settings_of

ENDED = ("finished", "diverged")
"""What the row of a trial says that is known how good its setting is."""


@dataclass(frozen=True)
class Search:
    """The trials of a study in its folder; without any, each contender has its own setting."""

    plan: Plan
    study: Path

    @cached_property
    def settings(self) -> dict[str, tuple[Setting, ...]]:
        """What is tried of each contender, one setting where nothing is."""
        return {contender.spec: settings_of(self.plan, contender) for contender in self.plan.contenders}

    @cached_property
    def trials(self) -> dict[str, list[Cell]]:
        """The trials of each contender, a run for each setting; none of one with a single setting."""
        return {contender.spec: self._trials(contender) for contender in self.plan.contenders}

    def _trials(self, contender: Contender) -> list[Cell]:
        tried = self.settings[contender.spec]
        return [
            cell_of(self.plan, self.study, contender, SEARCH_SEED, setting)
            for setting in tried
            if len(tried) > 1
        ]

    def cells(self) -> list[Cell]:
        """Every trial, a setting of all contenders before the next."""
        found = [cell for cells in self.trials.values() for cell in cells]
        return sorted(found, key=lambda cell: cell.setting.number)

    def chosen(self, contender: Contender) -> Setting | None:
        """The setting that the contender is trained with, which isn't that of a trial that failed.

        None until all of its trials have ended, and where all of them failed. The next start tries a failed
        one again; if that is the best then, the contender's runs are trained anew with its setting.
        """
        trials = self.trials[contender.spec]  # of the one it goes on from, where it does
        if not trials:
            return OWN
        rows = [trial_row(cell) for cell in trials]
        ended = [place for place, row in enumerate(rows) if row["status"] in ENDED]
        if len(ended) + sum(row["status"] == "failed" for row in rows) < len(rows) or not ended:
            return None
        scores = [rows[place]["validation_accuracy"] for place in ended]
        return trials[ended[best(scores)]].setting

    def runs(self) -> list[Cell]:
        """Every run of the table; those of a contender without a chosen setting have its own."""
        chosen = {contender.spec: self.chosen(contender) for contender in self.plan.contenders}
        return [
            cell_of(self.plan, self.study, contender, seed, chosen[contender.spec] or OWN)
            for contender, seed in self.plan.runs()
        ]

    def ready(self, cells: list[Cell]) -> list[Cell]:
        """Those of `runs` that can be trained."""
        known = {c.spec for c in self.plan.contenders if self.chosen(c) is not None}
        return [cell for cell in cells if cell.contender and cell.contender.spec in known]

    def rows(self) -> dict[str, list[Row]]:
        """A row for each trial of each contender, with `chosen`: whether it is the one that was."""
        found = {}
        for contender in self.plan.contenders:
            chosen = self.chosen(contender)
            found[contender.spec] = [
                trial_row(cell) | {"chosen": cell.setting == chosen} for cell in self.trials[contender.spec]
            ]
        return found
