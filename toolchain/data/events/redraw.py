"""Training recordings changed at random, event by event, and framed anew for each batch.

The events lie on disk and are mapped into memory: int32 (E, 2) of time (µs) and cell, then for each recording
its number of events, then how many recordings there are (both int64; little-endian all).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .options import EventAugmentation
from .recordings import Recordings

if TYPE_CHECKING:
    from .framed import Framing

PAIR_BYTES, LENGTH_BYTES = 8, 8


@dataclass(frozen=True)
class Redrawn:
    """Recordings that can be framed with new random changes.

    Attributes:
        events: int32 (E, 2), mapped.
        starts: int64 (M + 1,), of all recordings in the file.
        chosen: int64 (N,), which of them these are.
        framing: how they are framed, and what changes.
    """

    events: np.ndarray
    starts: np.ndarray
    chosen: np.ndarray
    framing: Framing

    @classmethod
    def of(cls, path: Path, framing: Framing) -> Redrawn:
        """All recordings of a file that `framed` wrote."""
        end = path.stat().st_size
        with path.open("rb") as file:
            file.seek(end - LENGTH_BYTES)
            (count,) = np.fromfile(file, "<i8", 1)
            file.seek(end - (count + 1) * LENGTH_BYTES)
            lengths = np.fromfile(file, "<i8", count)
        starts = np.concatenate(([0], np.cumsum(lengths)))
        pairs = int(starts[-1])
        events = np.memmap(path, "<i4", "r", shape=(pairs, 2)) if pairs else np.empty((0, 2), np.int32)
        return cls(events, starts, np.arange(count), framing)

    def take(self, indices: np.ndarray) -> Redrawn:
        """Some of the recordings."""
        return replace(self, chosen=self.chosen[indices])

    def frames(self, indices: np.ndarray, seed: int) -> np.ndarray:
        """Frames uint8 (B, T, C, H, W) of some recordings with random changes that `seed` alone decides."""
        framing, own = self.framing, self.chosen[indices]
        spans = [self.events[self.starts[one] : self.starts[one + 1]].astype(np.int64) for one in own]
        grid = framing.sensor.grid(framing.options)
        recordings = Recordings.of(grid, ((pairs[:, 0], pairs[:, 1]) for pairs in spans))
        generator = np.random.default_rng(seed)
        augmentation = framing.options.augmentation
        return framing.frames(changed_at_random(recordings, augmentation, framing.duration_us, generator))


def changed_at_random(
    recordings: Recordings, augmentation: EventAugmentation, duration_us: int, generator: np.random.Generator
) -> Recordings:
    """Events dropped, then moved in time, each by itself; then each recording shifted as a whole.

    What leaves the grid or the time from 0 to `duration_us` is gone.
    """
    polarities, height, width = recordings.grid
    of_event, t, cell = recordings.of_event, recordings.t, recordings.cell
    kept = np.ones(len(t), dtype=bool)
    if augmentation.drop:
        kept &= generator.random(len(t)) >= augmentation.drop
    if augmentation.jitter_us:
        t = t + np.rint(generator.normal(0, augmentation.jitter_us, len(t))).astype(np.int64)
        kept &= (t >= 0) & (t < duration_us)
    if augmentation.shift:
        reach = augmentation.shift
        shifts = generator.integers(-reach, reach, size=(2, len(recordings)), endpoint=True)
        if height == 1:
            shifts[1] = 0
        rest, column = np.divmod(cell, width)
        channel, row = np.divmod(rest, height)
        column, row = column + shifts[0, of_event], row + shifts[1, of_event]
        kept &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
        cell = (channel * height + row) * width + column
    of_event, t, cell = of_event[kept], t[kept], cell[kept]
    order = np.lexsort((t, of_event))  # stable: of one time, in the order they had
    starts = np.concatenate(([0], np.cumsum(np.bincount(of_event, minlength=len(recordings)))))
    return Recordings((polarities, height, width), starts, t[order], cell[order])
