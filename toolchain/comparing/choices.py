"""What a caller chooses of a study; what isn't chosen stays as the study was begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ... import InputError
from ..recipe import DEFAULT_RECIPE, recipe_values, with_overrides
from .plan import DEFAULT_METHODS, DEFAULT_SEEDS, Plan

T = TypeVar("T")


@dataclass(frozen=True)
class Choices:
    """See `study.compare`; what is None or empty isn't chosen."""

    recipe: str | Path | None = None
    methods: Sequence[str] = ()
    seeds: int | None = None
    overrides: Sequence[str] = ()
    trials: int | None = None
    tunes_rate: bool | None = None
    to_hard_reset: bool | None = None

    @property
    def any(self) -> bool:
        """Whether anything is chosen."""
        numbers = (self.recipe, self.seeds, self.trials, self.tunes_rate, self.to_hard_reset)
        return bool(self.methods or self.overrides) or any(choice is not None for choice in numbers)

    def plan(self, begun: Plan | None, threads: int) -> Plan:
        """The plan with these choices.

        Args:
            begun: the plan of the study that they are made for, which has the rest; None: a new study's.
            threads: of a new study's runs.

        Raises:
            InputError: as `Plan.of`, the recipe can't be read, or there is nothing to go on from with a hard
                reset.
        """
        if begun and not self.any:
            return begun
        if begun and self.recipe is None:
            values, origin = begun.values, "the study's recipe"
        else:
            values, origin = recipe_values(self.recipe or DEFAULT_RECIPE)
        specs = tuple(contender.spec for contender in begun.contenders) if begun else DEFAULT_METHODS
        plan = Plan.of(
            with_overrides(values, self.overrides),
            origin,
            self.methods or specs,
            _or(self.seeds, len(begun.seeds) if begun else DEFAULT_SEEDS),
            begun.threads if begun else threads,
            _or(self.trials, begun.trials if begun else 1),
            _or(self.tunes_rate, begun.tunes_rate if begun else True),
            _or(self.to_hard_reset, bool(begun and begun.to_hard_reset)),
        )
        if self.to_hard_reset and len(plan.table) == len(plan.contenders):
            raise InputError(
                "no method that is compared has a soft reset, which --to-hard-reset goes on from; leave that "
                "out, or name one that has, as ce:student.gradient=dsr"
            )
        return plan


def _or(chosen: T | None, otherwise: T) -> T:
    return otherwise if chosen is None else chosen
