"""A small trained and exported run that the tests of the stages share."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import snnkd

SMALL = [
    "student.options.widths=[8, 12]",
    "teacher.options={widths=[8, 12], strides=[1, 2]}",
    "student.epochs=8",
    "teacher.epochs=4",
]


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A run that is trained and exported to Loihi 2; tests that change files work on a copy of its folder."""
    run = snnkd.train("digits", SMALL, tmp_path_factory.mktemp("runs") / "small")
    run.export("loihi2")
    return run


SERVER = """
import gc, importlib, json, os, sys
import torch

for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
gc.freeze()
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
for number, path, mode in ((0, os.devnull, "r"), (1, request["stdout"], "w"), (2, request["stderr"], "w")):
    with open(path, mode) as file:
        os.dup2(file.fileno(), number)
sys.stdin = open(0)
os.chdir(request["cwd"])
os.environ.clear()
os.environ.update(request["env"])
sys.argv = ["snnkd", *request["arguments"]]
from snnkd.toolchain.cli import main

main()
"""
"""Forks a process per command, which has imported by then what takes seconds and has computed nothing."""

IMPORTED = [
    "torch._dynamo",
    "sklearn.datasets",
    "snnkd.toolchain.cli",
    "snnkd.toolchain.checking",
    "snnkd.toolchain.conformance",
    "snnkd.toolchain.energy.stage",
    "snnkd.toolchain.exporting",
    "snnkd.toolchain.foreign",
    "snnkd.toolchain.quantizing",
    "snnkd.toolchain.report.page",
    "snnkd.toolchain.tables",
    "snnkd.toolchain.training",
    "snnkd.toolchain.validation",
]


class Started:
    """A command under way, with what of `subprocess.Popen` the tests use."""

    def __init__(self, server: subprocess.Popen, arguments: list[str], cwd: Path, env: dict[str, str]):
        self.args, self.returncode, self._server = arguments, None, server
        self._folder = tempfile.TemporaryDirectory()
        self._printed = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        stdout, stderr = map(str, self._printed)
        request = {"arguments": arguments, "cwd": str(cwd), "env": env, "stdout": stdout, "stderr": stderr}
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def wait(self, timeout: float) -> int:
        """Its exit status; raises `subprocess.TimeoutExpired` where it takes longer."""
        if self.returncode is None:
            if not select.select([self._server.stdout], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = int(self._server.stdout.readline())
        return self.returncode

    def kill(self) -> None:
        """End it at once, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait(60)

    def completed(self, timeout: float) -> subprocess.CompletedProcess:
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        printed = [path.read_text() for path in self._printed]
        self._folder.cleanup()
        return subprocess.CompletedProcess(self.args, self.returncode, *printed)


@pytest.fixture(scope="session")
def start():
    """Starts `snnkd` with arguments in a folder, one command at a time: (arguments, cwd) → `Started`."""
    code = [sys.executable, "-c", SERVER, json.dumps(IMPORTED)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(code, **pipes) as server:

        def begin(arguments, cwd):
            return Started(server, [str(argument) for argument in arguments], cwd, dict(os.environ))

        yield begin
        server.stdin.close()


@pytest.fixture
def command(tmp_path, start):
    """Runs `snnkd` in an empty folder, in a process of its own; with an `env`, in one begun from nothing."""

    def call(*arguments, env=None):
        if env is None:
            return start(arguments, tmp_path).completed(timeout=300)
        return subprocess.run(
            [sys.executable, "-m", "snnkd.toolchain.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
            env={**os.environ, **env},
        )

    return call
