"""A device that listens without pause: what it draws while windows of real time follow one another.

    P = E_dynamic / window + P_static          energy per second = P

A window is the real time that a sample's T steps take, T·dt. The device works step by step as the sensor goes
on, so nothing is gathered: chips stream, processors take one sample at a time. Between steps it waits, and
draws its static power all the same; no sleep state is assumed, and what the sensor draws isn't in it. The
activity is that of samples that begin at rest; without resets between windows it may differ a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from ... import InputError
from ...export.graph import Graph
from ..data.datasets import DATASETS
from ..run import Run
from ..units import amount
from .activity import NetworkActivity
from .chip import MODES
from .estimate import Estimate
from .figures import Figures
from .requests import NO_TIME

STREAMING = MODES[-1]


def window_of(run: Run) -> float:
    """The seconds that a sample of `run`'s event data lasts.

    Raises:
        InputError: its samples have no real time, or each has one of its own.
    """
    remedy = "say how many seconds a sample lasts with --window"
    if run.from_nir:
        raise InputError(f"samples of a NIR file have no real time; {remedy}")
    source, events = DATASETS.load(run.recipe.dataset), run.recipe.events
    duration = events.duration_us or getattr(source, "duration_us", 0)
    if not duration or events.frames == "count" or events.span != "fixed":
        raise InputError(f"the frames of {run.recipe.dataset!r} are of no fixed time; {remedy}")
    return duration / 1e6


def require_window(window: float) -> None:
    """Raise InputError unless `window` is a possible duration in seconds."""
    if not 0 < window < float("inf"):
        raise InputError(f"a window must last more than 0 s and not for ever, found {window:g}")


def always_on(
    estimates: Sequence[Estimate], activity: NetworkActivity, graph: Graph, window: float
) -> dict[str, Any]:
    """What each network on each device draws while it listens without pause.

    Args:
        window: seconds that a sample lasts.

    Returns:
        {"window_s", "step_s", "windows_per_s", "input_events_per_s", "spikes_per_s", "synops_per_s", "rows"}:
        each row with either "refused", a reason, or "mode", "utilisation" (share of time at work), and
        "power_w", "dynamic_w" and "static_w" with bounds: joules per second.
    """
    events = sum(float(activity.mean_events(port.name).sum()) for port in graph.inputs)
    synops = activity.synops.mean + activity.graded_synops.mean
    return {
        "window_s": window,
        "step_s": window / activity.timesteps,
        "windows_per_s": 1 / window,
        "input_events_per_s": events / window,
        "spikes_per_s": activity.spikes.mean / window,
        "synops_per_s": synops / window,
        "rows": [
            _row(list(ways), window)
            for _, ways in groupby(estimates, key=lambda e: (e.profile.name, e.workload.name))
        ],
    }


def _row(ways: list[Estimate], window: float) -> dict[str, Any]:
    """One network on one device, in the way in which it can go along with a sensor."""
    way = next((w for w in ways if w.mode == STREAMING), ways[0])
    names = {"profile": way.profile.name, "model": way.workload.name}
    if way.family == "technology":
        return names | {"refused": NO_TIME}
    occupied = way.result.nominal.occupied_s
    if occupied > window:
        needed, left = amount(occupied, "s"), amount(window, "s")
        return names | {"refused": f"can't keep up: a window takes it {needed}, and lasts {left}"}

    def dynamic(figures: Figures) -> float:
        return figures.dynamic_j / max(window, figures.occupied_s)

    def static(figures: Figures) -> float:
        return figures.static_j / figures.occupied_s

    slowest = way.result.interval(lambda figures: figures.occupied_s)["high"]
    return names | {
        "refused": None,
        "mode": way.mode,
        "batch": way.batch,
        "utilisation": occupied / window,
        "keeps_up_throughout": slowest <= window,
        "power_w": way.result.interval(lambda figures: dynamic(figures) + static(figures)),
        "dynamic_w": way.result.interval(dynamic),
        "static_w": way.result.interval(static),
        "boundary": way.profile.boundary,
        "lower_bound": bool(way.unknown),
        "unknown": list(way.unknown),
        "unverified": way.unverified,
        "sources": [f"{name}: {way.profile.constants[name].source}" for name in way.used],
    }
