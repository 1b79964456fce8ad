"""What a run is calibrated and judged on: a data set's splits, or arrays given with a NIR file.

Of a data set, no sample serves both. The samples of a NIR file serve both: `snnkd export` refines scales on
the inputs (not on their labels) that `snnkd validate` then judges the network on, and says so.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from .. import InputError
from ..export.target import Inputs
from .progress import progress
from .run import Run

if TYPE_CHECKING:
    from ..models.contract import TaskShape
    from .data.datasets import DataSet
    from .recipe import Recipe


RANDOM = "random"
"""Says of a file of samples that they were drawn, not given."""

UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    EOFError,
    BadZipFile,
    zlib.error,
)
"""What NumPy raises for a file that isn't what it seems."""

INPUT = "input:"
"""In a file of samples: what stands before the name of each of several inputs."""


@dataclass(frozen=True)
class Samples:
    """Integer inputs, static (N, *shape) or event frames (N, T, *shape); by name where there are several.

    Attributes:
        calibration: what scales are refined on; never a data set's test split, but with a NIR file `inputs`.
        inputs: what a network is judged on.
        labels: int64 (N,), or None where nobody knows them.
    """

    calibration: Inputs
    inputs: Inputs
    labels: np.ndarray | None


def load_samples(run: Run, data_root: Path | None = None) -> Samples:
    """The samples of `run`.

    Raises:
        InputError: the data set or the samples file can't be read.
    """
    if run.from_nir:
        return _given_samples(run)
    data = load_with_progress(run.recipe, data_root)
    calibration = data.validation.inputs[: run.recipe.quantization.calibration_samples]
    return Samples(calibration.numpy(), data.test.inputs.numpy(), data.test.labels.numpy())


def load_with_progress(recipe: Recipe, data_root: Path | None) -> DataSet:
    """The recipe's data set, with a bar while it is fetched.

    Raises:
        InputError: it can't be fetched or read.
    """
    from .data.datasets import load_dataset

    with progress(f"data set {recipe.dataset}", 1) as report:
        return load_dataset(
            recipe.dataset,
            data_root,
            recipe.data.split_seed,
            lambda done, total, what: report(done / max(1, total), what),
            train_samples=recipe.data.train_samples,
            shown=recipe.shown,
        )


def task_of(recipe: Recipe) -> TaskShape:
    """What the recipe's student is built for.

    Raises:
        InputError: there is no such data set, or it can't be shown as the recipe says.
    """
    from .data.datasets import DATASETS, task_for

    return task_for(DATASETS.load(recipe.dataset), recipe.shown)


def _given_samples(run: Run) -> Samples:
    try:
        with np.load(run.samples_file, allow_pickle=False) as file:
            labels = file.get("labels")
            named = {name[len(INPUT) :]: file[name] for name in file.files if name.startswith(INPUT)}
            inputs = named or file["inputs"]
    except UNREADABLE as error:
        raise InputError(f"{run.samples_file} is damaged ({error}); open the NIR file again") from error
    return Samples(inputs, inputs, labels)


def were_random(run: Run) -> bool:
    """Whether the samples that a NIR file's run holds were drawn, not given."""
    if not run.samples_file.exists():
        return False
    try:
        with np.load(run.samples_file, allow_pickle=False) as file:
            return RANDOM in file.files
    except UNREADABLE:
        return False


def size(inputs: Inputs) -> int:
    """How many samples there are."""
    return len(inputs if isinstance(inputs, np.ndarray) else next(iter(inputs.values())))


def take(inputs: Inputs, indices: np.ndarray | slice) -> Inputs:
    """Some of the samples."""
    if isinstance(inputs, np.ndarray):
        return inputs[indices]
    return {name: array[indices] for name, array in inputs.items()}


def choose(inputs: Inputs, count: int) -> np.ndarray:
    """Indices of `count` samples spread evenly over `inputs`, or of all where there are fewer.

    Raises:
        InputError: `count` isn't positive.
    """
    if count < 1:
        raise InputError(f"the number of samples must be at least 1, found {count}")
    samples = size(inputs)
    return np.unique(np.linspace(0, samples - 1, min(count, samples)).round().astype(np.int64))
