"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing where stderr is closed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.text import Text

PLAIN_LINE_EVERY = 15.0
"""Seconds between two lines where there is no terminal."""


class Report(Protocol):
    """Called with what is done so far, and a word on how it goes."""

    def __call__(self, done: float, note: str = "") -> None: ...


class _RateColumn(TextColumn):
    """Units a second, or seconds a unit when they are slow."""

    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(
            f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each", style="progress.data.speed"
        )


@contextmanager
def progress(what: str, total: float) -> Iterator[Report]:
    """Show the progress of `what` up to `total` units while the block runs."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines(what, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(""),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total, note="")

        def report(done: float, note: str = "") -> None:
            bar.update(task, completed=done, note=note)

        yield report


def _plain_lines(what: str, total: float) -> Report:
    started = last = time.monotonic()

    def report(done: float, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < PLAIN_LINE_EVERY or not done:
            return
        last = now
        remaining = (now - started) / done * (total - done)
        print(f"{what}: {done:g} of {total:g}, {remaining:.0f} s left {note}".rstrip(), file=sys.stderr)

    return report
