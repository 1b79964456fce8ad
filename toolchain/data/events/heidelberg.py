"""shd and ssc: spoken digits and speech commands as spikes of a model cochlea (Cramer et al., 2020).

Each file is HDF5, `spikes/times` (s) and `spikes/units` (0 … 699) of variable length and `labels`, read by
tonic. A frame has no image: its channels are the units, (700, 1, 1).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .... import InputError
from .package import require
from .recordings import Events, Sensor
from .source import EventSource, Part, missing, official, standard

HOME = "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd"
UNITS = Sensor(700, 1, polarities=1, flat=True)
DURATION_US = 1_400_000

DIGITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
)
COMMANDS = 35


def _find_shd(folder: Path) -> dict[str, Part]:
    return {part: _part("shd", folder, f"shd_{part}.h5") for part in ("train", "test")}


def _find_ssc(folder: Path) -> dict[str, Part]:
    files = {"train": "ssc_train.h5", "validation": "ssc_valid.h5", "test": "ssc_test.h5"}
    return {part: _part("ssc", folder, name) for part, name in files.items()}


def _part(dataset: str, folder: Path, name: str) -> Part:
    import h5py

    path = folder / name
    if not path.exists():
        raise missing(dataset, path, f"unpack {name}.gz from {HOME} into {folder}")
    try:
        with h5py.File(path) as file:
            labels = np.asarray(file["labels"], dtype=np.int64)
            counts = [len(file[column]) for column in ("spikes/times", "spikes/units")]  # pyright: ignore[reportArgumentType]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); get it again from {HOME}") from error
    if counts != [len(labels)] * 2:
        raise InputError(
            f"{path} holds {counts[0]} times, {counts[1]} units and {len(labels)} labels, which should be "
            f"equally many; get it again from {HOME}"
        )
    return Part([(path, index) for index in range(len(labels))], labels, [path])


@cache
def _reader(path: Path) -> Any:
    """tonic's reader of one file, without its search for an archive."""
    hsd = require("tonic.datasets.hsd").HSD

    class Local(hsd):
        def __init__(self) -> None:
            self.location_on_system, self.data_filename = str(path.parent), path.name
            self.transform = self.target_transform = None

    return Local()


def _read(recording: tuple[Path, int]) -> Events:
    path, index = recording
    events, _ = _reader(path)[index]
    silent = np.zeros(len(events), dtype=np.int64)
    return Events(events["x"], silent, events["t"], silent)


SHD = EventSource(
    name="shd",
    description="10,420 spoken digits, English and German, 700 channels, 20 classes; to be put there by hand",
    sensor=UNITS,
    duration_us=DURATION_US,
    class_names=DIGITS,
    find=_find_shd,
    read=_read,
    divide=standard(validation_share=0.1),
)

SSC = EventSource(
    name="ssc",
    description="105,829 spoken commands, 700 channels, 35 classes; to be put there by hand",
    sensor=UNITS,
    duration_us=DURATION_US,
    class_names=tuple(f"command {number}" for number in range(COMMANDS)),
    find=_find_ssc,
    read=_read,
    divide=official,
)
