"""How far an exported network is what the file says: exactly, or with constants rounded and spikes changed.

The outcome is about neurons and time: "exact" means that every decay is one that the chip has and every
threshold an integer that weights are measured in, "approximated" that decays were rounded. Weights become
integers of so many bits either way, which the layer table reports; from the integer network on everything is
exact. The share of changed spikes counts both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..export.graph import Graph
from ..export.target import Inputs, Target
from .arithmetic import record_on
from .quantization.decays import Rounding
from .samples import choose, take

COMPARED_SAMPLES = 64
"""Samples on which the spikes of the float and of the integer network are compared, at most."""

AT_ONCE = 8
"""Of which so many are held in memory."""


def fidelity(
    floats: Graph, integers: Graph, roundings: Iterable[Rounding], inputs: Inputs | None, room: Target
) -> dict[str, Any]:
    """The entry `fidelity` of an export's answer.

    Args:
        roundings: the decays that were rounded.
        inputs: samples to compare spikes on; None compares none.
        room: the target, whose arithmetic the integers are in.

    Returns:
        outcome: "exact" or "approximated"; roundings; changed_spikes: see `changed_spikes`, None where no
        samples are given, or where the network was one of integers to begin with.
    """
    rounded = [rounding.summary() for rounding in roundings]
    changed = None if inputs is None or floats.is_integer else changed_spikes(floats, integers, inputs, room)
    outcome = "approximated" if rounded else "exact"
    return {"outcome": outcome, "roundings": rounded, "changed_spikes": changed}


def refused(reason: str) -> dict[str, Any]:
    """The entry `fidelity` where there is no export, and why."""
    return {"outcome": "refused", "roundings": [], "changed_spikes": None, "reason": reason}


def changed_spikes(floats: Graph, integers: Graph, inputs: Inputs, room: Target) -> float:
    """Of the neuron-steps in which either network spikes, the share in which only one of them does.

    0: all spikes are the same; 1: none are. Spread evenly over `inputs`, at most 64 samples are shown.
    """
    chosen = choose(inputs, COMPARED_SAMPLES)
    changed = either = 0
    for start in range(0, len(chosen), AT_ONCE):
        batch = take(inputs, chosen[start : start + AT_ONCE])
        ours, theirs = (record_on(room, graph, batch, integers.steps).spikes for graph in (floats, integers))
        for name, spikes in ours.items():
            changed += int(np.count_nonzero(spikes != theirs[name]))
            either += int(np.count_nonzero(spikes | theirs[name]))
    return changed / max(either, 1)
