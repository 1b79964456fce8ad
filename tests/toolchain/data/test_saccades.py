"""Simulated event sets: the film is three saccades, the events are eventcv's, however they were made."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from snnkd import InputError
from snnkd.toolchain.data import saccade_files, saccades, simulated
from snnkd.toolchain.data.datasets import DATASETS, Samples, Splits, fetch_dataset, load_dataset
from snnkd.toolchain.data.events.options import EventAugmentation, EventOptions
from snnkd.toolchain.data.fetch import data_root
from snnkd.toolchain.data.presentation import Presentation
from snnkd.toolchain.data.saccades import (
    DURATION_US,
    LEGS,
    Camera,
    Simulation,
    look,
    pack,
    render,
    trajectory,
    unpack,
)

eventcv = pytest.importorskip("eventcv")

SMALL = Simulation("digits", train=12, validation=10, test=10)


def silent(done, total, what):
    pass


@pytest.fixture(scope="module")
def digits():
    """The embedded images, 8×8, as they are split with seed 0."""
    return DATASETS.load("digits").read(Path(), 0)


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    """A small set that one process made, in shards of 8 images."""
    folder = tmp_path_factory.mktemp("set")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saccade_files, "SHARD_IMAGES", 8)
        return saccade_files.simulated(SMALL, lambda: digits, 16, folder, silent, workers=1)


def recording_of(part, index):
    return np.stack(saccade_files.read_recording(part.recordings[index]))


def same(one, other):
    return all(
        np.array_equal(np.load(one[name].path), np.load(other[name].path))
        and np.array_equal(one[name].bounds, other[name].bounds)
        and np.array_equal(one[name].labels, other[name].labels)
        for name in Splits._fields
    )


def test_the_image_makes_three_saccades_and_comes_back():
    path = trajectory()
    assert path.shape == (316, 2)
    corners = path[::105]
    assert np.diff(corners, axis=0).tolist() == [list(leg) for leg in LEGS]
    assert corners[0].tolist() == corners[-1].tolist()
    for start in (0, 105, 210):  # at constant speed
        steps = np.diff(path[start : start + 106], axis=0)
        assert np.allclose(steps, steps[0], atol=1e-12)


def test_the_film_is_the_image_shifted_bilinearly():
    image = np.random.default_rng(0).integers(0, 256, (9, 11))
    film = render(image, 255, 140)
    assert film.shape == (316, 15, 17)
    grey = (140 + 115 * image / 255) / 255
    middle = np.pad(grey, 3, constant_values=140 / 255)
    for frame in (0, 1, 52, 105, 200, 210, 315):
        x, y = trajectory()[frame] - 3
        shifted = ndimage.shift(middle, (y, x), order=1, mode="grid-constant", cval=140 / 255)
        assert np.allclose(film[frame], shifted, atol=1e-12), frame


def test_events_are_what_eventcv_makes_of_the_film(digits):
    image = digits.train.inputs[0, 0]
    events = np.stack(unpack(look(image, 16, Camera(), 5)))
    direct = eventcv.simulate(
        render(image, 16, 140),
        fps=1000,
        pos_thres=0.3,
        neg_thres=0.3,
        sigma_thres=0.03,
        refractory_us=100,
        cutoff_hz=200.0,
        leak_rate_hz=0.1,
        shot_noise_rate_hz=1.0,
        seed=5,
    ).numpy()
    assert len(direct) > 100
    assert np.array_equal(events, direct.T)
    assert np.all(np.diff(events[2].astype(np.int64)) >= 0)
    assert not np.array_equal(events, np.stack(unpack(look(image, 16, Camera(), 6)))[:, : events.shape[1]])
    quiet = replace(Camera(), shot_noise_hz=0.0, leak_hz=0.0)
    assert look(np.zeros((8, 8)), 16, quiet, 0).size == 0
    assert look(np.zeros((8, 8)), 16, Camera(), 0).size > 0


def test_a_bright_edge_gives_events_of_both_polarities_where_it_moves():
    """A bright column that moves right leaves darker events behind it and brighter ones before it."""
    image = np.zeros((8, 8))
    image[:, 3:5] = 16
    quiet = replace(Camera(), shot_noise_hz=0.0, leak_hz=0.0, threshold_spread=0.0)
    x, _, t, polarity = unpack(look(image, 16, quiet, 0))
    first_leg = t < 105_000
    brighter = x[first_leg & (polarity == 1)].astype(float)
    darker = x[first_leg & (polarity == 0)].astype(float)
    assert brighter.mean() > darker.mean() + 1


@given(st.lists(st.tuples(*(st.integers(0, top) for top in (63, 63, 2**19 - 1, 1))), max_size=20))
def test_packing_keeps_every_event(events):
    columns = np.array(events, np.int64).reshape(-1, 4).T
    assert np.array_equal(np.stack(unpack(pack(*columns))), columns)


def test_what_does_not_fit_is_not_packed():
    good = np.array([[1, 2, 3, 1]]).T
    for row, value in ((0, 64), (1, 64), (2, 2**19), (3, 2), (0, -1)):
        bad = good.copy()
        bad[row] = value
        with pytest.raises(ValueError, match="don't fit"):
            pack(*bad)


def test_each_recording_is_its_image_s_alone(made, digits):
    """Whatever stood before it, and whichever shard it was in."""
    assert {name: len(part.labels) for name, part in made.items()} == {
        "train": 12,
        "validation": 10,
        "test": 10,
    }
    chosen = saccade_files._chosen(SMALL, digits)
    for name, index in (("train", 0), ("train", 11), ("validation", 9), ("test", 3)):
        part, places = chosen[name]
        seed = SMALL.image_seed(name, places[index])
        alone = unpack(look(part.inputs[index, 0], 16, Camera(), seed))
        assert np.array_equal(np.stack(alone), recording_of(made[name], index))
        assert made[name].labels[index] == getattr(digits, name).labels[places[index]]


def test_the_number_of_processes_changes_nothing(made, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(saccade_files, "SHARD_IMAGES", 5)
    seen = []
    others = saccade_files.simulated(
        SMALL, lambda: digits, 16, tmp_path, lambda *told: seen.append(told[:2]), workers=2
    )
    assert same(made, others)
    assert seen[0] == (0, 32)
    assert seen[-1] == (32, 32)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_killed_process_is_reported_and_the_next_start_goes_on(made, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(saccade_files, "SHARD_IMAGES", 8)

    def kill_at(done, total, what):
        if done >= 16:
            (child,) = children_of(os.getpid())
            os.kill(child, signal.SIGKILL)

    with pytest.raises(InputError, match=r"was ended by signal 9 .* start again to go on"):
        saccade_files.simulated(SMALL, lambda: digits, 16, tmp_path, kill_at, workers=1)
    assert not list(tmp_path.glob("*.np?"))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob(f".{SMALL.key}/0*.npz")}
    assert kept
    begun = []
    resumed = saccade_files.simulated(
        SMALL, lambda: digits, 16, tmp_path, lambda done, *_: begun.append(done), workers=1
    )
    assert begun[0] == 8 * len(kept)
    assert same(made, resumed)
    assert not (tmp_path / f".{SMALL.key}").exists()


def children_of(process):
    """Processes that simulate, started by this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process and "saccade_worker" in (path / "cmdline").read_text():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_a_whole_set_is_not_made_again_and_a_damaged_one_is_reported(made):
    path = made["train"].path

    def unread():
        raise AssertionError("the images are read although the set is there")

    assert same(made, saccade_files.simulated(SMALL, unread, 16, path.parent, silent))
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    with pytest.raises(InputError, match=r"is damaged .* delete it"):
        saccade_files.simulated(SMALL, unread, 16, path.parent, silent)
    path.write_bytes(content)


def test_what_cannot_be_simulated_is_refused(digits, tmp_path, monkeypatch):
    colours = Splits(*(Samples(np.repeat(part.inputs, 3, 1), part.labels) for part in digits))
    with pytest.raises(InputError, match="have 3 channels of 8×8 pixels, expected 1"):
        saccade_files.simulated(SMALL, lambda: colours, 16, tmp_path, silent)
    monkeypatch.setattr(saccade_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"eventcv, which isn't installed: pip install"):
        saccade_files.simulated(SMALL, lambda: digits, 16, tmp_path, silent)


def test_other_settings_are_another_set():
    keys = {
        simulation.key
        for simulation in (
            SMALL,
            replace(SMALL, train=13),
            replace(SMALL, seed=1),
            replace(SMALL, images="mnist"),
            replace(SMALL, camera=replace(Camera(), threshold=0.31)),
        )
    }
    assert len(keys) == 5


def test_another_version_is_another_set(made, digits, monkeypatch, tmp_path):
    """Of eventcv or of our own film: neither what is done nor half-done shards are taken over."""
    before = SMALL.key
    with monkeypatch.context() as patch:
        patch.setattr(saccades, "FORMAT", saccades.FORMAT + 1)
        other_format = SMALL.key
    monkeypatch.setattr(saccades.importlib.metadata, "version", lambda package: f"{package} 9.9.9")
    assert len({before, other_format, SMALL.key}) == 3
    begun = []
    folder = tmp_path / "set"
    shutil.copytree(made["train"].path.parent, folder)
    anew = saccade_files.simulated(SMALL, lambda: digits, 16, folder, lambda *told: begun.append(told[0]))
    assert begun[0] == 0
    assert anew["train"].path.name != made["train"].path.name
    with np.load(anew["train"].path.with_suffix(".npz")) as file:
        about = json.loads(bytes(file["about"]))
    assert (about["eventcv"], about["format"]) == ("eventcv 9.9.9", saccades.FORMAT)


def test_a_simulated_set_loads_as_frames(made, monkeypatch):
    """Frames are counted here with NumPy's own histogram; the splits share no recording."""
    source = simulated.SimulatedEvents(SMALL)
    monkeypatch.setattr(type(DATASETS), "load", _loading(source, type(DATASETS).load))
    folder = made["train"].path.parent
    root = folder.with_name("root")
    root.mkdir(exist_ok=True)
    if not (root / "digits-saccades").exists():
        (root / "digits-saccades").symlink_to(folder)
    data = load_dataset("digits-saccades", root, shown=Presentation(timesteps=16))
    assert data.temporal
    assert data.task.input_shape == (2, 14, 14)
    assert [len(split.labels) for split in (data.train, data.validation, data.test)] == [12, 10, 10]
    x, y, t, p = (column.astype(float) for column in recording_of(made["test"], 4))
    edges = [np.linspace(0, DURATION_US, 17), np.arange(3) - 0.5, np.arange(15) - 0.5, np.arange(15) - 0.5]
    counts, _ = np.histogramdd(np.stack([t, p, y, x], axis=1), edges)
    assert np.array_equal(data.test.inputs[4].numpy(), np.minimum(counts, 1))
    changing = Presentation(timesteps=16, events=EventOptions(augmentation=EventAugmentation(drop=0.5)))
    redrawn = load_dataset("digits-saccades", root, shown=changing)
    assert redrawn.validation.redrawn is redrawn.test.redrawn is None
    assert redrawn.train.redrawn.frames(np.arange(12), 0).sum() < 0.8 * data.train.inputs.sum()
    other = load_dataset("digits-saccades", root, split_seed=1, shown=Presentation(timesteps=16))
    pooled = [
        sorted(sample.tobytes() for split in (each.train, each.validation) for sample in split.inputs.numpy())
        for each in (data, other)
    ]
    assert pooled[0] == pooled[1]
    assert not np.array_equal(data.validation.inputs, other.validation.inputs)


def _loading(source, load):
    return lambda registry, name: source if name == source.name else load(registry, name)


def test_mnist_before_the_camera_gives_about_as_many_events_as_n_mnist():
    """The set that ships, where somebody has simulated it."""
    folder = data_root() / "mnist-saccades"
    if not (folder / f"{simulated.MNIST.simulation.key}.npz").exists():
        pytest.skip("nobody has simulated it here")
    parts = simulated.MNIST.recordings(folder, silent)
    assert {name: len(part.labels) for name, part in parts.items()} == {
        "train": 10_000,
        "validation": 1_000,
        "test": 2_000,
    }
    for part in parts.values():
        assert 3_900 < part.counts.mean() < 4_000
        assert 780 < part.counts.std() < 860
        assert np.bincount(part.labels).min() >= 0.08 * len(part.labels)


def test_fetching_a_simulated_set_makes_it(made, monkeypatch):
    source, folder = simulated.SimulatedEvents(SMALL), made["train"].path.parent
    monkeypatch.setattr(type(DATASETS), "load", _loading(source, type(DATASETS).load))
    root = folder.with_name("fetched")
    root.mkdir()
    (root / "digits-saccades").symlink_to(folder)
    (path,) = fetch_dataset("digits-saccades", root)
    assert path.resolve() == made["train"].path.resolve()
