"""How many samples and steps are simulated at once: as many as a memory budget and a cache allow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...export.bounds import fan_in
from ...export.graph import Graph, Synapse

CACHE_BYTES = 48 * 2**20
"""What one chunk works on, on a CPU: small enough to stay near its cores, large enough to keep them busy."""

FLOAT32_BYTES = 4

LEAST_SAMPLES = 16
"""So many are simulated side by side before time is cut into windows: a small tensor costs something too."""


@dataclass(frozen=True)
class Chunk:
    """`samples` run side by side, `steps` at once."""

    samples: int
    steps: int


def plan(
    graph: Graph,
    timesteps: int,
    recorded: bool,
    budget: int,
    working: int,
    samples: int | None = None,
    unfolds: bool = True,
) -> Chunk:
    """The largest chunk that keeps to the budget, or the smallest there is.

    Args:
        graph: the network.
        timesteps: T.
        recorded: whether all spikes of a chunk's samples are kept.
        budget: bytes for all of it.
        working: bytes for what is worked on; at most `budget`.
        samples: how many are asked for; None leaves it open.
        unfolds: whether convolutions are.
    """
    step, kept = bytes_per_step(graph, unfolds), timesteps * recorded_bytes(graph) if recorded else 0
    at_once = max(1, min(working, budget // 2 if recorded else budget) // step)
    if samples is None:
        samples = max(1, at_once // timesteps, min(at_once, LEAST_SAMPLES))
        samples = min(samples, max(1, budget // 2 // kept)) if kept else samples
    return Chunk(samples, min(timesteps, max(1, at_once // samples)))


def bytes_per_sample(graph: Graph, timesteps: int) -> int:
    """About what T steps of one sample take, all at once and recorded."""
    return timesteps * (recorded_bytes(graph) + bytes_per_step(graph))


def recorded_bytes(graph: Graph) -> int:
    """A step's spikes, a byte each, and read-outs."""
    return sum(population.size * (8 if population.is_readout else 1) for population in graph.populations)


def bytes_per_step(graph: Graph, unfolds: bool = True) -> int:
    """What one step of one sample takes while the costliest population is simulated.

    That is every emission still needed then, what the population makes, and the patches that a convolution
    may be unfolded into.
    """
    last_use = {s.source: i for i, p in enumerate(graph.populations) for s in p.synapses}
    sizes = {port.name: int(np.prod(port.shape)) for port in graph.inputs}
    largest = 0
    for index, population in enumerate(graph.populations):
        numbers = sum(sizes.values()) + 3 * population.size
        if unfolds:
            numbers += max((_unfolded(synapse) for synapse in population.synapses), default=0)
        largest = max(largest, FLOAT32_BYTES * numbers)
        sizes[population.name] = population.size
        sizes = {name: size for name, size in sizes.items() if last_use.get(name, -1) > index}
    return largest


def _unfolded(synapse: Synapse) -> int:
    if synapse.kind != "conv":
        return 0
    return fan_in(synapse) * synapse.groups * int(np.prod(synapse.shape[1:]))
