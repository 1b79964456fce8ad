"""What is measured: a run's networks, each ready to run batch after batch of test samples."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....export.onnx.session import Session
from ....export.target import Inputs
from ...checkpoint import load_weights
from ...networks import build_networks, freeze
from ...run import Run
from ...samples import size, take, task_of
from ...simulation.checks import as_tensor
from ...simulation.simulator import Simulator
from ...simulation.synapses import full_precision
from ...teaching import over_time, time_first
from ..operations import Precision
from ..twins import known_accuracies
from .meters import Device

BATCHES = 8
"""Different batches that a call takes in turn, so that no cache learns one by heart."""

Call = Callable[[], None]


@dataclass(frozen=True)
class Subject:
    """A network on a device.

    Attributes:
        model: its name, as in the estimate's rows.
        runtime: what runs it.
        steps: passes per inference.
        accuracy: on the test split; None where it isn't known.
        calls: inputs and a batch size → what runs one batch, and returns when its answer is there.
    """

    model: str
    device: Device
    runtime: str
    precision: Precision
    steps: int
    accuracy: float | None
    calls: Callable[[Inputs, int], Call]


@contextmanager
def running() -> Iterator[None]:
    """Within it torch keeps nothing for gradients, and float32 is float32."""
    with torch.inference_mode(), full_precision():
        yield


def subjects_of(run: Run) -> Iterator[Subject]:
    """The student, and of a run with a recipe the teacher and the int8 twin if there are any.

    In torch, in float32, on the CPU and on the GPU if there is one; the twin in onnxruntime on the CPU.
    Inputs lie on the device beforehand. Run them within `running()`.

    Raises:
        InputError: the run isn't trained, its files can't be used, or there is a twin but no onnxruntime.
    """
    devices: list[Device] = ["cpu", "gpu"] if torch.cuda.is_available() else ["cpu"]
    if run.from_nir:
        graph = run.float_graph()
        for device in devices:
            simulator = Simulator(graph, graph.steps, device=PLACES[device])
            calls = _torch_calls(partial(simulator.run, recorded=False), partial(_placed, device), device)
            yield Subject("student", device, "torch", "float32", graph.steps, None, calls)
        return
    accuracies = known_accuracies(run)
    for model, steps, network, seen in _networks(run):
        for device in devices:
            placed = copy.deepcopy(network).to(PLACES[device])
            calls = _torch_calls(placed, partial(_placed_floats, device, seen), device)
            yield Subject(model, device, "torch", "float32", steps, accuracies[model], calls)
    if run.twin_facts() is not None:
        session = Session(run.twin_onnx("int8"), torch.get_num_threads(), unsaturated=True)
        yield Subject(
            "int8-twin", "cpu", "onnxruntime", "int8", 1, accuracies["int8-twin"], _onnx_calls(session)
        )


def _networks(run: Run) -> Iterator[tuple[str, int, Any, Callable[[np.ndarray], np.ndarray]]]:
    """Name, passes per inference, the frozen network, and what it is shown of samples (N, …)."""
    run.float_graph()  # it says so where there is no trained student
    student, teacher = build_networks(run.recipe, task_of(run.recipe))
    if run.teacher_file.exists():
        load_weights(run.teacher_file, teacher)
        freeze(teacher)
        windows = run.recipe.teacher.windows
        yield "teacher", windows, teacher, partial(over_time, windows=windows)
    load_weights(run.student_file, student)
    freeze(student)
    yield "student", run.recipe.timesteps, student, time_first


PLACES: dict[Device, str] = {"cpu": "cpu", "gpu": "cuda"}
"""Where torch keeps what a device works on."""


def _placed(device: Device, inputs: Inputs) -> Tensor | dict[str, Tensor]:
    if isinstance(inputs, np.ndarray):
        return as_tensor(inputs).to(PLACES[device])
    return {name: as_tensor(array).to(PLACES[device]) for name, array in inputs.items()}


def _placed_floats(device: Device, seen: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray) -> Tensor:
    return torch.from_numpy(seen(inputs)).to(PLACES[device], torch.float32)


def _torch_calls(
    network: Callable[[Any], Any], place: Callable[[Any], Any], device: Device
) -> Callable[[Inputs, int], Call]:
    def calls(inputs: Inputs, batch: int) -> Call:
        turns = itertools.cycle([place(part) for part in _parts(inputs, batch)])

        def call() -> None:
            network(next(turns))
            if device == "gpu":
                torch.cuda.synchronize()

        return call

    return calls


def _onnx_calls(session: Session) -> Callable[[Inputs, int], Call]:
    (port,) = session.inputs

    def calls(inputs: Inputs, batch: int) -> Call:
        turns = itertools.cycle(
            [{port: over_time(np.asarray(part)).astype(np.float32)} for part in _parts(inputs, batch)]
        )

        def call() -> None:
            session.run(next(turns))

        return call

    return calls


def _parts(inputs: Inputs, batch: int) -> list[Inputs]:
    """`BATCHES` batches of samples, which come again where there are too few."""
    chosen = np.arange(BATCHES * batch) % size(inputs)
    return [take(inputs, part) for part in chosen.reshape(BATCHES, batch)]
