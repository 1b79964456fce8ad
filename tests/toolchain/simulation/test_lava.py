"""The neuron and the convolution's wrap against the code of Lava itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from snnkd.toolchain.simulation.fixed_point import fire, kept_4096ths, membrane_input, wrap_sums

pytest.importorskip("lava")
STEPS, NEURONS = 60, 8000
DECAYS = (0.0, 1 / 4096, 0.1, 0.25, 0.5, 0.9, 4095 / 4096, 1.0)
EDGES = (2**17 - 1, 2**17, 2**17 + 1, 3 * 2**17 - 1, 3 * 2**17, 3 * 2**17 + 1, 2**25, 2**31 - 1)
"""Sums around which Lava's 24 or 32 bits end."""


@pytest.fixture(scope="module")
def given() -> dict[str, np.ndarray]:
    """Neurons whose inputs range from a few units to beyond the register, and every edge of it."""
    rng = np.random.default_rng(11)
    reach = np.exp2(rng.uniform(2, 19, NEURONS))
    sums = (rng.uniform(-1, 1, (STEPS, NEURONS)) * reach).astype(np.int32)
    edges = np.array([*EDGES, *(-edge for edge in EDGES), -(2**31)], np.int32)
    sums[rng.integers(0, STEPS, edges.size), rng.choice(NEURONS, edges.size, replace=False)] = edges
    return {
        "sums": sums,
        "kept": np.array([kept_4096ths(DECAYS[i % len(DECAYS)]) for i in range(NEURONS)]),
        "bias": (rng.uniform(-1, 1, NEURONS) * np.minimum(reach, 4095)).astype(np.int16),
        "threshold": np.minimum(rng.uniform(0, 2, NEURONS) * reach, 131071).astype(np.int32),
        "wide": rng.integers(-(2**40), 2**40, 1000),
    }


@pytest.fixture(scope="module")
def lava(given, tmp_path_factory) -> dict[str, np.ndarray]:
    """What Lava makes of it, in a process of its own: it needs repairs that would change this one."""
    folder = tmp_path_factory.mktemp("lava")
    np.savez(folder / "given.npz", **given)
    script = Path(__file__).with_name("lava_lif.py")
    command = [sys.executable, str(script), str(folder / "given.npz"), str(folder / "found.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "found.npz", allow_pickle=False) as found:
        return dict(found)


def ours(given: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and potentials after the reset, (T, n)."""
    bias, threshold, sums = (
        torch.from_numpy(given[name].astype(np.int32)) for name in ("bias", "threshold", "sums")
    )
    current = membrane_input(sums, bias)
    spikes = torch.empty_like(sums, dtype=torch.uint8)
    membrane = torch.empty_like(sums)
    for kept in np.unique(given["kept"]):
        chosen = torch.from_numpy(given["kept"] == kept)
        spikes[:, chosen], membrane[:, chosen] = fire(current[:, chosen], int(kept), threshold[chosen])
    return spikes.numpy(), np.where(spikes == 1, 0, membrane)


def test_every_spike_and_potential_is_lavas(given, lava):
    spikes, membrane = ours(given)
    assert np.array_equal(spikes, lava["spikes"])
    assert np.array_equal(membrane, lava["membrane"])
    assert 0.05 < spikes.mean() < 0.6


@pytest.mark.parametrize("changed", ["bias", "threshold", "kept", "sums"])
def test_one_unit_more_is_found(given, lava, changed):
    off_by_one = {**given, changed: given[changed] + given[changed].dtype.type(1)}
    assert not np.array_equal(ours(off_by_one)[1], lava["membrane"])


def test_a_decay_is_the_nearest_that_the_register_holds():
    decays = {0.0: 0, 0.1: 410, 0.5: 2048, 0.9: 3686, 4095 / 4096: 4095, 1.0: 4096}
    assert {decay: kept_4096ths(decay) for decay in decays} == decays


def test_a_convolutions_sums_wrap_as_lavas(given, lava):
    assert np.array_equal(wrap_sums(torch.from_numpy(given["wide"])).numpy(), lava["wrapped"])
