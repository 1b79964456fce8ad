"""An integer network as an ONNX model of one step that computes what the chip's registers do.

Synaptic sums are float32 maps of integers: no partial sum, in whatever order, exceeds the 17 bits that an
accumulator has, so float32's 24 hold it and nothing is rounded. Currents and potentials are int64 and count
in 2^−6 of an integer; a decay d keeps ⌊|x|·4096·d / 4096⌋ of a magnitude |x|, as `lava.proc.lif.models`'
PyLifModelBitAcc does. Registers wrap and saturate nowhere here: `target.Onnx.check` refuses a network that
could reach the end of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..graph import Graph, Neuron, Population
from ..integers import FRACTION_BITS
from .drawing import Drawing
from .layers import State, received, states_of
from .past import NEXT, heard_in_step, pasts, remember

if TYPE_CHECKING:
    from onnx import ModelProto

DECAY_UNIT = 4096
"""Decays are counted in 4096ths."""

UNREACHED = 2**40
"""A threshold that no potential of 24 bits exceeds."""


def network_model(graph: Graph) -> ModelProto:
    """One step: inputs (batch, *shape) float32 and states in, what every population shows and states out.

    A spiking population shows uint8 spikes, a read-out int64: the step's sum without bias, or its potential
    in 2^−6. Every state goes in under its name, int64 or (what delays remember) float32, and comes out with
    ".next" behind it; a sample begins with zeros.

    Raises:
        InputError: onnx isn't installed.
    """
    drawing = Drawing(population.name for population in graph.populations)
    shown = {port.name: drawing.input(port.name, port.shape) for port in graph.inputs}
    remembered = pasts(graph)
    registers = {name: shape for p in graph.populations for name, shape in states_of(p).items()}
    state: State = {name: drawing.input(name, shape) for name, shape in remembered.items()}
    state |= {name: drawing.input(name, shape, np.int64) for name, shape in registers.items()}
    heard = heard_in_step(drawing, shown, state)
    recorded: dict[str, str] = {}
    for population in graph.populations:
        sums = received(drawing, graph, population, heard, with_bias=False)
        sums = drawing.cast(sums, np.int64, f"{population.name}.sums")
        if population.neuron is None:
            recorded[population.name] = sums
            continue
        potential = _potential(drawing, population, population.neuron, sums, state)
        if not population.neuron.spikes:
            recorded[population.name] = potential
            continue
        fires = _fires(drawing, population, population.neuron, potential, state)
        shown[population.name] = drawing.cast(fires, np.float32, f"{population.name}.spikes")
        recorded[population.name] = drawing.cast(fires, np.uint8, f"{population.name}.bytes")
    remember(drawing, graph, shown, state)
    for population in graph.populations:
        dtype = np.int64 if population.is_readout else np.uint8
        drawing.output(population.name, recorded[population.name], population.shape, dtype)
    for name, shape in remembered.items():
        drawing.output(f"{name}{NEXT}", state[name], shape)
    for name, shape in registers.items():
        drawing.output(f"{name}{NEXT}", state[name], shape, np.int64)
    facts = {"kind": "network", "timesteps": graph.timesteps, "bits": graph.weight_bits, "integer": True}
    return drawing.model("network", "one step of an integer spiking network", facts)


def _potential(drawing: Drawing, population: Population, neuron: Neuron, sums: str, state: State) -> str:
    """The potential before the reset, in 2^−6; a current with memory takes its next state."""
    name = population.name
    unit = drawing.constant("fraction", np.array(2**FRACTION_BITS), np.int64)
    current = drawing.node("Mul", [sums, unit], f"{name}.current in")
    if neuron.current_decay:
        current = _kept_and(drawing, state[f"{name}.current"], neuron.current_decay, current, f"{name}.u")
        state[f"{name}.current"] = current
    if np.any(population.bias):
        bias = drawing.constant(f"{name}.bias", population.bias * 2**FRACTION_BITS, np.int64)
        current = drawing.node("Add", [current, bias], f"{name}.driven")
    if neuron.decay:
        current = _kept_and(drawing, state[f"{name}.potential"], neuron.decay, current, f"{name}.v")
        state[f"{name}.potential"] = current
    return current


def _fires(drawing: Drawing, population: Population, neuron: Neuron, potential: str, state: State) -> str:
    """Where the potential exceeds the threshold; there the next step begins at zero."""
    name = population.name
    height = np.where(np.isinf(neuron.threshold), UNREACHED, neuron.threshold * 2**FRACTION_BITS)
    threshold = drawing.constant(f"{name}.threshold", height, np.int64)
    fires = drawing.node("Greater", [potential, threshold], f"{name}.fires")
    if neuron.decay:
        zero = drawing.constant("nothing", np.array(0), np.int64)
        state[f"{name}.potential"] = drawing.node("Where", [fires, zero, potential], f"{name}.reset")
    return fires


def _kept_and(drawing: Drawing, before: str, decay: float, arriving: str, name: str) -> str:
    """What is left of a register, cut off toward zero as ONNX divides integers, and what arrives."""
    numerator = round(decay * DECAY_UNIT)
    if numerator != DECAY_UNIT:
        factor = drawing.constant(f"decay {numerator}", np.array(numerator), np.int64)
        unit = drawing.constant("decay unit", np.array(DECAY_UNIT), np.int64)
        before = drawing.node("Mul", [before, factor], f"{name}.product")
        before = drawing.node("Div", [before, unit], f"{name}.kept")
    return drawing.node("Add", [before, arriving], name)
