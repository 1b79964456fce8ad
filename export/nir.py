"""NIR as snnkd writes it: the lowered graph in an encoding that every simulator reads alike.

NIR's leaky integrate-and-fire neuron is τ·dv/dt = (v_leak − v) + r·I. The neuron of `graph.Neuron`,
v ← a·v + x with the threshold θ, is written with

    dt = 1e-4,   τ = dt/(1 − a),   r = 1,   v_leak = v_reset = 0,   v_threshold = (1 − a)·θ

so that one Euler step of dt computes it with its state scaled by 1 − a. Without leak (a = 1) it is NIR's
IF with r = 1/dt. A current with memory, u ← b·u + x, makes it a CubaLIF with

    τ_syn = dt/(1 − b),   w_in = 1/(1 − b),   τ_mem = dt/(1 − a),   r = 1/(1 − a),   v_threshold = θ

which is what snnTorch and SpikingJelly insist on; where the input decays with the current, w_in is b/(1 − b).
A neuron that never spikes is an LI, I or CubaLI with that
r, so that its potential is v. A bias stands in the first map that can hold it; behind a current's memory, or
where no map can, it is v_leak.

Some readers test v > v_threshold, others v ≥ v_threshold: an integer threshold k is written as k + 2^−T,
which no membrane on the grid of T halvings can hit, so that both mean v > k. A chip's register ends that grid
at 2^−6, so beyond T = 7, and for other decays, it is k + 2^−7; there the chip truncates what readers of NIR
keep, and their spikes may differ.

NIR has no reset by subtraction. Such a neuron is written as the one that resets to zero, its threshold as it
is, since it fires there; only the notes say what it does, and a reader who doesn't know them is wrong.

All else that snnkd notes (`metadata.py`) only sharpens what the numbers already say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import nir
import numpy as np

from .. import InputError, Refusal
from .files import atomic_path
from .graph import Graph, Neuron, Population, Synapse, compact
from .integers import FRACTION_BITS, weight_exponent
from .metadata import DT, Header, note
from .nir_file import read_nir as read_nir


def write_nir(path: Path, graph: nir.NIRGraph) -> None:
    """Write `graph` to `path`, atomically; the same graph gives the same bytes.

    Raises:
        InputError: the file can't be written.
    """
    with atomic_path(Path(path)) as temporary:
        nir.write(temporary, graph)


def to_nir(graph: Graph) -> nir.NIRGraph:
    """`graph` in NIR, the inverse of `lowering.lower`: float64 numbers, neurons named as their populations.

    Raises:
        InputError: an integer network doesn't say its timesteps, which its thresholds depend on.
        Refusal: NIR can't say it: a bias without weights to go with, or a dense path into a map.
    """
    if graph.is_integer and graph.timesteps is None:
        raise InputError("an integer network's thresholds depend on its timesteps, and it names none")
    drawing = _Drawing(graph)
    for population in graph.populations:
        drawing.population(population)
    resets = {population.neuron.reset for population in graph.spiking if population.neuron}
    header = Header(
        timesteps=graph.timesteps,
        bits=graph.weight_bits,
        readout_scale=graph.readout_scale,
        reset="subtract" if "subtract" in resets else "zero",
    )
    return nir.NIRGraph(drawing.nodes, drawing.edges, metadata=header.as_metadata())


def margin(graph: Graph) -> float:
    """How far above its integer an integer network's threshold is written: half a step of the membrane."""
    if not graph.is_integer or not graph.timesteps:
        return 0.0
    halving = all(population.neuron.halves for population in graph.spiking if population.neuron)
    return 2.0 ** -min(graph.timesteps if halving else 1 + FRACTION_BITS, 1 + FRACTION_BITS)


def raised(neuron: Neuron, above: float) -> Neuron:
    """`neuron` with its threshold so much higher, unless it fires at the threshold itself."""
    if neuron.reset == "subtract":
        return neuron
    return replace(neuron, threshold=neuron.threshold + above)


class _Drawing:
    """Nodes and edges of the NIR graph under construction."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.taken = {port.name for port in graph.inputs} | {p.name for p in graph.populations}
        for port in graph.inputs:
            self.nodes[port.name] = nir.Input(
                {"input": np.array(port.shape)}, metadata=note(input=port.payload_max)
            )

    def population(self, population: Population) -> None:
        """Add neurons, or a read-out, and the paths that lead there."""
        if population.neuron is None:
            self.readout(population)
            return
        ends: list[str] = []
        for synapse, steps in self.paths(population):
            if is_bare(synapse) and (synapse.delay or synapse.source not in ends):
                steps.pop()
            ends.append(self.follow(synapse.source, steps, population.name))
        neuron = raised(population.neuron, margin(self.graph))
        leaked = population.bias if _is_leaked(population) else 0.0
        self.node(population.name, neuron_node(neuron, population.shape, leaked), ends)
        if all(synapse.source != population.name for _, synapse in self.graph.paths()):
            self.node(
                self.free_name("output"),
                nir.Output({"output": np.array(population.shape)}),
                [population.name],
            )

    def readout(self, population: Population) -> None:
        """Add a read-out: its name is that of its only map, or of the Output that sums several."""
        paths = self.paths(population)
        output = nir.Output({"output": np.array(population.shape)})
        if len(paths) == 1:
            (synapse, steps), name = paths[0], population.name
            before = self.follow(synapse.source, steps[:-1], name)
            self.node(name, steps[-1], [before])
            self.node(self.free_name("output"), output, [name])
        else:
            ends = [self.follow(synapse.source, steps, population.name) for synapse, steps in paths]
            self.node(population.name, output, ends)

    def paths(self, population: Population) -> list[tuple[Synapse, list[nir.NIRNode]]]:
        """Each synapse into `population` with its nodes, the bias in the first that can hold it."""
        bias = np.zeros(population.shape[0]) if _is_leaked(population) else _bias_per_channel(population)
        paths = []
        for synapse in population.synapses:
            paths.append((synapse, _path_nodes(synapse, bias, self.graph.weight_bits)))
            if synapse.kind != "identity":
                bias = np.zeros_like(bias)
        if np.any(bias):
            raise Refusal(
                f"{population.name}: has a bias and only identity synapses; NIR can't say where it comes in"
            )
        return paths

    def follow(self, source: str, steps: list[nir.NIRNode], purpose: str) -> str:
        """Add `steps` one behind the other after `source`; the name of the last."""
        for step in steps:
            name = self.free_name(f"{purpose}_{type(step).__name__.lower()}")
            self.node(name, step, [source])
            source = name
        return source

    def node(self, name: str, node: nir.NIRNode, sources: list[str]) -> None:
        """Add a node and the edges into it."""
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]

    def free_name(self, wanted: str) -> str:
        """`wanted`, or with the first number that makes it a new name."""
        names = chain([wanted], (f"{wanted}_{number}" for number in count(2)))
        name = next(name for name in names if name not in self.taken)
        self.taken.add(name)
        return name


def is_bare(synapse: Synapse) -> bool:
    """Whether an edge alone says what the synapse does."""
    return synapse.kind == "identity" and bool(np.all(synapse.weight == 1))


def _is_leaked(population: Population) -> bool:
    """Whether a population's bias is its v_leak: no map before it can hold what is added to v."""
    neuron = population.neuron
    if neuron is None or neuron.decay == 1 or not np.any(population.bias):
        return False
    held = compact(population.bias, population.shape).size == population.shape[0]
    weighted = any(synapse.kind != "identity" for synapse in population.synapses)
    return neuron.current_decay > 0 or not weighted or not held


def _bias_per_channel(population: Population) -> np.ndarray:
    bias = compact(population.bias, population.shape)
    if bias.size != population.shape[0]:
        raise Refusal(
            f"{population.name}: its bias differs over a map; NIR's convolution has one per channel"
        )
    return bias.reshape(-1)


def _path_nodes(synapse: Synapse, bias: np.ndarray, bits: int | None) -> list[nir.NIRNode]:
    """The NIR nodes of one synapse path from its source on."""
    nodes: list[nir.NIRNode] = []
    if synapse.delay:
        nodes.append(nir.Delay(np.full(synapse.source_shape, synapse.delay * DT)))
    if synapse.kind == "dense" and len(synapse.source_shape) > 1:
        nodes.append(nir.Flatten({"input": np.array(synapse.source_shape)}, 0, -1))
    metadata = {} if bits is None else note(weight_exp=weight_exponent(synapse.weight, bits))
    nodes.append(_MAPS[synapse.kind](synapse, bias, metadata))
    return nodes


def _conv(synapse: Synapse, bias: np.ndarray, metadata: dict[str, Any]) -> nir.Conv2d:
    node = nir.Conv2d(
        input_shape=(synapse.source_shape[1], synapse.source_shape[2]),
        weight=synapse.weight,
        stride=synapse.stride,
        padding=synapse.padding,
        dilation=synapse.dilation,
        groups=synapse.groups,
        bias=bias,
        metadata=metadata,
    )
    # What nir works out itself is wrong for grouped convolutions and for kernels that aren't square.
    node.input_type = {"input": np.array(synapse.source_shape)}
    node.output_type = {"output": np.array(synapse.shape)}
    return node


def _dense(synapse: Synapse, bias: np.ndarray, metadata: dict[str, Any]) -> nir.Affine:
    if len(synapse.shape) > 1:
        raise Refusal(
            f"a dense path from {synapse.source} ends in a map {synapse.shape}; NIR has no unflatten"
        )
    return nir.Affine(synapse.weight, bias, metadata=metadata)


def _identity(synapse: Synapse, bias: np.ndarray, metadata: dict[str, Any]) -> nir.Scale:
    return nir.Scale(np.array(np.broadcast_to(synapse.weight, synapse.shape)), metadata=metadata)


_MAPS: dict[str, Callable[[Synapse, np.ndarray, dict[str, Any]], nir.NIRNode]] = {
    "conv": _conv,
    "dense": _dense,
    "identity": _identity,
}


def neuron_node(neuron: Neuron, shape: tuple[int, ...], bias: np.ndarray | float = 0.0) -> nir.NIRNode:
    """A population of `shape` in the encoding at the head of this module; `bias` is what v_leak adds to v.

    Raises:
        Refusal: NIR has no such neuron: without leak, but with a memory of its current.
    """
    if neuron.decay == 1 and neuron.current_decay:
        raise Refusal("a current with memory into a neuron without leak; NIR has no such neuron")
    kind: Any = _KINDS[neuron.decay == 1, neuron.current_decay > 0, neuron.spikes]
    own_units = kind is not nir.LIF
    leak = 1 - neuron.decay
    gain = (1 / leak if own_units else 1.0) if leak else 1 / DT
    inflow = neuron.current_decay if neuron.decays_input else 1.0
    constants = {
        "tau": DT / (leak or 1),
        "tau_mem": DT / (leak or 1),
        "tau_syn": DT / (1 - neuron.current_decay),
        "w_in": inflow / (1 - neuron.current_decay),
        "r": gain,
        "v_leak": bias * gain if own_units else bias,
        "v_threshold": neuron.threshold if own_units else leak * neuron.threshold,
        "v_reset": 0.0,
    }
    fields = {
        name: np.array(np.broadcast_to(np.asarray(value, dtype=np.float64), shape))
        for name, value in constants.items()
        if name in kind.__dataclass_fields__
    }
    return kind(**fields, metadata=_noted(neuron, bias))


_KINDS: dict[tuple[bool, bool, bool], type[nir.NIRNode]] = {
    (False, False, True): nir.LIF,
    (False, False, False): nir.LI,
    (False, True, True): nir.CubaLIF,
    (False, True, False): nir.CubaLI,
    (True, False, True): nir.IF,
    (True, False, False): nir.I,
}
"""The node of a neuron, by whether it keeps its potential, has a memory of its current, and spikes."""


def _noted(neuron: Neuron, bias: np.ndarray | float) -> dict[str, Any]:
    values: dict[str, Any] = {"decay": neuron.decay}
    values |= {"scale": neuron.threshold} if neuron.spikes else {}
    values |= {"current_decay": neuron.current_decay} if neuron.current_decay else {}
    values |= {"bias": bias} if np.any(bias) else {}
    values |= {"reset": neuron.reset} if neuron.spikes and neuron.reset != "zero" else {}
    values |= {"max_spikes": neuron.max_spikes} if neuron.spikes and neuron.max_spikes != 1 else {}
    values |= {"decays_input": True} if neuron.decays_input else {}
    return note(**values)
