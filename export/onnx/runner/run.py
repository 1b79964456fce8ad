"""Run one of this folder's networks in onnxruntime. snnkd isn't needed, numpy and onnxruntime are.

    python run.py --inputs inputs.npy --output recording.npz [--timesteps T] [--model NAME] [--threads N]

inputs.npy      integers, (N, *shape) shown at every step or (N, T, *shape); manifest.json has their range;
                of a network with several inputs an .npz with an array for each
recording.npz   of the integer network, "network": "spikes/NAME", uint8 (N, T, *shape) of each spiking layer;
                "sums/NAME", int64 (N, T, *shape) of each read-out, bias taken off (potentials in 2^-6);
                of any other of manifest.json's models: "logits", float32 (N, K).
                "seconds": float64, start-up excluded

Exit status: 0 done, 1 onnxruntime failed, 2 the request can't be served; stderr's last line says why.
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

import engine
import numpy as np

Fields = dict[str, Any]


class RequestError(Exception):
    """What was asked can't be served, for the reason given."""


def main() -> None:
    arguments = parse_arguments()
    folder = Path(__file__).resolve().parent
    try:
        manifest = read_manifest(folder)
        facts = chosen_model(manifest, arguments.model)
        timesteps = manifest["timesteps"] if arguments.timesteps is None else arguments.timesteps
        inputs = read_inputs(arguments.inputs, manifest["inputs"], timesteps)
        if facts["kind"] == "network" and timesteps != manifest["timesteps"]:
            note(f"proven exact for {manifest['timesteps']} steps alone")
        write(arguments.output, run(manifest, facts, inputs, timesteps, arguments.threads))
    except RequestError as error:
        leave(str(error), 2)
    except engine.ModelError as error:
        leave(str(error), 2)
    except MemoryError as error:
        leave(f"too large for this machine ({error})", 2)
    except ImportError as error:
        leave(f"a package is missing ({error}); install onnxruntime", 2)
    except Exception as error:  # whatever onnxruntime raises
        leave(f"onnxruntime failed ({error!r}); if a file is damaged, export it again", 1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run one of this folder's networks in onnxruntime.")
    parser.add_argument("--inputs", type=Path, required=True, help="integers, (N, *shape) or (N, T, *shape)")
    parser.add_argument("--output", type=Path, required=True, help="what to write, .npz")
    parser.add_argument("--timesteps", type=int, help="steps per sample (default: the manifest's)")
    parser.add_argument("--model", default="network", help="which of the manifest's models to run")
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of onnxruntime (0: one for each core)"
    )
    return parser.parse_args()


def note(what: str) -> None:
    print(f"run.py: note: {what}", file=sys.stderr)


def leave(reason: str, status: int) -> None:
    print(f"run.py: {' '.join(reason.split())}", file=sys.stderr, flush=True)
    sys.exit(status)


def read_manifest(folder: Path) -> Fields:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        for name in ("timesteps", "sha256"):
            manifest[name]
        manifest["inputs"] = [
            {"name": p["name"], "shape": tuple(p["shape"]), "payload_max": int(p["payload_max"])}
            for p in manifest["inputs"]
        ]
        manifest["models"] = {
            name: {**facts, "kind": facts["kind"], "path": folder / facts["file"]}
            for name, facts in manifest["models"].items()
        }
    except OSError as error:
        raise RequestError(f"can't read {path} ({error.strerror}); export the network again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is damaged ({error!r}); export the network again") from error
    return manifest


def chosen_model(manifest: Fields, name: str) -> Fields:
    if name not in manifest["models"]:
        raise RequestError(f"there is no model {name!r}; there are: {', '.join(manifest['models'])}")
    return manifest["models"][name]


def read_inputs(path: Path, ports: list[Fields], timesteps: int) -> dict[str, np.ndarray]:
    """Each input's values, (N, *shape) or (N, T, *shape)."""
    try:
        given = np.load(path, allow_pickle=False)
        arrays = {name: given[name] for name in given.files} if hasattr(given, "files") else given
    except (OSError, ValueError, EOFError) as error:
        raise RequestError(f"can't read {path} ({error}); save integers with numpy.save") from error
    names = [port["name"] for port in ports]
    if not isinstance(arrays, dict):
        if len(names) != 1:
            raise RequestError(f"the network takes {names}; save an array for each with numpy.savez")
        arrays = {names[0]: arrays}
    if sorted(arrays) != sorted(names):
        raise RequestError(f"inputs are for {sorted(arrays)}, the network takes {sorted(names)}")
    for port in ports:
        check_input(arrays[port["name"]], port, timesteps)
    if len({len(values) for values in arrays.values()}) > 1:
        raise RequestError("inputs have different samples; save as many for each")
    return arrays


def check_input(values: np.ndarray, port: Fields, timesteps: int) -> None:
    shape, payload_max = port["shape"], port["payload_max"]
    if values.size == 0 or values.shape[1:] not in (shape, (timesteps, *shape)):
        takes = "(N, {0}) or, of {1} steps, (N, {1}, {0})".format(", ".join(map(str, shape)), timesteps)
        raise RequestError(f"inputs have shape {values.shape}, the network takes {takes}")
    if values.dtype.kind not in "iub" or values.min() < 0 or values.max() > payload_max:
        found = f"{values.dtype}" if values.dtype.kind not in "iub" else f"{values.min()} … {values.max()}"
        raise RequestError(f"inputs hold {found}, the network takes integers 0 … {payload_max}")


def run(
    manifest: Fields,
    facts: Fields,
    inputs: dict[str, np.ndarray],
    timesteps: int,
    threads: int,
) -> Fields:
    """What is written, by name."""
    path = facts["path"]
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != manifest["sha256"].get(path.name):
        note(f"{path.name} has changed since it was exported")
    shapes = {port["name"]: port["shape"] for port in manifest["inputs"]}
    model = engine.Model(path, facts, shapes, threads)
    started = time.perf_counter()
    answer = model.over(
        inputs, timesteps, lambda done, all_: print(f"{done}/{all_} samples", file=sys.stderr)
    )
    return {**answer, "seconds": np.float64(time.perf_counter() - started)}


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
