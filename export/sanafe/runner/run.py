"""Run this folder's network on SANA-FE's Loihi. snnkd isn't needed: numpy and sanafe are.

    python run.py --inputs inputs.npy --output recording.npz [--timesteps T]

inputs.npy      integers, (N, *shape) shown at every step or (N, T, *shape), in the range that manifest.json
                gives; a network with several inputs takes .npz with an array for each
recording.npz   "spikes/NAME": uint8 (N, T, *shape) of each spiking layer
                "sums/NAME": int64 (N, T, *shape) of each read-out: its sums, or potentials in 64ths
                "figures/energy_j", "figures/latency_s", "figures/synaptic_operations", "figures/messages":
                float64 (N,), what SANA-FE says each sample took
                "seconds": float64, without building the chip

chip.py builds the network of network.npz and manifest.json. Exit status: 0 done, 1 the simulator failed,
2 the request can't be served; stderr's last line says why.
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

import numpy as np

Fields = dict[str, Any]
Arrays = dict[str, np.ndarray]


class RequestError(Exception):
    """What was asked can't be served, for the reason given."""


def main() -> None:
    arguments = parse_arguments()
    try:
        manifest, arrays = read_network(Path(__file__).resolve().parent)
        timesteps = manifest["timesteps"] if arguments.timesteps is None else arguments.timesteps
        inputs = read_inputs(arguments.inputs, manifest["inputs"], timesteps)
        if timesteps != manifest["timesteps"]:
            print(f"run.py: note: ranges are proven for {manifest['timesteps']} steps", file=sys.stderr)
        write(arguments.output, record(manifest, arrays, inputs, timesteps))
    except RequestError as error:
        leave(str(error), 2)
    except MemoryError as error:
        leave(f"too large for this machine ({error})", 2)
    except ImportError as error:
        leave(f"a package is missing ({error}); install sanafe", 2)
    except Exception as error:  # whatever the simulator raises
        leave(f"the simulator failed ({error!r}); if a file is damaged, export it again", 1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run this folder's network and record what it emits.")
    parser.add_argument("--inputs", type=Path, required=True, help="integers, (N, *shape) or (N, T, *shape)")
    parser.add_argument("--output", type=Path, required=True, help="the recording to write, .npz")
    parser.add_argument("--timesteps", type=int, help="steps per sample (default: the manifest's)")
    return parser.parse_args()


def leave(reason: str, status: int) -> None:
    print(f"run.py: {' '.join(reason.split())}", file=sys.stderr, flush=True)
    sys.exit(status)


def read_network(folder: Path) -> tuple[Fields, Arrays]:
    """The manifest, and the arrays that it names."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        for name in ("target", "timesteps", "network", "inputs", "groups", "paths"):
            manifest[name]
        content = (folder / manifest["network"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest["sha256"][manifest["network"]]:
            print(f"run.py: note: {manifest['network']} has changed since it was exported", file=sys.stderr)
        with np.load(folder / manifest["network"], allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except OSError as error:
        reason = f"can't read {error.filename} ({error.strerror})"
        raise RequestError(f"{reason}; export the network again") from error
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise RequestError(f"{path} is damaged ({error!r}); export the network again") from error
    return manifest, arrays


def read_inputs(path: Path, ports: list[Fields], timesteps: int | None) -> Arrays:
    """Every input's values for every sample and step, (N, T, n) by its name."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            found = {ports[0]["name"]: loaded}
        else:
            found = {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError) as error:
        raise RequestError(f"can't read {path} ({error}); save integers with numpy.save") from error
    if set(found) != {port["name"] for port in ports}:
        names = ", ".join(port["name"] for port in ports)
        raise RequestError(f"{path} holds {', '.join(found)}, the network takes {names}")
    frames = {port["name"]: as_frames(found[port["name"]], port, timesteps) for port in ports}
    if len({values.shape[:2] for values in frames.values()}) > 1:
        shapes = ", ".join(f"{name} {values.shape[:2]}" for name, values in frames.items())
        raise RequestError(f"the inputs differ in samples or steps: {shapes}")
    return frames


def as_frames(values: np.ndarray, port: Fields, timesteps: int | None) -> np.ndarray:
    """One input's values, (N, T, n)."""
    shape, most = tuple(port["shape"]), port["payload_max"]
    static = values.shape[1:] == shape
    if values.size == 0 or not (static or values.shape[2:] == shape):
        takes = "(N, {0}) or (N, T, {0})".format(", ".join(map(str, shape)))
        raise RequestError(f"{port['name']} has shape {values.shape}, the network takes {takes}")
    if values.dtype.kind not in "iub" or values.min() < 0 or values.max() > most:
        found = f"{values.dtype} {values.min()} … {values.max()}"
        raise RequestError(f"{port['name']} holds {found}, the network takes integers 0 … {most}")
    if timesteps is None or timesteps < 1:
        raise RequestError(f"the number of steps is {timesteps}; choose 1 or more with --timesteps")
    if static:
        values = np.broadcast_to(values[:, None], (len(values), timesteps, *shape))
    if values.shape[1] != timesteps:
        raise RequestError(f"{port['name']} has {values.shape[1]} steps, {timesteps} are asked for")
    return values.reshape(*values.shape[:2], -1)


def record(manifest: Fields, arrays: Arrays, inputs: Arrays, timesteps: int) -> Fields:
    """What the network emits and takes, by the names that are written."""
    from chip import Chip

    chip = Chip(manifest["groups"], manifest["paths"], arrays)
    samples, shown = len(next(iter(inputs.values()))), []
    started = time.perf_counter()
    for sample in range(samples):
        frames = {name: values[sample].astype(np.int64) for name, values in inputs.items()}
        shown.append(chip.show(frames, timesteps))
        print(f"{sample + 1}/{samples} samples", file=sys.stderr, flush=True)
    recording: Fields = {"seconds": np.float64(time.perf_counter() - started)}
    for group in manifest["groups"]:
        kind = {"spikes": "spikes", "sums": "sums", "potentials": "sums"}.get(group["emits"])
        if kind is not None and not group["relay"]:
            values = np.stack([sample[kind][group["name"]] for sample in shown])
            recording[f"{kind}/{group['population']}"] = values.reshape(*values.shape[:2], *group["shape"])
    for name in shown[0]["figures"]:
        recording[f"figures/{name}"] = np.array([sample["figures"][name] for sample in shown])
    return recording


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
