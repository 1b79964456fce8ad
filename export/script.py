"""Running the script of an exported folder in a child process, and reading back what it recorded.

The script takes `--inputs`, `--output` and `--timesteps`, prints "k/N samples" as it goes on, and ends with
status 0, or with a line that begins with its name and says what went wrong: status 2 where the request can't
be served.
"""

from __future__ import annotations

import importlib.util
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile, ZipFile

import numpy as np

from .. import InputError
from .child import run_child
from .target import Inputs, Progress, Recording

SCRIPT = "run.py"
SCRIPT_SPEAKS = f"{SCRIPT}: "
SAMPLES_DONE = re.compile(r"(\d+)/(\d+) samples")
BAD_REQUEST = 2

Answer = TypeVar("Answer")


class NotInstalledError(InputError):
    """A package is missing that something optional needs."""


class TimeOverError(InputError):
    """What was run didn't end within its time limit."""


@dataclass(frozen=True)
class Engine:
    """What a script runs the network in.

    Attributes:
        name: as messages call it.
        package: what must be installed for it.
        remedy: how to install that.
    """

    name: str
    package: str
    remedy: str


def run_script(
    engine: Engine,
    folder: Path,
    inputs: Inputs,
    timesteps: int,
    time_limit: float,
    progress: Progress | None = None,
    options: Sequence[str] = (),
) -> Recording:
    """Run `folder`'s script on `inputs` and read its recording.

    Args:
        options: more of the script's own options.

    Raises:
        InputError: the script or the engine is missing, the inputs don't fit, or the run hung or died.
    """
    samples = _samples_in(inputs)
    return run_and_read(
        engine,
        folder,
        inputs,
        timesteps,
        time_limit,
        lambda recorded: _read_recording(recorded, samples, timesteps),
        progress,
        options,
    )


def run_and_read(
    engine: Engine,
    folder: Path,
    inputs: Inputs,
    timesteps: int,
    time_limit: float,
    read: Callable[[Path], Answer],
    progress: Progress | None = None,
    options: Sequence[str] = (),
) -> Answer:
    """What `read` makes of the file that `folder`'s script writes; else as `run_script`."""
    folder = folder.resolve()
    if not (folder / SCRIPT).is_file():
        raise InputError(f"there is no {SCRIPT} in {folder}; export the network first")
    if importlib.util.find_spec(engine.package) is None:
        raise NotInstalledError(f"{engine.name} isn't installed; {engine.remedy}")
    with tempfile.TemporaryDirectory(prefix="snnkd-") as scratch:
        saved, recorded = _save(Path(scratch), inputs), Path(scratch, "recording.npz")
        command = [sys.executable, "-B", SCRIPT, "--inputs", str(saved), "--output", str(recorded)]
        listener = _Listener(progress)
        status = run_child([*command, "--timesteps", str(timesteps), *options], folder, time_limit, listener)
        if status != 0:
            kind = TimeOverError if status is None else InputError
            raise kind(_why(engine.name, status, listener, folder, time_limit))
        return read(recorded)


def _samples_in(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs)


def _save(folder: Path, inputs: Inputs) -> Path:
    """Write the inputs where the script can read them."""
    path = folder / ("inputs.npz" if isinstance(inputs, Mapping) else "inputs.npy")
    try:
        if isinstance(inputs, Mapping):
            with ZipFile(path, "w") as archive:  # numpy.savez takes no array called "file"
                for name, values in inputs.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)
        else:
            np.save(path, inputs, allow_pickle=False)
    except ValueError as error:
        arrays = inputs.values() if isinstance(inputs, Mapping) else [inputs]
        found = ", ".join(str(np.asarray(array).dtype) for array in arrays)
        raise InputError(f"inputs are {found}, expected arrays of integers") from error
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror}; free some space in {path.parent}") from error
    return path


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


def _why(engine: str, status: int | None, listener: _Listener, folder: Path, time_limit: float) -> str:
    """One line on a run that didn't end well."""
    if status is None:
        done = f"{listener.samples_done} samples done"
        return (
            f"{engine} didn't finish within {time_limit:g} s ({done}); allow more time or run fewer samples"
        )
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
    recording: dict[str, dict[str, np.ndarray]] = {"spikes": {}, "sums": {}, "figures": {}}
    expected = {
        "spikes": (np.uint8, (samples, timesteps)),
        "sums": (np.int64, (samples, timesteps)),
        "figures": (np.float64, (samples,)),
    }
    for name, values in arrays.items():
        kind, _, layer = name.partition("/")
        dtype, shape = expected.get(kind, (None, ()))
        if dtype != values.dtype or values.shape[: len(shape)] != shape:
            found = f"{name!r} of {values.dtype} {values.shape}"
            raise InputError(
                f"{SCRIPT} recorded {found}, not {samples} samples of {timesteps} steps; export again"
            )
        recording[kind][layer] = values
    return Recording(recording["spikes"], recording["sums"], seconds, recording["figures"])
