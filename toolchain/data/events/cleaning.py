"""Dropping events that stand alone: noise of the sensor."""

from __future__ import annotations

import numpy as np


def denoised(x: np.ndarray, y: np.ndarray, t: np.ndarray, window_us: int) -> np.ndarray:
    """Which events have another at one of their four neighbours less than `window_us` before them.

    A pixel counts as having had one at time 0. It is what tonic's `Denoise(filter_time=window_us)` keeps,
    whose sensor ends at the last column and row that has events.

    Args:
        x, y, t: int64 (E,), in the order of time; those of one time count in the order they have.

    Returns:
        Boolean (E,).
    """
    count = len(t)
    width, height = x.max(initial=0) + 1, y.max(initial=0) + 1
    pixel = y * width + x
    by_pixel = np.argsort(pixel, kind="stable")
    ranked = pixel[by_pixel] * count + by_pixel  # by pixel, then by order: rising
    kept = np.zeros(count, dtype=bool)
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        column, row = x + dx, y + dy
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        neighbour = row * width + column
        before = np.searchsorted(ranked, neighbour * count + np.arange(count)) - 1
        last = by_pixel[np.maximum(before, 0)] if count else by_pixel
        found = (before >= 0) & (pixel[last] == neighbour)
        kept |= inside & (t - np.where(found, t[last], 0) < window_us)
    return kept
