"""idx files are read byte for byte; one that is cut, padded or of another kind is refused in one line."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from snnkd import InputError
from snnkd.toolchain.data.idx import read_idx, read_labelled


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@settings(deadline=None, derandomize=True)
@given(array=arrays(np.uint8, st.tuples(*[st.integers(0, 7)] * 3)))
def test_an_array_comes_back(array, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "array-idx3-ubyte"
    path.write_bytes(idx(array))
    read = read_idx(path, dimensions=3)
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array, strict=True)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "begins with nothing and has 0 bytes, expected the idx header 00000803 and 3 sizes"),
        (b"\x00\x00\x08", "begins with 000008 and has 3 bytes"),
        (idx(IMAGES)[:9], "begins with 00000803 and has 9 bytes"),
        (idx(IMAGES[0]), "begins with 00000802"),
        (b"\x00\x00\x0d\x03" + idx(IMAGES)[4:], "begins with 00000d03"),
        (b"\x1f\x8b\x08\x08 a gzip archive", "begins with 1f8b0808"),
        (idx(IMAGES)[:-1], r"holds 23 bytes of data, but its header announces \(2, 3, 4\), 24 bytes"),
        (idx(IMAGES) + b"\x00", "holds 25 bytes of data"),
        (bytes((0, 0, 8, 3)) + b"\xff" * 12, "holds 0 bytes of data"),
    ],
)
def test_a_corrupt_file_is_one_line(tmp_path: Path, content, complaint):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint) as caught:
        read_idx(path, dimensions=3)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_an_unreadable_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"can't read .*missing: No such file"):
        read_idx(tmp_path / "missing", dimensions=1)


def test_images_and_labels_must_be_equally_many(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(idx(IMAGES))
    labels.write_bytes(idx(np.array([5, 250], np.uint8)))
    samples = read_labelled(images, labels)
    assert samples.inputs.shape == (2, 1, 3, 4)
    assert samples.labels.dtype == np.int64
    assert samples.labels.tolist() == [5, 250]
    labels.write_bytes(idx(np.array([5, 0, 4], np.uint8)))
    with pytest.raises(InputError, match=r"holds 2 images but .*labels 3 labels"):
        read_labelled(images, labels)
