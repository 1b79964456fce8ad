"""Any network, float or integer, in a simulator that others wrote, every spike compared with one's own.

The simulator runs in this process, on what `SimulatorTarget.view` makes of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import nir
import numpy as np

from ... import Refusal
from ..graph import Graph
from ..metadata import DT
from ..script import NotInstalledError
from .runner.network import UnreadableError, record
from .target import REMEDY, SimulatorTarget

ROUNDING = 1e-5
"""How near its threshold, as a part of it, a membrane may be for float32 to decide between spike and none."""

Membrane = Callable[[str, int], np.ndarray]
"""(population, sample) → its potentials before each reset, float64 (T, *shape)."""


@dataclass(frozen=True)
class Difference:
    """The first spike in a sample that two runs don't share: later ones may follow from it.

    Attributes:
        neuron: its index in the population.
        distance: of the membrane potential from the threshold, as a part of the threshold; None if unknown.
    """

    population: str
    sample: int
    step: int
    neuron: tuple[int, ...]
    distance: float | None

    @property
    def within_rounding(self) -> bool:
        """Whether the membrane is so near its threshold that float32 may decide either way."""
        return self.distance is not None and abs(self.distance) <= ROUNDING


@dataclass(frozen=True)
class Comparison:
    """How many spikes differ, of how many neuron-steps, and the first in each sample that has any."""

    neuron_steps: int
    mismatches: int
    first: tuple[Difference, ...]


def run_in_simulator(
    simulator: SimulatorTarget, graph: nir.NIRGraph, inputs: np.ndarray, timesteps: int
) -> dict[str, np.ndarray]:
    """Show samples, (N, *shape) or (N, T, *shape), to a simulator in this process.

    Returns:
        As `runner.network.record`.

    Raises:
        NotInstalledError: the simulator isn't installed.
        Refusal: it doesn't read this graph, or not rightly, with each reason.
    """
    if found := [*simulator.misreadings(graph)]:
        raise Refusal(f"{simulator.name} doesn't read this network: {'; '.join(map(str, found))}")
    shape = tuple(next(iter(graph.inputs.values())).input_type["input"])
    if inputs.shape[1:] == shape:
        inputs = np.broadcast_to(inputs[:, None], (len(inputs), timesteps, *shape))
    try:
        return record(graph, simulator.reader, DT, inputs)
    except ImportError as error:
        raise NotInstalledError(f"{simulator.name} can't be imported ({error}): {REMEDY}") from error
    except UnreadableError as error:
        raise Refusal(f"{simulator.name} can't read this graph: {error}") from error


def compare_with_simulator(
    simulator: SimulatorTarget,
    graph: Graph,
    inputs: np.ndarray,
    spikes: dict[str, np.ndarray],
    membrane: Membrane | None = None,
) -> Comparison:
    """Compare `spikes`, which `graph` emitted for `inputs`, with what a simulator emits, by ==.

    Args:
        inputs: (N, *shape) or (N, T, *shape).
        spikes: for every spiking population, (N, T, *shape).
        membrane: tells potentials, and so a difference that comes of rounding from a real one.

    Raises:
        NotInstalledError, Refusal: as for `run_in_simulator` and `views.uniform_view`.
    """
    timesteps = next(iter(spikes.values())).shape[1]
    theirs = run_in_simulator(simulator, simulator.view(graph).to_nir(), inputs, timesteps)
    return compare_spikes(graph, spikes, theirs, membrane)


def compare_spikes(
    graph: Graph,
    spikes: dict[str, np.ndarray],
    theirs: dict[str, np.ndarray],
    membrane: Membrane | None = None,
) -> Comparison:
    """Compare what `graph` emitted here with what it emitted elsewhere, both (N, T, *shape), by ==."""
    differing = {p.name: theirs[p.name] != spikes[p.name] for p in graph.spiking}
    samples = np.flatnonzero(np.any([d.reshape(len(d), -1).any(1) for d in differing.values()], axis=0))
    return Comparison(
        neuron_steps=sum(d.size for d in differing.values()),
        mismatches=sum(int(d.sum()) for d in differing.values()),
        first=tuple(_first_difference(graph, differing, int(sample), membrane) for sample in samples),
    )


def _first_difference(
    graph: Graph, differing: dict[str, np.ndarray], sample: int, membrane: Membrane | None
) -> Difference:
    """The earliest, and in one step that of the population nearest to the input: spikes pass all in a step.

    Of several neurons of it that differ in that step none is another's cause: the one whose membrane is
    furthest from its threshold stands for them, so that rounding excuses it only where it excuses all.
    """
    found = []
    for order, population in enumerate(graph.spiking):
        places = np.argwhere(differing[population.name][sample])
        if len(places):
            found.append((int(places[0][0]), order))
    step, order = min(found)
    population = graph.spiking[order]
    neurons = np.argwhere(differing[population.name][sample, step])
    furthest, distance = 0, None
    if membrane is not None and population.neuron is not None:
        threshold = np.broadcast_to(population.neuron.threshold, population.shape).astype(np.float64)
        away = membrane(population.name, sample)[step] - threshold
        away = (away / np.where(threshold == 0, 1, np.abs(threshold)))[tuple(neurons.T)]
        furthest = int(np.argmax(np.abs(away)))
        distance = float(away[furthest])
    return Difference(population.name, sample, step, tuple(map(int, neurons[furthest])), distance)
