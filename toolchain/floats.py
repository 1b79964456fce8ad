"""A run's networks before quantisation, for targets that write and compare them too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import Refusal
from ..export.float_networks import FloatNetwork, FloatNetworks, Watched, WritesFloats
from ..export.graph import Graph
from ..export.target import Inputs
from .progress import progress
from .run import Run
from .samples import Samples

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 250


def float_networks(run: Run, data_root: Path | None = None) -> FloatNetworks | None:
    """The run's student and teacher; None of a network that came with integers.

    Raises:
        InputError: the run isn't trained, or its files or samples can't be read.
    """
    graph, samples = run.float_graph(), run.samples(data_root)
    if graph.is_integer:
        return None
    if run.from_nir:
        return FloatNetworks(
            student=FloatNetwork(graph, partial(_simulated, graph)),
            watch=partial(_watch_simulated, graph),
            reference="simulator",
            teacher=None,
            no_teacher="the network came as a NIR file, without a teacher",
            calibration=samples.calibration,
            calibrated_on="given samples",
        )
    student, teacher = _loaded(run)
    lowered, no_teacher = _lowered_teacher(teacher, run.recipe.teacher.windows)
    return FloatNetworks(
        student=FloatNetwork(graph, partial(_student_logits, student)),
        watch=partial(_watch_student, student),
        reference="torch",
        teacher=lowered,
        no_teacher=no_teacher,
        calibration=samples.calibration,
        calibrated_on="validation split",
    )


def _loaded(run: Run) -> tuple[Any, Any]:
    """The frozen student, and the teacher or None."""
    from .checkpoint import load_weights
    from .networks import build_networks, freeze
    from .samples import task_of

    student, teacher = build_networks(run.recipe, task_of(run.recipe))
    load_weights(run.student_file, student)
    freeze(student)
    if not run.teacher_file.exists():
        return student, None
    load_weights(run.teacher_file, teacher)
    freeze(teacher)
    return student, teacher


def _lowered_teacher(teacher: Any, windows: int) -> tuple[FloatNetwork | None, str]:
    """The teacher, or why there is none."""
    from ..export.ann import ann_to_graph
    from .teaching import over_time

    if teacher is None:
        return None, "the run has no teacher"
    if windows > 1:
        return None, f"the teacher looks at {windows} windows of a sample, one after another"
    try:
        graph = ann_to_graph(teacher)
    except Refusal as refusal:
        return None, str(refusal)

    def logits(inputs: Inputs) -> np.ndarray:
        return _in_batches(inputs, lambda batch: teacher(_floats(over_time(batch))).logits)

    return FloatNetwork(graph, logits), ""


def _student_logits(student: Any, inputs: Inputs) -> np.ndarray:
    from .teaching import time_first

    return _in_batches(inputs, lambda batch: student(_floats(time_first(batch))).logits.mean(dim=0))


def _in_batches(inputs: Inputs, run: Callable[[np.ndarray], Tensor]) -> np.ndarray:
    """What `run` makes of all samples, float32 (N, K)."""
    import torch

    from .simulation.synapses import full_precision

    assert isinstance(inputs, np.ndarray), "a trained run has one input"
    with torch.inference_mode(), full_precision():
        parts = [run(inputs[start : start + BATCH]) for start in range(0, len(inputs), BATCH)]
    return torch.cat(parts).numpy()


def _floats(batch: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(batch)).float()


def _watch_student(student: Any, inputs: Inputs) -> Watched:
    """What the student's neurons do, their potentials followed in float64 from the currents they receive."""
    from ..models.neurons import SpikingNeuron
    from ..models.unrolled import trace

    seen: Watched = {}

    def watch(name: str, neuron: Any, received: Any, emitted: Tensor) -> None:
        spikes = _by_sample(emitted)
        seen[name] = spikes.astype(np.uint8), _potentials(neuron.decay, _by_sample(received[0]), spikes)

    layers = {str(node.target): node.name for node in trace(student.layers).nodes if node.op == "call_module"}
    handles = [
        student.layers.get_submodule(path).register_forward_hook(partial(watch, name))
        for path, name in layers.items()
        if isinstance(student.layers.get_submodule(path), SpikingNeuron)
    ]
    try:
        _student_logits(student, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _by_sample(values: Tensor) -> np.ndarray:
    return values.detach().transpose(0, 1).double().numpy()


def _potentials(decay: float, currents: np.ndarray, spikes: np.ndarray) -> np.ndarray:
    """Before each reset, (N, T, *shape)."""
    potentials, kept = np.empty_like(currents), np.zeros_like(currents[:, 0])
    for step in range(currents.shape[1]):
        potentials[:, step] = decay * kept + currents[:, step]
        kept = np.where(spikes[:, step] > 0, 0, potentials[:, step])
    return potentials


def _simulated(graph: Graph, inputs: Inputs) -> np.ndarray:
    from .simulation.simulator import activities

    parts = [activity.logits for _, activity in activities(graph, inputs, graph.steps)]
    scale = 1 if graph.deciding[0].is_readout and graph.deciding[0].neuron is not None else graph.steps
    return np.concatenate([part.numpy() for part in parts]).astype(np.float32) / np.float32(scale)


def _watch_simulated(graph: Graph, inputs: Inputs) -> Watched:
    from .simulation.simulator import Simulator, record

    simulator, spikes = Simulator(graph, graph.steps), record(graph, inputs, graph.steps).spikes
    return {
        name: (emitted, simulator.membrane(inputs, name).transpose(0, 1).numpy())
        for name, emitted in spikes.items()
    }


def export_floats(target: Any, run: Run, data_root: Path | None) -> dict[str, Any]:
    """Let `target` write the run's float networks too, if it takes them; what it says of them, or nothing.

    Raises:
        InputError: a file can't be read or written, or a package is missing.
    """
    if not isinstance(target, WritesFloats):
        return {}
    networks = float_networks(run, data_root)
    return {} if networks is None else target.export_floats(networks, run.target_folder(target.name))


def validate_floats(
    target: Any, run: Run, samples: Samples, time_limit: float, data_root: Path | None
) -> dict[str, Any]:
    """What `target` finds comparing the float networks that it wrote on all samples, or nothing.

    Raises:
        InputError: something is missing or can't be read, or a run hung or died.
    """
    if not isinstance(target, WritesFloats):
        return {}
    networks = float_networks(run, data_root)
    if networks is None:
        return {}
    with progress(f"float networks in {target.backend}", 1) as report:
        return target.validate_floats(
            networks,
            run.target_folder(target.name),
            samples.inputs,
            samples.labels,
            time_limit,
            lambda done, total: report(done / total),
        )
