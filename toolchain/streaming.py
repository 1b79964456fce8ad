"""Streaming: samples shown back to back to a network that is never reset, and a class for each window.

A chip that listens to a sensor doesn't know where one sample ends. So N samples of T steps are shown as one
of N·T steps: every potential that a window ends with is what the next one begins with. The host reads a class
from each window as it does from a sample: sums are added up over the window (its bias T times), spikes are
counted in it, of integrating read-outs the window's last potential counts.

What is judged is the integer network, carried on by the integer simulator; a target runs the very same
stream, and all spikes and read-outs are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..export.files import require_writable, write_json
from ..export.graph import Graph
from ..export.target import Inputs, Recording, Target, get_target
from .arithmetic import membrane_on, record_on
from .progress import progress
from .run import TIME_LIMIT, VALIDATION_SAMPLES, Run
from .samples import choose, take
from .simulation.simulator import predictions
from .validation import compare

TOO_LONG = (
    "reset the potentials between windows, or stream for fewer steps: once the range is left, chip and "
    "integers may part"
)
"""The way out of a range that the length of a stream breaks."""


def stream_run(
    run: Run,
    target: str = "loihi2",
    samples: int = VALIDATION_SAMPLES,
    execute: bool = False,
    time_limit: float = TIME_LIMIT,
    data_root: Path | None = None,
) -> dict[str, Any]:
    """Show test samples as one stream to the exported network, and write `<run>/<target>/stream.json`.

    Args:
        target: where it was exported to.
        samples: N, how many test samples, spread evenly over the split, in its order.
        execute: whether the target runs the stream too, to be compared.
        time_limit: seconds for the target's run.
        data_root: where data sets are kept; None: the default.

    Returns:
        The answer of `snnkd stream --json`.

    Raises:
        InputError: something is missing, or the target's run failed.
    """
    room, integers = get_target(target), run.integer_graph(target)
    require_writable(run.stream_file(target))
    timesteps = integers.steps
    judged = run.samples(data_root)
    chosen = choose(judged.inputs, samples)
    shown = take(judged.inputs, chosen)
    labels = None if judged.labels is None else judged.labels[chosen]

    stream, steps = as_stream(shown, integers, timesteps), len(chosen) * timesteps
    ours = record_on(room, integers, stream, steps)
    read = {"integer": predictions(integers, windows(ours, timesteps))}
    alone = predictions(integers, record_on(room, integers, shown, timesteps))
    answer: dict[str, Any] = {
        "run": str(run.folder),
        "target": target,
        "backend": None,
        "silicon": "unverified",
        "windows": len(chosen),
        "timesteps": timesteps,
        "steps": steps,
        "range_problems": range_problems(room, integers, steps),
    }
    if execute:
        theirs = _executed(room, run.target_folder(target), stream, steps, time_limit)
        read["target"] = predictions(integers, windows(theirs, timesteps))
        answer |= {"backend": room.backend, **compare(integers, ours, theirs), "seconds": theirs.seconds}
        _locate(answer["first_mismatch"], room, replace(integers, timesteps=steps), stream, timesteps)
    answer |= {
        "accuracy": {name: _share(classes, labels) for name, classes in read.items()},
        "accuracy_with_resets": _share(alone, labels),
        "agreement_with_resets": float(np.mean(alone == read["integer"])),
        "classes": _rows(chosen, labels, read, alone),
    }
    write_json(run.stream_file(target), answer)
    return answer


def as_stream(inputs: Inputs, graph: Graph, timesteps: int) -> Inputs:
    """N samples as one of N·T steps, (1, N·T, *shape); by name where `inputs` are.

    Args:
        inputs: integers (N, *shape), each then shown for T steps, or (N, T, *shape).
        graph: whose inputs they are.
        timesteps: T.
    """
    if isinstance(inputs, Mapping):
        return {port.name: _as_stream(inputs[port.name], port.shape, timesteps) for port in graph.inputs}
    return _as_stream(inputs, graph.inputs[0].shape, timesteps)


def _as_stream(inputs: np.ndarray, shape: tuple[int, ...], timesteps: int) -> np.ndarray:
    frames = inputs.repeat(timesteps, axis=0) if inputs.shape[1:] == shape else inputs.reshape(-1, *shape)
    return frames[None]


def windows(recording: Recording, timesteps: int) -> Recording:
    """The recording of a stream, (1, N·T, *shape), as one of N windows of T steps, (N, T, *shape)."""

    def cut(recorded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: values.reshape(-1, timesteps, *values.shape[2:]) for name, values in recorded.items()}

    return replace(recording, spikes=cut(recording.spikes), sums=cut(recording.sums))


def range_problems(room: Target, graph: Graph, steps: int) -> list[str]:
    """What the proof that nothing overflows, made for a sample's steps, doesn't cover in a stream of `steps`.

    The network holds for a sample's steps; what is broken here, the length of the stream breaks. A register
    that overflows may cost accuracy, and chip and integers may part there.
    """
    return [str(replace(p, remedy=TOO_LONG)) for p in room.check(replace(graph, timesteps=steps))]


def _executed(room: Target, folder: Path, stream: Inputs, steps: int, time_limit: float) -> Recording:
    with progress(f"{room.backend}, a stream of {steps} steps", 1) as report:
        return room.run(folder, stream, steps, time_limit, lambda done, _total: report(done))


def _locate(first: dict[str, Any] | None, room: Target, graph: Graph, stream: Inputs, timesteps: int) -> None:
    """Say of the first mismatch in which window it is, and the integer network's potential there."""
    if first is None:
        return
    if graph[first["layer"]].neuron is not None:
        membrane = membrane_on(room, graph, stream, first["layer"])
        if membrane is not None:
            first["membrane"] = float(membrane[first["step"], 0].flatten()[first["neuron"]])
    first["sample"], first["step"] = divmod(first["step"], timesteps)  # a sample of a stream is a window
    first["window"] = first.pop("sample")


def _share(classes: np.ndarray, labels: np.ndarray | None) -> float | None:
    return None if labels is None else float(np.mean(classes == labels))


def _rows(
    chosen: np.ndarray, labels: np.ndarray | None, read: dict[str, np.ndarray], alone: np.ndarray
) -> list[dict[str, Any]]:
    """One row for each window: the sample shown, its label, and the class that was read."""
    return [
        {
            "window": window,
            "sample": int(sample),
            "label": None if labels is None else int(labels[window]),
            **{name: int(classes[window]) for name, classes in read.items()},
            "with_resets": int(alone[window]),
        }
        for window, sample in enumerate(chosen)
    ]
