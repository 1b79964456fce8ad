"""What targets of plain integers ask: whole numbers within bounds, and potentials that a register holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .bounds import current_reach, drive, membrane_reach, payloads
from .graph import Graph, Population
from .target import Problem

QUANTISE = "quantise for this target"


def outside(
    population: Population, what: str, values: np.ndarray, high: int, low: int | None = None
) -> Iterator[Problem]:
    """The worst of `values` that isn't a whole number in [low, high] (None: −high), if there is one."""
    low = -high if low is None else low
    values = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):
        fits = (values >= low) & (values <= high) & (values % 1 == 0)
    if not fits.all():
        worst = max(values[~fits].tolist(), key=abs)
        allowed = f"whole numbers in {low} … {high}"
        yield Problem(population.name, what, f"{worst:.12g}", allowed, QUANTISE)


def out_of_range(population: Population, graph: Graph, membrane_max: int) -> Iterator[Problem]:
    """Whether some input could drive a potential of a population that spikes beyond a register in T steps."""
    neuron = population.neuron
    if neuron is None or not neuron.spikes:
        return
    currents = current_reach(neuron, *drive(population, payloads(graph)), graph.timesteps)
    membrane = np.maximum(*membrane_reach(population, *currents, graph.timesteps)).max(axis=1)
    worst = int(np.argmax(membrane))
    if membrane[worst] > membrane_max:
        limit = f"largest membrane potential (channel {worst})"
        remedy = f"{QUANTISE}, which shrinks the weights"
        yield Problem(population.name, limit, f"{membrane[worst]:.12g}", membrane_max, remedy)
