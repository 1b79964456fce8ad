"""cifar10-dvs: 10,000 images of CIFAR-10 moved before an event camera (Li et al., 2017).

Each recording is a file `<class>/cifar10_<class>_<number>.aedat` as published, or of tonic's own copy of
the set, `.aedat4`; tonic reads both. Of an address, as for tonic, x is bits 8 to 14, y bits 1 to 7 and the
polarity bit 0. Time counts from a recording's first event. The authors divided nothing: a tenth of each class
is for testing and another for validation, by the split seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .aedat import addresses
from .package import require
from .recordings import Events, Sensor
from .source import EventSource, Part, missing, seeded

HOME = "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ENDINGS = (".aedat", ".aedat4")


def _find(folder: Path) -> dict[str, Part]:
    files, labels = [], []
    for label, name in enumerate(CLASSES):
        found = sorted(path for path in (folder / name).glob("*") if path.suffix in ENDINGS)
        if not found:
            raise missing(
                "cifar10-dvs", folder / name / "*.aedat", f"unpack the ten archives from {HOME} into {folder}"
            )
        files += found
        labels += [label] * len(found)
    return {"all": Part(files, np.array(labels, dtype=np.int64), files)}


def _read(path: Path) -> Events:
    if path.suffix == ".aedat4":
        require("aedat")
        events = require("tonic.io").read_aedat4(str(path))
        t, x, y, p = (events[name].astype(np.int64) for name in ("t", "x", "y", "on"))
    else:
        address, t = addresses(path)
        x, y, p = address >> 8 & 0x7F, address >> 1 & 0x7F, address & 1
    return Events(x, y, t - t[:1], p)


CIFAR10_DVS = EventSource(
    name="cifar10-dvs",
    description="10,000 recordings of CIFAR-10's images, 128×128 pixels, 10 classes; to be put there by hand",
    sensor=Sensor(128, 128),
    duration_us=1_300_000,
    class_names=CLASSES,
    find=_find,
    read=_read,
    divide=seeded(validation_share=0.1, test_share=0.1),
)
