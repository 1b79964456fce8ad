"""One network in one simulator: exact, approximate and why, refused and why, or why it couldn't be run."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import Refusal, SnnkdError
from ..export.graph import Graph
from ..export.script import NotInstalledError, TimeOverError
from ..export.simulators.comparison import ROUNDING, Comparison, Difference, compare_with_simulator
from ..export.simulators.target import SimulatorTarget
from ..export.target import Inputs, Problem, Progress, Recording, Target, arithmetic_of, peculiarity_problems
from .arithmetic import quantize_for, record_on
from .simulation.simulator import Simulator, record
from .validation import compare

EXACT, APPROXIMATE, REFUSED, MISSING = "exact", "approximate", "refused", "not installed"
FAILED, UNFINISHED = "failed", "not finished"

FLOAT, INTEGER = "float", "integer"

NAMED = 4
"""So many layers of one problem are named; of more, how many more there are."""

Row = dict[str, Any]


@dataclass
class Subject:
    """What is judged: a float network, the integer networks made of it, and samples.

    Attributes:
        made_for: the target that `integers` were made for.
        integers: that target's network; None: it is quantised when it is asked for.
        calibration: what others are quantised with.
        bits: of their weights.
    """

    floats: Graph
    made_for: Target
    integers: Graph | None
    inputs: Inputs
    calibration: Inputs | None
    bits: int
    _recorded: list[tuple[Graph, str, Recording]] = field(default_factory=list)

    def integers_for(self, room: Target) -> Graph:
        """The integer network that `room` runs: the one at hand where it has the same integers, or its own.

        Raises:
            Refusal: it doesn't fit, with every limit that it breaks.
        """
        if self.integers is not None and _same_integers(room, self.made_for):
            graph = self.integers
        else:
            _refuse(room, self.floats)
            graph, _ = quantize_for(room, self.floats, self.bits, self.calibration)
            if self.integers is None and _same_integers(room, self.made_for):
                self.integers = graph
        return graph

    def float_recording(self) -> Recording:
        """What the float network emits."""
        for known, _, recording in self._recorded:
            if known is self.floats:
                return recording
        recording = record(self.floats, self.inputs, self.floats.steps)
        self._recorded.append((self.floats, "", recording))
        return recording

    def recorded(self, room: Target, graph: Graph) -> Recording:
        """What `graph` emits here, in the arithmetic that `room` has."""
        arithmetic = room.name if arithmetic_of(room) is not None else ""
        for known, whose, recording in self._recorded:
            if known is graph and whose == arithmetic:
                return recording
        recording = record_on(room, graph, self.inputs, graph.steps)
        self._recorded.append((graph, arithmetic, recording))
        return recording


def summed_up(problems: Sequence[Problem]) -> str:
    """All problems in a line, one that several layers share said once."""
    layers: dict[Problem, list[str]] = {}
    for problem in problems:
        layers.setdefault(replace(problem, layer=""), []).append(problem.layer)
    return "; ".join(str(replace(shared, layer=_listed(names))) for shared, names in layers.items())


def _listed(names: Sequence[str]) -> str:
    shown = names if len(names) <= NAMED else [*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"]
    return ", ".join(shown)


def networks_in(room: Target) -> tuple[str, ...]:
    """Which networks a target's simulator can be given."""
    return (FLOAT, INTEGER) if isinstance(room, SimulatorTarget) else (INTEGER,)


def judged(
    room: Target, network: str, subject: Subject, time_limit: float, progress: Progress | None = None
) -> Row:
    """What a simulator makes of the "float" or "integer" network of `subject`; nothing is raised.

    Returns:
        {"network", "simulator", "verdict", "reason", "neuron_steps", "differing", "share",
        "samples_differing", "readouts_differing", "explained", "seconds"}.
    """
    started = time.perf_counter()
    row = {"network": network, "simulator": room.name}
    try:
        if isinstance(room, SimulatorTarget):
            found = _judged_here(room, network, subject, time_limit)
        else:
            found = _judged_there(room, subject, time_limit, progress)
    except Refusal as refusal:
        found = _row(REFUSED, _reason(room, refusal))
    except NotInstalledError as error:
        found = _row(MISSING, str(error))
    except TimeOverError as error:
        found = _row(UNFINISHED, str(error))
    except SnnkdError as error:
        found = _row(FAILED, str(error), explained=False)
    except Exception as error:  # one simulator's fault must not cost the others' rows
        found = _row(FAILED, f"{type(error).__name__}: {' '.join(str(error).split())}", explained=False)
    return {**row, **found, "seconds": time.perf_counter() - started}


def _judged_here(room: SimulatorTarget, network: str, subject: Subject, time_limit: float) -> Row:
    """A simulator that reads NIR, in this process: it takes float networks too, and inexact integer ones."""
    inputs = subject.inputs
    if not isinstance(inputs, np.ndarray):
        raise Refusal(f"the network has {len(inputs)} inputs, {room.name} runs networks with one")
    graph = subject.floats if network == FLOAT else subject.integers_for(room)
    if found := peculiarity_problems(graph) or [*room.misreadings(room.view(graph).to_nir())]:
        raise Refusal(summed_up(found))
    recording = subject.float_recording() if network == FLOAT else subject.recorded(room, graph)
    simulator = Simulator(graph, graph.steps)

    def membrane(population: str, sample: int) -> np.ndarray:
        return simulator.membrane(inputs[sample : sample + 1], population)[:, 0].numpy()

    with _within(time_limit, room.name):
        compared = compare_with_simulator(room, graph, inputs, recording.spikes, membrane)
    if compared.mismatches == 0:
        return _row(EXACT, "", compared)
    unproven = room.inexactness(graph) if graph.is_integer else []
    real = [first for first in compared.first if not first.within_rounding]
    if unproven:
        return _row(APPROXIMATE, summed_up(unproven), compared)
    if real or graph.is_integer:
        return _row(APPROXIMATE, _described((real or compared.first)[0]), compared, explained=False)
    furthest = max(abs(first.distance or 0) for first in compared.first)
    reason = f"membranes within {furthest:.1e} of their thresholds (rounding: up to {ROUNDING:g})"
    return _row(APPROXIMATE, reason, compared)


def _judged_there(room: Target, subject: Subject, time_limit: float, progress: Progress | None) -> Row:
    """A target's own files in its own simulator, as `export` writes and `validate` runs them."""
    graph = subject.integers_for(room)
    _refuse(room, graph)
    with tempfile.TemporaryDirectory(prefix="snnkd-conformance-") as folder:
        room.export(graph, Path(folder))
        theirs = room.run(Path(folder), subject.inputs, graph.steps, time_limit, progress)
    ours = subject.recorded(room, graph)
    found = compare(graph, ours, theirs)
    differing = {name: theirs.spikes[name] != spikes for name, spikes in ours.spikes.items()}
    samples = np.any([d.reshape(len(d), -1).any(axis=1) for d in differing.values()] or [[False]], axis=0)
    steps, wrong, readouts = (
        found[key] for key in ("neuron_steps_compared", "spike_mismatches", "readout_mismatches")
    )
    first, reason = found["first_mismatch"], ""
    if first is not None:
        where = f"sample {first['sample']}, step {first['step'] + 1}, {first['layer']}[{first['neuron']}]"
        reason = f"{readouts:,} read-outs differ; the first of all in {where}"
    return {
        "verdict": EXACT if first is None else APPROXIMATE,
        "reason": reason,
        "neuron_steps": steps,
        "differing": wrong,
        "share": wrong / max(1, steps),
        "samples_differing": int(samples.sum()),
        "readouts_differing": readouts,
        "explained": first is None,
    }


def _same_integers(room: Target, other: Target) -> bool:
    """Whether a network that is quantised for one is quantised for the other as well."""
    if room.name == other.name:
        return True
    own = arithmetic_of(room) is not None or arithmetic_of(other) is not None
    return not own and room.constraints == other.constraints


def _refuse(room: Target, graph: Graph) -> None:
    if found := room.check(graph):
        raise Refusal(summed_up(found))


def _reason(room: Target, refusal: Refusal) -> str:
    """The refusal, without what the row says anyhow."""
    reason = str(refusal)
    for start in (f"the network doesn't fit {room.name}: ", f"{room.name} doesn't read this network: "):
        reason = reason.removeprefix(start)
    return reason


class _Over(BaseException):
    """The time is over: no `except Exception` of a simulator's may catch it."""


@contextmanager
def _within(seconds: float, what: str) -> Iterator[None]:
    """Stop what runs in this process when the time is over, if this is the thread that signals reach."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(*_: Any) -> None:
        raise _Over

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Over:
        reason = f"{what} didn't finish within {seconds:g} s"
        raise TimeOverError(f"{reason}; allow more time or run fewer samples") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _row(verdict: str, reason: str, found: Comparison | None = None, explained: bool = True) -> Row:
    return {
        "verdict": verdict,
        "reason": reason,
        "neuron_steps": found and found.neuron_steps,
        "differing": found and found.mismatches,
        "share": found and found.mismatches / found.neuron_steps,
        "samples_differing": found and len(found.first),
        "readouts_differing": None,
        "explained": explained,
    }


def _described(first: Difference) -> str:
    where = f"sample {first.sample}, step {first.step + 1}, {first.population}{list(first.neuron)}"
    away = "" if first.distance is None else f", the membrane {first.distance:+.1e} of its threshold away"
    return f"the first in {where}{away}"
