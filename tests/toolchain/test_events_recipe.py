"""The recipe for simulated event digits keeps its promise: accuracy, exactness, streams, power."""

import pytest

import snnkd

pytest.importorskip("eventcv")


@pytest.mark.slow
def test_ten_thousand_event_digits_reach_the_chip(tmp_path):
    """About 4 minutes of one core, and as long again where the digits aren't simulated yet."""
    run = snnkd.train("events-mnist", folder=tmp_path / "run")
    summary = run.summary()
    assert summary["student"]["timesteps"] >= 16
    assert summary["student"]["test_accuracy"] >= 0.95
    assert len(run.samples().inputs) == 2_000
    exported = run.export("loihi2")
    assert all(layer["range"] == "proven" for layer in exported["layers"])
    validated = run.validate("loihi2", samples=16)
    assert (validated["spike_mismatches"], validated["readout_mismatches"]) == (0, 0)
    assert validated["silent_populations"] == []
    assert validated["accuracy"]["integer"] >= 0.95
    streamed = run.stream("loihi2", samples=16, execute=True)
    assert (streamed["spike_mismatches"], streamed["readout_mismatches"]) == (0, 0)
    listening = run.energy(["loihi2"], always_on=True, samples=200)["always_on"]
    assert listening["window_s"] == 0.315
    (row,) = (row for row in listening["rows"] if row["model"] == "student")
    assert row["utilisation"] < 0.1
    assert row["power_w"]["low"] < row["power_w"]["nominal"] < row["power_w"]["high"]
