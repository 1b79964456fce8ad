"""Data sets by name: what each one is, and loading it as train, validation and test split.

A data set is a `DataSource`: a `Source` of images or an `events.source.EventSource`, one small file each,
registered here or through the entry-point group `snnkd.datasets`. Listing them imports neither torch nor
scikit-learn; loading one does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from ... import InputError
from ...models.registry import Registry
from .fetch import Progress, Remote, data_root, ensure_files
from .presentation import Presentation, StepShape

if TYPE_CHECKING:
    from torch import Tensor

    from ...models.contract import TaskShape
    from .events.redraw import Redrawn

DATASETS = Registry(
    "data set",
    "snnkd.datasets",
    {
        "cifar10": "snnkd.toolchain.data.cifar10:CIFAR10",
        "cifar10-dvs": "snnkd.toolchain.data.events.cifar10_dvs:CIFAR10_DVS",
        "cifar100": "snnkd.toolchain.data.cifar100:CIFAR100",
        "digits": "snnkd.toolchain.data.digits:DIGITS",
        "dvs128-gesture": "snnkd.toolchain.data.events.dvs128_gesture:DVS128_GESTURE",
        "fashion-mnist": "snnkd.toolchain.data.fashion_mnist:FASHION_MNIST",
        "fashion-mnist-saccades": "snnkd.toolchain.data.simulated:FASHION_MNIST",
        "mnist": "snnkd.toolchain.data.mnist:MNIST",
        "n-mnist": "snnkd.toolchain.data.events.n_mnist:N_MNIST",
        "shd": "snnkd.toolchain.data.events.heidelberg:SHD",
        "ssc": "snnkd.toolchain.data.events.heidelberg:SSC",
        "mnist-saccades": "snnkd.toolchain.data.simulated:MNIST",
    },
)

SPLIT_SEED_LIMIT = 2**32
"""NumPy's legacy generator, which scikit-learn splits with, takes seeds below this."""


class Samples(NamedTuple):
    """Labelled samples as a source reads them: inputs uint8, labels int64 (N,).

    Inputs are static, (N, C, H, W), or temporal, (N, T, C, H, W). `redrawn` makes temporal ones anew with
    random changes; None: nothing is changed.
    """

    inputs: np.ndarray
    labels: np.ndarray
    redrawn: Redrawn | None = None

    def take(self, indices: np.ndarray) -> Samples:
        """Some of them."""
        redrawn = None if self.redrawn is None else self.redrawn.take(indices)
        return Samples(self.inputs[indices], self.labels[indices], redrawn)


class Splits(NamedTuple):
    """A source's samples, each in exactly one split."""

    train: Samples
    validation: Samples
    test: Samples


class DataSource(Protocol):
    """A data set that isn't loaded yet.

    Attributes:
        name: what users type; also its folder under the data root.
        description: one line for `snnkd list datasets`.
        class_names: the name of every class, in the order of the labels.
        remote: the files that it needs and where they can be had; None if nobody can fetch them.
    """

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def remote(self) -> Remote | None: ...

    def step(self, shown: Presentation) -> StepShape:
        """What one step looks like when samples are shown so.

        Raises:
            InputError: they can't be shown so.
        """
        ...

    def splits(self, folder: Path, split_seed: int, shown: Presentation, progress: Progress) -> Splits:
        """The samples as they are shown; the same arguments give the same splits.

        Raises:
            InputError: they can't be shown so, or files are missing or damaged.
        """
        ...


@dataclass(frozen=True)
class Source:
    """A set of static images, a `DataSource`: what it is, where its files come from, how they are read.

    Attributes:
        name: what users type; also its folder under the data root.
        description: one line for `snnkd list datasets`.
        input_shape: (C, H, W) of one sample.
        input_max: the largest value that an input can have.
        class_names: the name of every class, in the order of the labels.
        read: (folder of its files, split seed) → its splits; the same seed gives the same splits.
        remote: the files that `read` needs and where they can be had; None if it needs none.
    """

    name: str
    description: str
    input_shape: tuple[int, int, int]
    input_max: int
    class_names: tuple[str, ...]
    read: Callable[[Path, int], Splits]
    remote: Remote | None = None

    @property
    def task(self) -> TaskShape:
        """What a model is built for that is shown the images as they are."""
        return task_for(self, Presentation())

    def step(self, shown: Presentation) -> StepShape:
        if shown.events != type(shown.events)():
            raise InputError(f"data set {self.name!r} has images, not events; leave [events] out")
        shape, largest = shown.encoding.step(self.input_shape, self.input_max, shown.timesteps)
        return StepShape(shape, largest, shown.encoding.kind != "none")

    def splits(self, folder: Path, split_seed: int, shown: Presentation, progress: Progress) -> Splits:
        parts = self.read(folder, split_seed)
        if shown.encoding.kind == "none":
            return parts
        for part in parts:
            _check(self.name, part, StepShape(self.input_shape, self.input_max, False), len(self.class_names))
        return Splits(
            *(
                part._replace(inputs=shown.encoding.encode(part.inputs, self.input_max, shown.timesteps))
                for part in parts
            )
        )


@dataclass(frozen=True)
class Split:
    """Samples that serve one purpose: inputs uint8 (N, C, H, W) or (N, T, C, H, W), labels int64 (N,).

    `redrawn` makes the inputs anew with random changes, for training; None: nothing is changed.
    """

    inputs: Tensor
    labels: Tensor
    redrawn: Redrawn | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set in memory; its three splits share no sample.

    Attributes:
        task: what a model for it is built for: the shape is that of one step.
        temporal: whether a sample has a step of its own for each of T, (N, T, C, H, W).
    """

    name: str
    task: TaskShape
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    temporal: bool = False


def task_for(source: DataSource, shown: Presentation) -> TaskShape:
    """What a model for `source` is built for when its samples are shown so.

    Raises:
        InputError: they can't be shown so.
    """
    from ...models.contract import TaskShape

    step = source.step(shown)
    return TaskShape(step.input_shape, step.input_max, len(source.class_names))


def load_dataset(
    name: str,
    data_root: Path | str | None = None,
    split_seed: int = 0,
    progress: Progress | None = None,
    allow_fetch: bool = True,
    train_samples: int = 0,
    shown: Presentation | None = None,
) -> DataSet:
    """The data set called `name`, fetched first if its files aren't there.

    Args:
        data_root: folder with one sub-folder per data set; by default `fetch.data_root()`.
        split_seed: fixes which samples go where, whatever the training seed.
        progress: called with (bytes done, bytes in all, what) while fetching.
        allow_fetch: whether files that are missing may be downloaded.
        train_samples: how many training samples to keep, which `split_seed` decides too; 0: all.
        shown: how samples are shown; None: images as they are.

    Raises:
        InputError: unknown name, seed out of range, files missing, damaged or impossible to fetch, more
            training samples asked for than there are, or fewer than classes, or samples that can't be shown
            as asked.
    """
    if not 0 <= split_seed < SPLIT_SEED_LIMIT:
        raise InputError(f"split seed is {split_seed}, expected 0 to {SPLIT_SEED_LIMIT - 1}; choose another")
    source: DataSource = DATASETS.load(name)
    shown = shown or Presentation()
    step, task = source.step(shown), task_for(source, shown)
    folder = _folder(source, data_root)
    if source.remote:
        ensure_files(source.name, source.remote, folder, progress, allow_fetch)
    splits = source.splits(folder, split_seed, shown, progress or _silent)
    if train_samples:
        splits = splits._replace(train=_subset(source, splits.train, train_samples, split_seed))
    shape = step._replace(input_shape=(shown.timesteps, *step.input_shape)) if step.temporal else step
    for part in splits:
        _check(source.name, part, shape, task.classes)
    return DataSet(
        source.name, task, source.class_names, *(_as_split(part) for part in splits), temporal=step.temporal
    )


def fetch_dataset(
    name: str, data_root: Path | str | None = None, progress: Progress | None = None
) -> list[Path]:
    """Download what is missing of the data set called `name`, verify all of it, and return its files.

    One that is simulated is made. Of one that nobody can download, the folder, if what has to be put there by
    hand is there.

    Raises:
        InputError: unknown name, a damaged file, a folder that can't be written, no source within reach, or
            files that have to be put there by hand.
    """
    source: DataSource = DATASETS.load(name)
    folder = _folder(source, data_root)
    make = getattr(source, "made", None)  # a simulated set's
    if make is not None:
        return make(folder, progress or _silent)
    if source.remote is None:
        find = getattr(source, "find", None)  # an EventSource's
        return [folder] if find is not None and find(folder) else []
    ensure_files(source.name, source.remote, folder, progress)
    return [folder / file.name for file in source.remote.files]


def hold_out(samples: Samples, count: int, seed: int) -> tuple[Samples, Samples]:
    """(The rest, `count` samples set aside): every class has its share in both, and the order is kept."""
    from sklearn.model_selection import train_test_split  # a second to import: only when loading

    rest, held = train_test_split(
        np.arange(len(samples.labels)), test_size=count, random_state=seed, stratify=samples.labels
    )
    rest.sort()
    held.sort()
    return samples.take(np.asarray(rest)), samples.take(np.asarray(held))


def _subset(source: DataSource, samples: Samples, count: int, seed: int) -> Samples:
    """`count` of `samples`, every class by its share."""
    if count == len(samples.labels):
        return samples
    fewest, most = len(source.class_names), len(samples.labels) - len(source.class_names)
    if not fewest <= count <= most:
        raise InputError(
            f"{count} training samples were asked for, but {source.name!r} has {len(samples.labels)}; "
            f"ask for {fewest} to {most}, or for all (0)"
        )
    return hold_out(samples, count, seed)[1]


def _folder(source: DataSource, root: Path | str | None) -> Path:
    return data_root(root) / source.name


def _check(name: str, samples: Samples, step: StepShape, classes: int) -> None:
    """See that `samples` are what their source says they are."""
    inputs, labels = samples.inputs, samples.labels
    shape, largest = (len(labels), *step.input_shape), inputs.max(initial=0)
    if inputs.dtype != np.uint8 or inputs.shape != shape or largest > step.input_max:
        raise InputError(
            f"data set {name!r} holds {inputs.dtype} inputs {inputs.shape} up to {largest}, "
            f"expected uint8 {shape} up to {step.input_max}; fetch its files again"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise InputError(
            f"data set {name!r} holds labels {labels.min()} to {labels.max()}, "
            f"expected 0 to {classes - 1}; fetch its files again"
        )


def _as_split(samples: Samples) -> Split:
    import torch

    labels = torch.from_numpy(samples.labels.astype(np.int64))
    return Split(torch.from_numpy(samples.inputs), labels, samples.redrawn)


def _silent(done: int, total: int, what: str) -> None:
    pass
