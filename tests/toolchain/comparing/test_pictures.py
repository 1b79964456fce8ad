"""A study's figures, with contenders whose names are long."""

import warnings

import pytest

from snnkd.toolchain.comparing.pictures import accuracy_against_energy, accuracy_against_spikes, in_lines

LONG = "samd+nld:methods.nld.weight=1:methods.nld.temperature=2:methods.samd.weight=5"


def test_names_stand_in_lines():
    assert in_lines("kd-feature") == "kd-feature"
    assert in_lines("kd:methods.kd.weight=1") == "kd, kd.weight=1"
    assert in_lines("ce:student.gradient=rate") == "ce, student.gradient=rate"
    lines = in_lines(LONG).splitlines()
    assert max(map(len, lines)) <= 40 and " ".join(lines) == LONG.replace(":methods.", ", ")


def study(names):
    spread = {"mean": 0.4, "std": 0.01}
    energy = {"nominal_j": {"mean": 2e-6}, "low_j": 1e-6, "high_j": 3e-6, "profile": "loihi2"} | {
        "lower_bound": True
    }
    methods = [
        {"method": name, "finished": 2, "spike_rate": spread, "test_accuracy": spread, "energy": energy}
        for name in names
    ]
    runs = [
        {"method": name, "spike_rate": rate, "test_accuracy": rate, "energy_j_nominal": rate / 1e6}
        for name in names
        for rate in (0.3, 0.5)
    ]
    return {"methods": methods, "runs": runs}


@pytest.mark.parametrize("draw", [accuracy_against_energy, accuracy_against_spikes])
def test_many_long_names_leave_the_figure_its_place(draw):
    names = [f"{LONG}:student.seed={number}" for number in range(12)]
    figure = draw(study(names))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()
    axes = figure.axes[0]
    assert axes.get_position().width * figure.get_figwidth() > 3
    labels = [text.get_window_extent() for text in axes.get_legend().get_texts()]
    assert labels[-1].y0 >= 0 and labels[0].y1 <= figure.bbox.y1
    assert len({marker.get_color() for marker in axes.lines if len(marker.get_xdata()) == 2}) == 12
