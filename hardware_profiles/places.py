"""Finds where in a TOML text a key is written: parsers don't say, and who edits the file wants the line."""

from __future__ import annotations

import re
from collections.abc import Sequence


def line_of(text: str, place: Sequence[str]) -> int | None:
    """The line, from 1, of the innermost key of `place` that the text spells out.

    Args:
        place: keys from the top, ("constants", "e_synop", "unit"), whether as [tables] or as `key = …`.
    """
    lines = text.splitlines()
    found = 0
    for depth, key in enumerate(place):
        table = ".".join(place[: depth + 1])
        found = _header(lines, table) or _assignment(lines, key, after=found) or found
    return found or None


def _header(lines: list[str], table: str) -> int:
    """The number of the line `[table]`; 0 if there is none."""
    pattern = re.compile(rf"\s*\[\s*{re.escape(table)}\s*\]")
    return next((number for number, line in enumerate(lines, start=1) if pattern.match(line)), 0)


def _assignment(lines: list[str], key: str, after: int) -> int:
    """The number of the line `key = …` below line `after` and within its table; 0 if there is none."""
    pattern = re.compile(rf"\s*{re.escape(key)}\s*=")
    for number, line in enumerate(lines[after:], start=after + 1):
        if pattern.match(line):
            return number
        if line.lstrip().startswith("["):
            break
    return 0
