"""An event data set: recordings in their official layout, framed once and kept.

Framed recordings and, where training recordings shall be changed at random, their events lie in the data
set's folder under `framed/`, each file named by what it was made of and how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .... import InputError
from ..datasets import Samples, Splits, hold_out
from ..fetch import Progress, Remote
from ..presentation import Presentation, StepShape
from .framed import Framing, framed
from .recordings import Events, Sensor


@dataclass(frozen=True)
class Part:
    """Recordings that the data set's authors put together.

    Attributes:
        recordings: what `EventSource.read` needs to read each; small, and picklable.
        labels: int64 (N,).
        files: those that hold the recordings.
    """

    recordings: Sequence[Any]
    labels: np.ndarray
    files: Sequence[Path] = field(default=(), repr=False)


@dataclass(frozen=True)
class EventSource:
    """An event data set that isn't loaded yet, a `DataSource`.

    Attributes:
        name, description, class_names, remote: as for every data set.
        sensor: what recorded it.
        duration_us: how long a recording is, unless a recipe says something else.
        find: folder → its parts by name. InputError where files are missing, saying which.
        read: reads one recording; a function of a module, for other processes call it.
        divide: (the parts' samples by name, split seed) → train, validation and test split.
    """

    name: str
    description: str
    sensor: Sensor
    duration_us: int
    class_names: tuple[str, ...]
    find: Callable[[Path], dict[str, Part]]
    read: Callable[[Any], Events]
    divide: Callable[[dict[str, Samples], int], Splits]
    remote: Remote | None = None

    def step(self, shown: Presentation) -> StepShape:
        if shown.encoding.kind != "none":
            raise InputError(
                f"encoding.kind = {shown.encoding.kind!r} is for images, and {self.name!r} has events; "
                "leave it out"
            )
        return StepShape(self.sensor.frame(shown.events), shown.events.largest, True)

    def splits(self, folder: Path, split_seed: int, shown: Presentation, progress: Progress) -> Splits:
        framing = Framing(
            self.sensor, shown.events, shown.timesteps, shown.events.duration_us or self.duration_us
        )
        parts = self.find(folder)
        samples = {}
        for name, part in parts.items():
            inputs, redrawn = framed(self.name, name, part, self.read, framing, folder, progress)
            samples[name] = Samples(inputs, part.labels, redrawn)
        train, validation, test = self.divide(samples, split_seed)
        return Splits(train, validation._replace(redrawn=None), test._replace(redrawn=None))


def standard(validation_share: float) -> Callable[[dict[str, Samples], int], Splits]:
    """Divides an official train and test part: a share of the former, of every class, is for validation."""

    def divide(parts: dict[str, Samples], seed: int) -> Splits:
        train, validation = _held_out(parts["train"], validation_share * len(parts["train"].labels), seed)
        return Splits(train, validation, parts["test"])

    return divide


def seeded(validation_share: float, test_share: float) -> Callable[[dict[str, Samples], int], Splits]:
    """Divides recordings that nobody divided, every class by its share."""

    def divide(parts: dict[str, Samples], seed: int) -> Splits:
        (everything,) = parts.values()
        count = len(everything.labels)
        rest, test = _held_out(everything, test_share * count, seed)
        train, validation = _held_out(rest, validation_share * count, seed)
        return Splits(train, validation, test)

    return divide


def official(parts: dict[str, Samples], _seed: int) -> Splits:
    """Splits that the authors made, all three."""
    return Splits(parts["train"], parts["validation"], parts["test"])


def _held_out(samples: Samples, count: float, seed: int) -> tuple[Samples, Samples]:
    """(The rest, about `count` samples, at least one of each class)."""
    classes = len(np.unique(samples.labels))
    try:
        return hold_out(samples, max(round(count), classes), seed)
    except ValueError as error:
        raise InputError(
            f"{len(samples.labels)} recordings of {classes} classes are too few to set some of each class "
            "aside; put the whole data set there"
        ) from error


def missing(name: str, path: Path, where: str) -> InputError:
    """The line for files that nobody can fetch: what to put where, and from which page."""
    return InputError(f"data set {name!r} has no {path}; {where}")
