"""Which chips' targets are asked before a network is priced on them, and what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.target import get_target
from snnkd.hardware_profiles import load_profile
from snnkd.toolchain.energy.admission import refusals, stand_ins

LOIHI2 = get_target("loihi2")


def network(payload: int = 1, decay: float = 1.0, neuron: Neuron | None = None) -> Graph:
    """One convolution of one channel, its spikes counted: Loihi's integers, with Loihi's even weights."""
    neuron = neuron or Neuron(decay, np.full((1, 1, 1), 200.0))
    weight = np.full((1, 1, 1, 1), 254.0)
    synapse = Synapse("input", "conv", weight, (1, 2, 2), (1, 2, 2))
    population = Population("cells", (1, 2, 2), (synapse,), np.zeros(1), neuron, 1)
    return Graph((InputPort("input", (1, 2, 2), payload),), (population,), 4, weight_bits=8)


def reasons(graph: Graph, *names: str) -> dict[str, tuple[str, ...]]:
    return refusals(graph, [load_profile(name) for name in names], LOIHI2)


def test_a_chip_that_refuses_a_network_says_every_limit_and_no_figure_is_given():
    found = reasons(network(payload=255, decay=0.5), "speck", "loihi2", "h100")
    assert set(found) == {"speck"}
    assert len(found["speck"]) == 2
    assert "largest input value is 255" in found["speck"][0]
    assert "decay of the potential is 0.5" in found["speck"][1]


def test_limits_of_another_target_s_integers_are_one_line():
    (line,) = reasons(network(), "speck")["speck"]
    assert "the integers are those for loihi2: `snnkd export --target speck` makes its own" in line


def test_neurons_of_another_kind_are_refused_by_both_generations():
    several = Neuron(0.875, np.full((1, 1, 1), 200.0), 0.5, "subtract", 31, decays_input=True)
    found = reasons(network(neuron=several), "loihi1", "loihi2")
    assert set(found) == {"loihi1", "loihi2"}
    assert "takes its threshold away" in found["loihi2"][0]


def test_graded_input_is_a_note_on_loihi1():
    assert reasons(network(payload=255, decay=0.5), "loihi1") == {}


@pytest.mark.parametrize(("target", "meant"), [("xylo", "Xylo IMU"), ("xylo-audio2", "")])
def test_a_profile_stands_in_for_the_target_s_own_chip(target, meant):
    profile = load_profile("xylo-audio2")
    assert stand_ins([profile], get_target(target)).get(profile.name, "") == meant
    assert stand_ins([replace(profile, name="other")], get_target(target)) == {}
