"""What a process that was started to do a part of the work, and the one that started it, have in common."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

WATCH_SECONDS = 0.2
REASON = "failed: "
"""Stands before the line that says why."""

FAILED = 1


def end_with(parent: int) -> None:
    """End this process and its group once its parent isn't `parent` any more, whatever ended that."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(FAILED)

    threading.Thread(target=watch, daemon=True).start()


def fail(reason: str) -> int:
    """Say why this process fails, in a last line on stderr, and give its exit status."""
    print(f"{REASON}{' '.join(reason.split())}", file=sys.stderr, flush=True)
    return FAILED


class Lines:
    """Takes what a process prints: keeps the reason that it gives and the last line, and passes all on."""

    def __init__(self, write: Callable[[str], object]):
        self.reason = ""
        self.last = ""
        self._write = write

    def __call__(self, line: str) -> None:
        if line:
            self._write(f"{line}\n")
            self.last = line
        if line.startswith(REASON):
            self.reason = line.removeprefix(REASON)


def ending(status: int) -> str:
    """How a process ended that gave no reason."""
    if status < 0:
        return f"its process was ended by signal {-status} ({signal.strsignal(-status)})"
    return f"its process ended with status {status}"
