"""The network of a folder on SANA-FE's Loihi, sample after sample. It knows nothing of snnkd.

The architecture is the one that comes with SANA-FE (`loihi.yaml`), but for the number of input units: it
gives each of 128 cores 1,024 of them, which take seconds to build; here only the last tiles have many.

A population of depth d does step k of a sample at the chip's step k + d, and inputs do it at step k plus what
they wait. Its bias is on in just those T steps, and the state is reset between samples, so that a sample's T
steps, and as many more as there are layers, are all that its energy and time hold.
"""

from __future__ import annotations

import importlib
import re
import tempfile
from contextlib import redirect_stdout
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

sanafe: Any = importlib.import_module("sanafe")
Fields = dict[str, Any]
Arrays = dict[str, np.ndarray]

TILES = 32
CORES_PER_TILE = 4
NEVER = 2**30
"""A threshold that no potential reaches."""

FRACTION = 64
"""A read-out's potentials are told in the lowest bit of a register, 1/64."""

SYNAPSES = {"conv": "loihi_conv_synapse", "dense": "loihi_dense_synapse", "identity": "loihi_sparse_synapse"}
"""SANA-FE's Loihi prices a synaptic operation by the kind of the layer."""


class Chip:
    """A chip with the network on it.

    Args:
        groups: what the manifest says of each population, relay and input.
        paths: and of each path.
        arrays: the numbers that they name.
    """

    def __init__(self, groups: list[Fields], paths: list[Fields], arrays: Arrays):
        self.groups = groups
        self.depth = max(group["depth"] for group in groups)
        self.biases: dict[str, np.ndarray] = {}
        inputs = [group for group in groups if group["emits"] == "input"]
        first = min(int(arrays[group["core"]].min()) for group in inputs) // CORES_PER_TILE
        units = 1 + max(int(arrays[group["unit"]].max()) for group in inputs)
        architecture, network = load_loihi(first, units), sanafe.Network()
        made = {group["name"]: create(network, architecture, group, arrays) for group in groups}
        for path in paths:
            sources, targets, weights = (
                arrays[f"{path['array']}/{part}"].tolist() for part in ("source", "target", "weight")
            )
            pairs = list(zip(sources, targets, strict=True))
            made[path["source"]].connect_neurons_sparse(made[path["target"]], {"weight": weights}, pairs)
        self.chip = sanafe.SpikingChip(architecture)
        self.chip.load(network)
        self.neurons: dict[str, list[Any]] = dict(self.chip.mapped_neuron_groups)
        for group in groups:
            if "bias" in group:
                self.biases[group["name"]] = arrays[group["bias"]]
        self.driven: dict[str, np.ndarray] = {}

    def show(self, frames: dict[str, np.ndarray], timesteps: int) -> Fields:
        """Run one sample from rest.

        Args:
            frames: for every input, integers (T, n).

        Returns:
            Under "spikes" and "sums" arrays (T, n) by the group's name, under "figures" what it cost.
        """
        self.chip.reset()
        self.feed(frames)
        steps = timesteps + self.depth
        spiking = {g["name"]: g for g in self.groups if g["emits"] == "spikes"}
        spikes = {n: np.zeros((timesteps, len(self.neurons[n])), np.uint8) for n in spiking}
        potentials = []
        figures = dict.fromkeys(("energy_j", "latency_s", "synaptic_operations", "messages"), 0.0)
        for step in range(steps):
            self.switch_biases(step, timesteps)
            with redirect_stdout(StringIO()):  # it says after every call how many steps it has done
                ran = self.chip.sim(1, processing_threads=1, spike_trace=True, potential_trace=True)
            figures["energy_j"] += ran["energy"]["total"]
            figures["latency_s"] += ran["sim_time"]
            figures["synaptic_operations"] += ran["spikes"]
            figures["messages"] += ran["packets_sent"]
            potentials.append(ran["potential_trace"][0])
            for fired in ran["spike_trace"][0]:
                group = spiking.get(fired.group_name)
                if group is not None and 0 <= step - group["depth"] < timesteps:
                    spikes[fired.group_name][step - group["depth"], fired.neuron_offset] += 1
        self.switch_biases(steps, timesteps)
        return {"spikes": spikes, "sums": self.read_out(np.array(potentials), timesteps), "figures": figures}

    def feed(self, frames: dict[str, np.ndarray]) -> None:
        """Give every input's neurons their spikes; those that had none, and have none, stay as they are."""
        for group in self.groups:
            if group["emits"] != "input":
                continue
            name, wait = group["name"], group["wait"]
            values = frames[group["input"]] >> group["bit"] & 1
            before = self.driven.get(name, np.zeros(values.shape[1], bool))
            self.driven[name] = values.any(axis=0)
            for neuron in np.flatnonzero(before | self.driven[name]):
                train = [0] * wait + values[:, neuron].tolist()
                self.neurons[name][neuron].set_attributes(model_attributes={"spikes": train})

    def switch_biases(self, step: int, timesteps: int) -> None:
        """Turn on the biases of the populations that begin at this step, off those of the ones that end."""
        for group in self.groups:
            bias = self.biases.get(group["name"])
            if bias is None or step not in (group["depth"], group["depth"] + timesteps):
                continue
            on = int(step == group["depth"])
            for neuron in np.flatnonzero(bias):
                setting = {"bias": int(bias[neuron]) * on}
                self.neurons[group["name"]][neuron].set_attributes(model_attributes=setting)

    def read_out(self, potentials: np.ndarray, timesteps: int) -> dict[str, np.ndarray]:
        """The potentials (steps, neurons) of the read-outs, which SANA-FE lists by the groups' names."""
        values, start = {}, 0
        for group in sorted(self.groups, key=lambda group: group["name"]):
            if group["emits"] not in ("sums", "potentials"):
                continue
            size = len(self.neurons[group["name"]])
            own = potentials[group["depth"] : group["depth"] + timesteps, start : start + size]
            values[group["name"]] = whole(own * (FRACTION if group["emits"] == "potentials" else 1))
            start += size
        return values


def load_loihi(first: int, units: int) -> Any:
    """SANA-FE's Loihi, with `units` input units in each core from the `first` tile on, 1 in the others."""
    text = (files("sanafe.examples") / "loihi.yaml").read_text()
    found = re.fullmatch(
        rf"(.*?)(^ *- name: loihi_tile\[0\.\.{TILES - 1}\].*)", text, re.DOTALL | re.MULTILINE
    )
    if found is None or "loihi_inputs[0..1023]" not in text:
        raise ValueError("its loihi.yaml isn't the one that is known here; install sanafe 2.2.9")
    head, tile = found.groups()
    parts = [head]
    for start, end, inputs in ((0, first, 1), (first, TILES, units)):
        if start == end:
            continue
        described = tile.replace(f"loihi_tile[0..{TILES - 1}]", f"loihi_tile[{start}..{end - 1}]")
        parts.append(described.replace("loihi_inputs[0..1023]", f"loihi_inputs[0..{inputs - 1}]"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loihi.yaml"
        path.write_text("\n".join(parts))
        return sanafe.load_arch(str(path))


def create(network: Any, architecture: Any, group: Fields, arrays: Arrays) -> Any:
    """A group of neurons, each on its core."""
    cores, name = arrays[group["core"]], group["name"]
    if group["emits"] == "input":
        made = network.create_neuron_group(name, len(cores))
        for neuron, unit in zip(made, arrays[group["unit"]], strict=True):
            neuron.set_attributes(soma_hw_name=f"loihi_inputs[{unit}]", log_spikes=False)
    else:
        made = network.create_neuron_group(
            name,
            len(cores),
            {
                "reset": 0,
                "reset_mode": "hard",
                "leak_decay": float(group["decay"]),
                "input_decay": float(group["current_decay"]),
                "threshold": NEVER,
                "force_update": 1,
            },
            default_synapse_hw_name=SYNAPSES[group["kind"]],
            default_dendrite_hw_name="loihi_dendrites",
            soma_hw_name="loihi_lif",
            log_spikes=group["emits"] == "spikes",
            log_potential=group["emits"] != "spikes",
        )
        if "threshold" in group:
            for neuron, threshold in zip(made, arrays[group["threshold"]].tolist(), strict=True):
                neuron.set_attributes(model_attributes={"threshold": threshold})
    for neuron, core in zip(made, cores.tolist(), strict=True):
        neuron.map_to_core(architecture.tiles[core // CORES_PER_TILE].cores[core % CORES_PER_TILE])
    return made


def whole(values: np.ndarray) -> np.ndarray:
    """Read-outs as int64."""
    integers = np.rint(values)
    if not np.array_equal(integers, values):
        raise ValueError(f"a read-out is {values[integers != values].flat[0]!r}, expected a whole number")
    return integers.astype(np.int64)
