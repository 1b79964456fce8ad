"""The 45 nm table prices bare operations, says that it is no chip, and knows no time."""

from __future__ import annotations

import pytest

from snnkd.hardware_profiles import load_profile
from snnkd.toolchain.energy.activity import LayerActivity, Spread
from snnkd.toolchain.energy.operations import LayerOperations, Workload
from snnkd.toolchain.energy.technology import constants_used, technology_figures, unknown_costs

PJ = 1e-12
ASIC45 = load_profile("asic45")
NOMINAL = ASIC45.corners["nominal"]
DENSE = (LayerOperations("a", 1000, 4000, 400, 2), LayerOperations("b", 10, 40, 80, 1))


def spread(mean: float) -> Spread:
    return Spread(mean, 0.0, int(mean), int(mean))


def layer(name: str, synops: float, graded: float) -> LayerActivity:
    none = spread(0)
    return LayerActivity(name, 5, none, none, spread(synops), spread(graded), 20, 1000)


def test_spikes_cost_additions_and_graded_input_macs():
    figures = technology_figures([layer("a", 0, 18), layer("b", 6, 0)], None, NOMINAL)
    assert figures.dynamic_terms == {
        "synaptic operations": pytest.approx(6 * 0.9 * PJ),
        "graded synaptic operations": pytest.approx(18 * 4.6 * PJ),
    }
    assert figures.layers == {"a": pytest.approx(18 * 4.6 * PJ), "b": pytest.approx(6 * 0.9 * PJ)}
    assert figures.energy_j == figures.dynamic_j
    assert (figures.static_terms, figures.occupied_s, figures.latency_s) == ({}, 0, 0)


@pytest.mark.parametrize(("precision", "each"), [("float32", 4.6), ("float16", 1.5), ("int8", 0.3)])
def test_dense_networks_cost_macs_of_their_precision(precision: str, each: float):
    workload = Workload("twin", DENSE, passes=3, precision=precision)
    figures = technology_figures(None, workload, NOMINAL)
    assert figures.energy_j == pytest.approx(3 * 1010 * each * PJ)
    assert figures.layers["b"] == pytest.approx(3 * 10 * each * PJ)
    (used,) = constants_used(workload, ASIC45)
    assert ASIC45.constants[used].value == each
    assert constants_used(None, ASIC45) == ["e_add", "e_mac"]


def test_it_says_what_it_leaves_out_and_asks_for_one_network():
    unknown = unknown_costs(ASIC45)
    assert "memory accesses" in unknown and "latency" in unknown
    assert "no chip" in ASIC45.description
    for layers, workload in ((None, None), ([], Workload("twin", DENSE))):
        with pytest.raises(ValueError, match="either the activity of a spiking network or a dense one"):
            technology_figures(layers, workload, NOMINAL)
