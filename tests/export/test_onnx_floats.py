"""Float networks in an exported ONNX folder: all kinds of inputs, and how a difference is judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnkd.export.float_networks import FloatNetwork, FloatNetworks
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.onnx import comparison
from snnkd.export.onnx.folder import logits_of
from snnkd.export.onnx.spiking import MAX_STEPS
from snnkd.export.onnx.target import Onnx

SECONDS = 300.0


def networks(simulate, graph: Graph, calibration, reference: Graph | None = None) -> FloatNetworks:
    """`graph` as a run's student that is computed in NumPy, in float64, on samples or frames by name."""
    truth = reference or graph

    def trace(inputs):
        if isinstance(inputs, np.ndarray):
            inputs = {graph.inputs[0].name: inputs}
        frames = {
            port.name: inputs[port.name]
            if inputs[port.name].ndim > len(port.shape) + 1
            else np.repeat(inputs[port.name][:, None], graph.steps, axis=1)
            for port in graph.inputs
        }
        return simulate(truth, frames, graph.steps)

    def logits(inputs):
        (readout,) = graph.readouts
        sums = trace(inputs).sums[readout.name]
        return (sums[:, -1] if readout.neuron else sums.mean(1) + readout.bias).astype(np.float32)

    def watch(inputs):
        seen = trace(inputs)
        return {name: (seen.spikes[name], seen.membranes[name]) for name in seen.spikes}

    return FloatNetworks(
        FloatNetwork(graph, logits), watch, "NumPy", None, "none was trained", calibration, "given samples"
    )


def exported(networks: FloatNetworks, folder) -> None:
    """The folder of a network whose integers don't matter, with the float networks in it."""
    path = Synapse("input", "dense", np.array([[2.0]]), (1,), (1,))
    sums = Population("sums", (1,), (path,), np.zeros(1), None, 1)
    ports = networks.student.graph.inputs
    only = Graph(ports, (replace(sums, synapses=()),), networks.student.graph.timesteps, 8)
    Onnx().export(only, folder)
    Onnx().export_floats(networks, folder)


@pytest.mark.parametrize("frames", [False, True])
def test_student_and_step_compute_what_numpy_computes(frames, tmp_path, simulate, draw_graph):
    graph = draw_graph(5, integer=False, plain=False)
    port = graph.inputs[0]
    shape = (12, *((graph.steps,) if frames else ()), *port.shape)
    inputs = np.random.default_rng(0).integers(0, port.payload_max + 1, shape)
    student = networks(simulate, graph, inputs[:6])
    exported(student, tmp_path)
    found = Onnx().validate_floats(student, tmp_path, inputs, None, SECONDS)
    assert found["unexplained"] == []
    assert set(found["models"]) == {"student", "step", "student-int8"}
    assert found["models"]["student"]["predictions_that_differ"] == 0
    assert found["models"]["step"]["samples_apart_from_student"] == 0
    assert found["models"]["student"]["accuracy"] is None


def two_inputs() -> Graph:
    rng = np.random.default_rng(1)
    paths = tuple(Synapse(name, "dense", rng.normal(size=(4, 3)), (3,), (4,)) for name in "ab")
    hidden = Population("hidden", (4,), paths, np.full(4, 0.1), Neuron(0.5, np.full(4, 1.0)), 1)
    out = Population(
        "out",
        (2,),
        (Synapse("hidden", "dense", rng.normal(size=(2, 4)), (4,), (2,)),),
        np.zeros(2),
        Neuron(0.75, np.full(1, np.inf)),
        2,
    )
    return Graph((InputPort("a", (3,)), InputPort("b", (3,), 1)), (hidden, out), 4)


def test_several_inputs_and_potentials_at_the_end(tmp_path, simulate):
    """One input static, one of frames; what counts is the last potential."""
    graph, rng = two_inputs(), np.random.default_rng(2)
    inputs = {"a": rng.integers(0, 9, (10, 3)), "b": rng.integers(0, 2, (10, 4, 3))}
    student = networks(simulate, graph, {name: values[:5] for name, values in inputs.items()})
    exported(student, tmp_path)
    found = Onnx().validate_floats(student, tmp_path, inputs, np.zeros(10, int), SECONDS)
    assert found["unexplained"] == []
    assert found["models"]["student"]["largest_difference"] < 1e-5
    assert found["models"]["step"]["samples_apart_from_student"] == 0
    assert np.ptp(student.student.logits(inputs)) > 0.1


def test_more_steps_than_can_be_unrolled_leave_the_single_step(tmp_path, simulate):
    graph = replace(two_inputs(), timesteps=MAX_STEPS + 4)
    inputs = {"a": np.ones((2, 3), int), "b": np.ones((2, 3), int)}
    student = networks(simulate, graph, inputs)
    exported(student, tmp_path)
    assert not (tmp_path / "student.onnx").exists()
    found = Onnx().validate_floats(student, tmp_path, inputs, None, SECONDS)
    assert set(found["models"]) == {"step"} and found["unexplained"] == []


def near(distance: float) -> tuple[Graph, Graph]:
    """A neuron whose potential is exactly its threshold, and one that lies a part of it above."""
    path = Synapse("input", "dense", np.array([[0.5], [0.25]]), (1,), (2,))
    hidden = Population("hidden", (2,), (path,), np.zeros(2), Neuron(0.5, np.full(2, 1.0)), 1)
    out = Population(
        "out", (2,), (Synapse("hidden", "dense", np.eye(2), (2,), (2,)),), np.array([0.0, 0.1]), None, 2
    )
    graph = Graph((InputPort("input", (1,)),), (hidden, out), 1)
    higher = replace(path, weight=path.weight * (1 + distance))
    return graph, replace(graph, populations=(replace(hidden, synapses=(higher,)), out))


@pytest.mark.parametrize(("distance", "explained"), [(1e-9, True), (1e-6, True), (1e-3, False)])
def test_a_spike_that_differs_is_explained_at_its_threshold_alone(distance, explained, tmp_path, simulate):
    """2 · 0.5 doesn't exceed 1, and a little more does: that is rounding, or too much for it."""
    graph, reference = near(distance)
    inputs = np.array([[0], [2], [1]])
    student = networks(simulate, graph, inputs, reference)
    exported(student, tmp_path)
    found = Onnx().validate_floats(student, tmp_path, inputs, None, SECONDS)
    facts = found["models"]["student"]
    assert facts["samples_beyond_tolerance"] == facts["predictions_that_differ"] == 1
    assert facts["nearest_to_threshold"] == pytest.approx(distance, rel=1e-3)
    assert (found["unexplained"] == []) == explained
    if not explained:
        (line,) = found["unexplained"]
        assert line.startswith("student.onnx: sample 1: a spike differs, 1.0e-03 of its threshold away")


def test_logits_that_differ_without_a_spike_are_unexplained(tmp_path, simulate):
    graph, _ = near(0)
    last = graph.populations[-1]
    moved = replace(graph, populations=(graph.populations[0], replace(last, bias=last.bias + 1e-3)))
    student = networks(simulate, graph, np.array([[1]]))
    exported(student, tmp_path)
    other = networks(simulate, moved, np.array([[1]]))
    found = Onnx().validate_floats(other, tmp_path, np.array([[1], [0]]), None, SECONDS)
    assert found["unexplained"] == [
        f"student.onnx: sample {sample}: logits differ and no spike does" for sample in (0, 1)
    ]


def test_many_differences_are_not_looked_into(tmp_path, simulate, monkeypatch):
    monkeypatch.setattr(comparison, "EXPLAINED_AT_MOST", 1)
    graph, reference = near(1e-9)
    inputs = np.array([[2], [2]])
    student = networks(simulate, graph, inputs, reference)
    exported(student, tmp_path)
    found = Onnx().validate_floats(student, tmp_path, inputs, None, SECONDS)
    assert found["unexplained"] == ["student.onnx: the logits of 2 samples differ"]


def test_the_batch_is_dynamic(tmp_path, simulate, draw_graph):
    graph = draw_graph(8, integer=False, plain=True)
    inputs = np.random.default_rng(0).integers(0, 256, (120, *graph.inputs[0].shape)) % (
        graph.inputs[0].payload_max + 1
    )
    exported(networks(simulate, graph, inputs[:4]), tmp_path)
    for name in ("student", "step"):
        together = logits_of(tmp_path, name, inputs, graph.steps, SECONDS)
        few = logits_of(tmp_path, name, inputs[:3], graph.steps, SECONDS)
        np.testing.assert_allclose(together[:3], few, atol=1e-6)
        assert together.shape == (120, 3)


def test_what_is_not_a_number_is_beyond_every_tolerance():
    reference = np.array([[0.5, 0.25], [1.0, 0.0]])
    ours = np.array([[np.nan, np.nan], [1.0, 0.0]], dtype=np.float32)
    assert comparison._closeness(ours, reference, None)["samples_beyond_tolerance"] == 1
    apart = reference + np.array([[0], [2e-5]])
    assert comparison._closeness(apart, reference, None)["samples_beyond_tolerance"] == 1
    assert comparison._closeness(reference, reference, None)["samples_beyond_tolerance"] == 0
