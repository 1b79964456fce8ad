"""Run this folder's network in sinabs, in the chip's integers. snnkd isn't needed.

    python run.py --inputs inputs.npy --output recording.npz [--timesteps T]

inputs.npy      0 or 1, (N, *shape) shown at every step or (N, T, *shape); manifest.json has the shape
recording.npz   "spikes/NAME": uint8 (N, T, *shape) of each layer; "seconds": float64, start-up excluded

network.py makes sinabs' layers of the integers in network.npz. Needs numpy, torch and sinabs. Exit status:
0 done, 1 sinabs failed, 2 the request can't be served; stderr's last line says why.
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


class RequestError(Exception):
    """What was asked can't be served, for the reason given."""


def main() -> None:
    arguments = parse_arguments()
    folder = Path(__file__).resolve().parent
    try:
        manifest, arrays = read_network(folder)
        timesteps = manifest["timesteps"] if arguments.timesteps is None else arguments.timesteps
        inputs = read_inputs(arguments.inputs, manifest["inputs"][0], timesteps)
        if timesteps > manifest["timesteps"]:
            print(f"run.py: note: 16 bits are proven for {manifest['timesteps']} steps", file=sys.stderr)
        write(arguments.output, record(manifest, arrays, inputs))
    except RequestError as error:
        leave(str(error), 2)
    except MemoryError as error:
        leave(f"too large for this machine ({error})", 2)
    except ImportError as error:
        leave(f"a package is missing ({error}); install torch and sinabs", 2)
    except Exception as error:  # whatever sinabs raises
        leave(f"sinabs failed ({error!r}); if a file is damaged, export it again", 1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run this folder's network and record what it emits.")
    parser.add_argument("--inputs", type=Path, required=True, help="0 or 1, (N, *shape) or (N, T, *shape)")
    parser.add_argument("--output", type=Path, required=True, help="the recording to write, .npz")
    parser.add_argument("--timesteps", type=int, help="steps per sample (default: the manifest's)")
    return parser.parse_args()


def leave(reason: str, status: int) -> None:
    print(f"run.py: {' '.join(reason.split())}", file=sys.stderr, flush=True)
    sys.exit(status)


def read_network(folder: Path) -> tuple[Fields, Fields]:
    """The manifest, and the arrays of the file that it names."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        name = manifest["network"]
        for key in ("timesteps", "inputs", "layers"):
            manifest[key]
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != manifest["sha256"][name]:
            print(f"run.py: note: {name} has changed since it was exported", file=sys.stderr)
        with np.load(folder / name, allow_pickle=False) as file:
            return manifest, {key: file[key] for key in file.files}
    except OSError as error:
        reason = f"can't read {error.filename} ({error.strerror})"
        raise RequestError(f"{reason}; export the network again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} or its arrays are damaged ({error!r}); export again") from error


def read_inputs(path: Path, port: Fields, timesteps: int) -> np.ndarray:
    """The input's values for every sample and step, (N, T, *shape)."""
    try:
        inputs = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RequestError(f"can't read {path} ({error}); save integers with numpy.save") from error
    shape = tuple(port["shape"])
    if not isinstance(inputs, np.ndarray):
        raise RequestError(f"{path} holds several arrays, the network has one input; use numpy.save")
    static = inputs.shape[1:] == shape
    if inputs.size == 0 or not (static or inputs.shape[2:] == shape):
        takes = "(N, {0}) or (N, T, {0})".format(", ".join(map(str, shape)))
        raise RequestError(f"inputs have shape {inputs.shape}, the network takes {takes}")
    if inputs.dtype.kind not in "iub" or inputs.min() < 0 or inputs.max() > 1:
        raise RequestError(f"inputs hold {inputs.dtype} {inputs.min()} … {inputs.max()}; events are 0 or 1")
    if timesteps < 1 or not (static or inputs.shape[1] == timesteps):
        shown = "any number of" if static else inputs.shape[1]
        raise RequestError(f"inputs have {shown} steps, {timesteps} are asked for; use --timesteps")
    return np.broadcast_to(inputs[:, None], (len(inputs), timesteps, *shape)) if static else inputs


def record(manifest: Fields, arrays: Fields, inputs: np.ndarray) -> Fields:
    """What the network emits, by the names that are written."""
    import network

    started = time.perf_counter()
    spikes = network.record(
        manifest["layers"],
        arrays,
        manifest["inputs"][0]["name"],
        inputs,
        lambda done, all_: print(f"{done}/{all_} samples", file=sys.stderr),
    )
    seconds = np.float64(time.perf_counter() - started)
    return {f"spikes/{name}": values for name, values in spikes.items()} | {"seconds": seconds}


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
