"""The next batches, prepared while the present one is computed with."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

BATCHES = 2
"""How many wait at most."""

POLL = 0.1
"""Seconds after which one who waits looks whether anyone still wants what he has."""

Item = TypeVar("Item")


def ahead(items: Iterator[Item], count: int = BATCHES) -> Generator[Item]:
    """The same `items` in their order, `count` of them made by a thread before they are asked for.

    What making one raises is raised where it would have been. The thread ends with the items, or when the
    iterator that this returns is closed. Whatever draws random numbers for `items` must have a generator of
    its own.
    """
    made: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(count)
    unwanted = threading.Event()

    def put(item: Item | None, error: BaseException | None) -> None:
        while not unwanted.is_set():
            try:
                made.put((item, error), timeout=POLL)
            except queue.Full:
                continue
            return

    def make() -> None:
        try:
            for item in items:
                put(item, None)
                if unwanted.is_set():
                    return
        except BaseException as error:
            put(None, error)
        else:
            put(None, StopIteration())

    thread = threading.Thread(target=make, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # pyright: ignore[reportReturnType]
    finally:
        unwanted.set()
        thread.join()
