"""What the simulator takes: networks that it can run exactly, and inputs that fit them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import InputError, Refusal
from ...export.bounds import drive, payloads
from ...export.graph import Graph, InputPort, Population
from ...export.target import peculiarity_problems
from .fixed_point import INTEGER_MAX

SUM_MAX = 2**31 - 1
"""The largest synaptic sum that an integer network may reach: Lava adds in int32."""

Shown = Tensor | Mapping[str, Tensor]
"""Samples as `target.Inputs`, in tensors: of the one input, or by the inputs' names."""

BYTE_MAX = 255


def check_graph(graph: Graph, timesteps: int) -> None:
    """Raise InputError unless `graph` can be run for `timesteps` steps, Refusal if its integers are another
    chip's."""
    if timesteps < 1:
        raise InputError(f"the number of time steps is {timesteps}; it must be at least 1")
    if not graph.inputs or not graph.populations:
        found = f"{len(graph.inputs)} inputs and {len(graph.populations)} populations"
        raise InputError(f"the network has {found}; it takes at least one of each")
    if graph.is_integer:
        if found := peculiarity_problems(graph):
            raise Refusal(f"the simulator's integers are of another neuron: {'; '.join(map(str, found))}")
        for population in graph.populations:
            _check_integers(population, payloads(graph))


def _check_integers(population: Population, payload: dict[str, int]) -> None:
    constants = [population.bias, *(synapse.weight for synapse in population.synapses)]
    if population.neuron is not None:
        threshold = population.neuron.threshold
        constants.append(threshold[~np.isposinf(threshold)])
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


def by_input(inputs: Any, graph: Graph) -> dict[str, Any]:
    """The samples of every input by its name, from `target.Inputs` or `Shown`.

    Raises:
        InputError: an input has none, there are some for nobody, or not equally many for all.
    """
    names = [port.name for port in graph.inputs]
    if not isinstance(inputs, Mapping):
        if len(names) != 1:
            raise InputError(
                f"the network has the inputs {', '.join(names)}; give samples for each by its name"
            )
        return {names[0]: inputs}
    if set(inputs) != set(names):
        given = ", ".join(map(str, inputs)) or "none"
        raise InputError(f"there are samples for {given}; the network's inputs are {', '.join(names)}")
    counts = {name: len(inputs[name]) for name in names}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} for {name}" for name, count in counts.items())
        raise InputError(f"the inputs have different numbers of samples ({found}); give equally many")
    return {name: inputs[name] for name in names}


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

    Where the port's shape is (C, 1, L), its samples may leave the 1 out.

    Raises:
        InputError: they have another shape, type or range.
    """
    if inputs.is_floating_point() or inputs.is_complex():
        raise InputError(f"the inputs are {inputs.dtype}; expected integers 0 … {port.payload_max}")
    shape = port.shape
    signal = (shape[0], shape[2]) if len(shape) == 3 and shape[1] == 1 else shape
    given = tuple(inputs.shape[1:])
    static = given in (shape, signal)
    if not static and given not in ((timesteps, *shape), (timesteps, *signal)):
        raise InputError(
            f"the inputs' shape is {tuple(inputs.shape)}; expected (samples, {_listed(shape)}) "
            f"or, as frames, (samples, {_listed((timesteps, *shape))})"
        )
    if inputs.numel() > 0 and not (inputs.dtype == torch.uint8 and port.payload_max >= BYTE_MAX):
        low, high = (int(limit) for limit in inputs.aminmax())
        if low < 0 or high > port.payload_max:
            raise InputError(f"the inputs lie in {low} … {high}; expected 0 … {port.payload_max}")
    frames = inputs.unsqueeze(0) if static else inputs.transpose(0, 1)
    return frames.reshape(*frames.shape[:2], *shape)


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
