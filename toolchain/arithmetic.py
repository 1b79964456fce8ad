"""Whose integers a target computes in: the project's own, which are Loihi 2's, or those that it brings.

A target with an `arithmetic` (`export.target.Arithmetic`) quantises float networks and simulates integer ones
by it; for all others `quantization` and `simulation` do. Float networks always run in `simulation`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from .. import InputError
from ..export.graph import Graph
from ..export.target import Inputs, Progress, Recording, Target, arithmetic_of
from .quantization.decays import Rounding, roundings, with_held_decays
from .quantization.quantize import quantize
from .samples import size, take
from .simulation.checks import as_tensor
from .simulation.readout import Tally, logit_scale
from .simulation.simulator import Activity, Observer, Simulator, record, simulate

SAMPLES_AT_ONCE = 64
"""So many are simulated at once in an arithmetic of a target's own."""


def quantize_for(
    room: Target, graph: Graph, bits: int, calibration: Inputs | None, approximate: bool = False
) -> tuple[Graph, dict[str, dict[str, Any]]]:
    """The integer network for a target, and each population's report by its name.

    Args:
        graph: float; one of integers passes through.
        approximate: round decays that the target doesn't have; otherwise they are refused.

    Raises:
        Refusal: it can't hold on the target.
        InputError: the target rounds no decays, or the samples don't fit.
    """
    arithmetic = arithmetic_of(room)
    if arithmetic is not None:
        if approximate:
            raise InputError(f"{room.name} rounds no decays; leave --approximate out")
        return (graph, {}) if graph.is_integer else arithmetic.quantize(graph, graph.steps, bits, calibration)
    if graph.is_integer:
        return with_held_decays(graph, approximate), {}
    quantized = quantize(graph, room.constraints, graph.steps, bits, calibration, approximate)
    return quantized.graph, {layer.name: layer.summary() for layer in quantized.layers}


def roundings_for(room: Target, graph: Graph) -> tuple[Rounding, ...]:
    """The decays that are rounded on the way to a target."""
    return () if arithmetic_of(room) is not None else roundings(graph)


def record_on(room: Target, graph: Graph, inputs: Inputs, timesteps: int) -> Recording:
    """All that `graph` emits, an integer network in the target's arithmetic.

    Raises:
        InputError, Refusal: the network can't be run, or the inputs don't fit it.
    """
    arithmetic = arithmetic_of(room)
    if arithmetic is None or not graph.is_integer:
        return record(graph, inputs, timesteps)
    started = time.perf_counter()
    recording = arithmetic.record(graph, inputs, timesteps)
    return Recording(recording.spikes, recording.sums, time.perf_counter() - started)


def simulate_on(
    room: Target,
    graph: Graph,
    inputs: Inputs,
    timesteps: int,
    observers: Iterable[Observer] = (),
    progress: Progress | None = None,
) -> np.ndarray:
    """The class of each sample, int64 (N,), an integer network's in the target's arithmetic.

    Args, Raises: as `simulator.simulate`.
    """
    if arithmetic_of(room) is None or not graph.is_integer:
        return simulate(graph, inputs, timesteps, observers, progress=progress)
    predicted, count = [], size(inputs)
    for start in range(0, count, SAMPLES_AT_ONCE):
        part = take(inputs, slice(start, start + SAMPLES_AT_ONCE))
        activity = _activity(graph, record_on(room, graph, part, timesteps), timesteps)
        predicted.append(activity.predictions.numpy())
        if isinstance(part, np.ndarray):
            shown = as_tensor(part)
        else:
            shown = {name: as_tensor(values) for name, values in part.items()}
        for observer in observers:
            observer(shown, activity)
        if progress is not None:
            progress(min(start + SAMPLES_AT_ONCE, count), count)
    if not predicted:
        raise InputError("there are no samples to run")
    return np.concatenate(predicted)


def membrane_on(room: Target, graph: Graph, sample: Inputs, name: str) -> np.ndarray | None:
    """Potentials of a population before each reset, (T, 1, *shape); None where the target's doesn't tell."""
    arithmetic = arithmetic_of(room)
    if arithmetic is None:
        return Simulator(graph, graph.steps).membrane(sample, name).numpy()  # pyright: ignore[reportArgumentType]
    membrane = getattr(arithmetic, "membrane", None)
    return None if membrane is None else membrane(graph, sample, graph.steps, name)


def _activity(graph: Graph, recording: Recording, timesteps: int) -> Activity:
    """A recording (N, T, …) as the simulator gives it, (T, N, …)."""
    spikes, sums = (
        {name: torch.from_numpy(np.ascontiguousarray(values.swapaxes(0, 1))) for name, values in each.items()}
        for each in (recording.spikes, recording.sums)
    )
    tally = Tally(graph)
    for name, window in {**spikes, **sums}.items():
        tally.add(name, window)
    totals = tally.totals(timesteps)
    return Activity(spikes, sums, totals, totals.double() / logit_scale(graph))
