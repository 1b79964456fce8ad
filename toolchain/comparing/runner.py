"""Trains what isn't trained yet of a study: one process for each run, some of them at a time."""

from __future__ import annotations

import fcntl
import math
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ... import InputError, SnnkdError
from ...export.child import run_child
from ...export.files import require_writable
from ..children import Lines, ending
from ..progress import progress
from .cells import Cell, teacher_of
from .child import Request
from .plan import Plan

OnEnd = Callable[[], object]


@dataclass(frozen=True)
class Ways:
    """How the runs are trained.

    Attributes:
        jobs: runs at a time.
        time_limit: seconds after which a run is ended and counts as failed; None: never. The next start goes
            on with it.
        data_root: where data sets are kept; None: the default.
        profile: the hardware profile that students are priced on; "": none.
        gpus: those there are, as CUDA_VISIBLE_DEVICES names them; runs take turns.
    """

    jobs: int = 1
    time_limit: float | None = None
    data_root: Path | None = None
    profile: str = ""
    gpus: tuple[str, ...] = ()


@contextmanager
def alone_with(study: Path) -> Iterator[None]:
    """Let no other comparison work on the same study; the system forgets about it when this process ends.

    Raises:
        InputError: another one does, or the folder can't be written.
    """
    require_writable(study / ".lock")
    with (study / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"another comparison is at work on {study}; wait for it, or choose another with --run"
            ) from None
        yield


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return tuple(named[:count] if any(named) else map(str, range(count)))


def train_all(
    plan: Plan, study: Path, cells: Sequence[Cell], ways: Ways, on_end: OnEnd, what: str = "comparison"
) -> None:
    """Train the teachers that are missing, then the cells that aren't finished; failures stay in the cells.

    Args:
        on_end: called after each run.
        what: these runs together are called.

    Raises:
        InputError: a cell's folder holds another recipe's run.
    """
    for cell in cells:
        cell.require_own_recipe()
    waiting = [cell for cell in cells if not cell.is_done(ways.profile)]
    seeds = sorted({cell.seed for cell in waiting}) if plan.taught else []
    teachers = {seed: teacher_of(plan, study, seed) for seed in seeds}
    untaught = [teacher for teacher in teachers.values() if teacher.status != "finished"]
    total = len(untaught) + len(cells)
    with progress(f"{what}, {total} runs", total) as report:
        done = len(cells) - len(waiting)
        report(done)
        for part in (untaught, waiting):
            with closing(_train(part, plan, teachers, ways)) as ended:
                for cell in ended:
                    done += 1
                    on_end()
                    report(done, f"{cell.name}: {cell.status}")


def _train(cells: Sequence[Cell], plan: Plan, teachers: dict[int, Cell], ways: Ways) -> Generator[Cell]:
    """Each cell once its process has ended. Ctrl-C, or closing the iterator, ends all processes first."""
    stop = threading.Event()
    waiting, running = list(cells), dict[Future[None], tuple[Cell, str]]()
    with ThreadPoolExecutor(ways.jobs) as pool:
        try:
            while waiting or running:
                ahead = [*waiting, *(cell for cell, _ in running.values())]
                while len(running) < ways.jobs and (cell := _first_ready(waiting, ahead)):
                    waiting.remove(cell)
                    teacher = teachers.get(cell.seed) if cell.contender else None
                    lent = [names for _, names in running.values()]
                    gpu = least_used(ways.gpus, lent, cell.recipe.devices)
                    future = pool.submit(_attempt, cell, teacher, plan, ways, gpu, stop)
                    running[future] = cell, gpu
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    future.result()
                    yield running.pop(future)[0]
        finally:
            stop.set()


def _first_ready(waiting: Sequence[Cell], ahead: Sequence[Cell]) -> Cell | None:
    """The first of those waiting that doesn't go on from one that hasn't ended (`ahead`), if there is any."""
    folders = {cell.run.folder for cell in ahead}
    return next((c for c in waiting if c.after is None or c.after.run.folder not in folders), None)


def least_used(gpus: Sequence[str], lent: Sequence[str], count: int = 1) -> str:
    """The GPUs, joined by commas, that the fewest runs have, the first of several; "" where there is none.

    Args:
        lent: what each run that goes on has, likewise.
    """
    used = [gpu for names in lent for gpu in names.split(",")]
    return ",".join(sorted(gpus, key=used.count)[:count])


def _attempt(
    cell: Cell, teacher: Cell | None, plan: Plan, ways: Ways, gpu: str, stop: threading.Event
) -> None:
    """Train one cell in a process; why it failed is left in its folder."""
    try:
        weights = _weights(cell, teacher, plan)
        cell.begin(weights if _is_taught(cell, plan) else None)
        reason = _run(cell, weights, plan, ways, gpu, stop)
    except SnnkdError as error:
        reason = str(error)
    if reason and not stop.is_set():
        cell.fail(reason)


def _is_taught(cell: Cell, plan: Plan) -> bool:
    return cell.contender is not None and cell.contender.spec in plan.taught


def _weights(cell: Cell, teacher: Cell | None, plan: Plan) -> Path | None:
    """The teacher's weights, where the cell's seed has them.

    Raises:
        InputError: it hasn't, and the method needs them.
    """
    if teacher is None:
        return None
    if teacher.status == "finished":
        return teacher.run.teacher_file
    if _is_taught(cell, plan):
        raise InputError(f"its teacher {teacher.why_unfinished()}")
    return None


def _run(cell: Cell, teacher: Path | None, plan: Plan, ways: Ways, gpu: str, stop: threading.Event) -> str:
    """Train one cell, and say why it failed, if it did."""
    is_student = cell.contender is not None and not cell.is_trial
    request = Request(
        parent=os.getpid(),
        folder=str(cell.run.folder),
        outcome=str(cell.outcome_file),
        threads=plan.threads,
        teaches=cell.contender is None,
        tries=cell.contender is not None and cell.is_trial,
        teacher=str(teacher or "") if is_student else "",
        maps=str(cell.maps_file),
        data_root=str(ways.data_root or ""),
        gpus=gpu,
        priced=str(cell.priced_file),
        profile=ways.profile if is_student else "",
    )
    limit = math.inf if ways.time_limit is None else ways.time_limit
    with cell.log_file.open("a", encoding="utf-8") as log:
        lines = Lines(log.write)
        status = run_child(request.command(), Path.cwd(), limit, lines, stop.is_set)
    if status == 0:
        return ""
    if status is None:
        return f"it took longer than {limit:g} s; the next start goes on with it"
    return lines.reason or f"{ending(status)}; {cell.log_file} holds what it printed"
