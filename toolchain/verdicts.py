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
from ..export.bounds import steps_remembered
from ..export.graph import Graph
from ..export.integers import FRACTION_BITS
from ..export.nir import margin, raised
from ..export.script import NotInstalledError, TimeOverError
from ..export.simulators.comparison import (
    ROUNDING,
    Comparison,
    Difference,
    Membrane,
    compare_spikes,
    run_in_simulator,
)
from ..export.simulators.target import SimulatorTarget
from ..export.target import Inputs, Problem, Progress, Recording, Target, arithmetic_of, peculiarity_problems
from .arithmetic import quantize_for, record_on
from .simulation.simulator import Simulator, record
from .validation import compare

EXACT, APPROXIMATE, REFUSED, MISSING = "exact", "approximate", "refused", "not installed"
FAILED, UNFINISHED = "failed", "not finished"

FLOAT, INTEGER = "float", "integer"

WHOLE_DECAYS = (0.0, 1.0)
"""Those whose products have no fraction to cut off."""

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
    return "; ".join(_lines(problems))


def _lines(problems: Sequence[Problem]) -> list[str]:
    layers: dict[Problem, list[str]] = {}
    for problem in problems:
        layers.setdefault(replace(problem, layer=""), []).append(problem.layer)
    return [str(replace(shared, layer=_listed(names))) for shared, names in layers.items()]


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
        {"network", "simulator", "verdict", "reason", "problems", "neuron_steps", "differing", "share",
        "samples_differing", "readouts_differing", "differing_untruncated", "explained", "firing_rates",
        "silent", "seconds"}. "problems": every limit that a refused network breaks, a line each.
        "differing_untruncated": spikes that differ from the integer network without the chip's truncation,
        None where that wasn't asked. "firing_rates": of what was executed, spikes per neuron and step by
        population; "silent": those that never fired, of which "exact" says little.
    """
    started = time.perf_counter()
    row = {"network": network, "simulator": room.name}
    try:
        if isinstance(room, SimulatorTarget):
            found = _judged_here(room, network, subject, time_limit)
        else:
            found = _judged_there(room, subject, time_limit, progress)
    except Refusal as refusal:
        reason = _reason(room, refusal)
        broken = refusal.problems if isinstance(refusal, _Broken) else ()
        found = {**_row(REFUSED, reason), "problems": _lines(broken) or [reason]}
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
        raise _Broken(found)
    recording = subject.float_recording() if network == FLOAT else subject.recorded(room, graph)
    with _within(time_limit, room.name):
        theirs = run_in_simulator(room, room.view(graph).to_nir(), inputs, graph.steps)
    compared = compare_spikes(graph, recording.spikes, theirs, _membranes(graph, inputs))
    return {**_explained_here(room, graph, inputs, theirs, compared), **_fired(recording)}


def _explained_here(
    room: SimulatorTarget, graph: Graph, inputs: np.ndarray, theirs: dict[str, np.ndarray], found: Comparison
) -> Row:
    """The verdict on `theirs`, what `room` emitted; `found` says where it differs from what is emitted here.

    That an integer network may differ for the chip's truncation is no excuse by itself. What differs first in
    a sample must lie so near its threshold as truncation moves a potential, and nothing may differ from the
    same integers without truncation, but for the rounding of floating point.
    """
    if found.mismatches == 0:
        return _row(EXACT, "", found)
    real = [first for first in found.first if not first.within_rounding]
    if not graph.is_integer:
        return _row(APPROXIMATE, _described(real[0]) if real else _rounded(found), found, not real)
    unproven = room.inexactness(graph)
    if not unproven:
        return _row(APPROXIMATE, _described((real or found.first)[0]), found, explained=False)
    kept = untruncated(graph)
    spikes = record(kept, inputs, kept.steps).spikes
    left = compare_spikes(kept, spikes, theirs, _membranes(kept, inputs))
    real = [first for first in left.first if not first.within_rounding]
    reason = f"{summed_up(unproven)}; {left.mismatches:,} differ from the same network without the chip's"
    reason = f"{reason} truncation"
    if left.mismatches:
        reason = f"{reason}, {_described(real[0]) if real else _rounded(left)}"
    beyond = [first for first in found.first if not _is_truncation(graph, first)]
    if beyond:
        reason = f"{reason}; truncation doesn't reach so far: {_described(beyond[0])}"
    return {
        **_row(APPROXIMATE, reason, found, explained=not real and not beyond),
        "differing_untruncated": left.mismatches,
    }


def untruncated(graph: Graph) -> Graph:
    """An integer network as simulators are given it: the same numbers, and no register that cuts them off.

    Its thresholds lie where they are written, half a step of the membrane above the integer.
    """
    gap = margin(graph)
    populations = tuple(
        p if p.neuron is None else replace(p, neuron=raised(p.neuron, gap)) for p in graph.populations
    )
    return replace(graph, populations=populations, weight_bits=None)


def _is_truncation(graph: Graph, first: Difference) -> bool:
    """Whether the chip's truncation can be why a potential is on the other side of its threshold.

    A product loses less than the registers' lowest bit, of which a memory keeps its decay step by step. Up to
    the first spike that differs both potentials have summed up the same.
    """
    population = graph[first.population]
    neuron = population.neuron
    assert neuron is not None and first.distance is not None
    bit = 2.0**-FRACTION_BITS
    lost = (
        0.0
        if neuron.current_decay in WHOLE_DECAYS
        else bit * steps_remembered(neuron.current_decay, graph.steps)
    )
    lost += 0.0 if neuron.decay in WHOLE_DECAYS else bit
    reach = lost * steps_remembered(neuron.decay, graph.steps) + bit / 2
    threshold = abs(float(np.broadcast_to(neuron.threshold, population.shape)[first.neuron])) or 1.0
    return abs(first.distance) * threshold <= reach + ROUNDING * threshold


def _membranes(graph: Graph, inputs: np.ndarray) -> Membrane:
    simulator = Simulator(graph, graph.steps)

    def membrane(population: str, sample: int) -> np.ndarray:
        return simulator.membrane(inputs[sample : sample + 1], population)[:, 0].numpy()

    return membrane


def _fired(recording: Recording) -> Row:
    """How often the populations fired in what was executed, and which never did."""
    rates = {name: float(spikes.mean()) for name, spikes in recording.spikes.items()}
    return {"firing_rates": rates, "silent": [name for name, rate in rates.items() if rate == 0]}


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
        **_row(EXACT if first is None else APPROXIMATE, reason, explained=first is None),
        **_fired(ours),
        "neuron_steps": steps,
        "differing": wrong,
        "share": wrong / max(1, steps),
        "samples_differing": int(samples.sum()),
        "readouts_differing": readouts,
    }


def _same_integers(room: Target, other: Target) -> bool:
    """Whether a network that is quantised for one is quantised for the other as well."""
    if room.name == other.name:
        return True
    own = arithmetic_of(room) is not None or arithmetic_of(other) is not None
    return not own and room.constraints == other.constraints


def _refuse(room: Target, graph: Graph) -> None:
    if found := room.check(graph):
        raise _Broken(found)


class _Broken(Refusal):
    """A refusal that keeps the limits that are broken apart."""

    def __init__(self, problems: Sequence[Problem]):
        super().__init__(summed_up(problems))
        self.problems = problems


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
        "problems": [],
        "neuron_steps": found and found.neuron_steps,
        "differing": found and found.mismatches,
        "share": found and found.mismatches / found.neuron_steps,
        "samples_differing": found and len(found.first),
        "readouts_differing": None,
        "differing_untruncated": None,
        "explained": explained,
        "firing_rates": {},
        "silent": [],
    }


def _rounded(found: Comparison) -> str:
    furthest = max(abs(first.distance or 0) for first in found.first)
    return f"membranes within {furthest:.1e} of their thresholds (rounding: up to {ROUNDING:g})"


def _described(first: Difference) -> str:
    where = f"sample {first.sample}, step {first.step + 1}, {first.population}{list(first.neuron)}"
    away = "" if first.distance is None else f", the membrane {first.distance:+.1e} of its threshold away"
    return f"the first in {where}{away}"
