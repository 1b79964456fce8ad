"""What a sensor recorded: events as they are read, and many recordings as they are framed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .cleaning import denoised
from .options import EventOptions


class Events(NamedTuple):
    """One recording: four integer arrays (E,), one entry per event.

    Attributes:
        x, y: column and row of the pixel, or channel and 0.
        t: µs since the recording began.
        p: polarity, 0 or 1.
    """

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    p: np.ndarray


@dataclass(frozen=True)
class Sensor:
    """What records.

    Attributes:
        width, height: pixels; a silicon cochlea's channels are its width.
        polarities: 1 or 2.
        flat: whether its frames are channels without a place, (C, 1, 1), and no images.
    """

    width: int
    height: int = 1
    polarities: int = 2
    flat: bool = False

    def grid(self, options: EventOptions) -> tuple[int, int, int]:
        """(P, H, W): polarities and pixels of what is left of it after downsampling and merging."""
        side = options.downsample
        polarities = 1 if options.polarities == "merged" else self.polarities
        return polarities, -(-self.height // side), -(-self.width // side)

    def frame(self, options: EventOptions) -> tuple[int, int, int]:
        """(C, H, W) of a frame."""
        polarities, height, width = self.grid(options)
        return (polarities * height * width, 1, 1) if self.flat else (polarities, height, width)


@dataclass(frozen=True)
class Recordings:
    """N recordings, one after another, on one grid.

    Attributes:
        grid: (P, H, W).
        starts: int64 (N + 1,), where each begins and the last one ends.
        t: int64 (E,), µs since its recording began; within one they never fall.
        cell: int64 (E,), which cell of the grid, row by row.
    """

    grid: tuple[int, int, int]
    starts: np.ndarray
    t: np.ndarray
    cell: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def of_event(self) -> np.ndarray:
        """Which recording each event belongs to, (E,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @classmethod
    def of(cls, grid: tuple[int, int, int], parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> Recordings:
        """Recordings of (times, cells) each."""
        times, cells = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for t, cell in parts:
            times.append(t)
            cells.append(cell)
        starts = np.cumsum([len(t) for t in times], dtype=np.int64)
        return cls(grid, starts, np.concatenate(times), np.concatenate(cells))


def prepared(
    events: Events, sensor: Sensor, options: EventOptions, duration_us: int
) -> tuple[np.ndarray, np.ndarray]:
    """Times and cells of a recording, in the order of time, cleaned and cut as `options` say.

    Raises:
        ValueError: an event lies outside the sensor.
    """
    x, y, t, p = (np.asarray(column, dtype=np.int64) for column in events)
    bounds = (("x", x, sensor.width), ("y", y, sensor.height), ("p", p, sensor.polarities))
    for name, values, end in bounds:
        if values.size and not 0 <= values.min() <= values.max() < end:
            raise ValueError(
                f"has events with {name} from {values.min()} to {values.max()}, expected 0 to {end - 1}"
            )
    if np.any(t[1:] < t[:-1]):
        order = np.argsort(t, kind="stable")
        x, y, t, p = x[order], y[order], t[order], p[order]
    if options.denoise_us:
        kept = denoised(x, y, t, options.denoise_us)
        x, y, t, p = x[kept], y[kept], t[kept], p[kept]
    kept = (t >= 0) & (t < duration_us)
    polarities, height, width = sensor.grid(options)
    row, column = y // options.downsample, x // options.downsample
    channel = p if polarities > 1 else np.zeros_like(p)
    return t[kept], ((channel * height + row) * width + column)[kept]
