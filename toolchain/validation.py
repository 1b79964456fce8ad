"""The `validate` stage: accuracy of every form of the network, and the target's spikes against the integers'.

The integer simulator scores the whole test split; the target runs some samples of it, and every spike of
every population and every step's read-out is compared with `==`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from .. import InputError
from ..export.files import require_writable, write_json
from ..export.graph import Graph
from ..export.target import Inputs, Recording, Target, get_target
from .arithmetic import membrane_on, record_on, simulate_on
from .energy.simulated import simulated
from .floats import validate_floats
from .progress import progress
from .run import TIME_LIMIT, VALIDATION_SAMPLES, Run
from .samples import choose, size, take
from .simulation.simulator import predictions


def validate_run(
    run: Run,
    target: str = "loihi2",
    samples: int = VALIDATION_SAMPLES,
    time_limit: float = TIME_LIMIT,
    data_root: Path | None = None,
) -> dict[str, Any]:
    """Compare float network, integer network and target, and write `<run>/<target>/validation.json`.

    Args:
        samples: how many of the test samples the target runs, spread evenly over the split.
        time_limit: seconds for the target's run.
        data_root: where data sets are kept; None: the default.

    Returns:
        The answer of `snnkd validate --json`.

    Raises:
        InputError: something is missing, or the target's run failed.
    """
    room = get_target(target)
    require_writable(run.validation_file(target))
    float_graph, integers = run.float_graph(), run.integer_graph(target)
    timesteps = integers.steps
    judged = run.samples(data_root)
    chosen = choose(judged.inputs, samples)

    ours = record_on(room, integers, take(judged.inputs, chosen), timesteps)
    with progress(f"{room.backend}, {len(chosen)} samples", len(chosen)) as report:
        theirs = room.run(
            run.target_folder(target),
            take(judged.inputs, chosen),
            timesteps,
            time_limit,
            lambda done, _total: report(done),
        )
    comparison = compare(integers, ours, theirs)
    started = time.monotonic()
    integer_predictions = _predict("integer network", room, integers, judged.inputs)
    integer_seconds = time.monotonic() - started
    float_predictions = _predict("float network", room, float_graph, judged.inputs)
    target_predictions = predictions(integers, theirs)

    answer = {
        "run": str(run.folder),
        "target": target,
        "backend": room.backend,
        "silicon": "unverified",
        "samples": size(judged.inputs),
        "timesteps": timesteps,
        "accuracy": {
            "float": _accuracy(float_predictions, judged.labels),
            "integer": _accuracy(integer_predictions, judged.labels),
            "target": _accuracy(target_predictions, judged.labels, chosen),
        },
        "integer_agreement_with_float": float(np.mean(integer_predictions == float_predictions)),
        "target_samples": len(chosen),
        "integer_accuracy_on_target_samples": _accuracy(integer_predictions[chosen], judged.labels, chosen),
        **comparison,
        "seconds": {"integer": integer_seconds, "target": theirs.seconds},
        "simulated": simulated(room, integers, take(judged.inputs, chosen), theirs.figures),
    }
    first = answer["first_mismatch"]
    if first is not None:
        first["sample"] = int(chosen[first["sample"]])
        first["membrane"] = _membrane_at(room, integers, judged.inputs, first)
    if floats := validate_floats(room, run, judged, time_limit, data_root):
        answer["float_networks"] = floats
    write_json(run.validation_file(target), answer)
    return answer


def compare(graph: Graph, ours: Recording, theirs: Recording) -> dict[str, Any]:
    """Every spike and every read-out of two recordings of `graph`, with `==`.

    Returns:
        Counts, firing rates (spikes per neuron-step of `ours`), and the first mismatch in the order of
        sample, step, depth and neuron; its `sample` counts within the recording.
    """
    _require_same_shapes(ours, theirs)
    mismatches: list[tuple[tuple[int, int, int, int], str]] = []
    counts = {"spikes": 0, "readouts": 0}
    for kind, populations in (("spikes", graph.spiking), ("readouts", graph.readouts)):
        for population in populations:
            if kind == "spikes":
                own, other = ours.spikes[population.name], theirs.spikes[population.name]
            else:
                own, other = ours.sums[population.name], theirs.sums[population.name]
            differing = own.reshape(*own.shape[:2], -1) != other.reshape(*other.shape[:2], -1)
            counts[kind] += int(differing.sum())
            if differing.any():
                sample, step, neuron = (int(i) for i in np.unravel_index(differing.argmax(), differing.shape))
                mismatches.append(((sample, step, population.depth, neuron), population.name))
    rates = {p.name: float(ours.spikes[p.name].mean()) for p in graph.spiking}
    first = None
    if mismatches:
        (sample, step, _depth, neuron), layer = min(mismatches)
        first = {"layer": layer, "sample": sample, "step": step, "neuron": neuron, "membrane": None}
    return {
        "neuron_steps_compared": int(sum(spikes.size for spikes in ours.spikes.values())),
        "spikes_total": int(sum(spikes.sum(dtype=np.int64) for spikes in ours.spikes.values())),
        "spike_mismatches": counts["spikes"],
        "readouts_compared": int(sum(sums.size for sums in ours.sums.values())),
        "readout_mismatches": counts["readouts"],
        "populations_compared": len(ours.spikes) + len(ours.sums),
        "firing_rates": rates,
        "silent_populations": [name for name, rate in rates.items() if rate == 0],
        "first_mismatch": first,
    }


def _require_same_shapes(ours: Recording, theirs: Recording) -> None:
    for kind in ("spikes", "sums"):
        expected, found = (
            {name: values.shape for name, values in getattr(recording, kind).items()}
            for recording in (ours, theirs)
        )
        if expected != found:
            raise InputError(f"the target recorded {kind} {found}, expected {expected}; export again")


def agrees(answer: dict[str, Any]) -> bool:
    """Whether nothing differed but for what is explained."""
    unexplained = answer.get("float_networks", {}).get("unexplained")
    return answer["spike_mismatches"] == 0 and answer["readout_mismatches"] == 0 and not unexplained


def disagreement(answer: dict[str, Any]) -> str:
    """What differed, in one line."""
    if answer["first_mismatch"] is None:
        return "; ".join(answer["float_networks"]["unexplained"])
    first = ", ".join(f"{key} {value}" for key, value in answer["first_mismatch"].items())
    return (
        f"{answer['spike_mismatches']:,} spikes and {answer['readout_mismatches']:,} read-outs differ "
        f"between the integer network and {answer['backend']}; the first: {first}"
    )


def _predict(what: str, room: Target, graph: Graph, inputs: Inputs) -> np.ndarray:
    with progress(what, size(inputs)) as report:
        return simulate_on(room, graph, inputs, graph.steps, progress=lambda done, _total: report(done))


def _accuracy(
    predicted: np.ndarray, labels: np.ndarray | None, chosen: np.ndarray | None = None
) -> float | None:
    """Share of right predictions; None without labels."""
    if labels is None:
        return None
    return float(np.mean(predicted == (labels if chosen is None else labels[chosen])))


def _membrane_at(room: Target, graph: Graph, inputs: Inputs, where: dict[str, Any]) -> float | None:
    """The integer network's membrane potential there, before its reset; None in a read-out of sums."""
    if graph[where["layer"]].neuron is None:
        return None
    sample = take(inputs, slice(where["sample"], where["sample"] + 1))
    membrane = membrane_on(room, graph, sample, where["layer"])
    return None if membrane is None else float(membrane[where["step"], 0].flatten()[where["neuron"]])
