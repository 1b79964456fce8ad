"""n-mnist: MNIST seen by an event camera that makes three saccades (Orchard et al., 2015).

Each recording is a file of 5 bytes per event, `Train/<digit>/<number>.bin` or `Test/…`, read by tonic. The
camera saw each digit for 3 × 105 ms.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .package import require
from .recordings import Events, Sensor
from .source import EventSource, Part, missing, standard

HOME = "https://www.garrickorchard.com/datasets/n-mnist"
PARTS = {"train": "Train", "test": "Test"}
CLASSES = tuple("0123456789")
DTYPE = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])


def _find(folder: Path) -> dict[str, Part]:
    return {name: _part(folder, folder_name) for name, folder_name in PARTS.items()}


def _part(folder: Path, name: str) -> Part:
    files, labels = [], []
    for label, digit in enumerate(CLASSES):
        found = sorted((folder / name / digit).glob("*.bin"))
        if not found:
            raise missing(
                "n-mnist",
                folder / name / digit / "*.bin",
                f"unpack Train.zip and Test.zip from {HOME} into {folder}",
            )
        files += found
        labels += [label] * len(found)
    return Part(files, np.array(labels, dtype=np.int64), files)


def _read(path: Path) -> Events:
    events = require("tonic.io").read_mnist_file(str(path), DTYPE)
    return Events(events["x"], events["y"], events["t"], events["p"])


N_MNIST = EventSource(
    name="n-mnist",
    description="70,000 recordings of MNIST's digits, 34×34 pixels, 10 classes; to be put there by hand",
    sensor=Sensor(34, 34),
    duration_us=315_000,
    class_names=CLASSES,
    find=_find,
    read=_read,
    divide=standard(validation_share=1 / 12),
)
