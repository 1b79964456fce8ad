"""The chips beside Loihi, by hand: in real time, without steps, with a clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.hardware_profiles import list_profiles, load_profile
from snnkd.hardware_profiles.quantities import FAMILY
from snnkd.toolchain.energy.activity import ActivityCounter
from snnkd.toolchain.energy.estimate import estimate

NJ, PJ, NS, US, MW, UW = 1e-9, 1e-12, 1e-9, 1e-6, 1e-3, 1e-6
CHIPS = [name for name in list_profiles() if FAMILY[load_profile(name).kind] == "chip"]


@dataclass(frozen=True)
class Recorded:
    spikes: dict[str, torch.Tensor]


RECORDED = Recorded({"hidden": torch.tensor([[[1, 1, 0]], [[0, 0, 1]]], dtype=torch.uint8)})


def on(name: str) -> dict[str, dict[str, Any]]:
    """4 pixels → 3 neurons → 2 integrators, T = 2: 18 graded and 6 binary operations, 3 spikes, 5 neurons."""
    hidden = Synapse("input", "dense", np.ones((3, 4)), (4,), (3,))
    readout = Synapse("hidden", "dense", np.ones((2, 3)), (3,), (2,))
    graph = Graph(
        (InputPort("input", (4,)),),
        (
            Population("hidden", (3,), (hidden,), np.zeros(3), Neuron(1.0, np.ones(3)), 1),
            Population("readout", (2,), (readout,), np.zeros(2), None, 2),
        ),
    )
    counter = ActivityCounter(graph, 2)
    counter(torch.tensor([[5, 0, 7, 1]]), RECORDED)
    return {row["mode"]: row for row in estimate(counter.result(), graph, [load_profile(name)])}


@pytest.mark.parametrize(
    ("name", "dynamic", "power", "cores"),
    [
        ("spinnaker1", (18 * 66.4 + 6 * 16.6 + 2 * 5 * 51 + 3 * 0.8) * NJ, 0.36, 2),
        ("spinnaker2", (18 * 0.45 + 6 * 0.45 + 2 * 5 * 2.19) * NJ, 0.39, 2),
        ("truenorth", (18 * 9.2 + 6 * 2.3) * PJ, 55 * MW, 2),
    ],
)
def test_in_real_time_a_step_lasts_what_it_lasts(name: str, dynamic: float, power: float, cores: int):
    rows = on(name)
    for mode, steps in (("streaming", 2), ("single-shot", 4)):
        assert rows[mode]["occupied_s"]["nominal"] == pytest.approx(steps * 1e-3, rel=1e-12)
        assert rows[mode]["static_j"]["nominal"] == pytest.approx(power * steps * 1e-3, rel=1e-12)
    assert rows["streaming"]["dynamic_j"]["nominal"] == pytest.approx(dynamic, rel=1e-9)
    assert (rows["streaming"]["cores"], rows["streaming"]["chips"]) == (cores, 1)
    assert rows["streaming"]["occupied_s"]["low"] == rows["streaming"]["occupied_s"]["high"]


def test_without_a_clock_time_is_what_the_events_take():
    row = on("speck")["streaming"]
    seconds = 2 * (9 * 2.6 * NS + 0.373 * US)  # the busier core gets 3 pixels x 3 synapses a step
    assert row["occupied_s"]["nominal"] == pytest.approx(seconds, rel=1e-9)
    assert row["static_j"]["nominal"] == pytest.approx(0.42 * MW * seconds, rel=1e-9)
    assert row["dynamic_j"]["nominal"] == pytest.approx((18 * 68 + 6 * 17) * PJ, rel=1e-9)
    assert any("linear leak" in cost for cost in row["unknown"])


def test_with_a_clock_a_step_takes_its_cycles():
    row = on("xylo-audio2")["streaming"]
    cycle = 46.6 * PJ  # (507 - 216) uW at 6.25 MHz
    cycles = 18 * 3.5 + 6 * 7 + 2 * 5 * 22 + 3 * 2
    assert row["dynamic_j"]["nominal"] == pytest.approx(cycles * cycle, rel=0.01)
    busiest = 9 * 1.12 + 3 * 3.52 + 4 * 1.12 + 2 * 3.52  # one core: layer after layer
    other = 9 * 1.12 + 3 * 3.52 + 2 * 1.12 + 2 * 3.52
    seconds = (busiest + other + 2 * 18) * US
    assert row["occupied_s"]["nominal"] == pytest.approx(seconds, rel=1e-9)
    assert row["static_j"]["nominal"] == pytest.approx(216 * UW * seconds, rel=1e-9)


@pytest.mark.parametrize("name", CHIPS)
def test_every_chip_prices_its_terms_or_says_that_it_does_not(name: str):
    profile = load_profile(name)
    row = on(name)["streaming"]
    named = {"e_neuron_update": "neuron updates", "e_spike": "spikes", "e_message": "messages"}
    for constant, term in named.items():
        assert (constant in profile.constants) != (f"energy of {term}" in row["unknown"])
    assert 0 < row["energy_j"]["low"] <= row["energy_j"]["nominal"] <= row["energy_j"]["high"]
    assert row["unverified"] == []
