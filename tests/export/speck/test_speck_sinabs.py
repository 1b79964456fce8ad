"""What is exported runs in sinabs, after its own discretisation, spike for spike as here and as in NumPy."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from snnkd import InputError
from snnkd.export.speck import runner
from snnkd.export.target import get_target
from snnkd.toolchain.simulation.simulator import record

SPECK = get_target("speck")


@pytest.fixture(scope="module")
def network():
    """The module that is copied beside the artefacts, as a script finds it."""
    sys.path.insert(0, runner.__path__[0])
    try:
        yield importlib.import_module("network")
    finally:
        sys.path.remove(runner.__path__[0])
        sys.modules.pop("network", None)


def exported(graph, folder):
    """The manifest and the arrays of an export."""
    SPECK.export(graph, folder)
    with np.load(folder / "network.npz") as file:
        return json.loads((folder / "manifest.json").read_text()), dict(file)


def shown(network, manifest, arrays, inputs):
    return network.record(manifest["layers"], arrays, "input", inputs)


def by_hand(graph, inputs):
    """The same network in NumPy, layer by layer, event frames (N, T, *shape)."""
    emitted = {"input": inputs.astype(np.int64)}
    for population in graph.populations:
        (path,) = population.synapses
        source = emitted[path.source]
        if path.kind == "dense":
            current = source.reshape(*source.shape[:2], -1) @ path.weight.astype(np.int64).T
        else:
            current = np.zeros((*source.shape[:2], *population.shape), np.int64)
            pad, step = path.padding[0], path.stride[0]
            padded = np.pad(source, ((0, 0), (0, 0), (0, 0), (pad, pad), (pad, pad)))
            size = path.weight.shape[2]
            for row, column in np.ndindex(population.shape[1:]):
                window = padded[..., row * step : row * step + size, column * step : column * step + size]
                current[..., row, column] = np.einsum("ntcij,fcij->ntf", window, path.weight.astype(np.int64))
        state, spikes = np.zeros_like(current[:, 0]), np.zeros_like(current)
        threshold = int(population.neuron.threshold.flat[0])
        for time in range(current.shape[1]):
            state = state + current[:, time] + population.bias.astype(np.int64)
            spikes[:, time] = state > threshold
            state[spikes[:, time] == 1] = 0
        emitted[population.name] = spikes
    return {p.name: emitted[p.name] for p in graph.populations}


@pytest.mark.parametrize("which", ["row", "tree"])
def test_sinabs_the_simulator_and_numpy_emit_the_same_spikes(which, request, network, frames, tmp_path):
    graph = request.getfixturevalue(which)
    inputs = frames(graph, 40)
    manifest, arrays = exported(graph, tmp_path)
    found, ours, expected = (
        shown(network, manifest, arrays, inputs),
        record(graph, inputs, 6),
        by_hand(graph, inputs),
    )
    assert set(found) == set(ours.spikes) == set(expected)
    for name, spikes in expected.items():
        assert 0.01 < spikes.mean() < 0.8, name
        assert np.array_equal(found[name], spikes) and np.array_equal(ours.spikes[name], spikes)


def test_the_script_runs_without_snnkd_and_gives_the_same(row, frames, tmp_path):
    SPECK.export(row, tmp_path)
    inputs, done = frames(row, 5), []
    ran = SPECK.run(tmp_path, inputs, 6, 120, lambda count, total: done.append((count, total)))
    expected = record(row, inputs, 6)
    assert done == [(5, 5)] and ran.sums == {} and ran.seconds > 0
    assert all(np.array_equal(ran.spikes[name], spikes) for name, spikes in expected.spikes.items())


def test_a_change_of_one_unit_is_found(row, network, frames, tmp_path):
    manifest, arrays = exported(row, tmp_path)
    inputs = frames(row, 40)
    expected = record(row, inputs, 6).spikes

    def differing(layers, arrays):
        found = network.record(layers, arrays, "input", inputs)
        return [name for name, spikes in expected.items() if not np.array_equal(found[name], spikes)]

    assert differing(manifest["layers"], arrays) == []
    for name in expected:
        weight = arrays[f"{name}/weight"].copy()
        weight.flat[np.abs(weight).argmax()] -= 1
        assert name in differing(manifest["layers"], arrays | {f"{name}/weight": weight})
        moved = [
            layer | {"threshold": layer["threshold"] - 1} if layer["name"] == name else layer
            for layer in manifest["layers"]
        ]
        assert name in differing(moved, arrays), "a potential that hits the threshold must not fire"
    unpooled = [layer | {"source_shape": [5, 4, 4]} for layer in manifest["layers"]][2] | {"pooling": 4}
    with pytest.raises(RuntimeError):
        differing([*manifest["layers"][:2], unpooled], arrays)


def test_the_layers_in_a_row_are_what_its_chips_plugin_takes(row, tree, network, frames, tmp_path):
    SPECK.export(row, tmp_path / "row")
    inputs = frames(row, 3)
    stack = network.sequential(tmp_path / "row", batch_size=3)
    names = [type(layer).__name__ for layer in stack]
    assert names == ["Conv2d", "IAFSqueeze", "Conv2d", "IAFSqueeze", "SumPool2d", "Conv2d", "IAFSqueeze"]
    with torch.no_grad():
        spikes = stack(torch.from_numpy(inputs.reshape(-1, 2, 8, 8)).float())
    assert np.array_equal(spikes.reshape(3, 6, 3).numpy(), record(row, inputs, 6).spikes["classes"])
    SPECK.export(tree, tmp_path / "tree")
    with pytest.raises(ValueError, match="right is fed by stem, in a row it would be by left"):
        network.sequential(tmp_path / "tree")


def test_integers_beyond_eight_bits_are_not_what_sinabs_would_make(row, network, tmp_path):
    manifest, arrays = exported(row, tmp_path)
    layer = manifest["layers"][0]
    wide = arrays["first/weight"].astype(np.int64)
    wide.flat[0] = 254
    pair = network.modules(layer, arrays | {"first/weight": wide})
    with pytest.raises(ValueError, match="sinabs discretises first to other integers"):
        network.discretized(layer, *pair)


def test_an_export_is_the_same_bytes_and_says_what_is_not_modelled(row, tree, tmp_path):
    for folder in ("a", "b"):
        SPECK.export(row, tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    without, _ = exported(row, tmp_path / "row")
    with_biases, _ = exported(tree, tmp_path / "tree")
    assert without["silicon"] == "unverified" and len(without["assumptions"]) == 3
    assert "slow clock" in with_biases["assumptions"][3]
    stem = with_biases["layers"][0]
    assert stem["destinations"] == ["left", "right"] and stem["threshold"] == 10
    assert (stem["threshold_low"], stem["return_to_zero"]) == (-32768, True)


def test_requests_that_cannot_be_served_are_named(row, frames, tmp_path):
    with pytest.raises(InputError, match=r"there is no run\.py"):
        SPECK.run(tmp_path, frames(row, 1), 6, 60)
    with pytest.raises(InputError, match="this is a float network; quantise it first"):
        SPECK.export(replace(row, weight_bits=None), tmp_path)
    SPECK.export(row, tmp_path)
    with pytest.raises(InputError, match="events are 0 or 1"):
        SPECK.run(tmp_path, 2 * frames(row, 1), 6, 60)
