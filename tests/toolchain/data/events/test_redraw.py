"""Training recordings change at random, event by event, as a seed says; nothing else does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnkd.toolchain.data.batches import batches
from snnkd.toolchain.data.datasets import load_dataset
from snnkd.toolchain.data.events.framing import frames_of
from snnkd.toolchain.data.events.options import EventAugmentation, EventOptions
from snnkd.toolchain.data.events.recordings import Recordings
from snnkd.toolchain.data.events.redraw import changed_at_random
from snnkd.toolchain.data.presentation import Presentation

GRID = (2, 7, 11)
DURATION = 10_000


def recordings(seed: int, counts: list[int]) -> Recordings:
    generator = np.random.default_rng(seed)
    return Recordings.of(
        GRID,
        [
            (np.sort(generator.integers(0, DURATION, count)), generator.integers(0, 2 * 7 * 11, count))
            for count in counts
        ],
    )


def frames(given: Recordings, timesteps: int = 5) -> np.ndarray:
    return frames_of(given, EventOptions(max_count=255), timesteps, DURATION)


def changed(given: Recordings, seed: int, **options) -> Recordings:
    return changed_at_random(given, EventAugmentation(**options), DURATION, np.random.default_rng(seed))


@given(
    seed=st.integers(0, 100),
    counts=st.lists(st.integers(0, 50), min_size=1, max_size=4),
    reach=st.integers(1, 9),
)
def test_a_shift_moves_all_frames_of_a_recording_alike(seed, counts, reach):
    before = recordings(seed, counts)
    after = frames(changed(before, seed, shift=reach))
    original = np.pad(frames(before), ((0, 0), (0, 0), (0, 0), (reach, reach), (reach, reach)))
    for old, new in zip(original, after, strict=True):
        windows = [
            old[..., top : top + GRID[1], left : left + GRID[2]]
            for top in range(2 * reach + 1)
            for left in range(2 * reach + 1)
        ]
        assert any(np.array_equal(window, new) for window in windows)


def test_shifts_go_every_way():
    before = Recordings.of(GRID, [(np.zeros(1, int), np.array([3 * 11 + 5]))] * 300)
    after = changed(before, 0, shift=2).cell - (3 * 11 + 5)
    assert set(after.tolist()) == {11 * down + right for down in range(-2, 3) for right in range(-2, 3)}


def test_dropping_takes_whole_events_by_their_share():
    before = recordings(1, [4000, 4000])
    after = changed(before, 2, drop=0.25)
    left = np.diff(after.starts) / 4000
    assert np.abs(left - 0.75).max() < 5 * (0.25 * 0.75 / 4000) ** 0.5
    assert (frames(after) <= frames(before)).all()


def test_jitter_moves_events_in_time_and_nowhere_else():
    before = recordings(3, [3000, 10])
    after = changed(before, 4, jitter_us=200)
    assert after.starts[1] < 3000
    assert all(
        (np.diff(after.t[a:b]) >= 0).all() for a, b in zip(after.starts, after.starts[1:], strict=False)
    )
    assert after.t.min() >= 0
    assert after.t.max() < DURATION
    moved = Recordings(GRID, before.starts, np.full(3010, 5000), before.cell)
    spread = changed(moved, 4, jitter_us=200)
    assert np.array_equal(np.bincount(spread.cell), np.bincount(before.cell))
    assert abs(spread.t.std() - 200) < 15
    assert abs(spread.t.mean() - 5000) < 15


def test_nothing_asked_for_changes_nothing():
    before = recordings(5, [30, 0, 7])
    after = changed(before, 0)
    for name in ("starts", "t", "cell"):
        assert np.array_equal(getattr(after, name), getattr(before, name))


@pytest.fixture
def data(writers, tmp_path):
    pytest.importorskip("tonic")
    writers["n-mnist"](tmp_path, train=4, test=1)

    def load(train_samples=0, **augmentation):
        options = EventOptions(augmentation=EventAugmentation(**augmentation))
        return load_dataset(
            "n-mnist", tmp_path, shown=Presentation(4, events=options), train_samples=train_samples
        )

    return load


def test_each_epoch_is_another_and_its_seed_decides_it(data):
    split = data(drop=0.3, shift=3).train
    first, again, other = ([images for images, _ in batches(split, 16, seed)] for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert first[0].shape == (4, 16, 2, 34, 34)
    assert not all((a == b).all() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("train_samples", [0, 20])
def test_only_training_samples_change_and_keep_their_labels(data, train_samples):
    still, changing = data(train_samples), data(train_samples, jitter_us=1)
    assert changing.validation.redrawn is changing.test.redrawn is still.train.redrawn is None
    for (plain, labels), (redrawn, same) in zip(
        batches(still.train, 10, 5), batches(changing.train, 10, 5), strict=True
    ):
        assert (labels == same).all()
        assert (plain != redrawn).float().mean() < 0.002  # by 1 µs, hardly anything changes its bin
    for images, _ in batches(changing.train, 64):
        assert (images == still.train.inputs[: len(images[0])].transpose(0, 1)).all()
        break
