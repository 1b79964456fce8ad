"""How a mapped network hangs together: the description that the exported script builds SANA-FE's objects of.

A group is a population, a relay or a bit of an input, its neurons each on a core; a path joins two groups.
The numbers are plain integer arrays, the structure is JSON. Populations take the cores that
`export.placement` gives them, from the first on, which are those that our energy is counted for; inputs take
the last ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Graph, Population
from ..placement import Placement
from .limits import CORES, INPUTS_PER_CORE
from .mapping import Wait, input_groups, unrolled

NEVER = 2**30
"""Stands for an infinite threshold: no potential reaches it."""

Fields = dict[str, Any]
Arrays = dict[str, np.ndarray]


def wire(graph: Graph, mapped: Graph, placement: Placement) -> tuple[list[Fields], list[Fields], Arrays]:
    """Groups, paths and the arrays that they name.

    Args:
        graph: the integer network.
        mapped: `mapping.executed` of it.
        placement: of `mapped`.
    """
    arrays: Arrays = {}
    groups, name_of = _inputs(graph, mapped, arrays)
    own, planes = {p.name for p in graph.populations}, {port.name for port in mapped.inputs}
    core_of = {placed.name: placed.core_of_neurons() for placed in placement.populations}
    for population in mapped.populations:
        name = f"group{len(groups):04d}"
        name_of[population.name, 0] = name
        arrays[f"{name}/core"] = core_of[population.name].astype(np.int32)
        groups.append(_group(population, name, population.name not in own, arrays))
    paths: list[Fields] = []
    for population, synapse in mapped.paths():
        wait = population.depth - 1 if synapse.source in planes else 0
        name = f"path{len(paths):04d}"
        for part, values in zip(("source", "target", "weight"), unrolled(synapse), strict=True):
            arrays[f"{name}/{part}"] = values
        ends = {"source": name_of[synapse.source, wait], "target": name_of[population.name, 0]}
        paths.append({"array": name, **ends})
    return groups, paths, arrays


def _inputs(graph: Graph, mapped: Graph, arrays: Arrays) -> tuple[list[Fields], dict[Wait, str]]:
    """The groups of the inputs, on the last cores, and their names."""
    shapes = {port.name: port.shape for port in mapped.inputs}
    groups: list[Fields] = []
    name_of: dict[Wait, str] = {}
    first = 0
    for (plane, wait), (port, bit) in input_groups(graph, mapped).items():
        name = name_of[plane, wait] = f"group{len(groups):04d}"
        numbers = first + np.arange(int(np.prod(shapes[plane])))
        first += len(numbers)
        arrays[f"{name}/core"] = (CORES - 1 - numbers // INPUTS_PER_CORE).astype(np.int32)
        arrays[f"{name}/unit"] = (numbers % INPUTS_PER_CORE).astype(np.int32)
        groups.append(
            {
                "name": name,
                "emits": "input",
                "input": port,
                "bit": bit,
                "wait": wait,
                "depth": 0,
                "relay": False,
                "core": f"{name}/core",
                "unit": f"{name}/unit",
            }
        )
    return groups, name_of


def _group(population: Population, name: str, relay: bool, arrays: Arrays) -> Fields:
    """What a population emits, and its neurons' constants."""
    neuron = population.neuron
    fields: Fields = {
        "name": name,
        "population": population.name,
        "relay": relay,
        "shape": list(population.shape),
        "depth": population.depth,
        "kind": population.synapses[0].kind if population.synapses else "dense",
        "core": f"{name}/core",
        "decay": 0.0 if neuron is None else neuron.decay,
        "current_decay": 0.0 if neuron is None else neuron.current_decay,
    }
    if neuron is None:
        return fields | {"emits": "sums"}
    if population.bias.any():
        fields["bias"] = f"{name}/bias"
        arrays[fields["bias"]] = _whole(population.bias, population)
    if not neuron.spikes:
        return fields | {"emits": "potentials"}
    fields["threshold"] = f"{name}/threshold"
    reached = np.where(np.isposinf(neuron.threshold), NEVER, neuron.threshold)
    arrays[fields["threshold"]] = _whole(reached, population)
    return fields | {"emits": "spikes"}


def _whole(values: np.ndarray, population: Population) -> np.ndarray:
    return np.broadcast_to(values, population.shape).astype(np.int32).reshape(-1)
