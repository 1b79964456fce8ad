"""The doctor: says what is there without importing it, installs Lava once, and fails in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution, version
from pathlib import Path

import numpy as np
import pytest

import snnkd
from snnkd.toolchain.doctor import LAVA, diagnose, install_lava, remove_stray_package

SITE_PACKAGES = Path(np.__file__).parents[1]


def test_everything_is_diagnosed_with_its_version():
    checks = {check.name: check for check in diagnose()}
    packages = [
        "torch",
        "nir",
        "onnx",
        "onnxruntime",
        "norse",
        "snntorch",
        "spikingjelly",
        "lava-nc",
        "lava-dl",
        "sinabs",
    ]
    assert list(checks) == ["Python", *packages, "CUDA"]
    for name in packages:
        assert checks[name].ok and checks[name].version == version(name)
    assert all(check.needed_for and check.remedy for check in checks.values())


def test_nothing_that_is_diagnosed_is_imported():
    code = (
        "from snnkd.toolchain.doctor import diagnose; diagnose()\n"
        "import json, sys; print(json.dumps([*sys.modules]))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(answer.stdout)
    assert "snnkd.toolchain.doctor" in loaded
    assert not {"torch", "nir", "norse", "snntorch", "spikingjelly", "lava", "numpy"} & set(loaded)


def test_installing_lava_again_changes_nothing():
    before = diagnose()
    install_lava()
    assert diagnose() == before
    owned = [file for name in LAVA for file in distribution(name).files or [] if file.parts[0] == "tests"]
    assert owned and not [file for file in owned if file.locate().exists()]


@pytest.mark.parametrize(
    ("script", "gpu"),
    [
        ("echo 'NVIDIA H200, 570.1'; echo 'NVIDIA H200, 570.1'", "NVIDIA H200, 570.1"),
        ("echo 'No devices were found'; exit 6", None),
        ("true", None),
    ],
)
def test_a_gpu_is_what_the_driver_says(tmp_path, monkeypatch, script, gpu):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert diagnose()[-1].version == gpu


# The stray package of Lava's wheels


def wheel(folder: Path, *files: str) -> Distribution:
    """An installed wheel that owns `files`."""
    information = folder / "thing-1.0.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    (information / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("")
    return Distribution.at(information)


def test_the_stray_package_goes_and_nothing_else(tmp_path):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    owned = ("tests/__init__.py", "tests/lava/deep/data.npy", "lava/tests/kept.py", "tests/../kept.py")
    installed = wheel(folder, *owned)
    remove_stray_package(installed)
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert left == [
        "kept.py",
        "lava/tests/kept.py",
        "thing-1.0.dist-info/METADATA",
        "thing-1.0.dist-info/RECORD",
    ]
    assert not (folder / "tests").exists()
    remove_stray_package(installed)


def test_tests_of_somebody_else_stay(tmp_path):
    installed = wheel(tmp_path, "tests/__init__.py", "tests/lava/one.py")
    (tmp_path / "tests" / "mine.py").write_text("")
    remove_stray_package(installed)
    assert [path.name for path in (tmp_path / "tests").iterdir()] == ["mine.py"]


# Environments where it can't work


def install_in(tmp_path: Path, *names: str) -> str:
    """What `install_lava` says in an environment with only `names` of this one's packages, and no index."""
    venv.create(tmp_path / "environment", symlinks=True)
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "snnkd").symlink_to(Path(snnkd.__file__).parent)
    for path in SITE_PACKAGES.iterdir():
        if path.name.startswith(names):
            (packages / path.name).symlink_to(path)
    code = (
        "from snnkd import InputError; from snnkd.toolchain.doctor import install_lava\n"
        "try: install_lava()\n"
        "except InputError as error: print(error)"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(packages),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
    python = tmp_path / "environment" / "bin" / "python"
    done = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_index_gives_one_line(tmp_path):
    said = install_in(tmp_path, "pip", "snnkd-")
    assert said.startswith("pip could not install Lava (ERROR: No matching distribution found for asteval")
    assert said.count("\n") == 1


def test_no_pip_gives_one_line(tmp_path):
    said = install_in(tmp_path, "snnkd-")
    assert "No module named pip" in said and said.count("\n") == 1


def test_a_lava_that_cannot_be_imported_gives_one_line(tmp_path):
    distributions = [f"{name.replace('-', '_')}-{wanted}" for name, wanted in LAVA.items()]
    said = install_in(tmp_path, "snnkd-", "numpy", "h5py", "asteval-", "networkx-", "scipy-", *distributions)
    assert said.startswith(
        "Lava is installed but can't be imported (ModuleNotFoundError: No module named 'lava"
    )
    assert said.count("\n") == 1
