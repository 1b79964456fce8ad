"""Batches of a split, in an order and with changes that one seed decides."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .augment import TEMPORAL, augment
from .augmentation import Augmentation
from .datasets import Split


def batches(
    split: Split, batch_size: int, seed: int | None = None, augmentation: Augmentation | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over `split`; the last batch may be smaller.

    Args:
        seed: decides order and augmentation alone: give each epoch its own, and training can be taken up
            again at any epoch. None: the split's own order.
        augmentation: changes to the images; needs a seed.

    Yields:
        Images float32 (B, C, H, W), or frames (T, B, C, H, W), with integer values, and labels int64 (B,).

    Raises:
        ValueError: augmentation without a seed.
    """
    generator = torch.Generator()
    if seed is not None:
        order = torch.randperm(len(split.labels), generator=generator.manual_seed(seed))
    elif augmentation is None:
        order = torch.arange(len(split.labels))
    else:
        raise ValueError("augmentation needs a seed: without one it could not be repeated")
    for chosen in order.split(batch_size):
        images = _inputs(split, chosen, generator if seed is not None else None).to(torch.float32)
        if augmentation is not None:
            images = augment(images, augmentation, generator)
        yield images.transpose(0, 1) if images.dim() == TEMPORAL else images, split.labels[chosen]


def _inputs(split: Split, chosen: Tensor, generator: torch.Generator | None) -> Tensor:
    """The samples `chosen`, those that can be changed at random changed if there is a generator."""
    if split.redrawn is None or generator is None:
        return split.inputs[chosen]
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.from_numpy(split.redrawn.frames(chosen.numpy(), seed))
