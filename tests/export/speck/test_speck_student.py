"""A student whose classes spike, from its layers to the chip's simulation."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from snnkd.export.lowering import lower
from snnkd.export.nir import to_nir
from snnkd.export.student import deployability_problems, student_to_graph
from snnkd.export.target import get_target
from snnkd.models.contract import TaskShape
from snnkd.models.conv import ConvOptions, ConvStudent
from snnkd.toolchain.simulation.simulator import record, simulate

TASK, T = TaskShape((1, 8, 8), 1, 10), 8
OPTIONS = ConvOptions(widths=(4, 6), strides=(1, 2), pooling=2, normalization="none", readout="spikes")


@pytest.fixture
def student():
    torch.manual_seed(0)
    student = ConvStudent(TASK, T, OPTIONS, decay=1.0).eval()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter *= 3
    return student


def test_it_is_lowered_to_a_network_that_counts_spikes(student):
    assert deployability_problems(student) == []
    graph = student_to_graph(student)
    assert [p.name for p in graph.spiking] == ["neuron1", "neuron2", "classes"] and graph.readouts == ()
    assert [p.name for p in graph.deciding] == ["classes"]
    assert get_target("speck").check(graph) == []
    again = lower(to_nir(graph))
    assert [p.name for p in again.populations] == [p.name for p in graph.populations]
    frames = (np.random.default_rng(0).random((40, T, 1, 8, 8)) < 0.4).astype(np.uint8)
    with torch.no_grad():
        logits = student(torch.from_numpy(frames).transpose(0, 1).float()).logits
    counts = record(graph, frames, T).spikes["classes"].sum(axis=1, dtype=int)
    assert 0 < counts.mean() < T
    assert np.array_equal(counts, logits.sum(dim=0).numpy() / 10)
    assert np.array_equal(simulate(graph, frames, T), counts.argmax(axis=1))


@pytest.mark.slow
def test_the_shipped_recipe_trains_exports_and_validates(tmp_path):
    def snnkd(*arguments):
        command = [sys.executable, "-m", "snnkd.toolchain.cli", *arguments, "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    trained = snnkd("train", "digits-speck")
    assert trained["student"]["test_accuracy"] >= 0.95
    exported = snnkd("export", "--target", "speck")
    assert exported["cores"] == 3 and exported["cores_per_chip"] == 9
    validated = snnkd("validate", "--target", "speck", "--samples", "64")
    assert validated["spike_mismatches"] == 0 and validated["spikes_total"] > 1000
    assert validated["accuracy"]["integer"] >= 0.95
