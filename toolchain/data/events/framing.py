"""Recordings as frames, in integers: counts by time or by number, or a voxel grid.

The bins are tonic's: those of `ToFrame` with `time_window`, `n_time_bins` or `n_event_bins`, and of
`ToVoxelGrid`; each polarity has a channel of its own, and counts are cut to what a byte can hold.
"""

from __future__ import annotations

import numpy as np

from .options import EventOptions
from .recordings import Recordings

CELLS_AT_ONCE = 1 << 18
"""Cells of frames that are counted at a time: their counts fit in a core's cache."""


def frames_of(recordings: Recordings, options: EventOptions, timesteps: int, duration_us: int) -> np.ndarray:
    """uint8 (N, T, P, H, W), values up to `options.largest`.

    Args:
        timesteps: T.
        duration_us: D. With the span `fixed`, bin i holds the times t with ⌊t·T/D⌋ = i.
    """
    shape = (len(recordings), timesteps, *recordings.grid)
    frames = np.empty(shape, dtype=np.uint8)
    at_once = max(1, CELLS_AT_ONCE // int(np.prod(shape[1:])))
    for start in range(0, len(recordings), at_once):
        part = _taken(recordings, start, min(start + at_once, len(recordings)))
        frames[start : start + at_once] = _frames(part, options, timesteps, duration_us)
    return frames


def _taken(recordings: Recordings, first: int, end: int) -> Recordings:
    starts = recordings.starts[first : end + 1]
    inside = slice(starts[0], starts[-1])
    return Recordings(recordings.grid, starts - starts[0], recordings.t[inside], recordings.cell[inside])


def _frames(recordings: Recordings, options: EventOptions, timesteps: int, duration_us: int) -> np.ndarray:
    shape = (len(recordings), timesteps, *recordings.grid)
    if options.frames == "voxel":
        counts = _voxels(recordings, options, timesteps, duration_us)
    else:
        bins = _by_number if options.frames == "count" else _by_time
        bin_of, valid = bins(recordings, options, timesteps, duration_us)
        place = _places(recordings, bin_of, timesteps)
        counts = np.bincount(place[valid], minlength=int(np.prod(shape)))
    return np.minimum(counts, options.largest).astype(np.uint8).reshape(shape)


def _places(recordings: Recordings, bin_of: np.ndarray, timesteps: int) -> np.ndarray:
    """Where in frames (N, T, P, H, W), flattened, events of these bins count."""
    return (recordings.of_event * timesteps + bin_of) * int(np.prod(recordings.grid)) + recordings.cell


def _by_time(
    recordings: Recordings, options: EventOptions, timesteps: int, duration_us: int
) -> tuple[np.ndarray, np.ndarray]:
    """The bin of each event, and whether there is one."""
    if options.span == "fixed":
        bin_of = recordings.t * timesteps // duration_us
        return bin_of, bin_of < timesteps
    first, last = _ends(recordings)
    window = (last - first) // timesteps
    bin_of = (recordings.t - first) // np.maximum(window, 1)
    return bin_of, (bin_of < timesteps) & (window > 0)


def _by_number(
    recordings: Recordings, _options: EventOptions, timesteps: int, _duration_us: int
) -> tuple[np.ndarray, np.ndarray]:
    number = np.arange(len(recordings.t)) - recordings.starts[recordings.of_event]
    each = np.diff(recordings.starts)[recordings.of_event] // timesteps
    bin_of = number // np.maximum(each, 1)
    return bin_of, (bin_of < timesteps) & (each > 0)


def _voxels(recordings: Recordings, options: EventOptions, timesteps: int, duration_us: int) -> np.ndarray:
    """Rounded sums, flattened. An event at q + r/D bins counts (D − r)/D in bin q and r/D in the next."""
    cells = len(recordings) * timesteps * int(np.prod(recordings.grid))
    if options.span == "fixed":
        first, length = np.zeros_like(recordings.t), np.full_like(recordings.t, duration_us)
        of_cell: np.ndarray = np.array(duration_us)
    else:
        first, last = _ends(recordings)
        length = last - first
        of_cell = np.repeat(_lengths(recordings), cells // max(1, len(recordings)))
    bin_of, rest = np.divmod((recordings.t - first) * timesteps, np.maximum(length, 1))
    sums = np.zeros(cells)  # of integers far below 2^53: exact
    for shift, weight in ((0, length - rest), (1, rest)):
        valid = (bin_of + shift < timesteps) & (length > 0)
        place = _places(recordings, bin_of + shift, timesteps)
        sums += np.bincount(place[valid], weight[valid], minlength=cells)
    twice = 2 * options.voxel_unit * sums.astype(np.int64)
    of_cell = np.maximum(of_cell, 1)
    return (twice + of_cell) // (2 * of_cell)


def _ends(recordings: Recordings) -> tuple[np.ndarray, np.ndarray]:
    """For each event, the times of its recording's first and last."""
    own = recordings.of_event
    return recordings.t[recordings.starts[own]], recordings.t[recordings.starts[own + 1] - 1]


def _lengths(recordings: Recordings) -> np.ndarray:
    """From the first event of each recording to the last, (N,)."""
    lengths = np.zeros(len(recordings), dtype=np.int64)
    some = np.diff(recordings.starts) > 0
    lengths[some] = recordings.t[recordings.starts[1:][some] - 1] - recordings.t[recordings.starts[:-1][some]]
    return lengths
