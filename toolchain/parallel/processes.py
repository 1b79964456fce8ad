"""Starts the processes of one training on this machine, has them meet, and ends them, whatever happens.

The process that asks for them leads; each other one is `python -m snnkd.toolchain.parallel.worker`. They meet
through a file, so that no port is needed; on GPUs they speak NCCL, on CPUs gloo.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from ... import InputError, SnnkdError
from ...export.child import run_child
from ..children import Lines, ending
from .team import ALONE, Team
from .worker import Request

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others at one point."""

ENDING_SECONDS = 60.0
"""How long the others may take to end once the work is done."""

POLL_SECONDS = 0.1
"""Between two looks at whether the others have come."""

LINE_CHARACTERS = 300
"""As much of a process's last line is told, at most."""

BLAMING_SECONDS = 5.0
"""How long to look for one that has ended, where talking to them failed."""

LOCAL_INTERFACE = {"linux": "lo", "darwin": "lo0"}


@contextmanager
def together(devices: int, request: Request) -> Iterator[Team]:
    """The team of `devices` processes while the block runs; this process leads.

    Args:
        request: what the others shall do; its rank, size, meeting place and threads are filled in.

    Raises:
        InputError: there aren't so many GPUs, or another process ended before its time.
    """
    if devices == 1:
        yield ALONE
        return
    require_devices(devices)
    threads = torch.get_num_threads()
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(devices - 1) as pool:
        asked = replace(
            request,
            parent=os.getpid(),
            size=devices,
            meeting=str(Path(folder) / "meeting"),
            threads=max(1, threads // devices),
        )
        others = [pool.submit(_follow, replace(asked, rank=rank), stop) for rank in range(1, devices)]
        try:
            torch.set_num_threads(asked.threads)
            _await(others, asked)
            with _blaming(others), met(asked) as team:
                yield team
            _raise_first(wait(others, ENDING_SECONDS).done)
        finally:
            stop.set()
            torch.set_num_threads(threads)


def _await(others: Sequence[Future[str]], request: Request) -> None:
    """Wait until all others are about to join the meeting: whoever is in it can't see that one doesn't come.

    Raises:
        InputError: one has ended, or doesn't come.
    """
    deadline = time.monotonic() + PATIENCE.total_seconds()
    arrivals = [request.arrival(rank) for rank in range(1, request.size)]
    while not all(arrival.exists() for arrival in arrivals):
        ended = [other for other in others if other.done()]
        _raise_first(ended)
        if ended or time.monotonic() >= deadline:
            how = "ended before it began" if ended else f"didn't begin within {PATIENCE}"
            raise InputError(
                f"a process that should share the training {how}; `snnkd train --resume` goes on"
            )
        wait(others, POLL_SECONDS, FIRST_COMPLETED)


@contextmanager
def _blaming(others: Sequence[Future[str]]) -> Iterator[None]:
    """Where the block fails since another process is gone, say why that one is.

    Raises:
        InputError: in place of what torch.distributed raises then.
    """
    try:
        yield
    except SnnkdError:
        raise
    except RuntimeError:
        _raise_first(wait(others, BLAMING_SECONDS, FIRST_COMPLETED).done)
        raise


def _raise_first(ended: Collection[Future[str]]) -> None:
    """Raise the reason of one of the processes that failed, if there is any.

    Raises:
        InputError: there is.
    """
    reasons = [reason for future in ended if (reason := future.result())]
    if reasons:
        raise InputError(
            f"a process that shared the training failed: {reasons[0]}; `snnkd train --resume` goes on"
        )


def require_devices(devices: int) -> None:
    """See that there are so many GPUs, where there are any; else as many processes share the CPU.

    Raises:
        InputError: there are fewer.
    """
    if torch.cuda.is_available() and devices > (found := torch.cuda.device_count()):
        raise InputError(f"devices is {devices}, and there are {found} GPUs; ask for no more than that")


@contextmanager
def met(request: Request) -> Iterator[Team]:
    """The team, once all of its processes are there, while the block runs.

    Raises:
        RuntimeError: they didn't come.
    """
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(request.rank)
    elif sys.platform in LOCAL_INTERFACE:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOCAL_INTERFACE[sys.platform])
    request.arrival(request.rank).touch()
    distributed.init_process_group(
        "nccl" if on_gpus else "gloo",
        init_method=f"file://{request.meeting}",
        rank=request.rank,
        world_size=request.size,
        timeout=PATIENCE,
    )
    try:
        yield Team(request.rank, request.size)
    finally:
        distributed.destroy_process_group()


def _follow(request: Request, stop: threading.Event) -> str:
    """Run another process of the team to its end, and say why it failed, if it did."""
    lines = Lines(sys.stderr.write)
    status = run_child(request.command(), Path.cwd(), math.inf, lines, stop.is_set)
    if status == 0 or status is None:
        return ""
    if lines.reason or status < 0 or not lines.last:
        return lines.reason or ending(status)
    return f"{ending(status)}, its last line: {textwrap.shorten(lines.last, LINE_CHARACTERS)}"
