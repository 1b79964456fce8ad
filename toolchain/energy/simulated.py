"""What a target's own simulation says a sample took of the chip, and what our estimate says of the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...export.graph import Graph
from ...export.placement import place
from ...export.target import Inputs, Target
from ...hardware_profiles import load_profile
from ..simulation.simulator import simulate
from .activity import ActivityCounter, NetworkActivity
from .estimate import price

MODE = "single-shot"
"""A target runs sample after sample, each from rest."""


def simulated(
    room: Target, graph: Graph, inputs: Inputs, figures: Mapping[str, np.ndarray]
) -> dict[str, Any] | None:
    """Means over the samples of a recording's figures, beside our estimate for what the target ran.

    A target that runs another network in the place of `graph`, which does the same in the chip's own terms,
    says so by a method `executed(graph, inputs) -> (graph, inputs)`; one that simulates energy and time says
    by an attribute `figures_boundary` what they hold.

    Args:
        inputs: the samples that the target ran.
        figures: of its recording.

    Returns:
        The `simulated` object of validation.json; None where there are no figures.
    """
    if not figures:
        return None
    as_executed = getattr(room, "executed", None)
    executed, shown = as_executed(graph, inputs) if as_executed else (graph, inputs)
    return {
        "simulator": room.backend,
        "boundary": getattr(room, "figures_boundary", ""),
        "samples": len(next(iter(figures.values()))),
        **{name: float(values.mean()) for name, values in figures.items()},
        "estimate": _estimate(executed, shown, room.profile),
    }


def _estimate(graph: Graph, inputs: Inputs, name: str) -> dict[str, Any] | None:
    """Ours, of a sample alone; None if the network doesn't fit the profile's device."""
    profile = load_profile(name)
    assert profile.limits is not None, "what simulates a chip names a chip's profile"
    placement = place(graph, profile.limits)
    counter = ActivityCounter(graph, graph.steps, {profile.name: placement})
    simulate(graph, inputs, graph.steps, [counter])
    activity: NetworkActivity = counter.result()
    for row in price(activity, graph, [profile], placements={profile.name: placement}).estimates:
        if row.mode == MODE and row.workload.name == "student":
            return {
                "profile": profile.name,
                "mode": MODE,
                "dynamic_j": row.interval("dynamic_j"),
                "latency_s": row.interval("latency_s"),
                "synaptic_operations": activity.synops.mean,
            }
    return None
