"""A pass over a split shows every sample once, in an order that the seed alone decides."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd.toolchain.data.augmentation import Augmentation
from snnkd.toolchain.data.batches import batches
from snnkd.toolchain.data.datasets import Split


def numbered(count: int) -> Split:
    """Samples whose label and first pixel are their number."""
    inputs = torch.full((count, 1, 4, 4), 9, dtype=torch.uint8)
    inputs[:, 0, 0, 0] = torch.arange(count)
    return Split(inputs, torch.arange(count))


def order(
    split: Split, batch_size: int, seed: int | None, augmentation: Augmentation | None = None
) -> list[int]:
    return torch.cat([labels for _, labels in batches(split, batch_size, seed, augmentation)]).tolist()


@settings(deadline=None, derandomize=True)
@given(count=st.integers(1, 200), batch_size=st.integers(1, 70), seed=st.none() | st.integers(0, 2**31 - 1))
def test_every_sample_comes_once_with_its_label(count, batch_size, seed):
    passed = list(batches(numbered(count), batch_size, seed))
    assert [len(labels) for _, labels in passed[:-1]] == [batch_size] * (len(passed) - 1)
    assert 0 < len(passed[-1][1]) <= batch_size
    for images, labels in passed:
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert torch.equal(images[:, 0, 0, 0], labels.float())
    assert sorted(torch.cat([labels for _, labels in passed]).tolist()) == list(range(count))


def test_without_a_seed_the_order_is_the_splits():
    assert order(numbered(50), 8, seed=None) == list(range(50))


def test_the_seed_alone_decides_the_order():
    split = numbered(100)
    reference = order(split, 8, seed=5)
    torch.manual_seed(123)
    assert order(split, 8, seed=5) == reference != list(range(100))
    assert order(split, 33, seed=5) == reference
    assert order(split, 8, seed=5, augmentation=Augmentation(crop_padding=1)) == reference
    assert order(split, 8, seed=6) != reference


def test_an_epoch_is_the_same_whether_or_not_another_came_before():
    split, augmentation = numbered(100), Augmentation(crop_padding=1, rotate_degrees=20)
    alone = list(batches(split, 16, 2, augmentation))
    list(batches(split, 16, 1, augmentation))
    for (images, labels), (same_images, same_labels) in zip(
        alone, batches(split, 16, 2, augmentation), strict=True
    ):
        assert torch.equal(images, same_images)
        assert torch.equal(labels, same_labels)
    plain = [images for images, _ in batches(split, 16, 2)]
    assert not any(torch.equal(images, before) for (images, _), before in zip(alone, plain, strict=True))


def test_a_pass_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    list(batches(numbered(20), 8, 0, Augmentation(flip=True)))
    assert torch.equal(torch.get_rng_state(), before)


def test_augmentation_without_a_seed_is_refused():
    with pytest.raises(ValueError, match="needs a seed"):
        next(batches(numbered(4), 2, augmentation=Augmentation(flip=True)))
