"""Images over time: what a static image looks like at each step; a recipe's `[encoding]` section.

Nothing is drawn at random: the same image always looks the same. NumPy alone, so that a recipe can be checked
without importing torch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt, model_validator

from ... import InputError

Shape = tuple[int, int, int]

ROWS = ("rows", "rows-and-columns")
"""The kinds that show lines of an image."""


class Encoding(BaseModel):
    """How a static image is shown.

    Attributes:
        kind: `none`: as it is, at every step. `rows`: row t at step t, each pixel of it a channel of its own.
            `rows-and-columns`: column t too, behind the row, of an image as wide as high. `rate`: every pixel
            spikes at a rate, evenly spread over the steps.
        largest: the largest value that rows and columns show, larger ones being cut off; 0: the image's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["none", "rows", "rows-and-columns", "rate"] = "none"
    largest: NonNegativeInt = 0

    @model_validator(mode="after")
    def _cut_off_in_rows_alone(self) -> Encoding:
        if self.largest and self.kind not in ROWS:
            raise ValueError(f"largest goes with the kinds {' and '.join(ROWS)}")
        return self

    def step(self, image: Shape, largest: int, timesteps: int) -> tuple[Shape, int]:
        """Shape and largest value of what is shown at one step.

        Args:
            image: (C, H, W) of an image.
            largest: the largest value of a pixel.

        Raises:
            InputError: an image can't be shown so in that many steps.
        """
        channels, height, width = image
        if self.kind == "rate":
            return image, 1
        if self.kind == "none":
            return image, largest
        if timesteps != height:
            raise InputError(
                f"encoding.kind = {self.kind!r} shows one of {height} rows a step, found {timesteps} "
                f"timesteps; set it to {height}"
            )
        if self.kind == "rows-and-columns" and width != height:
            raise InputError(
                f"encoding.kind = {self.kind!r} shows as many columns as rows, found images of "
                f"{height}×{width}; use 'rows'"
            )
        lines = 1 if self.kind == "rows" else 2
        return (lines * channels * width, 1, 1), min(largest, self.largest or largest)

    def encode(self, images: np.ndarray, largest: int, timesteps: int) -> np.ndarray:
        """Images uint8 (N, C, H, W) as they are shown: `none`: themselves, else uint8 (N, T, *step's shape).

        Raises:
            InputError: as `step`.
        """
        self.step(images.shape[1:], largest, timesteps)
        if self.kind == "rate":
            return rate(images, largest, timesteps)
        if self.kind == "none":
            return images
        shown = np.minimum(images, np.uint8(min(largest, self.largest or largest)))
        if self.kind == "rows":
            return rows(shown)
        return np.concatenate([rows(shown), rows(shown.swapaxes(2, 3))], axis=2)


def rows(images: np.ndarray) -> np.ndarray:
    """Row t of each image at step t: uint8 (N, H, C·W, 1, 1), channel c·W + x, for images (N, C, H, W)."""
    samples, _, height, _ = images.shape
    return np.ascontiguousarray(images.transpose(0, 2, 1, 3)).reshape(samples, height, -1, 1, 1)


def rate(images: np.ndarray, largest: int, timesteps: int) -> np.ndarray:
    """Evenly spread spikes, uint8 (N, T, C, H, W) of 0 and 1, for images (N, C, H, W) of 0 … `largest`.

    A pixel p has emitted ⌊p·t / largest⌋ spikes after t steps, ⌊p·T / largest⌋ in all.
    """
    values = np.arange(largest + 1)[:, None]
    emitted = values * np.arange(timesteps + 1) // largest
    table = np.diff(emitted, axis=1).astype(np.uint8)
    frames = np.empty((len(images), timesteps, *images.shape[1:]), dtype=np.uint8)
    for step in range(timesteps):
        frames[:, step] = table[:, step][images]
    return frames
