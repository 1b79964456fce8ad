"""What a single step must remember of earlier ones' spikes: where the model asks for delays."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Synapse
from .drawing import Drawing
from .layers import Heard, Shape, State

NEXT = ".next"
"""Behind the name of a state: what the next step begins with."""

PAST = ".past"
"""Behind the name of a source: what it showed in earlier steps."""


def pasts(graph: Graph) -> dict[str, Shape]:
    """The memory of each source that reaches somebody later, by its state's name: (steps, *shape)."""
    longest: dict[str, Shape] = {}
    for _, synapse in graph.paths():
        name = _past(synapse.source)
        known = longest.get(name, (0,))[0]
        if synapse.delay > known:
            longest[name] = (synapse.delay, *synapse.source_shape)
    return longest


def heard_in_step(drawing: Drawing, shown: dict[str, str], state: State) -> Heard:
    """What reaches a synapse in a single step: what is shown now, or `delay` steps ago."""

    def heard(synapse: Synapse) -> str:
        if not synapse.delay:
            return shown[synapse.source]
        place = drawing.constant(f"{synapse.delay} steps ago", np.array(synapse.delay - 1), np.int64)
        past = state[_past(synapse.source)]
        return drawing.node("Gather", [past, place], f"{past}.{synapse.delay}", axis=1)

    return heard


def remember(drawing: Drawing, graph: Graph, shown: dict[str, str], state: State) -> None:
    """Move every memory one step on, the newest first."""
    for name, (length, *_) in pasts(graph).items():
        source = name.removesuffix(PAST)
        state[name] = _shifted(drawing, state[name], shown[source], length)


def at_step(drawing: Drawing, tensor: str) -> str:
    """(batch, *shape) → (batch, 1, *shape)"""
    axis = drawing.constant("index.1", np.array([1]), np.int64)
    return drawing.node("Unsqueeze", [tensor, axis], f"{tensor}.step")


def _past(source: str) -> str:
    return f"{source}{PAST}"


def _shifted(drawing: Drawing, past: str, newest: str, length: int) -> str:
    """The past (batch, length, *shape) one step on."""
    kept = []
    if length > 1:
        ends = [
            drawing.constant(f"index.{end}", np.array([end]), np.int64) for end in (0, length - 1, 1)
        ]  # from, to, axis
        kept = [drawing.node("Slice", [past, *ends], f"{past}.kept")]
    return drawing.node("Concat", [at_step(drawing, newest), *kept], f"{past}.shifted", axis=1)
