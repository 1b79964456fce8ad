"""Counts what a network did, exactly: spikes, synaptic operations and neuron updates per inference.

Works on spike counts. A spike costs as many synaptic operations as it has synapses, so a layer's operations
are the scalar product of its sources' spike counts with their fan-out. Messages and hops follow likewise from
the cores that each neuron reaches.

A neuron that may spike several times in a step sends these spikes together, as a number: one event, with the
synaptic operations and messages of one spike (so rockpool's model of Xylo's cycles has it: "multiple events
per bin cost the same as a single event"). Its spikes are counted beside its events.

A spike that a delay of the model's own would carry past a sample's last step isn't delivered: a relay (or,
of an input, the host) withholds it, see `export.relays`. It is counted where it is emitted, and in the relay
that it reaches; it has no synaptic operations behind that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ... import InputError
from ...export.graph import Graph, InputPort, Population
from ...export.placement import Placement
from ...export.relays import Relay, relays, with_relays
from ..simulation.checks import Shown, as_frames, by_input
from .fanout import fan_out
from .mesh import hops_of_spikes
from .operations import macs
from .tally import Events, Prices

BINARY_PAYLOAD = 1
COUNTED = ("spikes", "spike_events", "synops", "graded_synops")

Sent = tuple[str, int]
"""The events of a source that count somewhere: all but those of a sample's last so many steps."""

Term = tuple[Sent, int]
"""Those events, and the column of their prices."""


class SpikeRecord(Protocol):
    """What a simulation recorded of a batch: the spikes of each population, (T, B, *shape)."""

    @property
    def spikes(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class Spread:
    """A count per inference over the samples: mean, standard deviation (of just these samples), range."""

    mean: float
    std: float
    min: int
    max: int

    @classmethod
    def over(cls, per_sample: np.ndarray) -> Spread:
        """The spread of exact counts, int64 (samples,)."""
        return cls(
            float(per_sample.mean()), float(per_sample.std()), int(per_sample.min()), int(per_sample.max())
        )


@dataclass(frozen=True)
class LayerActivity:
    """What one population, or relay, did per inference.

    Attributes:
        neurons: its size; a read-out's are the integrators that hold its sums.
        spikes: what it emitted (a read-out emits none).
        spike_events: the steps and neurons in which it emitted any, which is what is priced.
        synops: synaptic operations at its neurons by binary spikes: for each spike that is delivered, the
            synapses that it has here. None over the border (padding has no neurons), none through a weight of
            zero; stride, dilation and groups as they are. An identity path is one synapse per neuron.
        graded_synops: the same by graded input events (a pixel that isn't zero, at every step it is shown).
        neuron_updates: neurons × T, active or not.
        macs: of one dense pass, see `LayerOperations`.
    """

    name: str
    neurons: int
    spikes: Spread
    spike_events: Spread
    synops: Spread
    graded_synops: Spread
    neuron_updates: int
    macs: int


@dataclass(frozen=True)
class Routed:
    """What one population's spikes, or all, had the routers of a placed network do per inference.

    Attributes:
        messages: one per spike, path and core that it reaches, whatever the weights there.
        hops: of all messages, see `mesh`; None where the profile doesn't state the mesh.
    """

    messages: Spread
    hops: Spread | None


@dataclass(frozen=True)
class Routing:
    """What the spikes of a network, relays included, had the routers do under one placement."""

    layers: Mapping[str, Routed]
    total: Routed


@dataclass(frozen=True)
class NetworkActivity:
    """What a network did per inference, over `samples` inferences of `timesteps` steps.

    Attributes:
        spikes, spike_events, synops, graded_synops, neuron_updates: over all layers, without relays.
        events: for every input and spiking population, its events by step, summed over the samples: int64
            (T, *shape). The means of all counts that are linear in spikes follow from these.
        relays: what the relays of a chip do, which the network computes the same without.
        routing: by the names under which placements were given to the counter.
    """

    timesteps: int
    samples: int
    layers: tuple[LayerActivity, ...]
    spikes: Spread
    spike_events: Spread
    synops: Spread
    graded_synops: Spread
    neuron_updates: int
    events: Mapping[str, np.ndarray]
    relays: tuple[LayerActivity, ...] = ()
    routing: Mapping[str, Routing] = field(default_factory=dict)

    def mean_events(self, source: str) -> np.ndarray:
        """The events of `source` by step in the average inference, float64 (T, *shape)."""
        return self.events[source] / self.samples

    def as_dict(self) -> dict[str, Any]:
        """The `activity` object of energy.json: means per inference, and the spread behind each."""
        return {
            "timesteps": self.timesteps,
            "spikes_per_inference": self.spikes.mean,
            "spike_events_per_inference": self.spike_events.mean,
            "synops_per_inference": self.synops.mean,
            "graded_synops_per_inference": self.graded_synops.mean,
            "neuron_updates_per_inference": self.neuron_updates,
            "spread": {name: asdict(getattr(self, name)) for name in COUNTED},
            "layers": [asdict(layer) for layer in self.layers],
            "relays": [asdict(relay) for relay in self.relays],
            "routing": {name: asdict(routing) for name, routing in self.routing.items()},
        }


class ActivityCounter:
    """An observer of a simulation: called with every batch, it adds up what the network did.

    Args:
        graph: the network that is simulated.
        timesteps: T.
        placements: of the network on chips, by any name: messages and hops are counted under each.

    Raises:
        InputError: (when called) inputs or a recording don't fit the network.
    """

    def __init__(self, graph: Graph, timesteps: int, placements: Mapping[str, Placement] | None = None):
        self._graph, self._timesteps = graph, timesteps
        self._ports = {port.name: port for port in graph.inputs}
        self._relays = relays(graph)
        self._samples = 0
        self._events: dict[str, Tensor] = {}
        several = (p.name for p in graph.spiking if p.neuron and p.neuron.max_spikes > 1)
        self._emitted: dict[str, list[Tensor]] = {name: [] for name in several}
        ledger = _Ledger(graph, timesteps, self._relays)
        self._terms = ledger.operations()
        self._routed = {name: ledger.routing(placed) for name, placed in (placements or {}).items()}
        self._prices = ledger.prices()
        self._priced: dict[Sent, list[Tensor]] = {sent: [] for sent in self._prices}

    def __call__(self, inputs: Shown, activity: SpikeRecord) -> None:
        """Add a batch: integers (B, *shape), shown at every step, or (B, T, *shape), and what they caused.

        Of a network with several inputs they come by the inputs' names.
        """
        shown = by_input(inputs, self._graph)
        events = {name: self._of_input(self._ports[name], frames) for name, frames in shown.items()}
        batch = len(next(iter(shown.values())))
        for population in self._graph.spiking:
            recorded = self._recorded(population, activity.spikes, batch)
            if population.name in self._emitted:
                self._emitted[population.name].append(recorded.long().flatten(2).sum((0, 2)).cpu())
                recorded = recorded.clamp(max=1)
            events[population.name] = Events.of(recorded)
        for name, sent in events.items():
            before = self._events.get(name, torch.zeros((), dtype=torch.int64))
            self._events[name] = before + sent.by_step().long().cpu()
        for (name, withheld), prices in self._prices.items():
            priced = prices.of(events[name], self._timesteps - withheld)
            self._priced[name, withheld].append(priced)
        self._samples += batch

    def result(self) -> NetworkActivity:
        """The activity of all samples seen so far.

        Raises:
            InputError: there were none.
        """
        if not self._samples:
            raise InputError("no activity was recorded: run at least one sample")
        priced = {sent: torch.cat(batches).numpy() for sent, batches in self._priced.items()}
        counts = {
            name: {quantity: self._sum(terms, priced) for quantity, terms in by_quantity.items()}
            for name, by_quantity in self._terms.items()
        }
        for name, emitted in self._emitted.items():
            counts[name]["spikes"] = torch.cat(emitted).numpy()
        layers = tuple(
            self._layer(population, counts[population.name]) for population in self._graph.populations
        )
        totals = {
            quantity: np.sum([counts[layer.name][quantity] for layer in layers], axis=0)
            for quantity in COUNTED
        }
        return NetworkActivity(
            timesteps=self._timesteps,
            samples=self._samples,
            layers=layers,
            neuron_updates=sum(layer.neuron_updates for layer in layers),
            events={name: self._by_step(events) for name, events in self._events.items()},
            relays=tuple(self._relay(relay, counts[relay.name]) for relay in self._relays),
            routing={name: self._routing(routed, priced) for name, routed in self._routed.items()},
            **{quantity: Spread.over(per_sample) for quantity, per_sample in totals.items()},
        )

    def _of_input(self, port: InputPort, inputs: Tensor) -> Events:
        return Events.of(as_frames(inputs, port, self._timesteps) != 0)

    def _recorded(self, population: Population, spikes: Mapping[str, Tensor], batch: int) -> Tensor:
        recorded = spikes.get(population.name)
        expected = (self._timesteps, batch, *population.shape)
        if recorded is None or recorded.shape != expected:
            found = "nothing" if recorded is None else tuple(recorded.shape)
            raise InputError(f"{population.name}: expected spikes of shape {expected}, recorded {found}")
        return recorded

    def _sum(self, terms: list[Term], priced: Mapping[Sent, np.ndarray]) -> np.ndarray:
        """What the terms come to in each sample, int64 (samples,)."""
        return sum((priced[sent][:, column] for sent, column in terms), np.zeros(self._samples, np.int64))

    def _by_step(self, events: Tensor) -> np.ndarray:
        """Events of all T steps, int64 (T, *shape)."""
        return events.expand(self._timesteps, *events.shape[1:]).contiguous().numpy()

    def _layer(self, population: Population, counts: Mapping[str, np.ndarray]) -> LayerActivity:
        return LayerActivity(
            name=population.name,
            neurons=population.size,
            neuron_updates=population.size * self._timesteps,
            macs=sum(macs(synapse) for synapse in population.synapses),
            **{quantity: Spread.over(per_sample) for quantity, per_sample in counts.items()},
        )

    def _relay(self, relay: Relay, counts: Mapping[str, np.ndarray]) -> LayerActivity:
        return LayerActivity(
            name=relay.name,
            neurons=relay.size,
            neuron_updates=relay.size * self._timesteps,
            macs=0,
            **{quantity: Spread.over(per_sample) for quantity, per_sample in counts.items()},
        )

    def _routing(self, routed: Mapping[str, dict[str, Term]], priced: Mapping[Sent, np.ndarray]) -> Routing:
        layers, total = {}, {"messages": np.zeros(self._samples, np.int64)}
        for name, terms in routed.items():
            counts = {quantity: self._sum([term], priced) for quantity, term in terms.items()}
            total |= {quantity: total.get(quantity, 0) + count for quantity, count in counts.items()}
            layers[name] = _routed(counts)
        return Routing(layers, _routed(total))


def _routed(counts: Mapping[str, np.ndarray]) -> Routed:
    hops = Spread.over(counts["hops"]) if "hops" in counts else None
    return Routed(Spread.over(counts["messages"]), hops)


class _Ledger:
    """Which events count how often for what: a column of prices per source for each quantity."""

    def __init__(self, graph: Graph, timesteps: int, chains: tuple[Relay, ...]):
        self._graph, self._timesteps, self._chains = graph, timesteps, chains
        self._shapes = {port.name: port.shape for port in graph.inputs}
        self._shapes |= {population.name: population.shape for population in graph.populations}
        self._columns: dict[Sent, list[Tensor]] = defaultdict(list)
        self._sent: dict[str, Sent] = {population.name: (population.name, 0) for population in graph.spiking}
        for relay in chains:
            repeated, withheld = self._sent[relay.source]
            self._sent[relay.name] = (repeated, withheld + min(relay.withheld, timesteps))

    def operations(self) -> dict[str, dict[str, list[Term]]]:
        """By population and relay: the terms that each quantity of `COUNTED` is the sum of."""
        graded = {port.name for port in self._graph.inputs if port.payload_max > BINARY_PAYLOAD}
        terms: dict[str, dict[str, list[Term]]] = {}
        for population in self._graph.populations:
            of = terms[population.name] = {quantity: [] for quantity in COUNTED}
            if not population.is_readout:
                emitted = self._count(self._sent[population.name])
                of["spikes"].append(emitted)
                of["spike_events"].append(emitted)
            for synapse in population.synapses:
                sent = synapse.source, min(synapse.delay, self._timesteps)
                quantity = "graded_synops" if synapse.source in graded else "synops"
                of[quantity].append(self._add(sent, fan_out(synapse)))
        for relay in self._chains:  # a synapse for each spike that reaches it
            arriving, repeated = (self._count(self._sent[name]) for name in (relay.source, relay.name))
            terms[relay.name] = {quantity: [repeated] for quantity in ("spikes", "spike_events")}
            terms[relay.name] |= {"synops": [arriving], "graded_synops": []}
        return terms

    def routing(self, placement: Placement) -> dict[str, dict[str, Term]]:
        """The terms of messages and hops, by spiking population and relay."""
        hops = hops_of_spikes(with_relays(self._graph), placement)
        reach = {placed.name: placed.reach for placed in placement.populations}
        terms = {}
        for name, sent in self._sent.items():
            terms[name] = {"messages": self._add(sent, torch.from_numpy(reach[name]))}
            if hops is not None:
                terms[name]["hops"] = self._add(sent, torch.from_numpy(hops[name]))
        return terms

    def prices(self) -> dict[Sent, Prices]:
        """All columns of each source."""
        return {
            sent: Prices(torch.stack(columns), self._timesteps) for sent, columns in self._columns.items()
        }

    def _add(self, sent: Sent, column: Tensor) -> Term:
        shaped = column.reshape(self._shapes[sent[0]])
        self._columns[sent].append(shaped)
        return sent, len(self._columns[sent]) - 1

    def _count(self, sent: Sent) -> Term:
        """The events themselves."""
        return self._add(sent, torch.ones(self._shapes[sent[0]], dtype=torch.int64))
