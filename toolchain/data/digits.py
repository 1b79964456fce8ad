"""digits: the hand-written digits that ship with scikit-learn; small, and there without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .datasets import Samples, Source, Splits, hold_out

TEST_FRACTION = 0.20
VALIDATION_FRACTION = 0.16
"""Of all samples, not of those that the test split leaves."""


def _read(_folder: Path, split_seed: int) -> Splits:
    from sklearn.datasets import load_digits  # a second to import: only when loading

    pixels, labels = load_digits(return_X_y=True)
    everything = Samples(pixels.reshape(-1, 1, 8, 8).astype(np.uint8), labels.astype(np.int64))
    count = len(labels)
    rest, test = hold_out(everything, round(TEST_FRACTION * count), split_seed)
    train, validation = hold_out(rest, round(VALIDATION_FRACTION * count), split_seed)
    return Splits(train, validation, test)


DIGITS = Source(
    name="digits",
    description="1,797 hand-written digits of 8×8 pixels, 10 classes; ships with scikit-learn",
    input_shape=(1, 8, 8),
    input_max=16,
    class_names=tuple("0123456789"),
    read=_read,
)
