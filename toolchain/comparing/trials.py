"""Hyper-parameters that a study tries: as many settings for each contender, chosen once and for all.

They are points of a Sobol' sequence (Joe & Kuo 2008, as SciPy has it). Its first coordinate is the student's
learning rate, the next ones are what the contender's methods declare in `Method.ranges`, each in its
logarithm and shifted, around the ends of its range, so that the first point is the recipe's own. So setting n

- has the same learning rate for all contenders, `ce` too;
- changes all parts of joined methods at once: `samd+nld` has no more trials than `samd`;
- is the same however many are tried: 8 trials contain 4.

What a contender sets itself (`kd:methods.kd.temperature=4`) stays as it is. Settings are tried with a seed
that isn't among those of the table, and the best one by validation accuracy is trained with all of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..distillation.method import Range
from ..distillation.registry import build_method, part_names
from .plan import SEARCH_SEED, Contender, Plan

LEARNING_RATE = "student.learning_rate"
LEARNING_RATE_FACTOR = 4.0
"""The learning rate is tried from a fourth to four times the recipe's own."""

DIGITS = 3
"""Significant digits of a value that isn't the recipe's own."""

PLACES = 9
"""Decimal places of where a value lies in its range, so that rounding doesn't send one end to the other."""


@dataclass(frozen=True)
class Setting:
    """One choice of what is tuned.

    Attributes:
        number: 0 for the recipe's own.
        values: of each key of the recipe that is tuned.
    """

    number: int
    values: tuple[tuple[str, float], ...] = ()

    @property
    def overrides(self) -> list[str]:
        """What it changes in the recipe, as `key=value`."""
        return [f"{key}={value!r}" for key, value in self.values] if self.number else []


OWN = Setting(0)
"""The recipe's own setting, where nothing is tuned."""


def settings_of(plan: Plan, contender: Contender) -> tuple[Setting, ...]:
    """What is tried of a contender: `plan.trials` settings, or its own alone where nothing of it is tuned.

    Raises:
        InputError: the contender's recipe can't be used.
    """
    ranges = tuned(plan, contender) if plan.trials > 1 else {}
    if not ranges:
        return (OWN,)
    recipe = contender.recipe(plan.values, SEARCH_SEED).model_dump()
    own = {key: _at(recipe, key) for key in ranges}
    keys = [LEARNING_RATE, *(key for key in ranges if key != LEARNING_RATE)]
    points = [dict(zip(keys, point, strict=True)) for point in _points(len(keys), plan.trials)]
    drawn = [
        Setting(number, tuple((key, _value(ranges[key], own[key], point[key])) for key in ranges))
        for number, point in enumerate(points[1:], 1)
    ]
    return (Setting(0, tuple(own.items())), *drawn)


def tuned(plan: Plan, contender: Contender) -> dict[str, Range]:
    """The keys of the recipe that are tuned, the learning rate first, and between what.

    Raises:
        InputError: the contender's recipe can't be used.
    """
    recipe = contender.recipe(plan.values, SEARCH_SEED)
    ranges: dict[str, Range] = {}
    if plan.tunes_rate:
        own = recipe.student.learning_rate
        ranges[LEARNING_RATE] = Range(own / LEARNING_RATE_FACTOR, own * LEARNING_RATE_FACTOR)
    for part in sorted(part_names(recipe.method)):
        found = build_method(part, recipe.methods).ranges()
        ranges |= {f"methods.{part}.{name}": found[name] for name in sorted(found)}
    return {key: limits for key, limits in ranges.items() if not contender.sets(key)}


def best(scores: Sequence[float | None]) -> int:
    """The number of the best setting, the first where several are; a setting without a score isn't chosen.

    0 where none has one.
    """
    known = [(-score, number) for number, score in enumerate(scores) if score is not None]
    return min(known)[1] if known else 0


def _at(values: Any, key: str) -> float:
    for name in key.split("."):
        values = values[name]
    return float(values)


def _points(dimensions: int, count: int) -> list[list[float]]:
    """The first points of the sequence, in [0, 1); a coordinate doesn't depend on how many come after it."""
    from scipy.stats.qmc import Sobol

    found = Sobol(dimensions, scramble=False).random_base2(math.ceil(math.log2(count)))
    return np.asarray(found)[:count].tolist()


def _value(limits: Range, own: float, distance: float) -> float:
    """The value that lies a share of the range above the recipe's own, past its upper end from the lower."""
    width = math.log(limits.high / limits.low)
    begin = math.log(own / limits.low) / width if own > 0 else 0.0
    place = round(begin + distance, PLACES) % 1
    exact = limits.low * math.exp(width * place)
    return float(f"{exact:.{DIGITS}g}")
