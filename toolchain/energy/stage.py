"""The `energy` stage: a run's integer network on its test samples, priced on hardware profiles."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ... import InputError
from ...export.files import require_writable, write_json
from ...export.graph import Graph
from ...export.placement import Placement, place
from ...export.target import Inputs, Target, arithmetic_of, get_target
from ...hardware_profiles import Profile, load_profile
from ...hardware_profiles.quantities import FAMILY
from ..arithmetic import simulate_on
from ..progress import progress
from ..run import Run
from ..samples import choose, size, take
from ..simulation.checks import Shown
from ..simulation.simulator import Activity
from .activity import ActivityCounter, NetworkActivity
from .admission import refusals, stand_ins
from .always_on import require_window, window_of
from .answer import energy_report
from .estimate import DEFAULT_BATCH, price
from .judging.judge import kinds_by_family
from .neurobench import neurobench_metrics
from .operations import Workload, dense_operations
from .requests import require_rate
from .sheets import write_sheets
from .twins import UNTRAINED, workloads_of_run

COMPARED = ("loihi1", "speck", "h100", "cpu")
"""Profiles shown beside the target's own unless others are asked for."""

MEMBRANE_SAMPLES = 32
"""Samples, spread evenly over those that are counted, that membrane updates are measured on."""


def energy_of_run(
    run: Run,
    profiles: Sequence[str] = (),
    target: str = "loihi2",
    samples: int | None = None,
    batch: int = DEFAULT_BATCH,
    rate: float | None = None,
    always_on: bool = False,
    window: float | None = None,
    twins: bool = False,
    data_root: Path | None = None,
) -> dict[str, Any]:
    """Count the activity of the network exported to `target`, price it, write energy.json and its CSV files.

    Args:
        profiles: names or TOML files; empty: the target's own and those in COMPARED.
        samples: how many test samples, spread evenly over the split; None takes all.
        batch: inferences that a processor does together, beside one.
        rate: requests per second, of which power and energy are then given too.
        always_on: whether power is given too of listening without pause.
        window: seconds that a sample then lasts; None: as long as the event data's do.
        twins: whether to train the ANN twin that the student is compared with, if it isn't yet.
        data_root: where data sets are kept; None: the default.

    Returns:
        The answer of `snnkd energy --json`.

    Raises:
        InputError: the run isn't exported, a profile is unknown or faulty, the samples can't be read,
            or the twin can't be trained.
    """
    room = get_target(target)
    own = room.profile
    priced_on = _profiles(profiles or (own, *COMPARED))
    if rate is not None:
        require_rate(rate)
    if always_on:
        window = window_of(run) if window is None else window
        require_window(window)
    graph = run.integer_graph(target)
    require_writable(run.energy_file)
    placements = {p.name: place(graph, p.limits) for p in priced_on if p.limits and FAMILY[p.kind] == "chip"}
    inputs, labels = _samples(run, samples, data_root)
    activity, accuracy = _count(room, graph, placements, inputs, labels)
    student = Workload("student", dense_operations(graph), activity.timesteps, accuracy=accuracy)
    if twins and run.from_nir:
        raise InputError(f"{run.folder} began with a NIR file, so there is no recipe to train an ANN twin by")
    compared = workloads_of_run(run, data_root, twins) or [Workload("ann-twin", student.layers)]
    answer = energy_report(
        activity,
        price(
            *(activity, graph, priced_on, batch, compared, accuracy, placements),
            refused=refusals(graph, priced_on, room),
            stand_ins=stand_ins(priced_on, room),
        ),
        network_hash=hashlib.sha256(run.integer_file(target).read_bytes()).hexdigest(),
        run=str(run.folder),
        target=own,
        networks=[student, *compared],
        rate=rate,
        listening=(graph, window) if always_on and window is not None else None,
        neurobench=_neurobench(room, graph, activity, inputs),
        judged=kinds_by_family(),
    )
    answer["target"] = target
    untrained = not run.from_nir and any(network.accuracy is None for network in compared)
    answer["hints"] = [UNTRAINED] if untrained else []
    write_json(run.energy_file, answer)
    write_sheets(run.energy_file, answer)
    return answer


def _profiles(names: Sequence[str]) -> list[Profile]:
    """Each profile once.

    Raises:
        InputError: one is unknown or faulty, or two that differ have the same name.
    """
    profiles = {name: load_profile(name) for name in names}
    named: dict[str, str] = {}
    for source, profile in profiles.items():
        if profile.name in named:
            reason = f"{named[profile.name]} and {source} both are named {profile.name!r}"
            raise InputError(f"{reason}; give one of them another `name`")
        named[profile.name] = source
    return list(profiles.values())


def _samples(run: Run, count: int | None, data_root: Path | None) -> tuple[Inputs, np.ndarray | None]:
    """So many of the run's test samples, or all, and their labels where they are known."""
    judged = run.samples(data_root)
    if count is None:
        return judged.inputs, judged.labels
    chosen = choose(judged.inputs, count)
    return take(judged.inputs, chosen), None if judged.labels is None else judged.labels[chosen]


def _count(
    room: Target,
    graph: Graph,
    placements: Mapping[str, Placement],
    inputs: Inputs,
    labels: np.ndarray | None,
) -> tuple[NetworkActivity, float | None]:
    """What the network did with the samples, and the share it got right; None without labels."""
    fitting = {name: placement for name, placement in placements.items() if not placement.problems}
    counter, predicted = ActivityCounter(graph, graph.steps, fitting), []

    def predict(_: Shown, activity: Activity) -> None:
        predicted.append(activity.predictions.cpu().numpy())

    with progress("counting activity", size(inputs)) as report:
        observers = [counter, predict]
        simulate_on(room, graph, inputs, graph.steps, observers, lambda done, _: report(done))
    accuracy = None if labels is None else float(np.mean(np.concatenate(predicted) == labels))
    return counter.result(), accuracy


def _neurobench(room: Target, graph: Graph, activity: NetworkActivity, inputs: Inputs) -> dict[str, Any]:
    """NeuroBench's metrics; membrane updates, which take simulations of their own, on a few samples.

    In an arithmetic of the target's own they aren't counted.
    """
    if arithmetic_of(room) is not None:
        return neurobench_metrics(graph, activity) | {"membrane_updates_samples": 0}
    few = take(inputs, choose(inputs, MEMBRANE_SAMPLES))
    metrics = neurobench_metrics(graph, activity, few)
    return metrics | {"membrane_updates_samples": size(few)}
