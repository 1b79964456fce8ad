"""Images over time: every pixel's spikes are those of its value, and nothing is drawn at random."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnkd import InputError
from snnkd.models.contract import TaskShape
from snnkd.toolchain.data.augment import augment
from snnkd.toolchain.data.augmentation import Augmentation
from snnkd.toolchain.data.batches import batches
from snnkd.toolchain.data.datasets import Split, load_dataset
from snnkd.toolchain.data.encoding import Encoding, rate, rows
from snnkd.toolchain.data.presentation import Presentation
from snnkd.toolchain.recipe import load_recipe
from snnkd.toolchain.teaching import mean_frame, over_time, teacher_input, time_first


@given(largest=st.integers(1, 255), timesteps=st.integers(1, 40))
def test_a_pixel_spikes_as_often_as_its_value_says_evenly(largest, timesteps):
    values = np.arange(largest + 1, dtype=np.uint8)
    frames = rate(values.reshape(1, 1, 1, -1), largest, timesteps)
    assert frames.shape == (1, timesteps, 1, 1, largest + 1)
    assert frames.dtype == np.uint8
    for value in values:
        spikes = frames[0, :, 0, 0, value].tolist()
        emitted = [sum(spikes[:steps]) for steps in range(timesteps + 1)]
        assert emitted == [int(value) * steps // largest for steps in range(timesteps + 1)]
        assert set(spikes) <= {0, 1}


def test_rows_are_shown_one_after_another():
    images = np.random.default_rng(0).integers(0, 17, (5, 3, 4, 6)).astype(np.uint8)
    frames = rows(images)
    assert frames.shape == (5, 4, 18, 1, 1)
    for sample, step, channel, column in np.ndindex(5, 4, 3, 6):
        assert frames[sample, step, 6 * channel + column, 0, 0] == images[sample, channel, step, column]


def test_columns_stand_behind_the_rows():
    images = np.random.default_rng(1).integers(0, 17, (5, 2, 6, 6)).astype(np.uint8)
    frames = Encoding(kind="rows-and-columns", largest=9).encode(images, 16, 6)
    assert frames.shape == (5, 6, 24, 1, 1)
    assert frames.max() == 9
    for sample, step, channel, place in np.ndindex(5, 6, 2, 6):
        across, down = images[sample, channel, step, place], images[sample, channel, place, step]
        assert frames[sample, step, 6 * channel + place, 0, 0] == min(9, across)
        assert frames[sample, step, 12 + 6 * channel + place, 0, 0] == min(9, down)
    with pytest.raises(InputError, match=r"shows as many columns as rows, found images of 6×5; use 'rows'"):
        Encoding(kind="rows-and-columns").step((1, 6, 5), 16, 6)


def test_a_data_set_is_encoded_when_it_is_loaded():
    plain = load_dataset("digits")
    assert not plain.temporal
    for kind, timesteps, shape, largest in (("rate", 5, (1, 8, 8), 1), ("rows", 8, (8, 1, 1), 16)):
        shown = Presentation(timesteps, Encoding(kind=kind))
        data = load_dataset("digits", train_samples=100, shown=shown)
        assert data.temporal
        assert data.task == TaskShape(shape, largest, 10)
        assert data.train.inputs.shape == (100, timesteps, *shape)
        assert torch.equal(data.test.labels, plain.test.labels)
        encoded = Encoding(kind=kind).encode(plain.test.inputs.numpy(), 16, timesteps)
        assert np.array_equal(data.test.inputs, encoded)
    images = load_dataset("digits", shown=Presentation(9)).test.inputs
    assert torch.equal(images, plain.test.inputs)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["encoding.kind=rows", "timesteps=4"], "one of 8 rows a step, found 4 timesteps; set it to 8"),
        (
            ["encoding.kind=poisson"],
            "encoding.kind: should be 'none', 'rows', 'rows-and-columns' or 'rate', found 'poisson'",
        ),
        (
            ["encoding.kind=rate", "method=tssd"],
            "method 'tssd' trains on 8 steps, and samples over time have 4",
        ),
        (["events.max_count=3"], "data set 'digits' has images, not events; leave [events] out"),
        (["dataset=shd", "encoding.kind=rate"], "is for images, and 'shd' has events"),
        (["dataset=shd"], "shown of 'shd' a step is 700 channels; leave [augmentation] out"),
        (["dataset=shd", "events.bins=3"], "unknown key 'events.bins'"),
        (["dataset=mnist", "encoding.kind=rate", "augmentation.auto_augment=cifar10"], "'mnist' are events"),
    ],
)
def test_recipes_that_cannot_be_shown_are_refused(overrides, complaint):
    with pytest.raises(InputError) as caught:
        load_recipe("digits", overrides)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_need_no_augmentation():
    with pytest.raises(InputError, match="of 'digits' a step is 8 channels"):
        load_recipe("digits", ["encoding.kind=rows", "timesteps=8"])
    recipe = load_recipe("digits", ["encoding.kind=rows", "timesteps=8", "augmentation={}"])
    assert recipe.shown == Presentation(8, Encoding(kind="rows"))


def test_batches_have_time_first():
    inputs = torch.arange(6 * 3 * 2 * 4 * 4, dtype=torch.int64).remainder(7).to(torch.uint8)
    split = Split(inputs.reshape(6, 3, 2, 4, 4), torch.arange(6))
    for images, labels in batches(split, 4, seed=1):
        assert images.shape == (3, len(labels), 2, 4, 4)
        assert torch.equal(images.transpose(0, 1), split.inputs[labels].float())


def test_all_steps_of_a_sample_change_alike():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 9, (40, 2, 6, 6), generator=generator)
    changes = Augmentation(crop_padding=2, flip=True, erase_probability=0.5, rotate_degrees=20, translate=1.5)
    still = augment(images, changes, torch.Generator().manual_seed(3))
    frames = torch.stack([images, 8 - images, images], dim=1)
    moving = augment(frames, changes, torch.Generator().manual_seed(3))
    assert torch.equal(moving[:, 0], still)
    assert torch.equal(moving[:, 2], still)
    assert not torch.equal(moving[:, 1], still)
    assert not torch.equal(still, images)


def test_an_ann_sees_the_sum_over_time():
    frames = torch.randint(0, 256, (4, 6, 3, 5, 5)).float()
    assert torch.equal(teacher_input(frames), frames.double().sum(0).float())
    assert torch.equal(mean_frame(frames) * 4, teacher_input(frames))
    samples = frames.transpose(0, 1).to(torch.uint8).numpy()
    assert np.array_equal(over_time(samples), teacher_input(frames).numpy())
    assert np.array_equal(time_first(samples), frames.numpy())
    images = frames[0]
    for seen in (teacher_input, mean_frame, over_time, time_first):
        assert seen(images) is images
