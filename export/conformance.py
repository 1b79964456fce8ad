"""Running a NIR graph in simulators that others wrote, and comparing every spike with one's own.

norse, snnTorch and SpikingJelly read the encoding of `nir.py` and must emit the same spikes. They compute here
in float64, as far as they let: their float32 would round the weights of a uniform view past the gap that
`nir.uniform_view` leaves. (norse keeps weights and thresholds in float32 whatever one asks for.)
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn

from .. import InputError, Refusal
from .graph import Graph
from .metadata import DT
from .nir import to_nir, uniform_view
from .shapes import NEURONS

ROUNDING = 1e-5
"""How near a membrane must be to its threshold, as a part of it, for float32 to decide between spike and none."""


@dataclass(frozen=True)
class Simulator:
    """How one simulator is used.

    Attributes:
        module: where its reader of NIR lives.
        read: makes a torch module of a NIR graph, given that module; called with (input, state) for one step,
            it returns (output, state).
        nodes: the node types that it reads rightly, besides Input and Output.
        batched: whether a step takes many samples.
        per_neuron_threshold: whether the thresholds of a population may differ.
    """

    module: str
    read: Callable[[Any, nir.NIRGraph], nn.Module]
    nodes: tuple[type[nir.NIRNode], ...]
    batched: bool
    per_neuron_threshold: bool


MAPS = (nir.Affine, nir.Conv2d, nir.Flatten)
SIMULATORS = {
    "norse": Simulator(
        "norse.torch", lambda norse, graph: norse.from_nir(graph, dt=DT), (*MAPS, nir.LIF), False, True
    ),
    "snntorch": Simulator(
        "snntorch.import_nir", lambda snn, graph: snn.import_from_nir(graph), (*MAPS, nir.LIF), False, False
    ),
    "spikingjelly": Simulator(
        "spikingjelly.activation_based.nir_exchange",
        lambda jelly, graph: jelly.import_from_nir(graph, dt=DT, dtype=torch.float64),
        (*MAPS, nir.LIF, nir.IF),
        True,
        False,
    ),
}


@dataclass(frozen=True)
class SimulatorRun:
    """What a simulator emitted.

    Attributes:
        spikes: for every neuron node, uint8 (N, T, *shape).
        output: what reached the graph's Output, float64 (N, T, *shape); a read-out's bias is in it.
    """

    spikes: dict[str, np.ndarray]
    output: np.ndarray


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


def run_in_simulator(name: str, graph: nir.NIRGraph, inputs: np.ndarray, timesteps: int) -> SimulatorRun:
    """Show each sample of `inputs` (N, *shape) to the simulator called `name` for `timesteps` steps.

    Raises:
        InputError: there is no such simulator, or it isn't installed.
        Refusal: it doesn't read this graph, or not rightly.
    """
    simulator = _simulator(name)
    _check_readable(name, simulator, graph)
    neurons = [node for node in graph.nodes if isinstance(graph.nodes[node], NEURONS)]
    with _in_double_precision():
        model, spikes = _load(name, simulator, graph, neurons)
        batches = [inputs] if simulator.batched else inputs
        outputs = [_present(model, torch.as_tensor(batch, dtype=torch.float64), timesteps) for batch in batches]
    runs = [np.stack(outputs) if not simulator.batched else outputs[0].swapaxes(0, 1)]
    return SimulatorRun({}, runs[0])
