"""Frames are those of tonic's transforms and of counting event by event, with ==."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from snnkd.toolchain.data.events.framing import frames_of
from snnkd.toolchain.data.events.options import EventOptions
from snnkd.toolchain.data.events.recordings import Events, Recordings, Sensor, prepared

tonic = pytest.importorskip("tonic")

SENSOR = Sensor(13, 9)
SIZE = (13, 9, 2)
NAMES = ("x", "y", "t", "p")
DTYPE = np.dtype([(name, int) for name in NAMES])
DURATION = 100_003
LARGEST = 255


def recorded(seed: int, count: int, duration: int = DURATION) -> Events:
    generator = np.random.default_rng(seed)
    columns = (generator.integers(0, end, count) for end in (SENSOR.width, SENSOR.height, 2))
    x, y, p = columns
    return Events(x, y, np.sort(generator.integers(0, duration, count)), p)


def structured(events: Events) -> np.ndarray:
    array = np.empty(len(events.t), DTYPE)
    for name in NAMES:
        array[name] = getattr(events, name)
    return array


def framed(
    events: list[Events], options: EventOptions, timesteps: int, duration: int = DURATION
) -> np.ndarray:
    parts = [prepared(one, SENSOR, options, duration) for one in events]
    recordings = Recordings.of(SENSOR.grid(options), parts)
    return frames_of(recordings, options, timesteps, duration)


def counted(events: Events, timesteps: int, duration: int, side: int = 1, merged: bool = False) -> np.ndarray:
    """One event after another."""
    height, width = -(-SENSOR.height // side), -(-SENSOR.width // side)
    frames = np.zeros((timesteps, 1 if merged else 2, height, width), dtype=np.int64)
    for x, y, t, p in zip(*events, strict=True):
        if t < duration:
            frames[t * timesteps // duration, 0 if merged else p, y // side, x // side] += 1
    return frames


@given(
    seed=st.integers(0, 1000),
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    timesteps=st.integers(1, 9),
    side=st.integers(1, 4),
    merged=st.booleans(),
    max_count=st.integers(1, 5),
    cut=st.integers(1, 2 * DURATION),
)
def test_frames_count_every_event_in_its_bin(seed, counts, timesteps, side, merged, max_count, cut):
    events = [recorded(seed + index, count) for index, count in enumerate(counts)]
    options = EventOptions(downsample=side, polarities="merged" if merged else "both", max_count=max_count)
    expected = [np.minimum(counted(one, timesteps, cut, side, merged), max_count) for one in events]
    assert np.array_equal(framed(events, options, timesteps, cut), expected)


@pytest.mark.parametrize(
    ("count", "noise"), [(1000, 0), (1000, 6000), (400, 0), (400, 6000), (37, 0), (37, 6000), (5, 0)]
)
def test_frames_are_tonics(count, noise):
    events, timesteps = recorded(count, count), 7
    clean = structured(events)
    if noise:
        clean = tonic.transforms.Denoise(noise)(clean)
        assert 0 < len(clean) < count
    many = {"denoise_us": noise, "max_count": LARGEST}
    by_count, by_time = EventOptions(frames="count", **many), EventOptions(**many)
    for options, bins in (
        (EventOptions(span="own", **many), {"n_time_bins": timesteps}),
        (by_count, {"n_event_bins": timesteps}),
        (by_time, {"time_window": DURATION / timesteps, "start_time": 0, "end_time": DURATION}),
    ):
        expected = tonic.functional.to_frame_numpy(clean.copy(), SIZE, **bins)
        assert np.array_equal(framed([events], options, timesteps)[0], expected)
        assert expected.any() or len(clean) < timesteps


def test_the_comparison_with_tonic_sees_one_event():
    events, timesteps = recorded(5, 700), 7
    expected = tonic.functional.to_frame_numpy(structured(events), SIZE, n_event_bins=timesteps)
    moved = events._replace(x=np.where(np.arange(700) == 350, (events.x + 1) % SENSOR.width, events.x))
    options = EventOptions(frames="count", max_count=LARGEST)
    differences = framed([moved], options, timesteps)[0].astype(int) - expected
    assert np.abs(differences).sum() == 2


@pytest.mark.parametrize("side", [2, 4])
def test_downsampling_is_tonics(side):
    events, options = recorded(2, 300), EventOptions(downsample=side, max_count=LARGEST)
    smaller = tonic.transforms.Downsample(spatial_factor=1 / side)(structured(events))
    size = (-(-SENSOR.width // side), -(-SENSOR.height // side), 2)
    expected = tonic.functional.to_frame_numpy(
        smaller, size, time_window=DURATION / 4, start_time=0, end_time=DURATION
    )
    assert np.array_equal(framed([events], options, 4)[0], expected)


@pytest.mark.parametrize("polarity", [0, 1])
def test_a_voxel_grid_is_tonics_rounded(polarity):
    events, timesteps, unit = recorded(3, 500)._replace(p=np.full(500, polarity)), 6, 8
    expected = np.abs(tonic.transforms.ToVoxelGrid(SIZE, timesteps)(structured(events))[:, 0])
    options = EventOptions(frames="voxel", span="own", voxel_unit=unit, max_count=LARGEST // unit)
    ours = framed([events], options, timesteps)[0]
    assert np.array_equal(ours[:, polarity], np.floor(unit * expected + 0.5))
    assert not ours[:, 1 - polarity].any()
    assert expected.max() > 1


def test_a_voxel_grid_shares_each_event_between_two_bins():
    times = np.array([0, 50, 75, 175, 199])
    events = Events(np.arange(5), np.zeros(5, int), times, np.ones(5, int))
    options = EventOptions(frames="voxel", voxel_unit=4)
    ours = framed([events], options, 2, 200)[0, :, 1, 0, :5]
    assert ours.tolist() == [[4, 2, 1, 0, 0], [0, 2, 3, 1, 0]]


def test_events_out_of_order_are_put_in_order():
    events = recorded(1, 300)
    shuffled = Events(*(column[np.random.default_rng(0).permutation(300)] for column in events))
    for options in (EventOptions(denoise_us=4000), EventOptions(frames="count", max_count=9)):
        assert np.array_equal(framed([events], options, 5), framed([shuffled], options, 5))


def test_a_recording_without_events_is_dark():
    empty = Events(*(np.empty(0, int) for _ in range(4)))
    for frames in ("time", "count", "voxel"):
        for span in ("fixed", "own"):
            options = EventOptions(frames=frames, span=span, denoise_us=5)
            assert not framed([empty, empty], options, 3).any()


def test_an_event_outside_the_sensor_is_refused():
    events = recorded(0, 10)
    with pytest.raises(ValueError, match="events with x from 13 to 13, expected 0 to 12"):
        prepared(events._replace(x=np.full(10, 13)), SENSOR, EventOptions(), DURATION)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"frames": "voxel", "max_count": 32}, "max_count times voxel_unit should be at most 255"),
        ({"max_count": 256}, "less than or equal to 255"),
        ({"downsample": 0}, "greater than 0"),
        ({"augmentation": {"drop": 1.0}}, "less than 1"),
        ({"bins": 3}, "Extra inputs are not permitted"),
    ],
)
def test_options_out_of_range_are_refused(options, complaint):
    with pytest.raises(ValidationError, match=complaint):
        EventOptions.model_validate(options)
