"""A small trained and exported run that the tests of the stages share."""

import os
import subprocess
import sys

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


@pytest.fixture
def command(tmp_path):
    """Runs `snnkd` in an empty folder, in a process of its own."""

    def call(*arguments, **options):
        environment = {**os.environ, "OMP_NUM_THREADS": "2", **options.pop("env", {})}
        return subprocess.run(
            [sys.executable, "-m", "snnkd.toolchain.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
            env=environment,
            **options,
        )

    return call
