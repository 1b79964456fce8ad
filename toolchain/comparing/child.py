"""One run of a study, in a process of its own: `python -m snnkd.toolchain.comparing.child REQUEST`.

REQUEST is a JSON object: see `Request`. Ends with the process that started it, whatever ended that.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import resource
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ... import SnnkdError
from ...export.files import write_json
from ..children import end_with, fail
from ..run import Run

MAC_OS = "darwin"


@dataclass(frozen=True)
class Request:
    """What the process shall do.

    Attributes:
        parent: the process whose end ends this one.
        folder: of the run, with its recipe in it.
        outcome: where to write what was found.
        threads: CPU threads.
        teaches: whether to train only the run's teacher.
        tries: whether a loss that is no number is an outcome like others.
        teacher: the weights to compare the student's maps with, or nothing.
        maps: where to write some of these.
        data_root: where data sets are kept, or nothing for the default.
        gpus: those that the process sees, as CUDA_VISIBLE_DEVICES has them; nothing: all.
        priced: where to write what an inference costs on the hardware profile `profile`, if it has that name.
    """

    parent: int
    folder: str
    outcome: str
    threads: int
    teaches: bool = False
    tries: bool = False
    teacher: str = ""
    maps: str = ""
    data_root: str = ""
    gpus: str = ""
    priced: str = ""
    profile: str = ""

    def command(self) -> list[str]:
        """What starts the process."""
        return [sys.executable, "-m", "snnkd.toolchain.comparing.child", json.dumps(asdict(self))]


def main() -> int:
    """Do what the first argument asks for; a failure is a last line on stderr."""
    request = Request(**json.loads(sys.argv[1]))
    end_with(request.parent)
    if request.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = request.gpus  # before torch is imported
    try:
        with _alone_in(Path(request.folder)):
            if not Path(request.outcome).exists():
                write_json(Path(request.outcome), _found(request))
            if request.profile:
                _price(request)
    except SnnkdError as error:
        return fail(str(error))
    except Exception as error:
        traceback.print_exc()
        return fail(f"{type(error).__name__}: {error}")
    return 0


def _found(request: Request) -> dict[str, Any]:
    """Train what is asked for, and say what it took and gave."""
    import torch

    from ..fitting import Diverged
    from ..training import resume, train_teacher
    from .cells import DIVERGED
    from .looking import look

    torch.set_num_threads(request.threads)
    run = Run(Path(request.folder))
    data_root = Path(request.data_root) if request.data_root else None
    before = len(run.metrics())
    found: dict[str, Any] = {"threads": request.threads}
    try:
        if request.teaches:
            found["test_accuracy"] = train_teacher(run, data_root)
        else:
            resume(run, data_root)
    except Diverged as error:
        if not request.tries:
            raise
        return found | {DIVERGED: str(error)}
    trained_here = len(run.metrics()) > before
    found |= _memory(torch) if trained_here else {"peak_memory_bytes": None, "peak_gpu_bytes": None}
    if run.teacher_file.exists():
        found["teacher_sha256"] = hashlib.sha256(run.teacher_file.read_bytes()).hexdigest()
    if request.teacher:
        found["map_agreement"] = look(run, Path(request.teacher), Path(request.maps), data_root)
    return found


def _price(request: Request) -> None:
    """Write what an inference of the run's student costs."""
    import torch

    from .pricing import price_student

    torch.set_num_threads(request.threads)
    data_root = Path(request.data_root) if request.data_root else None
    priced = price_student(Run(Path(request.folder)), request.profile, data_root)
    write_json(Path(request.priced), priced)


def _memory(torch: Any) -> dict[str, int | None]:
    """The most that the process ever held, with torch and the data: resident memory, and on the GPU."""
    on_gpu = torch.cuda.is_available()
    return {
        "peak_memory_bytes": _peak_resident(),
        "peak_gpu_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
    }


def _peak_resident() -> int:
    """Bytes. Not Linux's `ru_maxrss`, in which the process that started this one has a part."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == MAC_OS else peak * 1024


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no process of an earlier start works in `folder`: it ends a moment after its parent."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
