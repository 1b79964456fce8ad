"""What the simulator takes: networks that it can run exactly, and inputs that fit them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ... import InputError
from ...export.bounds import drive, payloads
from ...export.graph import Graph, InputPort, Population
from .fixed_point import INTEGER_MAX

SUM_MAX = 2**31 - 1
"""The largest synaptic sum that an integer network may reach: Lava adds in int32."""


def check_graph(graph: Graph, timesteps: int) -> None:
    """Raise InputError unless `graph` can be run for `timesteps` steps."""
    if timesteps < 1:
        raise InputError(f"the number of time steps is {timesteps}; it must be at least 1")
    if len(graph.inputs) != 1:
        raise InputError(f"the network has {len(graph.inputs)} inputs; the simulator takes networks with one")
    sizes = sorted({readout.size for readout in graph.readouts})
    if len(sizes) > 1:
        raise InputError(
            f"the read-outs have {sizes} outputs; they are added up, so they must be equally many"
        )
    if graph.is_integer:
        for population in graph.populations:
            _check_integers(population, payloads(graph))


def check_readout(graph: Graph) -> None:
    """Raise InputError unless `graph` can predict a class."""
    if not graph.readouts:
        raise InputError(
            "the network has no read-out, so it predicts no class; end it in a layer without neurons"
        )


def _check_integers(population: Population, payload: dict[str, int]) -> None:
    constants = [population.bias, *(synapse.weight for synapse in population.synapses)]
    if population.neuron is not None:
        constants.append(population.neuron.threshold)
    if not all(np.array_equal(array, np.round(array)) for array in constants):
        raise InputError(
            f"{population.name}: an integer network's constants must be whole numbers; quantise it"
        )
    bias = np.abs(population.bias).max()
    if population.neuron is not None and bias > INTEGER_MAX:
        raise InputError(f"{population.name}: a bias is {bias:.0f}; at most {INTEGER_MAX} is simulated")
    reach = max(np.max(magnitudes) for magnitudes in drive(population, payload))
    if reach > SUM_MAX:
        raise InputError(
            f"{population.name}: a synaptic sum can reach {reach:.0f}; at most {SUM_MAX} is simulated"
        )


def as_tensor(samples: np.ndarray | Tensor) -> Tensor:
    """`samples` as a tensor, in a type that torch reckons with.

    Raises:
        InputError: an array of anything but integers.
    """
    if isinstance(samples, Tensor):
        return samples
    if samples.dtype.kind not in "bui":
        raise InputError(f"the inputs are {samples.dtype}; expected integers")
    return torch.tensor(samples if samples.dtype == np.uint8 else samples.astype(np.int64))


def as_frames(inputs: Tensor, port: InputPort, timesteps: int) -> Tensor:
    """`inputs` as (S, B, *shape): S is 1 for (B, *shape), shown at every step, and T for (B, T, *shape).

    Raises:
        InputError: they have another shape, type or range.
    """
    if inputs.is_floating_point() or inputs.is_complex():
        raise InputError(f"the inputs are {inputs.dtype}; expected integers 0 … {port.payload_max}")
    static = inputs.dim() == len(port.shape) + 1
    if tuple(inputs.shape[1:]) != (port.shape if static else (timesteps, *port.shape)):
        raise InputError(
            f"the inputs' shape is {tuple(inputs.shape)}; expected (samples, {_listed(port.shape)}) "
            f"or, as frames, (samples, {_listed((timesteps, *port.shape))})"
        )
    if inputs.numel() > 0:
        low, high = (int(limit) for limit in inputs.aminmax())
        if low < 0 or high > port.payload_max:
            raise InputError(f"the inputs lie in {low} … {high}; expected 0 … {port.payload_max}")
    return inputs.unsqueeze(0) if static else inputs.transpose(0, 1)


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
