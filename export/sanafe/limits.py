"""What SANA-FE's Loihi doesn't hold, beside Loihi's own limits."""

from __future__ import annotations

from collections.abc import Iterator

from ..graph import Graph
from ..integers import FRACTION_BITS
from ..loihi2.limits import CONSTRAINTS, ChipLimits, problems
from ..placement import can_be_placed, place
from ..target import Problem
from .mapping import executed, input_neurons, synapse_count

LOIHI = ChipLimits("loihi1", CONSTRAINTS, "scale the input down to 8 bits, and the first weights up")

CORES = 128
"""Of the one chip that SANA-FE's architecture file describes."""

INPUTS_PER_CORE = 1024
"""Neurons in a core of it."""

SYNAPSES_MAX = 2_000_000
"""SANA-FE keeps each synapse as an object with named attributes: about a kilobyte and 10 μs apiece."""


def sanafe_problems(graph: Graph) -> list[Problem]:
    """Every limit that `graph` (float or integer) breaks: the chip's, and those of SANA-FE's model of it."""
    found = [*problems(graph, LOIHI), *_current_problems(graph), *_delay_problems(graph)]
    return found or [*_size_problems(graph)]


def _current_problems(graph: Graph) -> Iterator[Problem]:
    """A synaptic current with memory is cut to 64ths on the chip, and kept whole by SANA-FE."""
    for population in graph.populations:
        current_decay = 0.0 if population.neuron is None else population.neuron.current_decay
        if current_decay not in (0.0, 0.5):
            remedy = "the chip truncates such products and SANA-FE doesn't"
            yield Problem(population.name, "current decay", current_decay, "0 or 1/2", remedy)
        elif current_decay and (graph.timesteps is None or graph.timesteps > 1 + FRACTION_BITS):
            remedy = f"the chip cuts halvings below 2^−{FRACTION_BITS} and SANA-FE doesn't"
            yield Problem(
                population.name, "number of a current's halvings, T", graph.steps, 1 + FRACTION_BITS, remedy
            )


def _delay_problems(graph: Graph) -> Iterator[Problem]:
    """A delay that the model asks for would need dendrites that lose events (see `mapping`)."""
    for population, synapse in graph.paths():
        if synapse.delay:
            limit = f"delay of the path from {synapse.source}"
            yield Problem(population.name, limit, synapse.delay, 0, "take the delay out of the model")


def _size_problems(graph: Graph) -> Iterator[Problem]:
    """Whether this chip, and this computer, hold all neurons and synapses."""
    mapped = executed(graph)
    synapses = sum(synapse_count(synapse) for _, synapse in mapped.paths())
    if synapses > SYNAPSES_MAX:
        remedy = "SANA-FE builds each by itself; choose a smaller network, or validate it on loihi1"
        yield Problem("network", "number of synapses, convolutions unrolled", synapses, SYNAPSES_MAX, remedy)
    elif graph.is_integer and can_be_placed(mapped):
        placement = place(mapped, LOIHI.device)
        yield from placement.problems
        cores = placement.cores + -(-input_neurons(mapped) // INPUTS_PER_CORE)
        if cores > CORES:
            remedy = "SANA-FE's architecture file has one chip; choose a smaller network"
            yield Problem("network", "number of cores, the input's included", cores, CORES, remedy)
