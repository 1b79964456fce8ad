"""The Loihi 2 target: checks and exports networks, and runs them in Lava's fixed-point simulation."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ... import InputError, Refusal, __version__
from ..files import atomic_path, write_bytes, write_json
from ..graph import Graph, Population
from ..target import Manifest, Problem, Progress, Recording
from . import limits
from .child import run_child
from .netx import write_network

NETWORK = "network.net"
MANIFEST = "manifest.json"
SCRIPT = "run.py"
SCRIPTS = (SCRIPT, "lava_repairs.py")
SCRIPT_FOLDER = Path(__file__).parent / "runner"

SCRIPT_SPEAKS = f"{SCRIPT}: "
SAMPLES_DONE = re.compile(r"(\d+)/(\d+) samples")
BAD_REQUEST = 2


class Loihi2:
    """See `export.target.Target`. Nothing of Lava is imported here: it runs in a child process."""

    name = "loihi2"
    description = (
        "Intel Loihi 2: netx file and Lava script; run in Lava's fixed-point simulation, not on silicon"
    )
    backend = "lava-fixed-point"
    profile = "loihi2"
    constraints = limits.CONSTRAINTS

    def check(self, graph: Graph) -> list[Problem]:
        """Every limit that `graph` breaks: of structure, and of its integers where it has them."""
        return limits.problems(graph)

    def export(self, graph: Graph, folder: Path) -> Manifest:
        """Write netx file, runner and manifest into `folder`; the same network gives the same bytes.

        Raises:
            Refusal: the network breaks a limit, each of them named.
            InputError: it is a float network, or `folder` can't be written.
        """
        if found := self.check(graph):
            raise Refusal(f"the network doesn't fit {self.name}: {'; '.join(map(str, found))}")
        if graph.weight_bits is None:
            raise InputError(f"{self.name} takes integers and this is a float network; quantise it first")
        folder = Path(folder)
        for script in SCRIPTS:
            write_bytes(folder / script, (SCRIPT_FOLDER / script).read_bytes())
        with atomic_path(folder / NETWORK) as temporary:
            netx_index = write_network(graph, temporary)
        manifest = Manifest(
            target=self.name,
            bits=graph.weight_bits,
            files=[NETWORK, *SCRIPTS, MANIFEST],
            layers=[_layer(population, netx_index[population.name]) for population in graph.populations],
            cores=sum(map(cores, graph.populations)),
        )
        write_json(folder / MANIFEST, self._manifest_content(graph, manifest, folder / NETWORK))
        return manifest

    def _manifest_content(self, graph: Graph, manifest: Manifest, network: Path) -> dict[str, Any]:
        """What `manifest.json` says: all that a reader without snnkd needs beside the netx file."""
        (port,), (readout,) = graph.inputs, graph.readouts
        return {
            "target": self.name,
            "snnkd": __version__,
            "backend": self.backend,
            "silicon": "unverified",
            "bits": manifest.bits,
            "timesteps": graph.timesteps,
            "cores": manifest.cores,
            "files": manifest.files,
            "sha256": {NETWORK: hashlib.sha256(network.read_bytes()).hexdigest()},
            "input": {"name": port.name, "shape": list(port.shape), "payload_max": port.payload_max},
            "layers": manifest.layers,
            "readout": {
                "name": readout.name,
                "logits": "(sum over all steps of sums + timesteps * bias) / scale",
                "bias": np.broadcast_to(readout.bias, readout.shape).astype(np.int64).tolist(),
                "scale": graph.readout_scale,
            },
        }

    def run(
        self,
        folder: Path,
        inputs: np.ndarray,
        timesteps: int,
        time_limit: float,
        progress: Progress | None = None,
    ) -> Recording:
        """Run the folder's own script in a child process and read back what it recorded.

        Raises:
            InputError: Lava or a file is missing, the inputs don't fit, or the run hung or died.
        """
        folder = Path(folder).resolve()
        if not (folder / SCRIPT).is_file():
            raise InputError(f"there is no {SCRIPT} in {folder}; export the network first")
        if importlib.util.find_spec("lava") is None:
            raise InputError("Lava isn't installed; run `snnkd doctor --install lava`")
        with tempfile.TemporaryDirectory(prefix="snnkd-") as scratch:
            saved, recorded = Path(scratch, "inputs.npy"), Path(scratch, "recording.npz")
            _save(saved, inputs)
            command = [sys.executable, "-B", SCRIPT, "--inputs", str(saved), "--output", str(recorded)]
            listener = _Listener(progress)
            status = run_child([*command, "--timesteps", str(timesteps)], folder, time_limit, listener)
            if status != 0:
                raise InputError(_why(status, listener, folder, time_limit))
            return _read_recording(recorded, len(inputs), timesteps)


def cores(population: Population) -> int:
    """Cores that the population's neurons fill; axons and synapse memory may ask for more."""
    return -(-population.size // limits.NEURONS_PER_CORE)


def _layer(population: Population, netx_index: int) -> dict[str, Any]:
    return {
        "name": population.name,
        "kind": population.synapses[0].kind,
        "shape": list(population.shape),
        "depth": population.depth,
        "netx_index": netx_index,
        "cores": cores(population),
        "range": "proven",
    }


def _save(path: Path, inputs: np.ndarray) -> None:
    try:
        np.save(path, inputs, allow_pickle=False)
    except ValueError as error:
        raise InputError(f"inputs are {np.asarray(inputs).dtype}, expected an array of integers") from error
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror}; free some space in {path.parent}") from error


@dataclass
class _Listener:
    """Takes the script's lines: passes progress on, and keeps the line that explains a failure."""

    progress: Progress | None
    samples_done: int = 0
    last_line: str = ""

    def __call__(self, line: str) -> None:
        if counted := SAMPLES_DONE.fullmatch(line):
            self.samples_done = int(counted[1])
            if self.progress is not None:
                self.progress(self.samples_done, int(counted[2]))
        elif line.startswith(SCRIPT_SPEAKS) or (line and not self.last_line.startswith(SCRIPT_SPEAKS)):
            self.last_line = line


def _why(status: int | None, listener: _Listener, folder: Path, time_limit: float) -> str:
    """One line on a run that didn't end well."""
    if status is None:
        done = f"{listener.samples_done} samples done"
        return f"Lava didn't finish within {time_limit:g} s ({done}); allow more time or run fewer samples"
    reason = listener.last_line.removeprefix(SCRIPT_SPEAKS)
    if status == BAD_REQUEST and reason:
        return reason
    if status < 0:
        reason = f"ended by {signal.Signals(-status).name}, last saying {reason!r}"
    reason = reason or f"exit status {status}, and it said nothing"
    return f"{folder / SCRIPT} failed: {reason}; `snnkd doctor` checks the installation"


def _read_recording(path: Path, samples: int, timesteps: int) -> Recording:
    """The recording, having been looked at: it comes from whatever script lies in the folder."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        seconds = float(arrays.pop("seconds"))
    except (OSError, ValueError, TypeError, KeyError, BadZipFile) as error:
        raise InputError(
            f"{SCRIPT} left no readable recording ({error}); export the network again"
        ) from error
    recording: dict[str, dict[str, np.ndarray]] = {"spikes": {}, "sums": {}}
    dtypes = {"spikes": np.uint8, "sums": np.int64}
    for name, values in arrays.items():
        kind, _, layer = name.partition("/")
        if dtypes.get(kind) != values.dtype or values.shape[:2] != (samples, timesteps):
            found = f"{name!r} of {values.dtype} {values.shape}"
            raise InputError(
                f"{SCRIPT} recorded {found}, not {samples} samples of {timesteps} steps; export again"
            )
        recording[kind][layer] = values
    return Recording(recording["spikes"], recording["sums"], seconds)
