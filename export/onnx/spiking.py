"""A spiking network as an ONNX model: all steps of a sample at once, or one step with its state.

Both are drawn step by step from the same nodes (`layers.py`), so they compute the same. An integer network
comes out exactly where float32 is its arithmetic, as the simulator's engine "exact-float32" has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ... import InputError
from ..graph import Graph, Synapse
from .ann import LOGITS
from .drawing import Drawing
from .layers import Shape, State, draw_step, states_of
from .past import NEXT, at_step, heard_in_step, pasts, remember

if TYPE_CHECKING:
    from onnx import ModelProto

MAX_STEPS = 256
"""So many steps are unrolled at most; each adds its nodes to the file."""


def unrolled_model(graph: Graph, frames: bool = False, recorded: bool = False) -> ModelProto:
    """All T steps: inputs (batch, *shape), or frames (batch, T, *shape) → `logits` (batch, K).

    The logits are the mean over the steps of a read-out of sums, or of the outputs' spikes; or the last
    potential of a read-out of integrators.

    Args:
        frames: whether inputs change from step to step; else they are shown at every step.
        recorded: let every population show what it emits too, (batch, T, *shape), under its name: spikes,
            potentials, or sums with their bias.

    Raises:
        InputError: onnx isn't installed, T isn't known, or there are more than `MAX_STEPS` steps.
    """
    steps = graph.steps
    if steps > MAX_STEPS:
        raise InputError(f"{steps} steps can't be unrolled, {MAX_STEPS} can; write the single step instead")
    drawing = Drawing(population.name for population in graph.populations)
    lead = (steps,) if frames else ()
    ports = {port.name: drawing.input(port.name, (*lead, *port.shape)) for port in graph.inputs}
    state: State = {}
    shown: list[dict[str, str]] = []
    for step in range(steps):
        shown.append({name: _frame(drawing, port, step) if frames else port for name, port in ports.items()})

        def heard(synapse: Synapse, now: int = step) -> str | None:
            emitted = now - synapse.delay
            return None if emitted < 0 else shown[emitted][synapse.source]

        draw_step(drawing, graph, heard, state, shown[step])
    _draw_logits(drawing, graph, shown)
    for population in graph.populations if recorded else ():
        emitted = [at_step(drawing, seen[population.name]) for seen in shown]
        record = drawing.node("Concat", emitted, f"{population.name}.record", axis=1)
        drawing.output(population.name, record, (steps, *population.shape))
    return drawing.model("unrolled", f"a spiking network, {steps} steps", _facts(graph, "unrolled"))


def step_model(graph: Graph, recorded: bool = False) -> ModelProto:
    """One step: inputs and state in, `logits` (batch, K) of this step and the next state out.

    Every state goes in under its name (`<population>.potential`, `<population>.current`, `<source>.past`) and
    comes out with ".next" behind it; a sample begins with zeros. The mean of the steps' logits is what
    `unrolled_model` gives (of a read-out of integrators: the last).

    Args:
        recorded: let every population show what it emits too, (batch, *shape), under its name.

    Raises:
        InputError: onnx isn't installed.
    """
    drawing = Drawing()
    shown = {port.name: drawing.input(port.name, port.shape) for port in graph.inputs}
    shapes = state_shapes(graph)
    state: State = {name: drawing.input(name, shape) for name, shape in shapes.items()}

    draw_step(drawing, graph, heard_in_step(drawing, shown, state), state, shown)
    remember(drawing, graph, shown, state)
    _draw_logits(drawing, graph, [shown])
    for population in graph.populations if recorded else ():
        drawing.output(population.name, shown[population.name], population.shape)
    for name, shape in shapes.items():
        drawing.output(f"{name}{NEXT}", state[name], shape)
    return drawing.model("step", "one step of a spiking network", _facts(graph, "step"))


def state_shapes(graph: Graph) -> dict[str, Shape]:
    """The states of `step_model` by name, each (batch, *shape)."""
    shapes = pasts(graph)
    for population in graph.populations:
        shapes |= states_of(population)
    return shapes


def _frame(drawing: Drawing, frames: str, step: int) -> str:
    place = drawing.constant(f"step {step}", np.array(step), np.int64)
    return drawing.node("Gather", [frames, place], f"{frames}.{step}", axis=1)


def _draw_logits(drawing: Drawing, graph: Graph, shown: list[dict[str, str]]) -> None:
    """From what the deciding outputs show at each step to the model's output."""
    outputs = graph.deciding
    potentials = outputs[0].is_readout and outputs[0].neuron is not None
    counted = shown[-1:] if potentials else shown
    total = [seen[population.name] for seen in counted for population in outputs]
    logits = total[0]
    for term in total[1:]:
        logits = drawing.node("Add", [logits, term], "logits.sum")
    worth = len(counted) * (graph.readout_scale if outputs[0].is_readout else 1.0)
    if worth != 1:
        logits = drawing.node("Div", [logits, drawing.constant("logits.one", worth)], "logits.scaled")
    if len(outputs[0].shape) > 1:
        logits = drawing.node("Flatten", [logits], "logits.flat", axis=1)
    drawing.output(LOGITS, logits, (outputs[0].size,))


def _facts(graph: Graph, kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "timesteps": graph.timesteps,
        "input_max": max(port.payload_max for port in graph.inputs),
        "integer": graph.is_integer,
    }
