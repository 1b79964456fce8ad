"""Recordings framed once, in several processes where it pays, and kept on disk.

A file is named by a hash of how it was made and of what: the framing, and names, sizes and times of the
source files. Frames of 0 and 1 are kept as bits.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .... import InputError
from ....export.files import atomic_path
from ..fetch import Progress
from .framing import frames_of
from .options import EventAugmentation, EventOptions
from .recordings import Events, Recordings, Sensor, prepared
from .redraw import Redrawn

if TYPE_CHECKING:
    from .source import Part

FORMAT = 1
"""Changes whenever the same recordings and options give other frames."""

FOLDER = "framed"

ALONE_BYTES, ALONE_RECORDINGS = 64 << 20, 4_000
"""Up to here one process is faster than several, which import first."""

CHUNK, CHUNK_CELLS = 256, 1 << 24
"""Recordings, and cells of their frames, that a process makes at a time, at most: what bounds the memory."""

MEMORY_SHARE = 0.8
"""Of the machine's memory: as much may frames take."""

JUDGED_ON = ("validation", "test")
"""Parts that are never changed at random; whatever else a data set's part is called, it is trained on."""

Read = Callable[[Any], Events]


@dataclass(frozen=True)
class Framing:
    """All that decides what recordings look like as frames."""

    sensor: Sensor
    options: EventOptions
    timesteps: int
    duration_us: int

    @property
    def binary(self) -> bool:
        return self.options.largest == 1

    @property
    def still(self) -> Framing:
        """The same without random changes."""
        options = self.options.model_copy(update={"augmentation": EventAugmentation()})
        return Framing(self.sensor, options, self.timesteps, self.duration_us)

    def frames(self, recordings: Recordings) -> np.ndarray:
        """uint8 (N, T, C, H, W)."""
        frames = frames_of(recordings, self.options, self.timesteps, self.duration_us)
        return frames.reshape(len(recordings), self.timesteps, *self.sensor.frame(self.options))


def framed(
    dataset: str, name: str, part: Part, read: Read, framing: Framing, folder: Path, progress: Progress
) -> tuple[np.ndarray, Redrawn | None]:
    """Frames of a part, uint8 (N, T, C, H, W), and what frames them anew with random changes, if asked for.

    Raises:
        InputError: a recording can't be read, the frames don't fit the memory, the disk is full, or a process
            that frames was ended.
    """
    shape = (len(part.recordings), framing.timesteps, *framing.sensor.frame(framing.options))
    _check_memory(dataset, shape)
    key = _key(folder, part, framing.still)
    frames_file, events_file = (folder / FOLDER / f"{name}-{key}.{ending}" for ending in ("npz", "events"))
    redraws = framing.options.augmentation != EventAugmentation() and name not in JUDGED_ON
    frames = _kept(frames_file, shape) if frames_file.exists() else None
    if frames is None or (redraws and not events_file.exists()):
        frames = _made(dataset, name, part, read, framing, shape, events_file if redraws else None, progress)
        _keep(frames_file, frames, framing.binary)
    redrawn = Redrawn.of(events_file, framing) if redraws else None
    return frames, redrawn


def _key(folder: Path, part: Part, framing: Framing) -> str:
    """Names frames by what they were made of and how."""
    digest = hashlib.sha256(
        json.dumps(
            [
                FORMAT,
                asdict(framing.sensor),
                framing.options.model_dump(mode="json"),
                framing.timesteps,
                framing.duration_us,
                len(part.recordings),
            ]
        ).encode()
    )
    for path in part.files:
        status = path.stat()
        name = os.path.relpath(path, folder)
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _check_memory(dataset: str, shape: tuple[int, ...]) -> None:
    needed = int(np.prod(shape, dtype=np.float64))
    available = int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if needed > available:
        raise InputError(
            f"frames of {dataset!r} take {needed / 1e9:.1f} GB of memory, at most {available / 1e9:.1f} GB "
            "can be used; take fewer timesteps, events.polarities=merged or a larger events.downsample"
        )


def _kept(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Frames that were kept; None where the file isn't what it should be."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if "bits" not in file.files:
                frames = file["frames"]
                return frames if frames.shape == shape and frames.dtype == np.uint8 else None
            count = int(np.prod(shape[1:]))
            return np.unpackbits(file["bits"], axis=1, count=count).reshape(shape)
    except Exception:  # NumPy's, zipfile's and zlib's; whatever it is, the frames are made again
        return None


def _keep(path: Path, frames: np.ndarray, binary: bool) -> None:
    with atomic_path(path) as temporary:
        if binary:
            np.savez(temporary, allow_pickle=False, bits=np.packbits(frames.reshape(len(frames), -1), axis=1))
        else:
            np.savez_compressed(temporary, allow_pickle=False, frames=frames)


def _made(
    dataset: str,
    name: str,
    part: Part,
    read: Read,
    framing: Framing,
    shape: tuple[int, ...],
    events_file: Path | None,
    progress: Progress,
) -> np.ndarray:
    """Read and frame all recordings, and keep their events where a file is given."""
    frames = np.empty(shape, dtype=np.uint8)
    total, size = len(part.recordings), min(CHUNK, max(1, CHUNK_CELLS // int(np.prod(shape[1:]))))
    chunks = [part.recordings[start : start + size] for start in range(0, total, size)]
    work = partial(_framed_chunk, read, framing, events_file is not None)
    done = 0
    progress(0, total, f"{dataset}, framing its {name} part")
    with _mapped(work, chunks, part) as results, _writer(events_file) as writer:
        for made, lengths, events in results:
            frames[done : done + len(made)] = made
            writer(lengths, events)
            done += len(made)
            progress(done, total, f"{dataset}, framing its {name} part")
    return frames


def _framed_chunk(
    read: Read, framing: Framing, with_events: bool, chunk: list[Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames of some recordings, how many events each has, and these, int32 (E, 2) of time and cell."""
    parts = []
    for recording in chunk:
        try:
            parts.append(prepared(read(recording), framing.sensor, framing.options, framing.duration_us))
        except InputError:
            raise
        except Exception as error:  # whatever a reader raises on a damaged file
            raise InputError(f"recording {recording} can't be read: {error}; get its file again") from error
    recordings = Recordings.of(framing.sensor.grid(framing.options), parts)
    events = np.empty((0, 2), dtype=np.int32)
    if with_events:
        events = np.stack((recordings.t, recordings.cell), axis=1).astype(np.int32)
    return framing.frames(recordings), np.diff(recordings.starts), events


@contextmanager
def _mapped(work: Callable[[Any], Any], chunks: list[Any], part: Part) -> Iterator[Iterator[Any]]:
    """What `work` makes of each chunk, in their order, in as many processes as there are processors.

    Raises:
        InputError: one of the processes was ended.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    content = sum(path.stat().st_size for path in part.files)
    if processors < 2 or (content < ALONE_BYTES and len(part.recordings) < ALONE_RECORDINGS):
        yield map(work, chunks)
        return
    with ProcessPoolExecutor(processors, mp_context=get_context("spawn")) as pool:
        try:
            yield _few_ahead(pool, work, chunks, 2 * processors)
        except BrokenProcessPool as error:
            raise InputError(
                "a process that frames recordings was ended from outside, perhaps for want of memory; "
                "free some, and start again"
            ) from error


def _few_ahead(
    pool: ProcessPoolExecutor, work: Callable[[Any], Any], chunks: list[Any], ahead: int
) -> Iterator[Any]:
    """Results in order, with no more than `ahead` of them waiting in memory."""
    waiting = [pool.submit(work, chunk) for chunk in chunks[:ahead]]
    for chunk in [*chunks[ahead:], *[None] * len(waiting)]:
        yield waiting.pop(0).result()
        if chunk is not None:
            waiting.append(pool.submit(work, chunk))


@contextmanager
def _writer(path: Path | None) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
    """Appends recordings to `path`: their events, then how many each has, then how many there are."""
    if path is None:
        yield lambda lengths, events: None
        return
    lengths_so_far: list[np.ndarray] = []
    with atomic_path(path) as temporary, temporary.open("wb") as file:

        def write(lengths: np.ndarray, events: np.ndarray) -> None:
            lengths_so_far.append(lengths.astype(np.int64))
            _append(file, events)

        yield write
        lengths = np.concatenate([np.empty(0, np.int64), *lengths_so_far])
        _append(file, lengths)
        _append(file, np.array([len(lengths)], dtype=np.int64))


def _append(file: BinaryIO, values: np.ndarray) -> None:
    file.write(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes())
