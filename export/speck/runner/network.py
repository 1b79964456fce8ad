"""The exported network in sinabs: convolutions and integrate-and-fire layers, as its chip's plugin has them.

Its integers go through sinabs' own discretisation (`sinabs.backend.dynapcnn.discretize`), which scales a
layer until weights and biases fill 8 bits or thresholds 16: with the lower threshold at −2^15 there is
nothing left to scale, so they come out as they went in, or `discretized` says that they don't. The rest of
that plugin needs samna, the vendor's driver; `sequential` is what it takes, for who has it:

    from sinabs.backend.dynapcnn import DynapcnnNetwork
    chip = DynapcnnNetwork(network.sequential(folder), input_shape=…, discretize=False)
    chip.to("speck2fmodule", chip_layers_ordering=…)     # the manifest's "cores_in_order"
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import sinabs
import sinabs.layers as sl
import torch
from sinabs.activation import MembraneReset, SingleSpike
from torch import nn

BATCH = 32
"""Samples that are shown together."""

Fields = dict[str, Any]


def record(
    layers: list[Fields],
    arrays: Fields,
    source: str,
    inputs: np.ndarray,
    progress: Callable[[int, int], None] | None = None,
) -> Fields:
    """Show every sample of `inputs` (N, T, *shape).

    Args:
        layers: the manifest's, sources before what they feed.
        arrays: weights and biases, "NAME/weight" and "NAME/bias".
        source: the input's name.
        progress: called with (samples done, N).

    Returns:
        Of every layer its spikes, uint8 (N, T, *shape).
    """
    pairs = {layer["name"]: discretized(layer, *modules(layer, arrays)) for layer in layers}
    parts = []
    with torch.no_grad():
        for start in range(0, len(inputs), BATCH):
            batch = torch.from_numpy(np.array(inputs[start : start + BATCH], dtype=np.float32))
            parts.append(_present(layers, pairs, {source: batch}))
            if progress is not None:
                progress(start + len(batch), len(inputs))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _present(layers: list[Fields], pairs: Fields, emitted: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The spikes of every layer, uint8 (B, T, *shape), for `emitted` inputs (B, T, *shape)."""
    spikes = {}
    for layer in layers:
        convolution, neurons = pairs[layer["name"]]
        arriving = emitted[layer["source"]]
        maps = arriving.reshape(-1, *layer["source_shape"])
        current = convolution(sl.SumPool2d(layer["pooling"])(maps) if layer["pooling"] > 1 else maps)
        neurons.reset_states()
        fired = neurons(current.unflatten(0, arriving.shape[:2]))
        emitted[layer["name"]] = fired
        spikes[layer["name"]] = fired.reshape(*arriving.shape[:2], *layer["shape"]).numpy().astype(np.uint8)
    return spikes


def modules(
    layer: Fields, arrays: Fields, neurons: type[sl.IAF] = sl.IAF, **options: Any
) -> tuple[nn.Conv2d, sl.IAF]:
    """A layer's convolution and its neurons, which fire at `threshold`, once a step, and go to zero."""
    weight = torch.from_numpy(arrays[f"{layer['name']}/weight"].astype(np.float32))
    features, channels, height, width = weight.shape
    convolution = nn.Conv2d(
        channels, features, (height, width), layer["stride"], layer["padding"], bias=layer["biased"]
    )
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    if layer["biased"]:
        bias = torch.from_numpy(arrays[f"{layer['name']}/bias"].astype(np.float32))
        convolution.bias = nn.Parameter(bias, requires_grad=False)
    neuron_layer = neurons(
        spike_threshold=torch.tensor(float(layer["threshold"])),
        spike_fn=SingleSpike,
        reset_fn=MembraneReset(),
        min_v_mem=float(layer["threshold_low"]),
        **options,
    )
    return convolution, neuron_layer


def discretized(layer: Fields, convolution: nn.Conv2d, neurons: sl.IAF) -> tuple[nn.Conv2d, sl.IAF]:
    """Both as sinabs' own discretisation leaves them, having seen that it changed nothing.

    Raises:
        ValueError: it did.
    """
    rounded, fired = _discretisation().discretize_conv_spike(convolution, neurons, to_int=False)
    before = [*convolution.parameters(), neurons.spike_threshold, neurons.min_v_mem]
    after = [*rounded.parameters(), fired.spike_threshold, fired.min_v_mem]
    if not all(torch.equal(a.float(), b.float()) for a, b in zip(before, after, strict=True)):
        raise ValueError(f"sinabs discretises {layer['name']} to other integers than were exported")
    return rounded, fired


def _discretisation() -> ModuleType:
    """sinabs' module for it, loaded alone: the package that it lies in imports samna."""
    path = Path(sinabs.__file__).parent / "backend" / "dynapcnn" / "discretize.py"
    spec = importlib.util.spec_from_file_location("sinabs_discretize", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no module at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sequential(folder: Path, batch_size: int = 1) -> nn.Sequential:
    """The network of an exported folder, its layers in a row, for frames (batch_size·T, C, H, W).

    Raises:
        ValueError: a layer feeds two others, or not the one behind it.
    """
    folder = Path(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    with np.load(folder / manifest["network"], allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    stack, source = nn.Sequential(), manifest["inputs"][0]["name"]
    for layer in manifest["layers"]:
        if layer["source"] != source:
            raise ValueError(f"{layer['name']} is fed by {layer['source']}, in a row it would be by {source}")
        if layer["pooling"] > 1:
            stack.append(sl.SumPool2d(layer["pooling"]))
        stack.extend(modules(layer, arrays, sl.IAFSqueeze, batch_size=batch_size))
        source = layer["name"]
    return stack
