"""What a study compares: a recipe, contenders (methods, with changes of their own), seeds and trials."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

from ... import InputError
from ..distillation.registry import build_method
from ..recipe import Recipe, changed

REFERENCES = ("ce", "kd")
"""What every other contender is compared with, where they take part."""

DEFAULT_METHODS = ("ce", "kd", "samd+nld")
DEFAULT_SEEDS = 5

EQUAL = ("name", "dataset", "data", "devices", "teacher", "student.epochs", "student.batch_size")
"""Keys of the recipe that are the same for all contenders: data and budget."""

FOLDER_NAME_MAX = 48

SEARCH_SEED = 2**31 - 1
"""What settings are tried with: the last seed that a recipe can have, and none of a table's."""

Values = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A method, and the recipe's keys that it changes: `METHOD[:KEY=VALUE…]`, as users write it.

    Attributes:
        spec: the whole text, which also names it in tables.
    """

    spec: str

    @property
    def method(self) -> str:
        return self.spec.partition(":")[0].strip()

    @property
    def settings(self) -> list[str]:
        """Its changes to the recipe, as `key=value`."""
        return [setting for setting in self.spec.split(":")[1:] if setting.strip()]

    @property
    def folder(self) -> str:
        """The name of the folder that its runs lie in: the spec itself where it can be one."""
        plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", self.spec)
        if plain == self.spec and len(plain) <= FOLDER_NAME_MAX:
            return plain
        digest = hashlib.sha256(self.spec.encode()).hexdigest()[:8]
        return f"{plain[:FOLDER_NAME_MAX]}-{digest}"

    def sets(self, key: str) -> bool:
        """Whether it sets that key of the recipe itself, or a section that the key is in."""
        own = [setting.partition("=")[0].strip() for setting in self.settings]
        return any(key == name or key.startswith(f"{name}.") for name in own)

    def recipe(self, values: Values, seed: int, tried: Sequence[str] = ()) -> Recipe:
        """The recipe of its run with that seed.

        Args:
            values: what stands in the study's recipe. Not the recipe itself: there the defaults are filled
                in, and those of a method follow from its other hyper-parameters.
            tried: what a setting that is tried changes besides.

        Raises:
            InputError: unknown method or key, a value out of range, or a key that must be the same for all.
        """
        for setting in self.settings:
            if setting.partition("=")[0].strip() in ("method", "seed"):
                raise InputError(f"contender {self.spec!r} can't set {setting}; name the method first")
        own = [f"method={self.method}", f"seed={seed}"]
        recipe = changed(values, [*self.settings, *tried, *own], self.spec)
        base = changed(values, own, self.spec)
        for key in EQUAL:
            of = attrgetter(key)
            if of(recipe) != of(base):
                raise InputError(
                    f"contender {self.spec!r} can't change {key}: data and budget are the same for all; "
                    "leave it out, or change it for all with --set"
                )
        return recipe


@dataclass(frozen=True)
class Plan:
    """What a study compares.

    Attributes:
        values: what stands in the recipe, of which contenders change the method and seeds the seed.
        contenders: each once.
        seeds: each once.
        threads: CPU threads of a run; results depend on it in the last bits.
        trials: settings of each contender's hyper-parameters that are tried, the recipe's own among them.
        tunes_rate: whether the student's learning rate is one of them.
    """

    values: Values
    contenders: tuple[Contender, ...]
    seeds: tuple[int, ...]
    threads: int
    trials: int = 1
    tunes_rate: bool = True

    @classmethod
    def of(
        cls,
        values: Values,
        origin: str,
        methods: Sequence[str],
        seeds: int,
        threads: int,
        trials: int = 1,
        tunes_rate: bool = True,
    ) -> Plan:
        """The plan with `seeds` seeds, the recipe's own and those after it.

        Args:
            values: what stands in the recipe called `origin`.

        Raises:
            InputError: no seed, trial or method, one named twice, or one that this recipe can't be trained
                with.
        """
        if trials < 1:
            raise InputError(f"--trials must be at least 1 (the recipe's own constants), found {trials}")
        if seeds < 1:
            raise InputError(f"a comparison needs at least 1 seed, found {seeds}; 5 or more tell something")
        specs = [spec.strip() for spec in methods]
        for spec in specs:
            if specs.count(spec) > 1:
                raise InputError(f"method {spec!r} is named twice; name each once")
        first = changed(values, ["method=ce"], origin).seed
        if first + seeds > SEARCH_SEED:
            raise InputError(
                f"seeds must stay below {SEARCH_SEED}, found {first + seeds - 1}; choose smaller"
            )
        contenders = tuple(Contender(spec) for spec in specs)
        for contender in contenders:
            contender.recipe(values, first)
        return cls(values, contenders, tuple(range(first, first + seeds)), threads, trials, tunes_rate)

    @classmethod
    def restored(cls, saved: Any, origin: str) -> Plan:
        """What `as_dict` gave.

        Raises:
            InputError: it isn't a plan, or its recipe is none any more.
        """
        try:
            contenders = tuple(Contender(str(spec)) for spec in saved["methods"])
            plan = cls(
                dict(saved["recipe"]),
                contenders,
                tuple(map(int, saved["seeds"])),
                int(saved["threads"]),
                int(saved.get("trials", 1)),
                bool(saved.get("tunes_rate", True)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{origin} is damaged ({error!r}); start a new study") from error
        for contender in plan.contenders:
            contender.recipe(plan.values, plan.seeds[0])
        return plan

    def as_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.values,
            "methods": [contender.spec for contender in self.contenders],
            "seeds": list(self.seeds),
            "threads": self.threads,
            "trials": self.trials,
            "tunes_rate": self.tunes_rate,
        }

    def teacher_recipe(self, seed: int) -> Recipe:
        """The recipe of that seed's teacher, which no contender has a part in."""
        return changed(self.values, ["method=ce", f"seed={seed}"], "the study's recipe")

    def extends(self, other: Plan) -> bool:
        """Whether it has the same recipe as `other`, so that their runs can stand in one table.

        And, where both try settings, whether these are of the same hyper-parameters.
        """
        alike = self.tunes_rate == other.tunes_rate or 1 in (self.trials, other.trials)
        return alike and self.teacher_recipe(0) == other.teacher_recipe(0)

    @cached_property
    def taught(self) -> frozenset[str]:
        """The contenders that need a teacher."""
        return frozenset(contender.spec for contender in self.contenders if self._needs_teacher(contender))

    def _needs_teacher(self, contender: Contender) -> bool:
        recipe = contender.recipe(self.values, self.seeds[0])
        return build_method(recipe.method, recipe.methods).needs_teacher

    def runs(self) -> Iterator[tuple[Contender, int]]:
        """Every run, all contenders of a seed before the next seed: a study cut short is still paired."""
        for seed in self.seeds:
            for contender in self.contenders:
                yield contender, seed
