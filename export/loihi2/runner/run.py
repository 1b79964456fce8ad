"""Run this folder's network in Lava and record all that it emits. snnkd isn't needed.

    python run.py --inputs inputs.npy --output recording.npz [--timesteps T] [--predict] [--hardware]

inputs.npy      integers, (N, *shape) shown at every step or (N, T, *shape); manifest.json has shape and range
recording.npz   "spikes/NAME": uint8 (N, T, *shape) of each spiking layer; "sums/NAME": int64 (N, T, K) of the
                read-out; "seconds": float64, start-up excluded
prediction      argmax of (sums over all steps + T · bias) / scale, with the read-out's bias and scale

Lava takes a step per synapse layer: the layer of depth d shows step k of the stream at time k + d. netx
resets each layer just as a sample's first step reaches it. So one running network takes sample after sample,
each as if it were the first, and what is recorded has the delay taken out.

Needs lava-nc 0.10, lava-dl 0.6, numpy, scipy, h5py, networkx and asteval. Exit status: 0 done, 1 Lava failed,
2 the request can't be served; stderr's last line says why.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import select
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lava_repairs
import numpy as np

GRADED_MESSAGE_BITS = 8
BUFFERED_STEPS = 8
"""Room in each channel; Lava's own 64 soon fill the 64 MB of shared memory that a container has."""
WATCH_SECONDS = 0.5


class RequestError(Exception):
    """What was asked can't be served, for the reason given."""


@dataclass
class Tap:
    """Where a layer's output is read; `steps` (N·T, *shape) fills up as they come."""

    extractor: Any
    depth: int
    steps: np.ndarray

    def read(self, now: int) -> None:
        """Take what the layer emitted at time `now` (from 0), which is (W, H, C) in Lava."""
        emitted = self.extractor.receive()
        step = now - self.depth
        if 0 <= step < len(self.steps):
            self.steps[step] = emitted.T


def main() -> None:
    arguments = parse_arguments()
    folder = Path(__file__).resolve().parent
    try:
        manifest = read_manifest(folder)
        timesteps = manifest["timesteps"] if arguments.timesteps is None else arguments.timesteps
        inputs = read_inputs(arguments.inputs, manifest["input"], timesteps)
        recording = record(folder, manifest, inputs, arguments.hardware)
        write(arguments.output, recording)
        if arguments.predict:
            print(*predictions(recording, manifest["readout_bias"]), sep="\n")
    except RequestError as error:
        leave(str(error), 2)
    except KeyboardInterrupt:
        leave("interrupted", 130)
    except ImportError as error:
        leave(f"Lava isn't installed ({error}); install lava-nc 0.10 and lava-dl 0.6", 2)
    except Exception as error:  # whatever Lava raises: its processes must not outlive this one
        leave(f"Lava failed ({error!r}); if network.net is damaged, export it again", 1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run this folder's network in Lava and record what it emits."
    )
    add = parser.add_argument
    add("--inputs", type=Path, required=True, help="integers, (N, *shape) or (N, T, *shape), .npy")
    add("--output", type=Path, required=True, help="the recording to write, .npz")
    add("--timesteps", type=int, help="steps per sample (default: the manifest's)")
    add("--predict", action="store_true", help="print each sample's class to stdout")
    add("--hardware", action="store_true", help="run on a Loihi 2 (untested on silicon)")
    return parser.parse_args()


def leave(reason: str, status: int) -> None:
    """End this process and Lava's. Lava's own way to stop waits for processes that may be gone."""
    for child in multiprocessing.active_children():
        child.terminate()
    try:
        print(f"run.py: {reason}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What is used of the manifest."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        used = {
            "timesteps": manifest["timesteps"],
            "input": (tuple(manifest["input"]["shape"]), manifest["input"]["payload_max"]),
            "layers": [(each["name"], each["depth"], tuple(each["shape"])) for each in manifest["layers"]],
            "readout_bias": np.array(manifest["readout"]["bias"], np.int64),
        }
        checksum = manifest["sha256"]["network.net"]
        if hashlib.sha256((folder / "network.net").read_bytes()).hexdigest() != checksum:
            print("run.py: note: network.net has changed since it was exported", file=sys.stderr)
    except OSError as error:
        reason = f"can't read {error.filename} ({error.strerror})"
        raise RequestError(f"{reason}; export the network again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is damaged ({error!r}); export the network again") from error
    return used


def read_inputs(path: Path, port: tuple[tuple[int, ...], int], timesteps: int | None) -> np.ndarray:
    """The inputs of every sample and step, (N, T, *shape), read from disk as they are used."""
    shape, payload_max = port
    try:
        inputs = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(inputs, np.ndarray):
            raise ValueError("several arrays")
    except (OSError, ValueError, EOFError) as error:
        raise RequestError(
            f"can't read {path} ({error}); save one array of integers with numpy.save"
        ) from error
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


def write(path: Path, recording: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **recording)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RequestError(f"can't write {path}: {error.strerror}") from error


def predictions(recording: dict[str, Any], bias: np.ndarray) -> np.ndarray:
    """Each sample's class, (N,): the lowest of those that tie; the one scale of all changes nothing."""
    (sums,) = (values for name, values in recording.items() if name.startswith("sums/"))
    return (sums.sum(axis=1) + sums.shape[1] * bias).argmax(axis=1)


def record(folder: Path, manifest: dict[str, Any], inputs: np.ndarray, hardware: bool) -> dict[str, Any]:
    """Stream all samples through the network in Lava: what is written, by name."""
    lava_repairs.apply()
    samples, timesteps, *_ = inputs.shape
    configuration = run_configuration(hardware)
    network = load_network(folder / "network.net", timesteps, graded=manifest["input"][1] > 1)
    injector, taps = connect(network, manifest["layers"], samples * timesteps)
    network.create_runtime(configuration, compile_config={"pypy_channel_size": BUFFERED_STEPS})

    finished = threading.Event()
    actors = network.runtime._messaging_infrastructure.actors
    watcher = threading.Thread(target=watch, args=(actors, finished))
    watcher.start()
    started = time.perf_counter()
    stream(network, injector, list(taps.values()), inputs)
    seconds = time.perf_counter() - started
    finished.set()
    watcher.join()
    network.stop()

    recording = {
        name: tap.steps.reshape(samples, timesteps, *tap.steps.shape[1:]) for name, tap in taps.items()
    }
    return recording | {"seconds": np.float64(seconds)}


def run_configuration(hardware: bool) -> Any:
    """Fixed-point simulation, or the chip; with integers to and from this script, not Lava's floats."""
    from lava.magma.core.model.py.ports import PyInPort, PyOutPort
    from lava.magma.core.model.py.type import LavaPyType
    from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg
    from lava.proc.io.extractor import Extractor, PyLoihiExtractorModel
    from lava.proc.io.injector import Injector, PyLoihiInjectorModel
    from lava.utils import loihi

    integer_ports = {
        "in_port": LavaPyType(PyInPort.VEC_DENSE, np.int32),
        "out_port": LavaPyType(PyOutPort.VEC_DENSE, np.int32),
    }
    channels = {
        Injector: type("IntegerInjector", (PyLoihiInjectorModel,), integer_ports),
        Extractor: type("IntegerExtractor", (PyLoihiExtractorModel,), integer_ports),
    }
    if not hardware:
        return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=channels)
    if not loihi.is_installed():
        raise RequestError("Lava's extension for Loihi hardware isn't installed; run without --hardware")
    print("run.py: note: running on hardware, which is untested on silicon", file=sys.stderr)
    return Loihi2HwCfg(exception_proc_model_map=channels)


def load_network(path: Path, timesteps: int, graded: bool) -> Any:
    from lava.lib.dl.netx.hdf5 import Network

    return Network(
        str(path),
        input_message_bits=GRADED_MESSAGE_BITS if graded else 0,
        reset_interval=timesteps,
        reset_offset=1,  # with netx's own default of 0, or with 2, a layer is reset in the midst of a sample
    )


def connect(
    network: Any, layers: list[tuple[str, int, tuple[int, ...]]], steps: int
) -> tuple[Any, dict[str, Tap]]:
    """Where inputs enter, and a tap on each layer by its name in the recording."""
    from lava.proc.io.extractor import Extractor
    from lava.proc.io.injector import Injector

    injector = Injector(shape=network.inp.shape, buffer_size=BUFFERED_STEPS)
    injector.out_port.connect(network.inp)
    taps = {}
    for (name, depth, shape), block in zip(layers, network.layers, strict=True):
        is_readout = block is network.layers[-1]
        port = block.synapse.a_out if is_readout else block.neuron.s_out
        extractor = Extractor(shape=port.shape, buffer_size=BUFFERED_STEPS)
        port.connect(extractor.in_port)
        emitted = np.zeros((steps, *shape), np.int64 if is_readout else np.uint8)
        taps[f"{'sums' if is_readout else 'spikes'}/{name}"] = Tap(extractor, depth, emitted)
    return injector, taps


def stream(network: Any, injector: Any, taps: list[Tap], inputs: np.ndarray) -> None:
    """Send every sample, then nothing until the last has come through, and read all layers each time."""
    from lava.magma.core.run_conditions import RunSteps

    samples, timesteps, *_ = inputs.shape
    latency = taps[-1].depth
    steps = samples * timesteps + latency
    network.run(RunSteps(num_steps=steps, blocking=False))
    for now in range(steps):
        injector.send(frame(inputs, now, network.inp.shape))
        for tap in taps:
            tap.read(now)
        done, rest = divmod(now + 1 - latency, timesteps)
        if done > 0 and rest == 0:
            print(f"{done}/{samples} samples", file=sys.stderr, flush=True)
    network.wait()


def frame(inputs: np.ndarray, now: int, shape: tuple[int, ...]) -> np.ndarray:
    """What enters at time `now`, int32 in Lava's order: (W, H, C), or flat where the first layer is dense."""
    sample, step = divmod(now, inputs.shape[1])
    if sample >= len(inputs):
        return np.zeros(shape, np.int32)
    values = inputs[sample, step]
    return (values.T if len(shape) == 3 else values.ravel()).astype(np.int32)


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
            reason = (errors or statuses or ["no reason given"])[0]
            leave(f"a process of Lava's ended in the middle of the run ({reason})", 1)


if __name__ == "__main__":
    main()
