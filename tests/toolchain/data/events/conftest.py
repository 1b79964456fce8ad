"""Recordings of made-up events, written byte for byte in the layouts of the public sets."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""x, y, t (µs) and p of a recording."""


def made_up(seed: int, count: int, width: int, height: int, duration_us: int, place: float = 0.5) -> Columns:
    """Events around a place that says of what class they are, in the order of time."""
    generator = np.random.default_rng(seed)
    x = np.clip(generator.normal(place * width, width / 12, count), 0, width - 1).astype(np.int64)
    y = generator.integers(0, height, count)
    t = np.sort(generator.integers(0, duration_us, count))
    return x, y, t, generator.integers(0, 2, count)


def n_mnist(events: Columns) -> bytes:
    """40 bits an event: x, y, then one of polarity and 23 of time, high byte first."""
    return b"".join(
        bytes([x, y]) + (int(p) << 23 | int(t)).to_bytes(3, "big") for x, y, t, p in zip(*events, strict=True)
    )


def aedat2(events: Columns) -> bytes:
    """jAER's: a line of text for each fact, then address and time, 32 bits each, high byte first."""
    head = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"
    words = (
        struct.pack(">II", int(x) << 8 | int(y) << 1 | int(p), int(t))
        for x, y, t, p in zip(*events, strict=True)
    )
    return head + b"".join(words)


def aedat3(events: Columns, capacity: int = 50) -> bytes:
    """cAER's: packets of a header of 28 bytes and so many events, low byte first."""
    columns = list(zip(*events, strict=True))
    packets = []
    for start in range(0, len(columns), capacity):
        part = columns[start : start + capacity]
        packets.append(struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(part), len(part), len(part)))
        packets += [
            struct.pack("<II", int(x) << 17 | int(y) << 2 | int(p) << 1 | 1, int(t)) for x, y, t, p in part
        ]
    return b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n" + b"".join(packets)


DESCRIPTION = """<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">
<node name="0" path="/mainloop/Recorder/outInfo/0/"><attr key="compression" type="string">NONE</attr>
<attr key="originalModuleName" type="string">camera</attr>
<attr key="originalOutputName" type="string">events</attr>
<attr key="typeDescription" type="string">Array of events.</attr>
<attr key="typeIdentifier" type="string">EVTS</attr>
<node name="info" path="/mainloop/Recorder/outInfo/0/info/"><attr key="sizeX" type="int">128</attr>
<attr key="sizeY" type="int">128</attr><attr key="source" type="string">DVS128</attr></node>
</node></node></dv>"""


def aedat4(events: Columns) -> bytes:
    """DV's: a FlatBuffer that describes the streams, then packets: a stream, a size, a FlatBuffer."""
    text = DESCRIPTION.encode()
    # root at 20, identifier, vtable of three fields at 8; table: way to that, compression, position, text
    header = struct.pack("<I4s5H2xiiqI", 20, b"IOHE", 10, 20, 4, 8, 16, 12, 0, -1, 4)
    header += struct.pack("<I", len(text)) + text + b"\0"
    rows = (
        struct.pack("<qhhB3x", int(t), int(x), int(y), int(p)) for x, y, t, p in zip(*events, strict=True)
    )
    # root at 16, identifier, vtable of one field at 8; table: way to the vtable, then to the vector
    packet = struct.pack("<I4s3H2xiII", 16, b"EVTS", 6, 8, 4, 8, 4, len(events[2])) + b"".join(rows)
    sized = struct.pack("<I", len(packet)) + packet
    return (
        b"#!AER-DAT4.0\r\n"
        + struct.pack("<I", len(header))
        + header
        + struct.pack("<ii", 0, len(sized))
        + sized
    )


@dataclass(frozen=True)
class Written:
    """A data root with one set in it, and what was recorded: by part, label and events in files' order."""

    root: Path
    parts: dict[str, list[tuple[int, Columns]]]


def write_n_mnist(root: Path, train: int, test: int, count: int = 60) -> Written:
    parts: dict[str, list[tuple[int, Columns]]] = {"train": [], "test": []}
    for part, number in (("train", train), ("test", test)):
        for digit in range(10):
            folder = root / "n-mnist" / part.capitalize() / str(digit)
            folder.mkdir(parents=True)
            for index in range(number):
                seed = 1000 * digit + index + (500 if part == "test" else 0)
                events = made_up(seed, count, 34, 34, 305_000, (digit + 1) / 11)
                (folder / f"{index:05d}.bin").write_bytes(n_mnist(events))
                parts[part].append((digit, events))
    return Written(root, parts)


def write_shd(root: Path, train: int, test: int, count: int = 80) -> Written:
    """HDF5 with variable-length half floats (s) and 16-bit units, as published."""
    import h5py

    parts: dict[str, list[tuple[int, Columns]]] = {"train": [], "test": []}
    (root / "shd").mkdir(parents=True)
    for part, number in (("train", train), ("test", test)):
        with h5py.File(root / "shd" / f"shd_{part}.h5", "w") as file:
            total = 20 * number
            times = file.create_dataset("spikes/times", (total,), dtype=h5py.vlen_dtype(np.float16))
            units = file.create_dataset("spikes/units", (total,), dtype=h5py.vlen_dtype(np.uint16))
            file["labels"] = (np.arange(total) % 20).astype(np.uint16)
            for index in range(total):
                label = index % 20
                seed = index + (5000 if part == "test" else 0)
                x, _, t, _ = made_up(seed, count, 700, 1, 1_000_000, (label + 1) / 21)
                seconds = (t / 1e6).astype(np.float16)
                times[index], units[index] = seconds, x.astype(np.uint16)
                stored = (seconds.astype(np.float64) * 1e6).astype(np.int64)
                parts[part].append((label, (x, np.zeros_like(x), stored, np.zeros_like(x))))
    return Written(root, parts)


@pytest.fixture
def writers() -> dict[str, Callable]:
    return {
        "n-mnist": write_n_mnist,
        "shd": write_shd,
        "aedat2": aedat2,
        "aedat3": aedat3,
        "aedat4": aedat4,
        "made_up": made_up,
    }
