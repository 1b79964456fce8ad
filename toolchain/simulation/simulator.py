"""Runs a lowered network, float or integer: one batch, or all samples in chunks that fit in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ... import InputError
from ...export.bounds import fan_in, payloads
from ...export.graph import Graph, Population, Synapse
from ...export.target import Progress, Recording
from .checks import as_frames, as_tensor, check_graph, check_readout
from .engines import Engine, choose_engine
from .layers import FixedPointLayer, FloatLayer, over_time
from .synapses import Emitted, full_precision

MEMORY_BUDGET = 256 * 2**20
"""Bytes that the tensors of one chunk may take."""
SUM_BYTES = 8
"""The widest number that synaptic sums are made of."""
STATE_BYTES = 24
"""Per neuron and step, while a population is simulated: sums, potentials and spikes in the making."""


@dataclass(frozen=True)
class Activity:
    """All that a network did with B samples in T steps.

    Attributes:
        spikes: of every spiking population, uint8 (T, B, *shape).
        sums: of every read-out, bias excluded, (T, B, *shape); int64, or float32 for a float network.
        totals: Σ_t sums + T·bias, added up over the read-outs, (B, K), dtype as `sums`.
        logits: totals / readout_scale, float64 (B, K).
    """

    spikes: dict[str, Tensor]
    sums: dict[str, Tensor]
    totals: Tensor
    logits: Tensor

    @property
    def predictions(self) -> Tensor:
        """The class of each sample, int64 (B,); of equal totals the lowest."""
        return self.totals.argmax(dim=1)


Observer = Callable[[Tensor, Activity], None]
"""Called with every chunk's inputs, as given, and what they caused, in the order of the samples."""


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
        fastest = choose_engine(graph, timesteps)
        self.engine: Engine = arithmetic or fastest
        if self.engine != fastest and (self.engine, fastest) != ("fixed-point", "exact-float32"):
            raise InputError(f"engine {self.engine!r} isn't exact for this network; {fastest!r} is")
        self.graph, self.timesteps, self.device = graph, timesteps, torch.device(device)
        layer = FixedPointLayer if self.engine == "fixed-point" else FloatLayer
        self._layers = [layer(p, payloads(graph), timesteps, self.device) for p in graph.populations]

    def run(self, inputs: Tensor) -> Activity:
        """Show a batch: integers (B, *shape) at every step, or frames (B, T, *shape).

        Raises:
            InputError: inputs of another shape, type or range.
        """
        emitted, spikes, sums = self._shown(inputs), {}, {}
        with torch.no_grad(), full_precision():
            for layer in self._layers:
                name = layer.population.name
                if layer.population.neuron is None:
                    sums[name] = self._readout(layer.sums(emitted))
                else:
                    emitted[name] = spikes[name] = layer.fire(emitted)[0]
            totals = total_readout(self.graph, sums) if sums else torch.zeros(len(inputs), 0)
        return Activity(spikes, sums, totals, totals.double() / self.graph.readout_scale)

    def membrane(self, inputs: Tensor, name: str) -> Tensor:
        """Potentials of population `name` before each reset, in the network's unit, float64 (T, B, *shape).

        Raises:
            InputError: as `run`.
        """
        emitted = self._shown(inputs) | self.run(inputs).spikes
        (layer,) = (layer for layer in self._layers if layer.population.name == name)
        with torch.no_grad(), full_precision():
            _, membrane = layer.fire(emitted)
        return membrane.double() * layer.unit

    def _shown(self, inputs: Tensor) -> Emitted:
        port = self.graph.inputs[0]
        return {port.name: as_frames(inputs, port, self.timesteps).to(self.device)}

    def _readout(self, sums: Tensor) -> Tensor:
        return over_time(sums.to(torch.int64) if self.graph.is_integer else sums, self.timesteps)


def total_readout(graph: Graph, sums: dict[str, Tensor]) -> Tensor:
    """Σ_t sums + T·bias, added up over the read-outs, (B, K), for their `sums` (T, B, *shape)."""
    biases = {p.name: torch.tensor(p.bias).to(sums[p.name]) for p in graph.readouts}
    totals = [(sums[name].sum(dim=0) + len(sums[name]) * bias).flatten(1) for name, bias in biases.items()]
    return torch.stack(totals).sum(dim=0)


def simulate(
    graph: Graph,
    inputs: np.ndarray | Tensor,
    timesteps: int,
    observers: Iterable[Observer] = (),
    batch_size: int | None = None,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Run `graph` on all samples, show every chunk's activity to the observers, and return the predictions.

    Args:
        inputs: integers, (N, *shape) shown at every step, or frames (N, T, *shape).
        batch_size: samples per chunk; None keeps to MEMORY_BUDGET. It changes no result.
        progress: called with (samples done, N) after every chunk.

    Returns:
        The class of each sample, int64 (N,); of equal totals the lowest.

    Raises:
        InputError: there are no samples or they don't fit, the network can't be run or has no read-out.
    """
    check_readout(graph)
    predicted = []
    for chunk, activity in activities(graph, inputs, timesteps, batch_size, progress, device):
        predicted.append(activity.predictions.cpu().numpy())
        for observer in observers:
            observer(chunk, activity)
    return np.concatenate(predicted)


def record(graph: Graph, inputs: np.ndarray | Tensor, timesteps: int) -> Recording:
    """Every spike of every population and every step's sum of every read-out, for all samples at once.

    Returns:
        spikes uint8 (N, T, *shape); sums (N, T, K), int64, or float32 for a float network.

    Raises:
        InputError: as `simulate`, but the network needs no read-out.
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
        InputError: the network has no read-out.
    """
    check_readout(graph)
    sums = {name: torch.as_tensor(by_sample).transpose(0, 1) for name, by_sample in recording.sums.items()}
    return total_readout(graph, sums).argmax(dim=1).numpy()


def activities(
    graph: Graph,
    inputs: np.ndarray | Tensor,
    timesteps: int,
    batch_size: int | None = None,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[tuple[Tensor, Activity]]:
    """Each chunk of samples with its activity. Arguments and errors as `simulate`."""
    simulator = Simulator(graph, timesteps, device=device)
    if len(inputs) == 0:
        raise InputError("there are no samples to run")
    size = batch_size or max(1, MEMORY_BUDGET // bytes_per_sample(graph, timesteps))
    for start in range(0, len(inputs), size):
        chunk = as_tensor(inputs[start : start + size])
        yield chunk, simulator.run(chunk)
        if progress is not None:
            progress(start + len(chunk), len(inputs))


def bytes_per_sample(graph: Graph, timesteps: int) -> int:
    """About what T steps of one sample take: all spikes, and the work on the most costly population."""
    spikes = sum(population.size for population in graph.populations)
    return timesteps * (spikes + max(_working_bytes(population) for population in graph.populations))


def _working_bytes(population: Population) -> int:
    """Bytes per step while `population` is simulated."""
    return STATE_BYTES * population.size + SUM_BYTES * max(_numbers_read(s) for s in population.synapses)


def _numbers_read(synapse: Synapse) -> int:
    """Per step: the source, and the patches that a convolution may unfold it into."""
    source = int(np.prod(synapse.source_shape))
    if synapse.kind != "conv":
        return source
    return source + fan_in(synapse) * synapse.groups * int(np.prod(synapse.shape[1:]))
