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
from ..data.datasets import DATASETS
from ..distillation.registry import build_method, part_names
from ..recipe import Recipe, changed

REFERENCES = ("ce", "kd")
"""What every other contender is compared with, where they take part."""

DEFAULT_METHODS = ("ce", "kd", "samd+nld", "bkd")
DEFAULT_SEEDS = 5

EQUAL = (
    *("name", "dataset", "data", "augmentation", "encoding", "events"),
    *("teacher", "student.start", "student.epochs", "student.batch_size", "student.accumulate"),
    *("devices", "precision", "quantization"),
)
"""Keys of the recipe that are the same for all contenders: what is shown, how long and how exactly it is
learned, and the bits that energies are of.
"""

EQUAL_OVER_TIME = (*EQUAL, "timesteps")
"""Where samples are temporal, so that T says what the teacher is shown."""

HARD_RESET = ", hard reset"
"""Ends the name of what goes on from a contender's soft-reset students with a hard reset."""

FOLDER_NAME_MAX = 48

SEARCH_SEED = 2**31 - 1
"""What settings are tried with: the last seed that a recipe can have, and none of a table's."""

Values = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A method, and the recipe's keys that it changes: `METHOD[:KEY=VALUE…]`, as users write it.

    Attributes:
        spec: the whole text.
        hardens: whether its runs go on from those of the contender with this spec, which have a soft reset,
            with a hard one.
    """

    spec: str
    hardens: bool = False

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.spec + (HARD_RESET if self.hardens else "")

    @property
    def named(self) -> Contender:
        """The contender that users named: itself, or whose runs its own go on from."""
        return Contender(self.spec)

    @property
    def method(self) -> str:
        return self.spec.partition(":")[0].strip()

    @property
    def settings(self) -> list[str]:
        """Its changes to the recipe, as `key=value`."""
        return [setting for setting in self.spec.split(":")[1:] if setting.strip()]

    @property
    def folder(self) -> str:
        """The name of the folder that its runs lie in: its own name where it can be one."""
        plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", self.name)
        if plain == self.name and len(plain) <= FOLDER_NAME_MAX:
            return plain
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return f"{plain[:FOLDER_NAME_MAX]}-{digest}"

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the recipe that it sets, some of them whole sections."""
        return frozenset(setting.partition("=")[0].strip() for setting in self.settings)

    def sets(self, key: str) -> bool:
        """Whether it sets that key of the recipe itself, or a section that the key is in."""
        return any(key == name or key.startswith(f"{name}.") for name in self.keys)

    def recipe(self, values: Values, seed: int, tried: Sequence[str] = ()) -> Recipe:
        """The recipe of its run with that seed, or of the run that this goes on from.

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
        temporal = DATASETS.load(base.dataset).step(base.shown).temporal
        for key in EQUAL_OVER_TIME if temporal else EQUAL:
            of = attrgetter(key)
            if of(recipe) != of(base):
                raise InputError(
                    f"contender {self.spec!r} can't change {key}: data, budget and precision are the same "
                    "for all; leave it out, or change it for all with --set"
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
        to_hard_reset: whether each contender with a soft reset has a row of its own with a hard one.
    """

    values: Values
    contenders: tuple[Contender, ...]
    seeds: tuple[int, ...]
    threads: int
    trials: int = 1
    tunes_rate: bool = True
    to_hard_reset: bool = False

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
        to_hard_reset: bool = False,
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
        first = changed(values, ["method=ce"], origin).seed
        if first + seeds > SEARCH_SEED:
            raise InputError(
                f"seeds must stay below {SEARCH_SEED}, found {first + seeds - 1}; choose smaller"
            )
        contenders = tuple(Contender(spec.strip()) for spec in methods)
        plan = cls(
            *(values, contenders, tuple(range(first, first + seeds)), threads),
            *(trials, tunes_rate, to_hard_reset),
        )
        plan._require_different()
        return plan

    def _require_different(self) -> None:
        """See that no contender is there twice, in whatever words.

        Raises:
            InputError: one is.
        """
        seen: list[tuple[Contender, Any]] = []
        for contender in self.contenders:
            means = self._means(contender)
            for earlier in (before for before, same in seen if same == means):
                first = "" if earlier == contender else f", first as {earlier.spec!r}"
                raise InputError(f"method {contender.spec!r} is named twice{first}; name each once")
            seen.append((contender, means))

    def _means(self, contender: Contender) -> Any:
        """What its runs depend on: two with the same are one experiment."""
        recipe = contender.recipe(self.values, self.seeds[0])
        parts = sorted(part_names(recipe.method))
        used = {
            "method": "+".join(parts),
            "methods": {part: recipe.methods[part] for part in parts},
            "gradients": recipe.gradients[recipe.student.gradient],
        }
        return recipe.model_copy(update=used), contender.keys if self.trials > 1 else None  # sets: not tuned

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
                bool(saved.get("to_hard_reset", False)),
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
            "to_hard_reset": self.to_hard_reset,
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
    def table(self) -> tuple[Contender, ...]:
        """The contenders, each followed by what goes on from it with a hard reset, if anything does."""
        return tuple(row for contender in self.contenders for row in self._rows_of(contender))

    def _rows_of(self, contender: Contender) -> Iterator[Contender]:
        from ...models.gradients.backend import GRADIENTS

        yield contender
        if self.to_hard_reset:
            gradient = contender.recipe(self.values, self.seeds[0]).student.gradient
            if GRADIENTS.load(gradient).reset == "soft":
                yield Contender(contender.spec, hardens=True)

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
            for contender in self.table:
                yield contender, seed
