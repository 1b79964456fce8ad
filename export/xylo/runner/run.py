"""Run this folder's network in SynSense's xylosim and record its spikes. snnkd isn't needed.

    python run.py --inputs inputs.npy --output recording.npz [--timesteps T]

inputs.npy      integers, (N, *shape) shown at every step or (N, T, *shape); manifest.json has shape and range
recording.npz   "spikes/NAME": uint8 (N, T, *shape), the spikes of each layer in each step; "seconds": float64

network.npz has the chip's tables: int8 weights (source, target) of the groups input, recurrent and output,
the `shifts` of these groups in this order, and each neuron's threshold, bias and dashes. A layer works
`delay` steps behind the first, so a sample runs for that many steps more, without input, and recorded steps
are counted from `delay` on. Every sample begins with all states at zero. Needs numpy and xylosim. Exit
status: 0 done, 1 xylosim failed, 2 the request can't be served; stderr's last line says why.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

Fields = dict[str, Any]

TABLES = {
    "input": ("channels", "hidden"),
    "recurrent": ("hidden", "hidden"),
    "output": ("hidden", "outputs"),
    "shifts": ("groups",),
    **{f"hidden_{name}": ("hidden",) for name in ("threshold", "bias", "current_dash", "dash")},
    **{f"output_{name}": ("outputs",) for name in ("threshold", "bias", "current_dash", "dash")},
}
"""What network.npz holds, and the length of each axis."""

SAMPLES_BETWEEN_REPORTS = 16


class RequestError(Exception):
    """What was asked can't be served, for the reason given."""


def main() -> None:
    arguments = parse_arguments()
    folder = Path(__file__).resolve().parent
    try:
        manifest, tables = read_network(folder)
        timesteps = manifest["timesteps"] if arguments.timesteps is None else arguments.timesteps
        inputs = read_inputs(arguments.inputs, manifest["input"], timesteps)
        write(arguments.output, record(manifest, tables, inputs))
    except RequestError as error:
        leave(str(error), 2)
    except MemoryError as error:
        leave(f"too large for this machine ({error})", 2)
    except ImportError as error:
        leave(f"a package is missing ({error}); install xylosim", 2)
    except Exception as error:  # whatever xylosim raises
        leave(f"xylosim failed ({error!r}); if a file is damaged, export it again", 1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run this folder's network and record what it emits.")
    parser.add_argument("--inputs", type=Path, required=True, help="integers, (N, *shape) or (N, T, *shape)")
    parser.add_argument("--output", type=Path, required=True, help="the recording to write, .npz")
    parser.add_argument("--timesteps", type=int, help="steps per sample (default: the manifest's)")
    return parser.parse_args()


def leave(reason: str, status: int) -> None:
    print(f"run.py: {' '.join(reason.split())}", file=sys.stderr, flush=True)
    sys.exit(status)


def read_network(folder: Path) -> tuple[Fields, dict[str, np.ndarray]]:
    """The manifest, and the tables that it describes."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        for name in ("timesteps", "input", "layers", "sha256", "hidden_neurons", "output_neurons"):
            manifest[name]
        content = (folder / "network.npz").read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest["sha256"]["network.npz"]:
            print("run.py: note: network.npz has changed since it was exported", file=sys.stderr)
        with np.load(folder / "network.npz", allow_pickle=False) as file:
            tables = {name: file[name] for name in TABLES}
        lengths = {
            "channels": int(np.prod(manifest["input"]["shape"])),
            "hidden": manifest["hidden_neurons"],
            "outputs": manifest["output_neurons"],
            "groups": 3,
        }
        for name, axes in TABLES.items():
            expected = tuple(lengths[axis] for axis in axes)
            if tables[name].shape != expected or tables[name].dtype.kind != "i":
                raise ValueError(f"{name} is {tables[name].dtype} {tables[name].shape}, not {expected}")
        for layer in manifest["layers"]:
            size = int(np.prod(layer["shape"]))
            end = layer["first_neuron"] + size
            if not 0 < end <= lengths["outputs" if layer["population"] == "output" else "hidden"]:
                raise ValueError(f"{layer['name']} lies outside its population")
    except OSError as error:
        reason = f"can't read {error.filename} ({error.strerror})"
        raise RequestError(f"{reason}; export the network again") from error
    except (ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise RequestError(f"{folder} is damaged ({error!r}); export the network again") from error
    return manifest, tables


def read_inputs(path: Path, port: Fields, timesteps: int) -> np.ndarray:
    """The events of every sample, step and channel, (N, T, channels)."""
    try:
        inputs = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RequestError(f"can't read {path} ({error}); save integers with numpy.save") from error
    if not isinstance(inputs, np.ndarray):
        raise RequestError(f"{path} holds several arrays, the network has one input; use numpy.save")
    shape, payload_max = tuple(port["shape"]), port["payload_max"]
    static = inputs.shape[1:] == shape
    if inputs.size == 0 or timesteps < 1 or not (static or inputs.shape[1:] == (timesteps, *shape)):
        takes = ", ".join(map(str, shape))
        raise RequestError(
            f"inputs have shape {inputs.shape}, the network takes (N, {takes}) or (N, {timesteps}, {takes})"
        )
    if inputs.dtype.kind not in "iub" or inputs.min() < 0 or inputs.max() > payload_max:
        found = f"{inputs.dtype} {inputs.min()} … {inputs.max()}"
        raise RequestError(f"inputs hold {found}, the network takes integers 0 … {payload_max}")
    over_time = np.broadcast_to(inputs[:, None], (len(inputs), timesteps, *shape)) if static else inputs
    return over_time.reshape(len(inputs), timesteps, -1)


def record(manifest: Fields, tables: dict[str, np.ndarray], inputs: np.ndarray) -> Fields:
    """What every layer emits, by the names that are written."""
    samples, timesteps, channels = inputs.shape
    layers = manifest["layers"]
    after = max(layer["delay"] for layer in layers)
    recording: Fields = {
        f"spikes/{layer['name']}": np.empty((samples, timesteps, *layer["shape"]), np.uint8)
        for layer in layers
    }
    silence = np.zeros((after, channels), np.int64)
    chip, _owned = build(tables)
    started = time.perf_counter()
    for sample in range(samples):
        chip.reset_all()
        outputs = chip.evolve(np.concatenate([inputs[sample], silence]).astype(int).tolist())
        spikes = {"output": np.array(outputs), "hidden": np.array(chip.rec_recurrent_spikes)}
        for layer in layers:
            first, size = layer["first_neuron"], int(np.prod(layer["shape"]))
            steps = slice(layer["delay"], layer["delay"] + timesteps)
            emitted = spikes[layer["population"]][steps, first : first + size]
            recording[f"spikes/{layer['name']}"][sample] = emitted.reshape(timesteps, *layer["shape"])
        if (sample + 1) % SAMPLES_BETWEEN_REPORTS == 0 or sample + 1 == samples:
            print(f"{sample + 1}/{samples} samples", file=sys.stderr, flush=True)
    return recording | {"seconds": np.float64(time.perf_counter() - started)}


def build(tables: dict[str, np.ndarray]) -> tuple[Any, Any]:
    """The chip in xylosim, as SynSense's rockpool sets it up, with one synapse state per neuron.

    xylosim refers to the synapses that it was given without owning them, so they go with the chip.
    """
    from xylosim.v2 import XyloLayer, XyloSynapse

    def synapses(weights: np.ndarray) -> list[list[Any]]:
        """From each source one synapse to each target, those of weight zero left out."""
        return [[XyloSynapse(int(to), 0, int(row[to])) for to in np.flatnonzero(row)] for row in weights]

    lists = {name: table.astype(int).tolist() for name, table in tables.items() if table.ndim == 1}
    shift_in, shift_recurrent, shift_out = lists["shifts"]
    owned = [synapses(tables[group]) for group in ("input", "recurrent", "output")]
    chip = XyloLayer(
        synapses_in=owned[0],
        synapses_rec=owned[1],
        synapses_out=owned[2],
        aliases=[[] for _ in lists["hidden_threshold"]],
        threshold=lists["hidden_threshold"],
        threshold_out=lists["output_threshold"],
        has_bias=any(lists["hidden_bias"]) or any(lists["output_bias"]),
        bias=lists["hidden_bias"],
        bias_out=lists["output_bias"],
        weight_shift_inp=shift_in,
        weight_shift_rec=shift_recurrent,
        weight_shift_out=shift_out,
        dash_mem=lists["hidden_dash"],
        dash_mem_out=lists["output_dash"],
        dash_syns=[[dash, 0] for dash in lists["hidden_current_dash"]],
        dash_syns_out=[[dash] for dash in lists["output_current_dash"]],
        name="exported",
    )
    return chip, owned


def write(path: Path, recording: Fields) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **recording)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RequestError(f"can't write {path}: {error.strerror}") from error


if __name__ == "__main__":
    main()
