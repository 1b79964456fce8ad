"""Which samples of a batch one process looks at, at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

FRAMES = 5
"""Dimensions of a batch of frames, (T, B, C, H, W)."""


@dataclass(frozen=True)
class Share:
    """The samples from `start` to before `stop` of a batch of `total`.

    Attributes:
        weight: the share's part of the batch's mean loss; those of all shares add up to 1.
    """

    start: int
    stop: int
    total: int
    weight: float

    @property
    def count(self) -> int:
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole batch."""
        return self.count == self.total

    def of(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Its samples, of images (B, C, H, W) or frames (T, B, C, H, W), and their labels."""
        chosen = slice(self.start, self.stop)
        return images[:, chosen] if images.dim() == FRAMES else images[chosen], labels[chosen]


def shares(total: int, rank: int = 0, size: int = 1, parts: int = 1) -> Iterator[Share]:
    """What process `rank` of `size` looks at of a batch, in `parts` steps, fewer where samples are few.

    Every process has as many steps. A batch of fewer samples than processes is looked at by all of them.
    """
    if total < size:
        yield Share(0, total, total, 1 / size)
        return
    first, end = (bound * total // size for bound in (rank, rank + 1))
    parts = min(parts, total // size)
    for part in range(parts):
        start, stop = (first + bound * (end - first) // parts for bound in (part, part + 1))
        yield Share(start, stop, total, (stop - start) / total)
