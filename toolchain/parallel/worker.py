"""A process of a team that doesn't lead: `python -m snnkd.toolchain.parallel.worker REQUEST` (JSON)."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from ... import SnnkdError
from ..children import end_with, fail


@dataclass(frozen=True)
class Request:
    """What the process shall do.

    Attributes:
        folder: of the run that is trained, with its recipe in it.
        data_root: where data sets are kept, or nothing for the default.
        teaches: whether only the run's teacher is trained.
        parent: the process whose end ends this one.
        rank, size: its place in the team.
        meeting: the file through which the team meets.
        threads: CPU threads.
    """

    folder: str
    data_root: str = ""
    teaches: bool = False
    parent: int = 0
    rank: int = 0
    size: int = 1
    meeting: str = ""
    threads: int = 1

    def arrival(self, rank: int) -> Path:
        """The file that says that a process of the team is about to join the meeting."""
        return Path(f"{self.meeting}-{rank}")

    def command(self) -> list[str]:
        """What starts the process."""
        return [sys.executable, "-m", "snnkd.toolchain.parallel.worker", json.dumps(asdict(self))]


def main() -> int:
    """Do what the first argument asks for; a failure is a last line on stderr."""
    request = Request(**json.loads(sys.argv[1]))
    end_with(request.parent)
    try:
        _help(request)
    except SnnkdError as error:
        return fail(str(error))
    except Exception as error:
        traceback.print_exc()
        return fail(f"{type(error).__name__}: {error}")
    return 0


def _help(request: Request) -> None:
    import torch

    from ..run import Run
    from ..training import assist
    from .processes import met

    torch.set_num_threads(request.threads)
    with met(request) as team:
        data_root = Path(request.data_root) if request.data_root else None
        assist(Run(Path(request.folder)), team, request.teaches, data_root)


if __name__ == "__main__":
    sys.exit(main())
