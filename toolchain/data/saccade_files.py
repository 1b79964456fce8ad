"""A simulated event set on disk, made by several processes a shard at a time.

Files and shards are named by `Simulation.key`: another version of eventcv, or of our own film, simulates anew
and shares nothing. A simulation that was interrupted goes on at the first shard that is missing; how many
processes there are changes nothing about the events.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import math
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from ... import InputError
from ...export.child import run_child
from ...export.files import atomic_path, require_writable, unwritable
from .datasets import Samples, Splits, hold_out
from .events.recordings import Events
from .fetch import Progress
from .saccade_worker import IMAGES, Request, shard_file
from .saccades import FORMAT, MARGIN, SENSOR_MAX, Simulation, eventcv_version, sensor_of, unpack

SHARD_IMAGES = 250
REMEDY = 'pip install "snnkd[events]"'
UNREADABLE = (OSError, ValueError, KeyError, EOFError, BadZipFile)
"""What NumPy raises for a file that isn't what it seems."""


class Recording(NamedTuple):
    """Where one recording lies: the file of packed events, and from which to which."""

    path: Path
    begin: int
    end: int


class Simulated(NamedTuple):
    """What the camera saw of one split's images.

    Attributes:
        path: the file of packed events, one recording's after the other; uint32, see `saccades.unpack`.
        bounds: int64 (N + 1,), where each recording begins in it and the last one ends.
        labels: int64 (N,).
    """

    path: Path
    bounds: np.ndarray
    labels: np.ndarray

    @property
    def recordings(self) -> list[Recording]:
        """Each of them."""
        return [Recording(self.path, *pair) for pair in pairwise(self.bounds.tolist())]

    @property
    def counts(self) -> np.ndarray:
        """Events of each recording, int64 (N,)."""
        return np.diff(self.bounds)


def read_recording(recording: Recording) -> Events:
    """The events of one recording."""
    packed = np.load(recording.path, mmap_mode="r", allow_pickle=False)[recording.begin : recording.end]
    x, y, t, p = unpack(np.array(packed))
    return Events(x, y, t, p)


def simulated(
    simulation: Simulation,
    read: Callable[[], Splits],
    input_max: int,
    folder: Path,
    progress: Progress,
    workers: int | None = None,
) -> dict[str, Simulated]:
    """The recordings of each split ("train", "validation", "test"), simulated unless they are there.

    Args:
        read: gives the splits of the data set that is looked at, grey, (N, 1, H, W); called if it is needed.
        input_max: its largest value.
        folder: of the simulated set.
        progress: called with (images done, images in all, what).
        workers: processes; None: one for every processor that this one may use.

    Raises:
        InputError: eventcv is missing, a process was ended or failed, the images have colours or are too
            large, or the folder can't be written.
    """
    path = folder / f"{simulation.key}.npz"
    if not path.exists():
        with _alone_in(folder / f".{simulation.key}") as working:
            if not path.exists():
                _simulate(simulation, read(), input_max, path, working, progress, workers)
            shutil.rmtree(working, ignore_errors=True)
    return _read(path)


def _simulate(
    simulation: Simulation,
    images: Splits,
    input_max: int,
    path: Path,
    working: Path,
    progress: Progress,
    workers: int | None,
) -> None:
    """Make whatever shards are missing in `working`, and one file of all."""
    chosen = _chosen(simulation, images)
    films = np.concatenate([_grey(part, simulation) for part, _ in chosen.values()])
    labels = {name: part.labels for name, (part, _) in chosen.items()}
    seeds = [simulation.image_seed(name, index) for name, (_, places) in chosen.items() for index in places]
    with atomic_path(working / IMAGES) as temporary:
        np.savez(temporary, images=films, seeds=np.array(seeds, np.int64))
    sizes = [len(films[begin : begin + SHARD_IMAGES]) for begin in range(0, len(films), SHARD_IMAGES)]
    missing = [shard for shard, size in enumerate(sizes) if not _is_whole(shard_file(working, shard), size)]
    if missing:
        work = _Work(simulation, input_max, working, progress, len(films))
        work.run(missing, sum(sizes[shard] for shard in missing), workers or len(os.sched_getaffinity(0)))
    _join([shard_file(working, shard) for shard in range(len(sizes))], labels, simulation, path)


def _chosen(simulation: Simulation, images: Splits) -> dict[str, tuple[Samples, list[int]]]:
    """The images of each split that are looked at, and their places in it."""
    chosen = {}
    for name, part in zip(Splits._fields, images, strict=True):
        count, places = getattr(simulation, name), Samples(np.arange(len(part.labels)), part.labels)
        if count < len(places.labels):
            places = hold_out(places, count, simulation.seed)[1]
        chosen[name] = Samples(part.inputs[places.inputs], places.labels), places.inputs.tolist()
    return chosen


def _grey(part: Samples, simulation: Simulation) -> np.ndarray:
    """Its images (N, H, W)."""
    channels, *size = part.inputs.shape[1:]
    if channels != 1 or max(sensor_of((size[0], size[1]))) > SENSOR_MAX:
        raise InputError(
            f"images of {simulation.images!r} have {channels} channels of {size[0]}×{size[1]} pixels, "
            f"expected 1 of at most {SENSOR_MAX - 2 * MARGIN} a side; choose another data set to look at"
        )
    return part.inputs[:, 0]


class _Work:
    """Shards that are being made by several processes."""

    def __init__(
        self, simulation: Simulation, input_max: int, working: Path, progress: Progress, images: int
    ):
        if importlib.util.find_spec("eventcv") is None:
            raise InputError(
                f"events of {simulation.images!r} are simulated by eventcv, which isn't installed: {REMEDY}"
            )
        self.simulation, self.input_max, self.working = simulation, input_max, working
        self.progress, self.images, self.done = progress, images, 0
        self.lock, self.stop = threading.Lock(), threading.Event()

    def run(self, shards: Sequence[int], images: int, workers: int) -> None:
        """Make `shards`, which hold so many images.

        Raises:
            InputError: a process was ended or failed.
        """
        self.done = self.images - images
        self.progress(self.done, self.images, "events")
        workers = min(workers, len(shards))
        with ThreadPoolExecutor(workers) as pool:
            try:
                for _ in pool.map(self._make, [list(shards[start::workers]) for start in range(workers)]):
                    pass
            finally:
                self.stop.set()

    def _make(self, shards: list[int]) -> None:
        """Make some shards in one process."""
        camera = asdict(self.simulation.camera)
        request = Request(os.getpid(), str(self.working), shards, SHARD_IMAGES, self.input_max, camera)
        said: list[str] = []

        def on_line(line: str) -> None:
            if not line.isdigit():
                said.append(line)
                return
            with self.lock:
                self.done += int(line)
                self.progress(self.done, self.images, "events")

        status = run_child(request.command(), Path.cwd(), math.inf, on_line, self.stop.is_set)
        if status and not self.stop.is_set():
            self.stop.set()
            how = f"was ended by signal {-status} ({signal.strsignal(-status)})" if status < 0 else "failed"
            last = f" ({said[-1]})" if status > 0 and said else ""
            raise InputError(
                f"a process that simulates events {how}{last}; what is done is kept, start again to go on"
            )


def _join(shards: Sequence[Path], labels: dict[str, np.ndarray], simulation: Simulation, path: Path) -> None:
    """All shards as one file of events, and one that describes it."""
    events, counts = [], []
    for shard in shards:
        with np.load(shard, allow_pickle=False) as file:
            events.append(file["events"])
            counts.append(np.diff(file["ends"], prepend=0))
    about = json.dumps(asdict(simulation) | {"format": FORMAT, "eventcv": eventcv_version()})
    arrays = {
        "ends": np.cumsum(np.concatenate(counts)),
        "labels": np.concatenate(list(labels.values())),
        "sizes": np.array([len(part) for part in labels.values()]),
        "about": np.frombuffer(about.encode(), np.uint8),
    }
    with atomic_path(_events_file(path)) as temporary:
        np.save(temporary, np.concatenate(events), allow_pickle=False)
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)  # pyright: ignore[reportArgumentType]


def _events_file(path: Path) -> Path:
    """The packed events of the set that a file describes; the latter is written last."""
    return path.with_suffix(".npy")


def _read(path: Path) -> dict[str, Simulated]:
    try:
        with np.load(path, allow_pickle=False) as file:
            ends, labels, sizes = file["ends"], file["labels"].astype(np.int64), file["sizes"].tolist()
            bounds = np.concatenate(([0], ends))
        events = np.load(_events_file(path), mmap_mode="r", allow_pickle=False)
        if len(events) != bounds[-1] or len(ends) != len(labels) or len(labels) != sum(sizes):
            raise ValueError(f"{len(events)} events, {bounds[-1]} expected")
    except UNREADABLE as error:
        raise InputError(f"{path} is damaged ({error}); delete it, and the set is simulated again") from error
    parts, begin = {}, 0
    for name, size in zip(Splits._fields, sizes, strict=True):
        end = begin + size
        parts[name] = Simulated(_events_file(path), bounds[begin : end + 1], labels[begin:end])
        begin = end
    return parts


def _is_whole(path: Path, images: int) -> bool:
    """Whether a shard is there and holds so many images."""
    try:
        with np.load(path, allow_pickle=False) as file:
            ends = file["ends"]
            return len(ends) == images and len(file["events"]) == ends[-1]
    except UNREADABLE:
        return False


@contextmanager
def _alone_in(folder: Path) -> Iterator[Path]:
    """Wait until no other process simulates in `folder`."""
    require_writable(folder / ".lock")
    try:
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    except OSError as error:
        raise unwritable(folder, error) from error
