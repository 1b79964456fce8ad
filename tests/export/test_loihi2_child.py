"""Runs that hang, die or lie: one clear line, and neither a process nor shared memory left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import h5py
import numpy as np
import pytest

import snnkd
from snnkd import InputError
from snnkd.export import child
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.loihi2.target import Loihi2
from snnkd.export.nir import to_nir, write_nir

MARK = "LOIHI2_TEST_MARK"
MANY_SAMPLES = 5000
PLENTY = 60.0
LAVA_PROCESSES = 5
"""Fewer than Lava starts for the smallest network."""


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C reaches children even where these tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def mark(monkeypatch) -> str:
    """A value in the environment of every process that a test starts, however distantly."""
    value = uuid.uuid4().hex
    monkeypatch.setenv(MARK, value)
    return value


def marked_processes(mark: str) -> dict[int, set[Path]]:
    """The live processes that carry `mark`, and the shared memory that each has mapped."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                maps = (entry / "maps").read_text().split()
                found[int(entry.name)] = {Path(word) for word in maps if word.startswith("/dev/shm/psm_")}
        except OSError:  # it ended meanwhile
            continue
    return found


def small_graph() -> Graph:
    """A network that Lava runs: 6 pixels, 5 neurons, 3 classes."""
    random = np.random.default_rng(0)
    hidden = Synapse("input", "dense", random.integers(-40, 41, (5, 6)) * 2.0, (6,), (5,))
    readout = Synapse("hidden", "dense", random.integers(-40, 41, (3, 5)) * 2.0, (5,), (3,))
    neuron = Neuron(0.5, np.full(5, 900.0))
    populations = (
        Population("hidden", (5,), (hidden,), np.zeros(5), neuron, 1),
        Population("readout", (3,), (readout,), np.zeros(3), None, 2),
    )
    return Graph((InputPort("input", (6,)),), populations, 4, 8)


@pytest.fixture
def exported(tmp_path) -> Path:
    Loihi2().export(small_graph(), tmp_path)
    return tmp_path


@pytest.fixture
def many() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (MANY_SAMPLES, 6))


class Witness:
    """Progress that looks at the run's processes when the first sample is done, and then does something."""

    def __init__(self, mark: str, act=lambda processes: None):
        self.mark, self.act = mark, act
        self.shared: set[Path] = set()
        self.processes: list[int] = []

    def __call__(self, done: int, total: int) -> None:
        if not self.processes:
            found = marked_processes(self.mark)
            self.processes = sorted(found)
            self.shared = set().union(*found.values())
            self.act(self.processes)

    def assert_nothing_left(self) -> None:
        assert len(self.processes) > LAVA_PROCESSES, "the run was seen while Lava was up"
        assert self.shared, "and it had shared memory"
        assert not marked_processes(self.mark)
        assert not [path for path in self.shared if path.exists()]


def leader(processes: list[int]) -> int:
    (group,) = {os.getpgid(process) for process in processes}
    return group


def test_a_good_run_leaves_nothing(exported, many, mark, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))  # of the script, this process having chosen its own already
    witness = Witness(mark)
    recording = Loihi2().run(exported, many[:40], 4, PLENTY, witness)
    assert recording.spikes["hidden"].shape == (40, 4, 5)
    witness.assert_nothing_left()
    assert not list(scratch.iterdir())


def test_a_hanging_run_is_ended_when_its_time_is_over(exported, many, mark):
    witness = Witness(mark, lambda processes: os.kill(leader(processes), signal.SIGSTOP))
    with pytest.raises(InputError, match=r"didn't finish within 8 s \(\d+ samples done\); allow more time"):
        Loihi2().run(exported, many, 4, 8, witness)
    witness.assert_nothing_left()


def test_an_interrupt_ends_the_run(exported, many, mark):
    def interrupt(processes: list[int]) -> None:
        raise KeyboardInterrupt

    witness = Witness(mark, interrupt)
    with pytest.raises(KeyboardInterrupt):
        Loihi2().run(exported, many, 4, PLENTY, witness)
    witness.assert_nothing_left()


def test_a_process_of_lava_that_is_killed_ends_the_run(exported, many, mark):
    def kill_one(processes: list[int]) -> None:
        parent = leader(processes)
        children = [process for process in processes if f"\nPPid:\t{parent}\n" in proc(process, "status")]
        forked = [process for process in children if proc(process, "cmdline") == proc(parent, "cmdline")]
        os.kill(forked[-1], signal.SIGKILL)  # not Python's resource tracker, which the run outlives

    def proc(process: int, name: str) -> str:
        return Path(f"/proc/{process}/{name}").read_text()

    witness = Witness(mark, kill_one)
    with pytest.raises(InputError, match="a process of Lava's ended in the middle of the run") as raised:
        Loihi2().run(exported, many, 4, PLENTY, witness)
    assert "\n" not in str(raised.value)
    witness.assert_nothing_left()


def test_an_error_within_a_process_model_is_told(exported, many, mark):
    with h5py.File(exported / "network.net", "r+") as file:
        del file["layer/1/neuron/vThMant"]
        file["layer/1/neuron/vThMant"] = np.array([900, 901, 902])
    with pytest.raises(InputError, match="could not be broadcast together"):
        Loihi2().run(exported, many, 4, PLENTY, with_netx=True)
    assert not marked_processes(mark)


def test_a_killed_parent_takes_the_run_with_it(exported, many, mark, tmp_path):
    np.save(tmp_path / "many.npy", many)
    script = (
        "import numpy, sys; from snnkd.export.loihi2.target import Loihi2\n"
        "report = lambda *counts: print(*counts, flush=True)\n"
        "Loihi2().run(sys.argv[1], numpy.load(sys.argv[2]), 4, 60, report)"
    )
    command = [sys.executable, "-c", script, str(exported), str(tmp_path / "many.npy")]
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # where its own files stay when it is killed
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None and parent.stdout.readline()
        witness = Witness(mark)
        witness(1, MANY_SAMPLES)
        parent.kill()
    deadline = time.monotonic() + PLENTY
    while marked_processes(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    witness.assert_nothing_left()


def test_ctrl_c_on_the_command_line_leaves_nothing(many, mark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_nir(tmp_path / "small.nir", to_nir(small_graph()))
    run = snnkd.open_run(tmp_path / "small.nir", inputs=many)
    run.export("loihi2")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "snnkd.toolchain.cli", "validate", "--samples", str(MANY_SAMPLES)]
    environment = os.environ | {"TMPDIR": str(scratch)}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, start_new_session=True, **output) as shell:
        witness = Witness(mark)
        deadline = time.monotonic() + PLENTY
        while not witness.shared and time.monotonic() < deadline:
            time.sleep(0.2)
            if len(marked_processes(mark)) > LAVA_PROCESSES:
                witness(1, MANY_SAMPLES)
        os.killpg(shell.pid, signal.SIGINT)
        _, errors = shell.communicate(timeout=PLENTY)
        assert shell.returncode == 130, errors.decode()
        assert errors.decode().splitlines()[-1].startswith("snnkd: interrupted")
    witness.assert_nothing_left()
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("late", [False, True])
def test_ctrl_c_on_the_script_alone_leaves_nothing(exported, many, mark, late):
    """All get the signal; on a busy machine Lava's processes may end before the script sees its own."""
    np.save(exported / "many.npy", many)
    command = [sys.executable, "-B", "run.py", "--inputs", "many.npy", "--output", "recording.npz"]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "bufsize": 0}
    with subprocess.Popen(command, cwd=exported, start_new_session=True, **output) as shell:
        witness = Witness(mark)
        while not shell.stdout.readline().startswith(b"1/"):
            assert shell.poll() is None
        witness(1, MANY_SAMPLES)
        for process in witness.processes:
            if process != shell.pid or not late:
                os.kill(process, signal.SIGINT)
        said, _ = shell.communicate(timeout=PLENTY)
    assert shell.returncode == 130 and b"run.py: interrupted\n" in said, said.decode()
    deadline = time.monotonic() + PLENTY
    while marked_processes(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    witness.assert_nothing_left()


def test_too_little_shared_memory_is_told_before_lava_starts(exported, many, mark):
    script = (exported / "build.py").read_text()
    assert "LEAST_STEPS, MOST_STEPS = 2, 8" in script
    lacking = script.replace("LEAST_STEPS, MOST_STEPS = 2, 8", "LEAST_STEPS, MOST_STEPS = 2**50, 2**50")
    (exported / "build.py").write_text(lacking)
    with pytest.raises(InputError, match=r"too large .* need [\d,]+ bytes in /dev/shm"):
        Loihi2().run(exported, many, 4, PLENTY)
    assert not marked_processes(mark)


# Folders whose run.py is another script


def fake(folder: Path, script: str) -> Path:
    (folder / "run.py").write_text("import os, signal, subprocess, sys, time\nimport numpy as np\n" + script)
    return folder


def run_fake(folder: Path, time_limit: float = PLENTY) -> None:
    Loihi2().run(folder, np.zeros((2, 6), int), 4, time_limit)


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("print('on the way'); sys.exit('out of luck')", "failed: out of luck; `snnkd doctor`"),
        ("sys.exit(5)", "failed: exit status 5, and it said nothing"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "failed: ended by SIGKILL"),
        ("pass", "left no readable recording"),
        ("open(sys.argv[4], 'wb').write(b'garbage')", "left no readable recording"),
        ("np.save(open(sys.argv[4], 'wb'), np.zeros(3))", "left no readable recording"),
        ("np.savez(sys.argv[4], seconds=1, **{'sums/r': np.zeros((2, 4, 3))})", "'sums/r' of float64"),
        ("np.savez(sys.argv[4], seconds=1, **{'sums/r': np.zeros((9, 4, 3), int)})", r"\(9, 4, 3\), not 2"),
        ("np.savez(sys.argv[4], seconds=1, junk=np.zeros((2, 4), int))", "recorded 'junk'"),
        ("np.savez(sys.argv[4], seconds=1, **{'sums/r': np.array([None])})", "left no readable recording"),
    ],
)  # fmt: skip
def test_a_script_that_dies_or_lies_gives_one_line(tmp_path, mark, script, line):
    with pytest.raises(InputError, match=line) as raised:
        run_fake(fake(tmp_path, script))
    assert "\n" not in str(raised.value)
    assert not marked_processes(mark)


@pytest.mark.parametrize(
    "script",
    [
        "time.sleep(60)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
        "subprocess.Popen(['sleep', '60']); time.sleep(60)",
        "while True: print('x' * 9999, end='')",
        "while True: print('1/2 samples')",
        "os.close(1); os.close(2); time.sleep(60)",
    ],
)
def test_a_script_that_never_ends_is_ended(tmp_path, mark, monkeypatch, script):
    monkeypatch.setattr(child, "TERMINATION_SECONDS", 0.3)
    started = time.monotonic()
    with pytest.raises(InputError, match=r"within 0\.6 s"):
        run_fake(fake(tmp_path, script), time_limit=0.6)
    assert time.monotonic() - started < 5
    assert not marked_processes(mark)


def test_what_a_script_leaves_running_is_ended(tmp_path, mark, monkeypatch):
    monkeypatch.setattr(child, "TERMINATION_SECONDS", 0.3)
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    with pytest.raises(InputError, match="left no readable recording"):
        run_fake(fake(tmp_path, f"subprocess.Popen([sys.executable, '-c', {ignore!r}]); time.sleep(0.3)"))
    assert not marked_processes(mark)


def test_no_script_no_run(tmp_path):
    with pytest.raises(InputError, match=r"there is no run\.py in .*; export the network first"):
        run_fake(tmp_path)


# An environment without Lava


@pytest.fixture
def without_lava(tmp_path_factory) -> dict[str, str]:
    """The environment of a Python that finds snnkd, NumPy, h5py and pydantic alone."""
    packages = tmp_path_factory.mktemp("packages")
    site_packages = Path(np.__file__).parents[1]
    needed = ("numpy", "numpy.libs", "h5py", "h5py.libs", "pydantic", "pydantic_core", "annotated_types")
    for name in (*needed, "typing_extensions.py", "typing_inspection"):
        if (site_packages / name).exists():
            (packages / name).symlink_to(site_packages / name)
    (packages / "snnkd").symlink_to(Path(child.__file__).parents[1])
    return {"PYTHONPATH": str(packages), "PATH": "/usr/bin:/bin"}


def test_missing_lava_names_the_way_to_install_it(exported, without_lava):
    script = (
        "import numpy, sys; from snnkd import InputError; from snnkd.export.loihi2.target import Loihi2\n"
        "try: Loihi2().run(sys.argv[1], numpy.zeros((1, 6), int), 4, 60)\n"
        "except InputError as error: print(error)"
    )
    command = [sys.executable, "-S", "-B", "-c", script, str(exported)]
    done = subprocess.run(command, env=without_lava, capture_output=True, text=True)
    assert done.stdout == "Lava isn't installed; run `snnkd doctor --install lava`\n", done.stderr


def test_the_script_alone_says_what_it_lacks(exported, without_lava):
    np.save(exported / "inputs.npy", np.zeros((1, 6), int))
    command = [sys.executable, "-S", "-B", "run.py", "--inputs", "inputs.npy", "--output", "recording.npz"]
    done = subprocess.run(command, env=without_lava, cwd=exported, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("run.py: Lava isn't installed (No module named 'lava")
