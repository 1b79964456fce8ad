"""A device that listens without pause: dynamic energy at real time's pace, static power all along."""

from __future__ import annotations

import pytest

from snnkd import InputError
from snnkd.hardware_profiles import load_profile
from snnkd.toolchain.energy.always_on import always_on, require_window
from snnkd.toolchain.energy.estimate import price

WINDOW = 0.315


def listening(small, name, window=WINDOW):
    graph, activity = small
    estimates = price(activity, graph, [load_profile(name)]).estimates
    answer = always_on(estimates, activity, graph, window)
    return answer, {row["model"]: row for row in answer["rows"]}, estimates


def test_power_is_dynamic_energy_a_window_and_static_power(small):
    _, rows, estimates = listening(small, "loihi1")
    (streaming,) = (estimate for estimate in estimates if estimate.mode == "streaming")
    row, constants = rows["student"], load_profile("loihi1").corners["nominal"]
    resting = constants["p_static"] + constants["p_embedded"]
    assert row["mode"] == "streaming"
    assert row["dynamic_w"]["nominal"] == pytest.approx(streaming.result.nominal.dynamic_j / WINDOW)
    assert row["static_w"]["nominal"] == pytest.approx(resting)
    assert row["power_w"]["nominal"] == pytest.approx(row["dynamic_w"]["nominal"] + resting)
    assert row["utilisation"] == pytest.approx(streaming.result.nominal.occupied_s / WINDOW)
    for figure in ("power_w", "dynamic_w", "static_w"):
        assert row[figure]["low"] < row[figure]["nominal"] < row[figure]["high"]
    assert {source.partition(":")[0] for source in row["sources"]} == set(streaming.used)


def test_twice_as_long_windows_halve_the_dynamic_power_alone(small):
    _, short, _ = listening(small, "loihi2")
    _, long, _ = listening(small, "loihi2", 2 * WINDOW)
    for bound in ("low", "nominal", "high"):
        assert long["student"]["dynamic_w"][bound] == pytest.approx(short["student"]["dynamic_w"][bound] / 2)
        assert long["student"]["static_w"][bound] == pytest.approx(short["student"]["static_w"][bound])


def test_a_processor_takes_one_sample_at_a_time(small):
    _, rows, estimates = listening(small, "cpu")
    for model in ("student", "ann-twin"):
        (alone,) = (e for e in estimates if e.workload.name == model and e.batch == 1)
        row = rows[model]
        assert (row["mode"], row["batch"]) == ("single-shot", 1)
        assert row["dynamic_w"]["nominal"] == pytest.approx(alone.result.nominal.dynamic_j / WINDOW)


def test_rates_are_counts_a_second(small):
    graph, activity = small
    answer, _, _ = listening(small, "loihi2")
    sent = sum(float(activity.events[port.name].sum()) for port in graph.inputs) / activity.samples
    assert answer["input_events_per_s"] == pytest.approx(sent / WINDOW)
    assert answer["spikes_per_s"] == pytest.approx(activity.spikes.mean / WINDOW)
    synops = activity.synops.mean + activity.graded_synops.mean
    assert answer["synops_per_s"] == pytest.approx(synops / WINDOW)
    assert answer["step_s"] == pytest.approx(WINDOW / activity.timesteps)


def test_a_device_that_is_slower_than_the_sensor_is_refused(small):
    _, _, estimates = listening(small, "cpu")
    occupied = next(e for e in estimates if e.workload.name == "student").result.nominal.occupied_s
    _, rows, _ = listening(small, "cpu", occupied / 2)
    assert rows["student"]["refused"].startswith("can't keep up: a window takes it ")
    _, rows, _ = listening(small, "cpu", occupied)
    assert rows["student"]["refused"] is None
    assert not rows["student"]["keeps_up_throughout"]
    answer, rows, _ = listening(small, "asic45")
    assert all("no time" in row["refused"] for row in answer["rows"])


@pytest.mark.parametrize("window", [0.0, -1.0, float("inf"), float("nan")])
def test_a_window_lasts_some_time(window):
    with pytest.raises(InputError, match="must last more than 0 s"):
        require_window(window)
