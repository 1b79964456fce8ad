"""Samples with a step of their own at each of T: trained on, exported, validated and compared like images."""

import numpy as np
import pytest

import snnkd
from snnkd.toolchain.samples import load_samples

TINY = [
    "student.options={widths=[4, 6], strides=[1, 2]}",
    "teacher.options={widths=[4, 6], strides=[1, 2]}",
    "student.epochs=3",
    "student.batch_size=32",
    "student.learning_rate=6e-3",
    "teacher.epochs=1",
    "data.train_samples=400",
]


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    settings = [*TINY, "encoding.kind=rate", "timesteps=6"]
    return snnkd.train("digits", settings, tmp_path_factory.mktemp("runs") / "rate")


def test_encoded_images_are_trained_on_and_validate(rated):
    rows = rated.metrics()
    assert rows[-1]["terms"].keys() == {"ce", "samd", "nld"}
    assert rows[-1]["loss"] < rows[1]["loss"]
    samples = load_samples(rated)
    assert samples.inputs.shape == (359, 6, 1, 8, 8)
    rated.export("loihi2")
    validated = rated.validate("loihi2", samples=2)
    assert (validated["spike_mismatches"], validated["readout_mismatches"]) == (0, 0)
    assert validated["spikes_total"] > 0
    assert validated["silent_populations"] == []
    assert validated["accuracy"]["float"] == pytest.approx(
        rated.summary()["student"]["test_accuracy"], abs=0.02
    )


def test_what_is_shown_when_counts(rated):
    """The order of the steps, which no image has, changes the spikes."""
    from snnkd.toolchain.simulation.simulator import record

    graph, inputs = rated.float_graph(), load_samples(rated).inputs[:20]
    forward, backward = (record(graph, shown, 6).spikes for shown in (inputs, np.flip(inputs, 1).copy()))
    assert any(not np.array_equal(forward[name], backward[name]) for name in forward)


def test_a_recipe_knows_how_it_was_shown(rated):
    assert rated.recipe.encoding.kind == "rate"
    assert 'kind = "rate"' in rated.recipe_file.read_text()
    assert rated.summary()["student"]["timesteps"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rate", "rows"])
def test_every_stage_takes_frames(kind, tmp_path):
    tiny = [*TINY, "timesteps=8", f"encoding.kind={kind}"]
    if kind == "rows":
        tiny += [
            "augmentation={}",
            "student.model=dense",
            "teacher.model=dense",
            "method=nld",
            "student.epochs=8",
        ]
        tiny += ["student.options={widths=[24]}", "teacher.options={widths=[24]}"]
    run = snnkd.train("digits", tiny, tmp_path / kind)
    run.export("loihi2")
    validated = run.validate("loihi2", samples=4)
    assert (validated["spike_mismatches"], validated["readout_mismatches"]) == (0, 0)
    energy = run.energy(["loihi2", "h100"], twins=True)
    assert energy["activity"]["spikes_per_inference"] > 0
    twin = run.twin_facts()
    assert twin is not None and 0.1 < twin["int8_test_accuracy"] <= 1
    assert run.measure(repeats=1, window=0.01, time_limit=60)["rows"]
    answer = run.quantize("loihi2", bits=[4], finetuning=True)
    assert {row["finetuned"] for row in answer["rows"]} == {False, True}
    run.report()
    assert run.report_file.exists()
