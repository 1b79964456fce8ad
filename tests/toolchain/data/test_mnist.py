"""MNIST is the published one: its files, their archives, its samples, its split."""

import hashlib
import os
import shutil
import subprocess

import pytest
import torch

from snnkd import InputError
from snnkd.toolchain.data.datasets import DataSet, fetch_dataset, load_dataset
from snnkd.toolchain.data.fetch import data_root
from snnkd.toolchain.data.mnist import ARCHIVES, FILES

CLASS_COUNTS_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
CLASS_COUNTS_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]

ARCHIVED_AS = {
    "train-images-idx3-ubyte": ("train-images.idx3-ubyte", 848331386),
    "train-labels-idx1-ubyte": ("train-labels.idx1-ubyte", 848331398),
    "t10k-images-idx3-ubyte": ("t10k-images.idx3-ubyte", 885827245),
    "t10k-labels-idx1-ubyte": ("t10k-labels.idx1-ubyte", 885827268),
}
"""The name and the modification time (Unix seconds, in 1996 and 1998) inside the archives' headers."""


@pytest.fixture(scope="module")
def mnist() -> DataSet:
    """The files in the default data root, if someone has fetched them."""
    try:
        return load_dataset("mnist", allow_fetch=False)
    except InputError as error:
        pytest.skip(str(error))


def test_mnist_has_the_published_samples(mnist):
    assert mnist.task.input_shape == (1, 28, 28)
    assert [len(split.labels) for split in (mnist.train, mnist.validation, mnist.test)] == [
        55_000,
        5_000,
        10_000,
    ]
    official_train = torch.cat((mnist.train.labels, mnist.validation.labels))
    assert official_train.bincount().tolist() == CLASS_COUNTS_TRAIN
    assert mnist.test.labels.bincount().tolist() == CLASS_COUNTS_TEST
    assert mnist.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    # The mean and standard deviation that every tutorial normalises by.
    pixels = torch.cat((mnist.train.inputs, mnist.validation.inputs)).to(torch.float64) / 255
    assert (round(pixels.mean().item(), 4), round(pixels.std().item(), 4)) == (0.1307, 0.3081)


def test_mnist_is_split_as_ever(mnist):
    """A change here breaks every published accuracy: it needs a reason and a line in the change log."""
    digest = hashlib.sha256(mnist.validation.inputs.numpy().tobytes()).hexdigest()
    assert digest[:16] == "e35ffa2c13127292"
    shares = mnist.validation.labels.bincount() - torch.tensor(CLASS_COUNTS_TRAIN) * 5_000 / 60_000
    assert shares.abs().max() <= 1


@pytest.mark.slow
def test_mnist_can_be_fetched(tmp_path):
    files = fetch_dataset("mnist", tmp_path)
    assert [path.stat().st_size for path in files] == [file.size for file in FILES]
    assert sorted(path.name for path in (tmp_path / "mnist").iterdir()) == sorted(file.name for file in FILES)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gzip") is None, reason="GNU gzip is not installed")
def test_the_canonical_files_are_those_inside_the_published_archives(mnist, tmp_path):
    for file in FILES:
        name, modified = ARCHIVED_AS[file.name]
        original = tmp_path / name
        shutil.copyfile(data_root() / "mnist" / file.name, original)
        os.utime(original, (modified, modified))
        archive = subprocess.run(
            ["gzip", "-6", "--name", "--stdout", name], cwd=tmp_path, capture_output=True, check=True
        )
        assert len(archive.stdout) == ARCHIVES[file.name].size
        assert hashlib.md5(archive.stdout).hexdigest() == ARCHIVES[file.name].md5
