"""dvs128-gesture: eleven hand and arm gestures of 29 people before an event camera (Amir et al., 2017).

IBM's files are `DvsGesture/<person>_<light>.aedat` with a table of trials beside each (`…_labels.csv`: class
from 1, begin and end in µs), and two lists that say which files are for training and which for testing;
tonic reads the former. tonic's own copy has each trial in `ibmGestureTrain/<person>_<light>/<class>.npy` (or
`…Test`): rows of x, y, polarity and time in ms. Either will do. A trial's time counts from its beginning.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .... import InputError
from .aedat import addresses
from .recordings import Events, Sensor
from .source import EventSource, Part, missing, standard

HOME = "https://research.ibm.com/interactive/dvsgesture"
CLASSES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
LISTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
COPIES = {"train": "ibmGestureTrain", "test": "ibmGestureTest"}
TABLE_COLUMNS = 3


class Trial(NamedTuple):
    """Where a gesture is: the file, and from when to when in it (µs); None: all of it."""

    path: Path
    span: tuple[int, int] | None


def _find(folder: Path) -> dict[str, Part]:
    if all((folder / name).is_dir() for name in COPIES.values()):
        return {part: _copied(folder / name) for part, name in COPIES.items()}
    return {part: _published(folder, name) for part, name in LISTS.items()}


def _copied(folder: Path) -> Part:
    files = sorted(folder.glob("*/*.npy"))
    if not files:
        raise missing("dvs128-gesture", folder / "*" / "*.npy", f"unpack {folder.name}.tar.gz there")
    labels = np.array([_label(path, path.stem, first=0) for path in files], dtype=np.int64)
    return Part([Trial(path, None) for path in files], labels, files)


def _published(folder: Path, name: str) -> Part:
    home = folder / "DvsGesture"
    advice = f"unpack DvsGesture.tar.gz from {HOME} into {folder}"
    if not (home / name).is_file():
        raise missing("dvs128-gesture", home / name, advice)
    trials: list[Trial] = []
    labels: list[int] = []
    files: list[Path] = []
    for listed in (home / name).read_text().split():
        recording = home / listed
        table = recording.with_name(f"{recording.stem}_labels.csv")
        for path in (recording, table):
            if not path.is_file():
                raise missing("dvs128-gesture", path, advice)
        files += [recording, table]
        for row in table.read_text().split()[1:]:
            cells = row.split(",")
            if len(cells) != TABLE_COLUMNS or not all(cell.isdecimal() for cell in cells):
                raise InputError(f"{table} has the row {row!r}, expected class,begin,end; {advice} again")
            trials.append(Trial(recording, (int(cells[1]), int(cells[2]))))
            labels.append(_label(table, cells[0], first=1))
    return Part(trials, np.array(labels, dtype=np.int64), files)


def _label(path: Path, text: str, first: int) -> int:
    label = int(text) - first if text.isdecimal() else -1
    if not 0 <= label < len(CLASSES):
        raise InputError(
            f"{path} is of class {text!r}, expected {first} to {first + len(CLASSES) - 1}; get it again"
        )
    return label


@lru_cache(maxsize=1)
def _whole(path: Path) -> Events:
    """A file of many trials; they follow each other."""
    address, t = addresses(path)
    return Events(address >> 17 & 0x1FFF, address >> 2 & 0x1FFF, t, address >> 1 & 1)


def _read(trial: Trial) -> Events:
    if trial.span is None:
        x, y, p, milliseconds = np.load(trial.path, allow_pickle=False).astype(np.int64).T
        return Events(x, y, 1000 * (milliseconds - milliseconds[:1]), p)
    begin, end = trial.span
    whole = _whole(trial.path)
    inside = (whole.t >= begin) & (whole.t < end)
    x, y, t, p = (column[inside] for column in whole)
    return Events(x, y, t - begin, p)


DVS128_GESTURE = EventSource(
    name="dvs128-gesture",
    description="1,342 recordings of gestures, 128×128 pixels, 11 classes; to be put there by hand",
    sensor=Sensor(128, 128),
    duration_us=6_000_000,
    class_names=CLASSES,
    find=_find,
    read=_read,
    divide=standard(validation_share=0.1),
)
