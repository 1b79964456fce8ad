"""Energy and time of an inference on a neuromorphic chip: operations × cost of each, and static power × time.

    E_dynamic = Σ operations × energy
    E_static  = (p_static + p_embedded)·chips·t
    t         = Σ_steps ( max_cores( t_synop·events + t_neuron_update·passes·neurons ) + t_barrier ) + t_io
                (a chip that runs in real time: steps·t_step + t_io; a single core, which works through all
                layers one after the other: Σ_cores in the place of max_cores)

A synaptic operation's energy already includes its memory. Each synapse layer works one step after the one
before it, so a network of L synapse layers has two modes:

- single-shot: a sample alone takes T + L steps; all of them update every neuron and draw static power;
- streaming: sample follows sample, each pays T steps, and its answer comes after T + L.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...export.graph import Graph
from ...export.placement import Placement, place
from ...export.target import Problem
from ...hardware_profiles import Profile
from ...hardware_profiles.quantities import STEP_TIME_PARTS
from .activity import BINARY_PAYLOAD, LayerActivity, NetworkActivity
from .figures import Figures
from .placement import CoreLoad, core_load, relayed

Mode = Literal["single-shot", "streaming"]
MODES: tuple[Mode, ...] = ("single-shot", "streaming")

ENERGY_TERMS: dict[str, tuple[str, ...]] = {
    "synaptic operations": ("e_synop",),
    "graded synaptic operations": ("e_graded_synop",),
    "neuron updates": ("e_neuron_update", "neuron_passes"),
    "spikes": ("e_spike",),
    "messages": ("e_message",),
    "message hops": ("e_hop", "hops_per_message"),
    "hops along the mesh": ("e_hop",),
}
"""Each term's constants; their product is what one operation costs. Without them the term has no price.

Hops are counted along the mesh where the profile states it; else every message is taken for hops_per_message.
"""


@dataclass(frozen=True)
class ChipWork:
    """A network on a chip, and what the average inference has it do.

    Attributes:
        activity: the relays' included.
        depths: of each population, in synapse layers.
        pipeline: L, the synapse layers along the longest path.
        notes: what a reader of the figures should know about how they came about.
    """

    activity: NetworkActivity
    placement: Placement
    load: CoreLoad
    depths: Mapping[str, int]
    pipeline: int
    notes: tuple[str, ...]

    @property
    def chips(self) -> int:
        """How many the network takes."""
        return 1 if self.placement.limits.one_core else self.placement.chips

    @property
    def cores(self) -> int:
        """How many hold neurons."""
        return 1 if self.placement.limits.one_core else self.placement.cores

    @property
    def problems(self) -> tuple[str, ...]:
        """The limits of the chip's size that the network breaks."""
        problems = [str(problem) for problem in self.placement.problems]
        limits, neurons = self.placement.limits, sum(layer.neurons for layer in self.activity.layers)
        if limits.one_core and limits.neurons_per_core and neurons > limits.neurons_per_core:
            most, remedy = limits.neurons_per_core, "make the widest layers narrower"
            problems.append(str(Problem("network", "number of neurons", neurons, most, remedy)))
        return tuple(problems)

    def steps(self, mode: Mode) -> int:
        """The steps that an inference occupies the chip for."""
        return self.activity.timesteps + (self.pipeline if mode == "single-shot" else 0)

    def operations(self, layer: LayerActivity, mode: Mode) -> dict[str, float]:
        """How often a layer does what each energy term prices."""
        messages, hops = self.load.messages.get(layer.name, 0.0), self.load.hops
        return {
            "synaptic operations": layer.synops.mean,
            "graded synaptic operations": layer.graded_synops.mean,
            "neuron updates": layer.neurons * self.steps(mode),
            "spikes": layer.spike_events.mean,
            "messages": messages,
            "message hops": messages if hops is None else 0.0,
            "hops along the mesh": 0.0 if hops is None else hops.get(layer.name, 0.0),
        }

    @property
    def terms(self) -> list[str]:
        """The energy terms of which the network has any operations."""
        done = [self.operations(layer, "streaming") for layer in self.activity.layers]
        return [term for term in ENERGY_TERMS if any(operations[term] for operations in done)]


def chip_work(
    graph: Graph, activity: NetworkActivity, profile: Profile, placement: Placement | None = None
) -> ChipWork:
    """Place a network on a profile's chip (`export.placement`), and put it to work there.

    Args:
        placement: where that was done before.
    """
    limits = profile.limits
    assert limits, "the schema asks a chip for these"
    placement = placement or place(graph, limits)
    notes = [_spreading(profile)]
    notes += [f"doesn't fit {profile.name}, placed regardless: {problem}" for problem in placement.problems]
    if limits.payload_bits == BINARY_PAYLOAD and activity.graded_synops.max:
        notes.append(
            f"{profile.name} takes binary spikes only: see e_graded_synop for how graded input counts"
        )
    with_relays, doing = relayed(graph, activity)
    load = core_load(with_relays, doing, placement)
    depths = {population.name: population.depth for population in with_relays.populations}
    pipeline = max(population.depth for population in graph.populations)
    return ChipWork(doing, placement, load, depths, pipeline, tuple(notes))


def _spreading(profile: Profile) -> str:
    """How the network lies on the chip's cores, and what that means for its time."""
    if profile.limits and profile.limits.one_core:
        return "on the chip's one core, which works through all layers one after the other"
    faster = "" if "t_step" in profile.constants else "; on more of them it would be faster"
    return f"on the fewest cores that hold it{faster}"


def chip_figures(work: ChipWork, constants: Mapping[str, float], mode: Mode) -> Figures:
    """What an inference costs in `mode`, with `constants` in SI units (one corner of a profile)."""
    by_layer = {
        layer.name: dynamic_terms(work.operations(layer, mode), constants) for layer in work.activity.layers
    }
    priced = [term for term in work.terms if _is_priced(term, constants)]
    dynamic = {term: sum(layer[term] for layer in by_layer.values()) for term in priced}
    if "e_io" in constants:
        dynamic["input and output"] = constants["e_io"]
    stepping, io = _stepping_time(work, constants, mode), constants.get("t_io", 0.0)
    answer_after = work.steps("single-shot") / work.steps(mode)
    return Figures(
        dynamic_terms=dynamic,
        static_terms=static_terms(work.chips, stepping + io, constants),
        layers={name: sum(terms.values()) for name, terms in by_layer.items()},
        occupied_s=stepping + io,
        latency_s=stepping * answer_after + io,
    )


def dynamic_terms(operations: Mapping[str, float], constants: Mapping[str, float]) -> dict[str, float]:
    """Joules by term of `ENERGY_TERMS`, of how often each is done; those without a price are left out."""
    return {
        term: number * math.prod(constants[name] for name in ENERGY_TERMS[term])
        for term, number in operations.items()
        if _is_priced(term, constants)
    }


def static_terms(chips: int, seconds: float, constants: Mapping[str, float]) -> dict[str, float]:
    """Joules that `chips` chips draw in `seconds`, whatever they do."""
    return {
        label: constants[name] * chips * seconds
        for name, label in (("p_static", "static"), ("p_embedded", "embedded processors"))
        if name in constants
    }


def constants_used(work: ChipWork, profile: Profile) -> list[str]:
    """The constants that the figures of this network rest on."""
    paid = {name for term in work.terms for name in ENERGY_TERMS[term]}
    unused = {name for names in ENERGY_TERMS.values() for name in names} - paid
    unused |= {"t_barrier", "t_barrier_multichip"} - {_barrier(work, profile.constants)}
    if "t_step" in profile.constants:
        unused |= set(STEP_TIME_PARTS)
    return [name for name in profile.constants if name not in unused]


def unknown_costs(work: ChipWork, profile: Profile) -> list[str]:
    """What the figures leave out since no source gives it: then they are lower bounds."""
    unknown = [f"energy of {term}" for term in work.terms if not _is_priced(term, profile.constants)]
    io = [what for what, name in (("energy", "e_io"), ("time", "t_io")) if name not in profile.constants]
    if io:
        unknown.append(f"host input and output ({' and '.join(io)})")
    timed_by_work = "t_step" not in profile.constants
    if timed_by_work and work.chips > 1 and _barrier(work, profile.constants) == "t_barrier":
        unknown.append("time of a barrier over several chips")
    return [*unknown, *profile.unknown]


def _is_priced(term: str, constants: Mapping[str, object]) -> bool:
    return all(name in constants for name in ENERGY_TERMS[term])


def _barrier(work: ChipWork, constants: Mapping[str, object]) -> str:
    several = work.chips > 1 and "t_barrier_multichip" in constants
    return "t_barrier_multichip" if several else "t_barrier"


def _stepping_time(work: ChipWork, constants: Mapping[str, float], mode: Mode) -> float:
    """The time of an inference's steps: each the busiest core (a single one: all work), then the barrier."""
    steps = work.steps(mode)
    if "t_step" in constants:
        return steps * constants["t_step"]
    updating = constants["t_neuron_update"] * constants.get("neuron_passes", 1.0)
    busiest = np.zeros(steps)
    for name, neurons in work.load.neurons.items():
        busy = constants["t_synop"] * _events_by_step(work, name, mode) + updating * neurons
        if work.placement.limits.one_core:
            busiest += busy.sum(axis=1)
        else:
            busiest = np.maximum(busiest, busy.max(axis=1))
    return float(busiest.sum()) + steps * constants[_barrier(work, constants)]


def _events_by_step(work: ChipWork, name: str, mode: Mode) -> np.ndarray:
    """The events that reach each core of a population at each of the chip's steps, float64 (steps, cores).

    A population of depth d does step k of a sample at step k + d. While streaming, the last steps of a sample
    fall together with the first of the next, of which the average inference is taken as an example.
    """
    events, depth = work.load.events[name], work.depths[name]
    if mode == "streaming":
        return np.roll(events, depth, axis=0)
    return np.pad(events, ((depth, max(0, work.pipeline - depth)), (0, 0)))[: work.steps(mode)]
