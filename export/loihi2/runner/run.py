"""Run this folder's network in Lava and record all that it emits. snnkd isn't needed.

    python run.py --inputs inputs.npy --output recording.npz [--timesteps T] [--predict]
                  [--fast-conv] [--netx [--hardware]]

inputs.npy      integers, (N, *shape) shown at every step or (N, T, *shape); for several inputs an .npz with
                an array for each by its name; manifest.json has shapes and ranges
recording.npz   "spikes/NAME": uint8 (N, T, *shape) of each spiking layer; "sums/NAME": int64 (N, T, *shape)
                of each read-out: its sums, or its potentials in 64ths; "seconds": float64, start-up excluded
prediction      the largest of the outputs' totals, as manifest.json describes them

The network is built from `lava.proc` by build.py; --netx has lava-dl load network.net instead, where there
is one. Lava takes a step per synapse layer: the layer of depth d shows step k of the stream at time k + d,
and is reset just as a sample's first step reaches it. So one running network takes sample after sample, each
as if it were the first, and what is recorded has the delay taken out.

The recording is held in memory, a byte for each neuron and step. Needs lava-nc 0.10, numpy, scipy, networkx
and asteval; --netx needs lava-dl 0.6 and h5py too. Exit status: 0 done, 1 Lava failed, 2 the request can't be
served; stderr's last line says why.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import lava_repairs
import numpy as np

WATCH_SECONDS = 0.5
POTENTIAL_UNIT = 64
"""A potential's lowest bit is a 64th of an integer."""

INTERRUPTED = threading.Event()
"""Whether SIGINT has come."""

Fields = dict[str, Any]


class RequestError(Exception):
    """What was asked can't be served, for the reason given."""


def main() -> None:
    arguments = parse_arguments()
    clean_up_when_terminated()
    folder = Path(__file__).resolve().parent
    try:
        if arguments.hardware and not arguments.netx:
            raise RequestError("--hardware runs the netx file; add --netx")
        manifest = read_manifest(folder, "network.net" if arguments.netx else "network.npz")
        timesteps = manifest["timesteps"] if arguments.timesteps is None else arguments.timesteps
        inputs = read_inputs(arguments.inputs, manifest["inputs"], timesteps)
        if timesteps != manifest["timesteps"]:
            print(f"run.py: note: ranges are proven for {manifest['timesteps']} steps alone", file=sys.stderr)
        network = load(folder, manifest, inputs, arguments)
        recording = record(network, manifest, inputs, arguments.hardware)
        write(arguments.output, recording)
        if arguments.predict:
            print(*predictions(recording, manifest["outputs"]), sep="\n")
    except RequestError as error:
        leave(str(error), 2)
    except KeyboardInterrupt:
        leave("interrupted", 128 + signal.SIGINT)
    except MemoryError as error:
        leave(f"too large for this machine ({error})", 2)
    except ImportError as error:
        leave(f"Lava isn't installed ({error}); install lava-nc 0.10, for --netx lava-dl 0.6 too", 2)
    except Exception as error:  # whatever Lava raises: its processes must not outlive this one
        leave(f"Lava failed ({error!r}); if a file of the network is damaged, export it again", 1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run this folder's network in Lava and record what it emits."
    )
    add = parser.add_argument
    add("--inputs", type=Path, required=True, help="integers, (N, *shape) or (N, T, *shape), .npy or .npz")
    add("--output", type=Path, required=True, help="the recording to write, .npz")
    add("--timesteps", type=int, help="steps per sample (default: the manifest's)")
    add("--predict", action="store_true", help="print each sample's class to stdout")
    add("--fast-conv", action="store_true", help="convolve by a matrix product, equal and faster")
    add("--netx", action="store_true", help="run network.net, as lava-dl loads it")
    add("--hardware", action="store_true", help="run on a Loihi 2, with --netx (untested on silicon)")
    return parser.parse_args()


def clean_up_when_terminated() -> None:
    """End as `leave` does on SIGTERM; Lava's processes, forked from this one, just obey that and SIGINT."""
    get_temp_dir()  # from now on Lava's processes share this one's
    signal.signal(signal.SIGTERM, lambda *_: leave("ended from outside", 128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, interrupt)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.register_at_fork(after_in_child=partial(signal.signal, number, signal.SIG_DFL))


def interrupt(*_: object) -> None:
    """On SIGINT; what this raises can get lost where Python ignores exceptions, so it is noted too."""
    INTERRUPTED.set()
    raise KeyboardInterrupt


def leave(reason: str, status: int) -> None:
    """End this process and Lava's, whose own way to stop waits for processes that may be gone.

    After SIGINT any other reason is a consequence: Lava's processes get it too, and end.
    """
    if INTERRUPTED.is_set():
        reason, status = "interrupted", 128 + signal.SIGINT
    for child in multiprocessing.active_children():
        child.terminate()
    shutil.rmtree(get_temp_dir(), ignore_errors=True)
    try:
        print(f"run.py: {reason}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def read_manifest(folder: Path, network: str) -> Fields:
    """The manifest, having been looked at as far as this script and build.py rely on it."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        for port in manifest["inputs"]:
            port["shape"] = tuple(map(int, port["shape"]))
        used = ("timesteps", "injectors", "relays", "layers", "outputs", "sha256")
        if not all(name in manifest for name in used):
            raise KeyError(next(name for name in used if name not in manifest))
        if network not in manifest["sha256"]:
            raise RequestError(
                f"the network isn't layers in a row, so there is no {network}; run without --netx"
            )
        if hashlib.sha256((folder / network).read_bytes()).hexdigest() != manifest["sha256"][network]:
            print(f"run.py: note: {network} has changed since it was exported", file=sys.stderr)
    except OSError as error:
        reason = f"can't read {error.filename} ({error.strerror})"
        raise RequestError(f"{reason}; export the network again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is damaged ({error!r}); export the network again") from error
    return manifest


def read_inputs(path: Path, ports: list[Fields], timesteps: int | None) -> dict[str, np.ndarray]:
    """Each input's values for every sample and step, (N, T, *shape); a single array is read as it is used."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        arrays = {ports[0]["name"]: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        remedy = "save integers with numpy.save, or numpy.savez for several inputs"
        raise RequestError(f"can't read {path} ({error}); {remedy}") from error
    names = [port["name"] for port in ports]
    if sorted(arrays) != sorted(names):
        raise RequestError(f"inputs are for {sorted(arrays)}, the network takes {sorted(names)}")
    checked = {port["name"]: check_input(arrays[port["name"]], port, timesteps) for port in ports}
    lengths = {values.shape[:2] for values in checked.values()}
    if len(lengths) > 1:
        raise RequestError(f"inputs have different samples or steps: {sorted(lengths)}")
    return checked


def check_input(inputs: np.ndarray, port: Fields, timesteps: int | None) -> np.ndarray:
    """One input as (N, T, *shape), if that is what it can be."""
    shape, payload_max = port["shape"], port["payload_max"]
    if len(shape) == 3 and shape[1] == 1 and inputs.shape[-2:] == (shape[0], shape[2]):
        inputs = inputs[..., None, :]  # a map of one dimension, (C, L)
    static = inputs.shape[1:] == shape
    if inputs.size == 0 or not (static or inputs.shape[2:] == shape):
        takes = "(N, {0}) or (N, T, {0})".format(", ".join(map(str, shape)))
        raise RequestError(f"inputs have shape {inputs.shape}, the network takes {takes}")
    if inputs.dtype.kind not in "iub":
        raise RequestError(f"inputs are {inputs.dtype}, the network takes integers 0 … {payload_max}")
    if inputs.min() < 0 or inputs.max() > payload_max:
        found = f"{inputs.min()} … {inputs.max()}"
        raise RequestError(f"inputs hold {found}, the network takes integers 0 … {payload_max}")
    if static:
        if timesteps is None or timesteps < 1:
            raise RequestError(f"the number of steps is {timesteps}; choose 1 or more with --timesteps")
        return np.broadcast_to(inputs[:, None], (len(inputs), timesteps, *shape))
    if timesteps not in (None, inputs.shape[1]):
        raise RequestError(f"inputs have {inputs.shape[1]} steps, {timesteps} are asked for; use --timesteps")
    return inputs


def load(folder: Path, manifest: Fields, inputs: Mapping[str, np.ndarray], arguments: Any) -> Any:
    """The network in Lava, not yet started."""
    timesteps = next(iter(inputs.values())).shape[1]
    lava_repairs.apply_to_lava()
    if arguments.fast_conv:
        import fast_conv

        fast_conv.apply()
    if arguments.netx:
        from sequential import SequentialNetwork

        lava_repairs.apply_to_netx()
        return SequentialNetwork(folder / "network.net", manifest, timesteps)
    from build import Network

    with np.load(folder / "network.npz", allow_pickle=False) as file:
        return Network(manifest, {name: file[name] for name in file.files}, timesteps)


def record(network: Any, manifest: Fields, inputs: Mapping[str, np.ndarray], hardware: bool) -> Fields:
    """Stream all samples through the network in Lava: what is written, by name."""
    samples, timesteps, *_ = next(iter(inputs.values())).shape
    handle = network.start(run_configuration(network.models, hardware))
    finished = threading.Event()
    actors = handle.runtime._messaging_infrastructure.actors
    watcher = threading.Thread(target=watch, args=(actors, finished))
    watcher.start()
    started = time.perf_counter()
    steps = stream(network, handle, manifest, inputs)
    seconds = time.perf_counter() - started
    finished.set()
    watcher.join()
    handle.stop()
    recording: Fields = {
        layer.name: recorded.reshape(samples, timesteps, *layer.shape)
        for layer, recorded in zip(network.watched, steps, strict=True)
    }
    return recording | {"seconds": np.float64(seconds)}


def run_configuration(models: Any, hardware: bool) -> Any:
    """Fixed-point simulation, or the chip; with the models given in place of what Lava would choose."""
    from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg
    from lava.utils import loihi

    if not hardware:
        return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)
    if not loihi.is_installed():
        raise RequestError("Lava's extension for Loihi hardware isn't installed; run without --hardware")
    print("run.py: note: running on hardware, which is untested on silicon", file=sys.stderr)
    return Loihi2HwCfg(exception_proc_model_map=models)


def stream(network: Any, handle: Any, manifest: Fields, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Send every sample, then nothing until the last has come through; each layer's steps, (N·T, *shape)."""
    from lava.magma.core.run_conditions import RunSteps

    samples, timesteps, *_ = next(iter(inputs.values())).shape
    watched = network.watched
    recorded = [
        np.zeros(
            (samples * timesteps, *layer.shape), np.uint8 if layer.name.startswith("spikes/") else np.int64
        )
        for layer in watched
    ]
    gated = [relay for relay in manifest["relays"] if relay["withheld"]]
    latency = max(layer.depth for layer in watched)
    steps = samples * timesteps + latency
    handle.run(RunSteps(num_steps=steps, blocking=False))
    for now in range(steps):
        for injector in manifest["injectors"]:
            network.send(injector["name"], frame(inputs[injector["input"]], injector, now))
        if gated:
            network.send("gates", np.array([withholds(relay, now + 1, timesteps) for relay in gated]))
        for layer, taken, emitted in zip(watched, recorded, network.receive(), strict=True):
            if 0 <= now - layer.depth < len(taken):
                taken[now - layer.depth] = emitted
        done, rest = divmod(now + 1 - latency, timesteps)
        if done > 0 and rest == 0:
            print(f"{done}/{samples} samples", file=sys.stderr, flush=True)
    handle.wait()
    return recorded


def frame(inputs: np.ndarray, injector: Fields, now: int) -> np.ndarray:
    """What an injector sends at time `now`: the input's step then, `delay` steps late; nothing between."""
    sample, step = divmod(now - injector["delay"], inputs.shape[1])
    step -= injector["model_delay"]
    if step < 0 or not 0 <= sample < len(inputs):
        return np.zeros(inputs.shape[2:], np.int32)
    return inputs[sample, step]


def withholds(relay: Fields, now: int, timesteps: int) -> bool:
    """Whether a relay receives at time `now` what the model would have arrive after its sample's end."""
    return (now - relay["depth"]) % timesteps >= timesteps - relay["withheld"]


def watch(actors: list[Any], finished: threading.Event) -> None:
    """End the run if one of Lava's processes ends too early, or if nobody is left to read what is printed.

    Lava would wait for ever for the first, and keeps its reason to itself.
    """
    reader = select.poll()
    reader.register(sys.stderr.fileno(), 0)
    while not finished.wait(WATCH_SECONDS):
        if reader.poll(0):
            leave("nobody reads this", 1)
        if any(actor.exitcode is not None for actor in actors):
            finished.wait(WATCH_SECONDS)
            errors = [repr(actor.exception[0]) for actor in actors if actor.exception]
            statuses = [f"exit status {actor.exitcode}" for actor in actors if actor.exitcode]
            if any(actor.exitcode == -signal.SIGINT for actor in actors):
                INTERRUPTED.set()  # this process just hasn't noticed yet
            reason = (errors or statuses or ["no reason given"])[0]
            leave(f"a process of Lava's ended in the middle of the run ({reason})", 1)


def predictions(recording: Fields, outputs: list[Fields]) -> np.ndarray:
    """Each sample's class, (N,): the lowest of those that tie.

    Sums of one size are parts of one read-out and are added; of other outputs the first decides. It says
    Σ_t sums + T·bias, a potential at its last step, or spikes counted.
    """
    size = len(outputs[0]["bias"])
    parts = all(output["emits"] == "sums" and len(output["bias"]) == size for output in outputs)
    deciding = outputs if parts else outputs[:1]
    return np.sum([_total(recording, output) for output in deciding], axis=0).argmax(axis=1)


def _total(recording: Fields, output: Fields) -> np.ndarray:
    """What an output says of each class, (N, K), in 64ths of an integer."""
    kind = "spikes" if output["emits"] == "spikes" else "sums"
    values = recording[f"{kind}/{output['name']}"].astype(np.int64)
    values = values.reshape(*values.shape[:2], -1)
    if output["emits"] == "potentials":
        return values[:, -1]
    return POTENTIAL_UNIT * (values.sum(axis=1) + values.shape[1] * np.array(output["bias"], np.int64))


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
