"""Reading idx, the format of MNIST and its relatives: a header of big-endian sizes, then raw bytes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ... import InputError
from .datasets import Samples

UNSIGNED_BYTE = 0x08
"""The only element type that these data sets use."""


def read_labelled(images: Path, labels: Path) -> Samples:
    """Grey images (N, H, W) and their labels (N,), each from an idx file, as inputs (N, 1, H, W).

    Raises:
        InputError: as `read_idx`, or the two files don't hold equally many.
    """
    pixels, classes = read_idx(images, dimensions=3), read_idx(labels, dimensions=1)
    if len(pixels) != len(classes):
        raise InputError(
            f"{images} holds {len(pixels)} images but {labels} {len(classes)} labels; fetch both again"
        )
    return Samples(pixels[:, None], classes.astype(np.int64))


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array in an idx file.

    Raises:
        InputError: the file can't be read, isn't idx of unsigned bytes with `dimensions` dimensions, or has
            more or fewer bytes than its header announces.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}; fetch it again") from error
    magic = bytes((0, 0, UNSIGNED_BYTE, dimensions))
    sizes_end = len(magic) + 4 * dimensions
    found = content[: len(magic)].tobytes()
    if found != magic or len(content) < sizes_end:
        raise InputError(
            f"{path} begins with {found.hex() or 'nothing'} and has {len(content)} bytes, "
            f"expected the idx header {magic.hex()} and {dimensions} sizes; fetch it again"
        )
    shape = tuple(content[len(magic) : sizes_end].view(">u4").tolist())
    data = content[sizes_end:]
    if len(data) != math.prod(shape):
        raise InputError(
            f"{path} holds {len(data)} bytes of data, but its header announces {shape}, "
            f"{math.prod(shape)} bytes; fetch it again"
        )
    return data.reshape(shape)
