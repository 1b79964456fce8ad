"""Runs a lowered network, float or integer: one batch, or all samples in chunks that fit in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ... import InputError
from ...export.bounds import payloads
from ...export.graph import Graph
from ...export.target import Inputs, Progress, Recording
from ..memory import keep_freed_memory
from .checks import Shown, as_frames, as_tensor, by_input, check_graph
from .chunks import CACHE_BYTES, Chunk, bytes_per_sample, plan
from .engines import Engine, choose_engine
from .fixed_point import FRACTION_BITS
from .layers import FixedPointLayer, FloatLayer, Layer, Memory, over_time
from .readout import Tally, logit_scale
from .synapses import FLOAT32_EXACT, Emitted, full_precision

__all__ = [
    "Activity",
    "Observer",
    "Simulator",
    "activities",
    "bytes_per_sample",
    "chunk_for",
    "predictions",
    "record",
    "simulate",
]

CHANNELS_LAST = True
"""Whether maps lie in memory as (H, W, C) on a CPU, which oneDNN convolves without reordering them."""

MEMORY_BUDGET = 256 * 2**20
"""Bytes that the tensors of one chunk may take."""


@dataclass(frozen=True)
class Activity:
    """All that a network did with B samples in T steps.

    Attributes:
        spikes: of every spiking population, uint8 (T, B, *shape).
        sums: of every read-out, (T, B, *shape): sums, bias excluded, or potentials; int64 (potentials in
            their register's lowest bit), or float32 for a float network.
        totals: what the class follows from (see `readout.Tally.totals`), (B, K).
        logits: the same in the float network's unit, float64 (B, K).
    """

    spikes: dict[str, Tensor]
    sums: dict[str, Tensor]
    totals: Tensor
    logits: Tensor

    @property
    def predictions(self) -> Tensor:
        """The class of each sample, int64 (B,); of equal totals the lowest."""
        return self.totals.argmax(dim=1)


Observer = Callable[[Shown, Activity], None]
"""Called with every chunk's inputs, as given, and what they caused, in the order of the samples."""


Sight = Callable[[int, str, Tensor], None]
"""Called with the first step of a window, a population, and what it shows there, (steps, B, *shape)."""


class Simulator:
    """A network compiled to tensors once, then run batch by batch.

    Args:
        graph: float or integer.
        timesteps: T.
        arithmetic: the engine; None chooses the fastest that is exact.
        device: where the tensors live.

    Raises:
        InputError: the network can't be run, or not exactly on the engine asked for.
    """

    def __init__(
        self,
        graph: Graph,
        timesteps: int,
        arithmetic: Engine | None = None,
        device: str | torch.device = "cpu",
    ):
        check_graph(graph, timesteps)
        keep_freed_memory()
        fastest = choose_engine(graph, timesteps)
        self.engine: Engine = arithmetic or fastest
        if self.engine != fastest and (self.engine, fastest) != ("fixed-point", "exact-float32"):
            raise InputError(f"engine {self.engine!r} isn't exact for this network; {fastest!r} is")
        self.graph, self.timesteps, self.device = graph, timesteps, torch.device(device)
        kind = FixedPointLayer if self.engine == "fixed-point" else FloatLayer
        self._channels_last = CHANNELS_LAST and self.device.type == "cpu"
        self._layers: list[Layer] = [
            kind(population, payloads(graph), timesteps, self.device, self._channels_last)
            for population in graph.populations
        ]
        self._spiking = {population.name for population in graph.spiking}
        self._last_use = {s.source: index for index, p in enumerate(graph.populations) for s in p.synapses}
        unfed = [index for index, p in enumerate(graph.populations) if not p.synapses]
        if unfed:  # they take the number of samples from an input
            port = graph.inputs[0].name
            self._last_use[port] = max(self._last_use.get(port, 0), unfed[-1])

    def run(self, inputs: Inputs | Shown, steps: int | None = None, recorded: bool = True) -> Activity:
        """Show a batch: integers (B, *shape) at every step, or frames (B, T, *shape); several inputs by name.

        Args:
            inputs: the samples.
            steps: how many are simulated at once; it changes no result. None: as `chunk_for` says.
            recorded: whether spikes and sums are kept.

        Raises:
            InputError: inputs of another shape, type or range.
        """
        tally, tape = Tally(self.graph), Tape(self.timesteps)

        def see(start: int, name: str, window: Tensor) -> None:
            tally.add(name, window)
            if recorded:
                tape.add(start, name, window.byte() if name in self._spiking else window)

        self._play(inputs, steps, see)
        spikes = {p.name: tape.tracks[p.name] for p in self.graph.spiking if recorded}
        sums = {p.name: tape.tracks[p.name] for p in self.graph.readouts if recorded}
        totals = tally.totals(self.timesteps)
        return Activity(spikes, sums, totals, totals.double() / logit_scale(self.graph))

    def membrane(self, inputs: Inputs | Shown, name: str) -> Tensor:
        """Potentials of population `name` before each reset, in the network's unit, float64 (T, B, *shape).

        Raises:
            InputError: as `run`.
        """
        (layer,) = (layer for layer in self._layers if layer.population.name == name)
        tape = Tape(self.timesteps)
        self._play(inputs, None, lambda *_: None, name, tape)
        return tape.tracks[name].double() * layer.unit

    @torch.no_grad()
    def _play(
        self,
        inputs: Inputs | Shown,
        steps: int | None,
        see: Sight,
        watched: str | None = None,
        tape: Tape | None = None,
    ) -> None:
        """Run all windows of time: `see` what is shown, and write the potentials of `watched` on `tape`."""
        frames = self._frames(inputs)
        if steps is None:
            batch = max(1, next(iter(frames.values())).shape[1])
            steps = chunk_for(self.graph, self.timesteps, False, self.device, batch).steps
        memories = [Memory() for _ in self._layers]
        still = {name: self._numbers(name, shown) for name, shown in frames.items() if len(shown) == 1}
        with full_precision():
            for start in range(0, self.timesteps, steps):
                stop = min(start + steps, self.timesteps)
                emitted = {
                    name: still[name] if name in still else self._numbers(name, shown[start:stop])
                    for name, shown in frames.items()
                }
                for index, (layer, memory) in enumerate(zip(self._layers, memories, strict=True)):
                    name = layer.population.name
                    shown, potentials = self._step(layer, emitted, memory, stop - start, name == watched)
                    see(start, name, shown)
                    if name == watched and tape is not None and potentials is not None:
                        tape.add(start, name, potentials)
                    emitted[name] = shown
                    for source in [s for s in emitted if self._last_use.get(s, -1) <= index]:
                        del emitted[source]

    def _step(
        self, layer: Layer, emitted: Emitted, memory: Memory, steps: int, watched: bool
    ) -> tuple[Tensor, Tensor | None]:
        """What a population shows in a window, (steps, B, *shape), and its potentials if they are wanted."""
        population = layer.population
        if population.neuron is None:
            sums = layer.received(emitted, memory, steps)
            return over_time(sums.to(torch.int64) if self.graph.is_integer else sums, steps), None
        spikes, potentials = layer.advance(emitted, memory, steps, watched or layer.is_readout)
        if spikes is not None:
            return spikes, potentials
        assert potentials is not None
        if not self.graph.is_integer:
            return potentials, potentials
        return (potentials.double() * (layer.unit * 2**FRACTION_BITS)).to(torch.int64), potentials

    def _frames(self, inputs: Inputs | Shown) -> Emitted:
        ports = {port.name: port for port in self.graph.inputs}
        return {
            name: as_frames(as_tensor(shown), ports[name], self.timesteps)
            for name, shown in by_input(inputs, self.graph).items()
        }

    def _numbers(self, name: str, frames: Tensor) -> Tensor:
        """The frames (S, B, *shape) of an input as what convolutions read."""
        (port,) = (port for port in self.graph.inputs if port.name == name)
        dtype = torch.float32 if port.payload_max < FLOAT32_EXACT else torch.float64
        maps = self._channels_last and len(port.shape) == 3
        numbers = torch.empty(
            (frames.shape[0] * frames.shape[1], *port.shape),
            dtype=dtype,
            device=self.device,
            memory_format=torch.channels_last if maps else torch.contiguous_format,
        )
        return numbers.unflatten(0, frames.shape[:2]).copy_(frames)


class Tape:
    """What is seen in each window, put together over all steps."""

    def __init__(self, timesteps: int):
        self._timesteps = timesteps
        self.tracks: dict[str, Tensor] = {}

    def add(self, start: int, name: str, window: Tensor) -> None:
        """Put a window (steps, B, …) where it belongs in (T, B, …)."""
        if len(window) == self._timesteps:
            self.tracks[name] = window
            return
        if name not in self.tracks:
            self.tracks[name] = window.new_empty((self._timesteps, *window.shape[1:]))
        self.tracks[name][start : start + len(window)] = window


def simulate(
    graph: Graph,
    inputs: Inputs | Shown,
    timesteps: int,
    observers: Iterable[Observer] = (),
    batch_size: int | None = None,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Run `graph` on all samples, show every chunk's activity to the observers, and return the predictions.

    Args:
        inputs: integers, (N, *shape) shown at every step, or frames (N, T, *shape); of several inputs by
            name.
        batch_size: samples per chunk; None keeps to MEMORY_BUDGET. It changes no result.
        progress: called with (samples done, N) after every chunk.

    Returns:
        The class of each sample, int64 (N,); of equal totals the lowest.

    Raises:
        InputError: there are no samples or they don't fit, or the network can't be run.
    """
    observers = tuple(observers)
    predicted = []
    for chunk, activity in _chunks(graph, inputs, timesteps, batch_size, progress, device, bool(observers)):
        predicted.append(activity.predictions.cpu().numpy())
        for observer in observers:
            observer(chunk, activity)
    return np.concatenate(predicted)


def record(graph: Graph, inputs: Inputs | Shown, timesteps: int) -> Recording:
    """Every spike of every population, and what every read-out shows at every step, for all samples at once.

    Returns:
        spikes uint8 (N, T, *shape); sums (N, T, *shape), int64, or float32 for a float network.

    Raises:
        InputError: as `simulate`.
    """
    started = time.perf_counter()
    chunks = [activity for _, activity in activities(graph, inputs, timesteps)]
    return Recording(
        {p.name: _by_sample([chunk.spikes[p.name] for chunk in chunks]) for p in graph.spiking},
        {p.name: _by_sample([chunk.sums[p.name] for chunk in chunks]) for p in graph.readouts},
        time.perf_counter() - started,
    )


def _by_sample(chunks: list[Tensor]) -> np.ndarray:
    """Chunks (T, B, …) as one array (N, T, …)."""
    return np.concatenate([chunk.transpose(0, 1).cpu().numpy() for chunk in chunks])


def predictions(graph: Graph, recording: Recording) -> np.ndarray:
    """The class of each recorded sample, int64 (N,); of equal totals the lowest.

    Raises:
        InputError: the network has no outputs.
    """
    tally = Tally(graph)
    for name, by_sample in {**recording.spikes, **recording.sums}.items():
        tally.add(name, torch.as_tensor(by_sample).transpose(0, 1))
    timesteps = next(iter({**recording.spikes, **recording.sums}.values())).shape[1]
    return tally.totals(timesteps).argmax(dim=1).numpy()


def activities(
    graph: Graph,
    inputs: Inputs | Shown,
    timesteps: int,
    batch_size: int | None = None,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[tuple[Shown, Activity]]:
    """Each chunk of samples with all that it caused. Arguments and errors as `simulate`."""
    return _chunks(graph, inputs, timesteps, batch_size, progress, device, recorded=True)


def chunk_for(
    graph: Graph,
    timesteps: int,
    recorded: bool = False,
    device: str | torch.device = "cpu",
    samples: int | None = None,
) -> Chunk:
    """How many samples, unless that is said, and steps are simulated at once; arguments as `chunks.plan`."""
    on_cpu = torch.device(device).type == "cpu"
    working = min(MEMORY_BUDGET, CACHE_BYTES) if on_cpu else MEMORY_BUDGET
    return plan(graph, timesteps, recorded, MEMORY_BUDGET, working, samples, unfolds=not on_cpu)


def _chunks(
    graph: Graph,
    inputs: Inputs | Shown,
    timesteps: int,
    batch_size: int | None,
    progress: Progress | None,
    device: str | torch.device,
    recorded: bool,
) -> Iterator[tuple[Shown, Activity]]:
    simulator = Simulator(graph, timesteps, device=device)
    samples = by_input(inputs, graph)
    count = len(next(iter(samples.values())))
    if count == 0:
        raise InputError("there are no samples to run")
    chunk = chunk_for(graph, timesteps, recorded, simulator.device, batch_size)
    for start in range(0, count, chunk.samples):
        stop = min(start + chunk.samples, count)
        shown = {name: as_tensor(each[start:stop]) for name, each in samples.items()}
        activity = simulator.run(shown, chunk.steps, recorded)
        yield shown if isinstance(inputs, Mapping) else next(iter(shown.values())), activity
        if progress is not None:
            progress(stop, count)
