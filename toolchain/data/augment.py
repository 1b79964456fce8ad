"""Augmentation in plain torch: one call changes a whole batch, each image in its own way.

All steps of a sample that has several change alike.
Integer pixel values stay integers within the range they had: that is what a student's input is.
All draws come from a generator on the CPU, so that a seed means the same on every device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .augmentation import Augmentation
from .autoaugment import auto_augment

TEMPORAL = 5
"""Dimensions of a batch whose samples have several steps."""

LOG_ERASED_ASPECT = (math.log(0.3), -math.log(0.3))
"""Logarithm of an erased rectangle's height / width (Zhong et al., arXiv 1708.04896)."""


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Change each image at random as `augmentation` says.

    Args:
        images: (B, C, H, W) or (B, T, C, H, W), uint8 or floating, with integer values of at least 0.
        generator: on the CPU; its state alone decides what happens.

    Returns:
        Images of the same shape, dtype and device; integers between 0 and the batch's largest value, or 255
        where AutoAugment is asked for.
    """
    shape = images.shape
    if len(shape) == TEMPORAL:  # every change but AutoAugment treats all channels alike
        assert augmentation.auto_augment == "none", "AutoAugment is for static images"
        images = images.flatten(1, 2)
    if augmentation.rotate_degrees or augmentation.translate:
        degrees = augmentation.rotate_degrees * _symmetric(images, generator, 1).squeeze(1)
        shifts = augmentation.translate * _symmetric(images, generator, 2)
        images = shift_and_rotate(images, degrees, shifts)
    if augmentation.crop_padding:
        images = _crop(images, augmentation.crop_padding, generator)
    if augmentation.flip:
        mirrored = _uniform(images, generator, 1) < 0.5
        images = torch.where(mirrored[:, :, None, None], images.flip(-1), images)
    if augmentation.auto_augment != "none":
        images = auto_augment(images, generator)
    if augmentation.erase_probability:
        images = _erase(images, augmentation.erase_probability, augmentation.erase_area, generator)
    return images.reshape(shape)


def shift_and_rotate(images: Tensor, degrees: Tensor, shifts: Tensor) -> Tensor:
    """Shift each image, then rotate it about its centre; bilinear, rounded, zeros from outside.

    Args:
        images: (B, C, H, W), as for `augment`.
        degrees: (B,), counter-clockwise as displayed.
        shifts: (B, 2), pixels to the right and downwards.
    """
    height, width = images.shape[-2:]
    sine, cosine = torch.sin(torch.deg2rad(degrees)), torch.cos(torch.deg2rad(degrees))
    # Where each output pixel comes from, in coordinates that run from -1 to 1 along either side.
    rows = (
        torch.stack((cosine, -sine * height / width, -2 * shifts[:, 0] / width), dim=1),
        torch.stack((sine * width / height, cosine, -2 * shifts[:, 1] / height), dim=1),
    )
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images.to(grid.dtype), grid, padding_mode="zeros", align_corners=False)
    return moved.round().to(images.dtype)


def _crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """A window of the image's own size, anywhere in the image with `padding` zeros around it."""
    count, channels, height, width = images.shape
    padded = functional.pad(images, (padding,) * 4)
    corners = torch.randint(2 * padding + 1, (2, count, 1), generator=generator).to(images.device)
    rows = corners[0] + torch.arange(height, device=images.device)
    columns = corners[1] + torch.arange(width, device=images.device)
    samples = torch.arange(count, device=images.device)[:, None, None, None]
    planes = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[samples, planes, rows[:, None, :, None], columns[:, None, None, :]]


def _erase(
    images: Tensor, probability: float, area_shares: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Set one rectangle to zero in a share of the images.

    Where the paper draws again until a rectangle fits, its longer side is cut to the image's.
    """
    height, width = images.shape[-2:]
    draws = _uniform(images, generator, 5)[:, :, None, None]
    chosen, area_draw, aspect_draw, top_draw, left_draw = draws.unbind(dim=1)
    area = height * width * _between(*area_shares, area_draw)
    aspect = _between(*LOG_ERASED_ASPECT, aspect_draw).exp()
    tall = (area * aspect).sqrt().floor().clamp(1, height)
    wide = (area / aspect).sqrt().floor().clamp(1, width)
    top = (top_draw * (height - tall + 1)).floor()
    left = (left_draw * (width - wide + 1)).floor()
    row = torch.arange(height, device=images.device)[:, None]
    column = torch.arange(width, device=images.device)
    inside = (row >= top) & (row < top + tall) & (column >= left) & (column < left + wide)
    return images.masked_fill((inside & (chosen < probability))[:, None], 0)


def _uniform(images: Tensor, generator: torch.Generator, draws: int) -> Tensor:
    """(B, draws) numbers in [0, 1), on the images' device."""
    return torch.rand(len(images), draws, generator=generator).to(images.device)


def _symmetric(images: Tensor, generator: torch.Generator, draws: int) -> Tensor:
    """(B, draws) numbers in [-1, 1), on the images' device."""
    return 2 * _uniform(images, generator, draws) - 1


def _between(low: float, high: float, draw: Tensor) -> Tensor:
    """`draw` from [0, 1) stretched to [low, high)."""
    return low + (high - low) * draw
