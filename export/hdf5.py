"""Reading an HDF5 file that anyone may have written: nothing is trusted, nothing large is allocated unseen.

Links that leave the file, arrays that live elsewhere, and sizes beyond any network are refused before a byte of
them is read. Strings of variable length are looked up by hand in the file's "global heap": on a damaged one
libhdf5 2.0 loops for ever, or allocates the 4 GiB that a string claims to have.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .. import InputError
from .shapes import MAX_ELEMENTS

BYTES_PER_NUMBER = 8
MAX_BYTES = BYTES_PER_NUMBER * MAX_ELEMENTS
"""The most that all arrays of one file may take in memory, as float64."""

MAX_OBJECTS = 200_000
"""The most groups, arrays and strings in one file."""

MAX_DEPTH = 16
"""How deep groups may be nested."""

NUMERIC = "iufb"
"""NumPy's kinds of numbers: integers, floats and truth values."""

ADDRESS_SIZE = 8
"""Bytes of a file address, as every writer has it but those for 16-bit machines."""

REFERENCE_SIZE = 4 + ADDRESS_SIZE + 4
"""Bytes of a reference to a string: its length, its heap's address, its number in the heap."""

HEAP_HEADER = 16
"""Bytes before a heap's first object, and before each object's content; contents fill whole multiples of 8."""


def read_tree(path: Path) -> dict[str, Any]:
    """All groups of an HDF5 file as nested dictionaries of arrays, NumPy scalars and strings.

    Raises:
        InputError: the file is missing, damaged, or holds what can't be read safely.
    """
    if path.exists() and not path.is_file():
        raise InputError("is not a file")
    try:
        with path.open("rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as content:
            with h5py.File(path, "r") as file:
                return _Reader(content).group(file, "")
    except InputError:
        raise
    except OSError as error if error.errno ...
