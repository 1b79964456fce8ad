"""What is installed, what is missing, and the installation of Lava and sinabs, which pip alone won't do.

Nothing that is looked for gets imported here: names and versions come from the environment's metadata.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires, version
from pathlib import Path

from .. import InputError

PYTHON_MIN = (3, 11)

LAVA = {"lava-nc": "0.10.0", "lava-dl": "0.6.0"}
"""The last releases, both archived; the repairs of `export/loihi2/runner/lava_repairs.py` are for these."""

LAVA_EXTRA = "lava"
"""The extra of snnkd's own requirements that lists what Lava needs besides."""

LAVA_REMEDY = "snnkd doctor --install lava"

SINABS = "3.1.3"
"""It asks for an older nir than ours, and for the driver of its chips, which no registry has."""

SINABS_EXTRA = "sinabs"
SINABS_REMEDY = "snnkd doctor --install sinabs"
STRAY_PACKAGE = "tests"
QUERY_SECONDS = 20

PACKAGES = {
    "torch": "training, quantisation, simulation",
    "nir": "exchange of networks",
    "onnx": "writing networks for onnxruntime",
    "onnxruntime": "int8 networks on CPUs",
    "norse": "checking networks against norse",
    "snntorch": "checking networks against snnTorch",
    "spikingjelly": "checking networks against SpikingJelly",
}


@dataclass(frozen=True)
class Check:
    """One thing that snnkd can use.

    Attributes:
        name: what it is.
        version: as its metadata has it; None if it isn't there.
        ok: whether it can be used as it is.
        needed_for: what doesn't work without it.
        remedy: what to do if it isn't ok.
    """

    name: str
    version: str | None
    ok: bool
    needed_for: str
    remedy: str


def diagnose() -> list[Check]:
    """Python, the packages and the GPU: what is there, what it is for, and what to do where it isn't."""
    return [_python(), *map(_package, PACKAGES), *_lava(), _sinabs(), _cuda()]


def install_lava() -> None:
    """Install Lava and what it needs into this interpreter's environment, and prove that it can be imported.

    Doing it again changes nothing.

    Raises:
        InputError: pip or the import failed, with the reason.
    """
    if not all(check.ok for check in _lava()):
        _pip("Lava", *_needs(LAVA_EXTRA))
        pinned = [f"{name}=={wanted}" for name, wanted in LAVA.items()]
        # They declare Python 3.10 alone and old versions of everything else; see the module of repairs.
        _pip("Lava", "--no-deps", "--ignore-requires-python", *pinned)
    for name in LAVA:
        remove_stray_package(distribution(name))
    _import_lava()


def install_sinabs() -> None:
    """Install sinabs and what its simulation needs into this interpreter's environment, and import it.

    Doing it again changes nothing.

    Raises:
        InputError: pip or the import failed, with the reason.
    """
    if not _sinabs().ok:
        _pip("sinabs", *_needs(SINABS_EXTRA))
        _pip("sinabs", "--no-deps", f"sinabs=={SINABS}")
    _run(["-B", "-c", "import sinabs"], "sinabs is installed but can't be imported")


def remove_stray_package(wheel: Distribution) -> None:
    """Delete what the wheel owns of the top-level package `tests` that it put beside the others."""
    owned = [file for file in wheel.files or [] if file.parts[0] == STRAY_PACKAGE and ".." not in file.parts]
    for file in owned:
        with suppress(FileNotFoundError):
            wheel.locate_file(file).unlink()  # pyright: ignore[reportAttributeAccessIssue]
    folders = {parent for file in owned for parent in file.parents if parent.parts}
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # something that isn't the wheel's is in there
            wheel.locate_file(folder).rmdir()  # pyright: ignore[reportAttributeAccessIssue]


def _python() -> Check:
    wanted = ".".join(map(str, PYTHON_MIN))
    return Check(
        "Python",
        platform.python_version(),
        sys.version_info >= PYTHON_MIN,
        "everything",
        f"Python ≥ {wanted}",
    )


def _package(name: str) -> Check:
    found = _version(name)
    return Check(name, found, found is not None, PACKAGES[name], f"pip install {name}")


def _lava() -> Iterator[Check]:
    """Lava's two packages; the first answers for what both need."""
    complete = all(_version(_project(requirement)) for requirement in _needs(LAVA_EXTRA))
    for name, wanted in LAVA.items():
        found = _version(name)
        ok = found == wanted and complete
        yield Check(name, found, ok, "running networks in Loihi 2's simulation", LAVA_REMEDY)


def _sinabs() -> Check:
    found = _version("sinabs")
    complete = all(_version(_project(requirement)) for requirement in _needs(SINABS_EXTRA))
    return Check("sinabs", found, found == SINABS and complete, "running networks for Speck", SINABS_REMEDY)


def _needs(extra: str) -> list[str]:
    """The requirements of an extra of ours, such as "networkx>=3.2"."""
    marker = f'extra == "{extra}"'
    return [line.partition(";")[0].strip() for line in _requirements("snnkd") if line.endswith(marker)]


def _project(requirement: str) -> str:
    return requirement.partition(">=")[0]


def _cuda() -> Check:
    """The first NVIDIA GPU, and whether the installed torch was built for it."""
    gpu = _first_gpu()
    torch_uses_it = any(line.startswith(("nvidia-", "cuda-")) for line in _requirements("torch"))
    remedy = "no GPU found: training runs on the CPU" if gpu is None else "install torch's build for CUDA"
    return Check("CUDA", gpu, gpu is not None and torch_uses_it, "training on a GPU", remedy)


def _first_gpu() -> str | None:
    """Name and driver, as the driver's own tool tells them."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=QUERY_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.splitlines()[0] if answer.returncode == 0 and answer.stdout else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _requirements(name: str) -> list[str]:
    """What a package says that it needs; nothing if it isn't installed."""
    return [] if _version(name) is None else requires(name) or []


def _pip(what: str, *arguments: str) -> None:
    command = ["-m", "pip", "--disable-pip-version-check", "install", *arguments]
    _run(command, f"pip could not install {what}")


def _import_lava() -> None:
    """Import what a run imports, in the same way: in a child process, after the repairs."""
    from ..export.loihi2 import runner

    statements = "import lava_repairs; lava_repairs.apply(); import lava.lib.dl.netx.hdf5"
    _run(["-B", "-c", statements], "Lava is installed but can't be imported", Path(runner.__path__[0]))


def _run(arguments: list[str], failure: str, folder: Path | None = None) -> None:
    """Run this interpreter with `arguments`; the last line of its error output explains a failure."""
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        command = " ".join(["python", *arguments])
        raise InputError(f"{failure} ({lines[-1].strip()}); mend that, or run it by hand: {command}")
