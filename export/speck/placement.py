"""Where each layer lies and what it takes of its core, as `export.placement.Placement.summary` says it."""

from __future__ import annotations

import math
from typing import Any

from ...hardware_profiles import load_profile
from ..core_load import SynapseMemory, path_load
from ..graph import Graph
from .chip import CORES, MEMORIES, Layer
from .limits import assignment, layers

PROFILE = "speck"


def placement(graph: Graph) -> dict[str, Any]:
    """For JSON: cores in use, utilisation of each memory, and a core map with an entry per layer.

    A layer that no core holds isn't in it. `first_core` is the core's number on the chip.
    """
    core_of = assignment(graph).core
    placed = [layer for layer in layers(graph) if layer.name in core_of]
    entries = [_entry(graph, layer, core_of[layer.name]) for layer in placed]
    shares = {
        memory: [entry["utilisation"][memory]["max"] for entry in entries] or [0.0] for memory in MEMORIES
    }
    return {
        "cores": len(entries),
        "chips": 1,
        "cores_per_chip": len(CORES),
        "utilisation": {
            memory: {"max": max(values), "mean": sum(values) / len(values)}
            for memory, values in shares.items()
        },
        "core_map": entries,
    }


def _entry(graph: Graph, layer: Layer, number: int) -> dict[str, Any]:
    limits = load_profile(PROFILE).limits
    assert limits is not None, "the schema asks a chip for these"
    synapse, core = graph[layer.name].synapses[0], CORES[number]
    share = {memory: getattr(layer.needs, memory) / getattr(core, memory) for memory in MEMORIES}
    return {
        "name": layer.name,
        "relay": False,
        "shape": list(layer.shape),
        "split": [1, 1, 1],
        "first_core": number,
        "cores": 1,
        "first_chip": 0,
        "neurons": math.prod(layer.shape),
        "synapses": path_load(synapse, SynapseMemory(limits, graph.weight_bits or 8), False).synapses,
        "words": {memory: getattr(layer.needs, memory) for memory in MEMORIES},
        "capacity": {memory: getattr(core, memory) for memory in MEMORIES},
        "utilisation": {memory: {"max": used, "mean": used} for memory, used in share.items()},
    }
