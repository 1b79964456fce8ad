"""Reading an HDF5 file that anyone may have written: nothing is trusted, nothing large is allocated unseen.

Links that leave the file, arrays that live elsewhere, and sizes beyond any network are refused before a byte
of them is read. Strings of variable length are looked up here in the file's global heap: on a damaged one
libhdf5 2.0 loops for ever, or allocates the 4 GiB that a string claims to have.
"""

from __future__ import annotations

import math
import mmap
import struct
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
"""Bytes of a file address in all files that h5py writes."""

REFERENCE_SIZE = 4 + ADDRESS_SIZE + 4
"""Bytes of a reference to a string: its length, its heap's address, its number in the heap."""

HEAP_HEADER = 16
"""Bytes before a heap's first object, and before each object's content, which is padded to 8."""


def read_tree(path: Path) -> dict[str, Any]:
    """All groups of an HDF5 file as nested dictionaries of arrays, NumPy scalars and strings.

    Raises:
        InputError: the file is missing, damaged, or holds what can't be read safely.
    """
    if path.exists() and not path.is_file():
        raise InputError("is not a file")
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror or error}") from error
    try:
        with (
            raw,
            mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as content,
            h5py.File(path, "r") as file,
        ):
            return _Reader(content).group(file, "")
    except InputError:
        raise
    except Exception as error:  # HDF5 reports damage in whichever way it stumbles over it
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"is truncated, damaged or not a NIR file (HDF5): {reason}") from error


class _Reader:
    """Reads groups, counting what it meets so that it stops before memory does."""

    def __init__(self, content: mmap.mmap):
        self.content = content
        self.heaps: dict[int, dict[int, bytes]] = {}
        self.objects = 0
        self.size = 0

    def group(self, group: h5py.Group, where: str) -> dict[str, Any]:
        """All that `group` holds; `where` is its path inside the file."""
        if where.count("/") > MAX_DEPTH:
            raise InputError(f"groups are nested more than {MAX_DEPTH} deep at {where[:80]}")
        self.count(len(group))
        contents = {}
        for name in group:
            below = f"{where}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise InputError(f"{below} is a link that leads elsewhere; NIR has none")
            item: Any = group[name]
            read = self.group if isinstance(item, h5py.Group) else self.value
            contents[name] = read(item, below)
        return contents

    def value(self, item: Any, where: str) -> Any:
        """An array, a number or a string, after its size has been looked at."""
        if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external or item.shape is None:
            raise InputError(f"{where} is not an array in this file")
        for shape in (item.chunks or (), item.shape):
            if _extent(shape) > MAX_ELEMENTS:
                raise InputError(f"{where} has shape {shape}, more than {MAX_ELEMENTS} numbers")
        self.spend(_extent(item.shape) * max(item.dtype.itemsize, BYTES_PER_NUMBER))
        text = h5py.check_string_dtype(item.dtype)
        if text is None and item.dtype.kind not in NUMERIC:
            raise InputError(f"{where} has dtype {item.dtype}, expected numbers or text")
        if text is not None and text.length is None:
            return self.strings(item, where)
        return item[()] if text is None else item.asstr()[()]

    def strings(self, item: Any, where: str) -> Any:
        """A string, or an array of them."""
        self.count(_extent(item.shape))
        start = item.id.get_offset()
        if start is None or item.file.id.get_create_plist().get_sizes()[0] != ADDRESS_SIZE:
            raise InputError(f"{where} is text stored in chunks or empty; store it in one piece")
        strings = np.empty(item.size, dtype=object)
        for index in range(item.size):
            strings[index] = self.string(start + index * REFERENCE_SIZE)
        return strings.reshape(item.shape)[()]

    def string(self, place: int) -> str:
        """The string that the reference at `place` in the file refers to."""
        reference = self.content[place : place + REFERENCE_SIZE]
        length, heap, number = struct.unpack("<IQI", reference)
        if length == 0:
            return ""
        if heap not in self.heaps:
            self.heaps[heap] = self.heap(heap)
        stored = self.heaps[heap][number]
        if length > len(stored):
            raise ValueError("a string is longer than what is stored of it")
        self.spend(length)
        return stored[:length].decode()

    def heap(self, place: int) -> dict[int, bytes]:
        """The numbered objects of the global heap at `place` (HDF5 file format, III.E)."""
        signature, size = struct.unpack("<4s4xQ", self.content[place : place + HEAP_HEADER])
        if signature != b"GCOL":
            raise ValueError("a string is said to lie where no strings are")
        objects: dict[int, bytes] = {}
        end, place = min(place + size, len(self.content)), place + HEAP_HEADER
        while place + HEAP_HEADER <= end:
            self.count(1)
            number, length = struct.unpack("<H6xQ", self.content[place : place + HEAP_HEADER])
            place += HEAP_HEADER
            if number == 0:  # from here on the heap is free
                break
            self.spend(length)
            objects[number] = self.content[place : place + length]
            place += -(-length // 8) * 8
        return objects

    def count(self, objects: int) -> None:
        """Count groups, arrays and strings.

        Raises:
            InputError: there are more than any network needs.
        """
        self.objects += objects
        if self.objects > MAX_OBJECTS:
            raise InputError(f"it holds more than {MAX_OBJECTS} groups, arrays and strings")

    def spend(self, size: int) -> None:
        """Count bytes.

        Raises:
            InputError: there are more than any network needs.
        """
        self.size += size
        if self.size > MAX_BYTES:
            raise InputError(f"its arrays together have more than {MAX_ELEMENTS} numbers")


def _extent(shape: tuple[int, ...]) -> int:
    """The elements of an array, and at least its longest side: a million rows of nothing are many, too."""
    return math.prod(max(side, 1) for side in shape)
