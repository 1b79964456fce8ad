"""The populations of a lowered graph as ONNX nodes, one step of them: synapses, bias, and neuron or ReLU."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ... import Refusal
from ..graph import Graph, Neuron, Population, Synapse
from .drawing import Drawing

Shape = tuple[int, ...]

Heard = Callable[[Synapse], "str | None"]
"""The tensor that reaches a synapse in this step; None where nothing does yet."""

State = dict[str, str]
"""The tensor of each state that isn't zero, by its name as `states_of` gives it."""


def states_of(population: Population) -> dict[str, Shape]:
    """What the neurons of a population remember from step to step: the name and shape of each tensor."""
    neuron = population.neuron
    if neuron is None:
        return {}
    states = {_potential(population): population.shape} if neuron.decay else {}
    return {**states, **({_current(population): population.shape} if neuron.current_decay else {})}


def draw_step(drawing: Drawing, graph: Graph, heard: Heard, state: State, shown: dict[str, str]) -> None:
    """Draw one step of a spiking network.

    Args:
        state: what is left of the step before; what is left of this one takes its place.
        shown: receives what every population shows: spikes, potentials or sums, bias included.
    """
    for population in graph.populations:
        neuron = population.neuron
        if neuron is None:
            shown[population.name] = received(drawing, graph, population, heard, with_bias=True)
        else:
            if neuron.peculiarity:
                raise Refusal(f"{population.name}: its neuron {neuron.peculiarity}; ONNX files are of others")
            shown[population.name] = _neuron_step(drawing, graph, population, neuron, heard, state)


def received(drawing: Drawing, graph: Graph, population: Population, heard: Heard, with_bias: bool) -> str:
    """What a population's synapses, and its bias, add up to in this step."""
    arriving = [(synapse, heard(synapse)) for synapse in population.synapses]
    paths = [(synapse, source) for synapse, source in arriving if source is not None]
    bias = np.broadcast_to(population.bias, population.shape) if with_bias else np.zeros(population.shape)
    pending = bool(np.any(bias))
    terms: list[str] = []
    for synapse, source in paths:
        inner = _bias_inside(synapse, bias) if pending else None
        pending = pending and inner is None
        terms.append(_term(drawing, population, synapse, source, inner))
    if pending or not terms:
        name = f"{population.name}.bias"
        constant = drawing.constant(name, bias)
        terms.append(constant if terms else _for_each_sample(drawing, graph, constant, population))
    return _sum(drawing, terms, f"{population.name}.input")


def _neuron_step(
    drawing: Drawing, graph: Graph, population: Population, neuron: Neuron, heard: Heard, state: State
) -> str:
    """`graph.Neuron`'s equations; a term whose factor or memory is zero is left out."""
    name, memory = population.name, bool(neuron.current_decay)
    current = received(drawing, graph, population, heard, with_bias=not memory)
    if memory:
        current = _leaky_sum(
            drawing, current, state.get(_current(population)), neuron.current_decay, f"{name}.u"
        )
        state[_current(population)] = current
    before = state.get(_potential(population))
    potential = _leaky_sum(drawing, current, before, neuron.decay, f"{name}.v")
    if memory and np.any(population.bias):
        potential = drawing.node(
            "Add", [potential, drawing.constant(f"{name}.bias", population.bias)], f"{name}.v"
        )
    if not neuron.spikes:
        state[_potential(population)] = potential
        return potential
    threshold = drawing.constant(f"{name}.threshold", neuron.threshold)
    fires = drawing.node("Greater", [potential, threshold], f"{name}.fires")
    if neuron.decay:
        zero = drawing.constant("zero", 0.0)
        state[_potential(population)] = drawing.node("Where", [fires, zero, potential], f"{name}.reset")
    return drawing.cast(fires, np.float32, f"{name}.spikes")


def _leaky_sum(drawing: Drawing, current: str, before: str | None, decay: float, name: str) -> str:
    """current + decay·before"""
    if before is None or not decay:
        return current
    if decay != 1:
        before = drawing.node("Mul", [before, drawing.constant("decay", decay)], f"{name}.left")
    return drawing.node("Add", [current, before], name)


def _potential(population: Population) -> str:
    return f"{population.name}.potential"


def _current(population: Population) -> str:
    return f"{population.name}.current"


def _bias_inside(synapse: Synapse, bias: np.ndarray) -> np.ndarray | None:
    """The bias that a path's own node can add, one per output channel, if it can add it."""
    if synapse.kind == "dense":
        return bias.reshape(-1)
    if synapse.kind == "conv" and np.all(bias == bias[:, :1, :1]):
        return bias[:, 0, 0]
    return None


def _term(
    drawing: Drawing, population: Population, synapse: Synapse, source: str, bias: np.ndarray | None
) -> str:
    """One path's contribution, shaped as the population."""
    name = f"{population.name}.from.{synapse.source}"
    if synapse.kind == "identity":
        if np.all(synapse.weight == 1):
            return source
        return drawing.node("Mul", [source, drawing.constant(f"{name}.weight", synapse.weight)], name)
    added = [] if bias is None else [drawing.constant(f"{name}.bias", bias)]
    weights = drawing.constant(f"{name}.weight", synapse.weight)
    if synapse.kind == "conv":
        return drawing.node(
            "Conv",
            [source, weights, *added],
            name,
            kernel_shape=list(synapse.weight.shape[2:]),
            strides=list(synapse.stride),
            pads=[*synapse.padding, *synapse.padding],
            dilations=list(synapse.dilation),
            group=synapse.groups,
        )
    if len(synapse.source_shape) > 1:
        source = drawing.node("Flatten", [source], f"{synapse.source}.flat", axis=1)
    result = drawing.node("Gemm", [source, weights, *added], name, transB=1)
    if len(population.shape) == 1:
        return result
    shape = drawing.constant(f"{population.name}.shape", np.array([0, *population.shape]), np.int64)
    return drawing.node("Reshape", [result, shape], f"{name}.map")


def _sum(drawing: Drawing, terms: Iterable[str], name: str) -> str:
    """From left to right."""
    first, *more = terms
    for term in more:
        first = drawing.node("Add", [first, term], name)
    return first


def _for_each_sample(drawing: Drawing, graph: Graph, constant: str, population: Population) -> str:
    """`constant`, shaped as the population, once for every sample of the batch."""
    sizes = drawing.node("Shape", [graph.inputs[0].name], "batch.size", start=0, end=1)
    shape = drawing.constant(f"{population.name}.sizes", np.array(population.shape), np.int64)
    target = drawing.node("Concat", [sizes, shape], f"{population.name}.batch", axis=0)
    return drawing.node("Expand", [constant, target], f"{population.name}.silence")
