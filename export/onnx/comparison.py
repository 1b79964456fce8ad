"""The float and int8 networks of an exported folder against the networks that they were made of.

Two programs that add float32 numbers in different orders round differently. A network of ReLUs answers with
logits a little off. A spiking neuron whose potential lies within rounding of its threshold may fire in one
and not in the other, and the sample's logits are then further off. So logits are compared with a tolerance,
and each sample beyond it must have its first spike that differs where the potential is within `ROUNDING` of
the threshold; else it is reported as unexplained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..float_networks import FloatNetworks, Watched
from ..graph import Graph
from ..target import Inputs, Progress
from .floats import INT8, STEP, STUDENT, TEACHER, is_temporal
from .folder import logits_of, models_of
from .session import Session
from .spiking import unrolled_model

TOLERANCE = 1e-5
"""How far logits may be apart, times the largest of them where that is more than 1."""

ROUNDING = 1e-5
"""How near its threshold, as a part of it, a potential may be for rounding to decide whether it fires."""

EXPLAINED_AT_MOST = 256
"""Samples beyond the tolerance that are looked into; more are a fault."""


def validate_floats(
    networks: FloatNetworks,
    folder: Path,
    inputs: Inputs,
    labels: np.ndarray | None,
    time_limit: float,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What the folder's script makes of `inputs` with each model, and how far it is from the networks.

    Returns:
        "reference", "samples", "models": {name: facts}, and "unexplained".

    Raises:
        InputError: a package, file or model is missing or damaged, or a run hung or died.
    """
    steps = networks.student.graph.steps
    models = [name for name in models_of(folder) if name != "network"]
    found: dict[str, np.ndarray] = {}
    samples = len(inputs if isinstance(inputs, np.ndarray) else next(iter(inputs.values())))
    for index, name in enumerate(models):

        def report(done: int, total: int, before: int = index) -> None:
            if progress is not None:
                progress(before * total + done, len(models) * total)

        found[name] = logits_of(folder, name, inputs, steps, time_limit, report)
    student = networks.student.logits(inputs)
    facts: dict[str, Any] = {}
    unexplained: list[str] = []
    for name in (name for name in (STUDENT, STEP) if name in found):
        facts[name] = _closeness(found[name], student, labels)
    if STUDENT in found:
        apart = int((found[STEP] != found[STUDENT]).any(axis=1).sum())
        facts[STEP]["samples_apart_from_student"] = apart
        if apart:
            unexplained.append(f"step.onnx: {apart} samples' logits aren't student.onnx's")
    first = STUDENT if STUDENT in found else STEP
    nearest, lines = _explanation(networks, inputs, found[first], student)
    facts[first]["nearest_to_threshold"] = nearest
    unexplained += [f"{first}.onnx: {line}" for line in lines]
    if networks.teacher is not None and TEACHER in found:
        facts[TEACHER] = _closeness(found[TEACHER], networks.teacher.logits(inputs), labels)
        if facts[TEACHER]["samples_beyond_tolerance"]:
            furthest = facts[TEACHER]["largest_difference"]
            unexplained.append(f"teacher.onnx: logits up to {furthest:.1e} off")
        elif differ := facts[TEACHER]["predictions_that_differ"]:
            unexplained.append(f"teacher.onnx: {differ} predictions differ")
    for whose in (STUDENT, TEACHER):
        if whose + INT8 in found:
            facts[whose + INT8] = _scored(found[whose + INT8], found[whose], labels)
    return {
        "reference": networks.reference,
        "samples": samples,
        "tolerance": TOLERANCE,
        "models": facts,
        "unexplained": unexplained,
    }


def _closeness(ours: np.ndarray, reference: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    apart = np.abs(ours.astype(np.float64) - reference).max(axis=1)
    beyond = ~(apart <= _tolerance(reference))
    return {
        "accuracy": _accuracy(ours, labels),
        "reference_accuracy": _accuracy(reference, labels),
        "largest_difference": float(apart.max()),
        "samples_beyond_tolerance": int(beyond.sum()),
        "largest_difference_within_tolerance": float(apart[~beyond].max(initial=0)),
        "predictions_that_differ": int((ours.argmax(1) != reference.argmax(1)).sum()),
    }


def _scored(ours: np.ndarray, exact: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    same = float((ours.argmax(1) == exact.argmax(1)).mean())
    return {"accuracy": _accuracy(ours, labels), "same_prediction": same}


def _tolerance(reference: np.ndarray) -> np.ndarray:
    """Of each sample; not a number is beyond any."""
    return TOLERANCE * np.maximum(1.0, np.abs(reference).max(axis=1))


def _accuracy(logits: np.ndarray, labels: np.ndarray | None) -> float | None:
    return None if labels is None else float((logits.argmax(axis=1) == labels).mean())


def _explanation(
    networks: FloatNetworks, inputs: Inputs, ours: np.ndarray, reference: np.ndarray
) -> tuple[float | None, list[str]]:
    """Of the samples beyond the tolerance: how far from its threshold at most the first potential of each is
    that decides otherwise; and what that doesn't explain."""
    apart = np.abs(ours.astype(np.float64) - reference).max(axis=1)
    beyond = np.flatnonzero(~(apart <= _tolerance(reference)))
    if not len(beyond):
        return None, []
    if len(beyond) > EXPLAINED_AT_MOST:
        return None, [f"the logits of {len(beyond)} samples differ"]
    if isinstance(inputs, np.ndarray):
        chosen = inputs[beyond]
    else:
        chosen = {name: values[beyond] for name, values in inputs.items()}
    theirs, graph = networks.watch(chosen), networks.student.graph
    spikes = _spikes_of(graph, chosen)
    furthest, lines = None, []
    for place, sample in enumerate(beyond):
        distance = _first_difference(graph, spikes, theirs, place)
        if distance is None:
            lines.append(f"sample {sample}: logits differ and no spike does")
            continue
        furthest = max(distance, furthest or 0.0)
        if distance > ROUNDING:
            lines.append(f"sample {sample}: a spike differs, {distance:.1e} of its threshold away from it")
    return furthest, lines


def _spikes_of(graph: Graph, inputs: Inputs) -> dict[str, np.ndarray]:
    """What every spiking population emits in onnxruntime, (N, T, *shape)."""
    frames = is_temporal(graph, inputs)
    given = {graph.inputs[0].name: inputs} if isinstance(inputs, np.ndarray) else dict(inputs)
    for port in graph.inputs:
        if frames and given[port.name].shape[1:] == port.shape:
            given[port.name] = np.repeat(given[port.name][:, None], graph.steps, axis=1)
    emitted = Session(unrolled_model(graph, frames, recorded=True)).run(given)
    return {population.name: emitted[population.name] for population in graph.spiking}


def _first_difference(
    graph: Graph, spikes: dict[str, np.ndarray], theirs: Watched, sample: int
) -> float | None:
    """How far the first potential that decided otherwise lay from its threshold, as a part of that.

    First in time, and within a step in the network's order; None where all spikes are the same.
    """
    found = []
    for order, population in enumerate(graph.spiking):
        places = np.argwhere(spikes[population.name][sample] != theirs[population.name][0][sample])
        if len(places):
            found.append((int(places[0][0]), order))
    if not found:
        return None
    step, order = min(found)
    population = graph.spiking[order]
    assert population.neuron is not None
    emitted, potentials = theirs[population.name]
    differs = spikes[population.name][sample, step] != emitted[sample, step]
    threshold = np.broadcast_to(population.neuron.threshold, population.shape)
    distance = np.abs(potentials[sample, step] - threshold) / np.where(threshold == 0, 1, np.abs(threshold))
    return float(distance[differs].max())
