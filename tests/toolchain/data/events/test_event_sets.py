"""The public event sets in their own layouts, byte for byte, as frames: read by tonic, kept, read again."""

import multiprocessing

import numpy as np
import pytest

from snnkd import InputError
from snnkd.toolchain.data.datasets import DATASETS, fetch_dataset, load_dataset
from snnkd.toolchain.data.encoding import Encoding
from snnkd.toolchain.data.events import framed
from snnkd.toolchain.data.events.options import EventOptions
from snnkd.toolchain.data.events.source import EventSource
from snnkd.toolchain.data.presentation import Presentation

pytest.importorskip("tonic")

SETS = ("cifar10-dvs", "dvs128-gesture", "n-mnist", "shd", "ssc")


def shown(timesteps: int, **options) -> Presentation:
    return Presentation(timesteps, events=EventOptions(**options))


def counted(events, shape, timesteps: int, duration_us: int, side: int = 1) -> np.ndarray:
    """Frames of 0 and 1, uint8 (T, P, H, W), one event after another."""
    frames = np.zeros((timesteps, *shape), dtype=np.uint8)
    for x, y, t, p in zip(*events, strict=True):
        if t < duration_us:
            frames[t * timesteps // duration_us, p, y // side, x // side] = 1
    return frames


def by_frames(inputs, labels) -> list[bytes]:
    """Samples without an order."""
    return sorted(
        bytes([int(label)]) + np.asarray(one).tobytes() for one, label in zip(inputs, labels, strict=True)
    )


def as_written(part, *arguments) -> list[bytes]:
    frames = [counted(events, *arguments) for _, events in part]
    return by_frames(frames, [label for label, _ in part])


def loaded(split) -> list[bytes]:
    return by_frames(split.inputs.numpy(), split.labels.numpy())


def test_n_mnist_is_what_was_written(writers, tmp_path):
    written = writers["n-mnist"](tmp_path, train=3, test=2)
    data = load_dataset("n-mnist", tmp_path, shown=shown(6))
    assert fetch_dataset("n-mnist", tmp_path) == [tmp_path / "n-mnist"]
    assert data.temporal
    assert data.task.input_shape == (2, 34, 34)
    assert (data.task.input_max, data.task.classes) == (1, 10)
    assert loaded(data.test) == as_written(written.parts["test"], (2, 34, 34), 6, 315_000)
    together = sorted(loaded(data.train) + loaded(data.validation))
    assert together == as_written(written.parts["train"], (2, 34, 34), 6, 315_000)
    assert data.validation.labels.bincount().tolist() == [1] * 10
    other = as_written(written.parts["test"], (2, 34, 34), 6, 300_000)
    assert loaded(data.test) != other


def test_time_overflows_of_n_mnist_are_undone(writers, tmp_path):
    """An event in row 240 says that time has wrapped around at 2^13 µs."""
    writers["n-mnist"](tmp_path, train=3, test=1)
    file = tmp_path / "n-mnist" / "Test" / "7" / "00000.bin"
    file.write_bytes(bytes([5, 6, 0x80, 0, 9]) + bytes([0, 240, 0, 0, 0]) + bytes([7, 8, 0, 0, 9]))
    data = load_dataset("n-mnist", tmp_path, shown=shown(2, duration_us=2 * 2**13))
    (index,) = np.flatnonzero(data.test.labels.numpy() == 7)
    assert np.argwhere(data.test.inputs[index].numpy()).tolist() == [[0, 1, 6, 5], [1, 0, 8, 7]]


def test_shd_is_what_was_written(writers, tmp_path):
    written = writers["shd"](tmp_path, train=3, test=1)
    data = load_dataset("shd", tmp_path, shown=shown(7, downsample=5))
    assert data.task.input_shape == (140, 1, 1)
    arguments = ((1, 1, 140), 7, 1_400_000, 5)
    assert loaded(data.test) == as_written(written.parts["test"], *arguments)
    assert sorted(loaded(data.train) + loaded(data.validation)) == as_written(
        written.parts["train"], *arguments
    )


def write_ssc(writers, root):
    """Its parts are two of shd's, which are given back."""
    written = writers["shd"](root, train=1, test=2)
    folder = root / "ssc"
    folder.mkdir()
    for part, name in (("train", "train"), ("test", "valid"), ("train", "test")):
        (folder / f"ssc_{name}.h5").write_bytes((root / "shd" / f"shd_{part}.h5").read_bytes())
    return written


def test_ssc_has_splits_of_its_own(writers, tmp_path):
    written = write_ssc(writers, tmp_path)
    data = load_dataset("ssc", tmp_path, shown=shown(3))
    assert loaded(data.validation) == as_written(written.parts["test"], (1, 1, 700), 3, 1_400_000)
    assert loaded(data.train) == loaded(data.test)


def write_cifar10_dvs(writers, root, form="aedat2"):
    """Four recordings of each class, one kind of file or the other; label and events of each."""
    part = []
    for label, name in enumerate(DATASETS.load("cifar10-dvs").class_names):
        folder = root / "cifar10-dvs" / name
        folder.mkdir(parents=True)
        for index in range(4):
            x, y, t, p = writers["made_up"](10 * label + index, 50, 128, 128, 1_200_000)
            ending = "aedat" if form == "aedat2" else "aedat4"
            path = folder / f"cifar10_{name}_{index}.{ending}"
            path.write_bytes(writers[form]((x, y, t + 77_000, p)))  # the camera has run for a while
            part.append((label, (x, y, t - t[0], p)))
    return part


@pytest.mark.parametrize("form", ["aedat2", "aedat4"])
def test_cifar10_dvs_is_what_was_written(writers, tmp_path, form):
    if form == "aedat4":
        pytest.importorskip("aedat")
    part = write_cifar10_dvs(writers, tmp_path, form)
    data = load_dataset("cifar10-dvs", tmp_path, shown=shown(4, downsample=4))
    assert [len(split.labels) for split in (data.train, data.validation, data.test)] == [20, 10, 10]
    everything = loaded(data.train) + loaded(data.validation) + loaded(data.test)
    assert sorted(everything) == as_written(part, (2, 32, 32), 4, 1_300_000, 4)
    again = load_dataset("cifar10-dvs", tmp_path, split_seed=1, shown=shown(4, downsample=4))
    assert loaded(again.test) != loaded(data.test)


def write_gestures(writers, folder):
    """One file of all eleven gestures for training, two for testing; what was recorded, by part."""
    home = folder / "dvs128-gesture" / "DvsGesture"
    home.mkdir(parents=True)
    parts = {"train": [], "test": []}
    for part, names in (("train", ["user01_led", "user02_led"]), ("test", ["user24_led"])):
        (home / f"trials_to_{part}.txt").write_text("".join(f"{name}.aedat\n" for name in names))
        for number, name in enumerate(names):
            x, y, t, p = writers["made_up"](number, 900, 128, 128, 11_000_000)
            (home / f"{name}.aedat").write_bytes(writers["aedat3"]((x, y, t, p)))
            rows = ["class,startTime_usec,endTime_usec"]
            for label in range(11):
                begin, end = 1_000_000 * label + 1000, 1_000_000 * (label + 1)
                rows.append(f"{label + 1},{begin},{end}")
                inside = (t >= begin) & (t < end)
                parts[part].append((label, (x[inside], y[inside], t[inside] - begin, p[inside])))
            (home / f"{name}_labels.csv").write_text("\n".join(rows) + "\n")
    return parts


def test_dvs128_gesture_is_what_was_written(writers, tmp_path):
    parts = write_gestures(writers, tmp_path)
    options = {"duration_us": 900_000, "downsample": 4}
    data = load_dataset("dvs128-gesture", tmp_path, shown=shown(3, **options))
    arguments = ((2, 32, 32), 3, 900_000, 4)
    assert loaded(data.test) == as_written(parts["test"], *arguments)
    together = sorted(loaded(data.train) + loaded(data.validation))
    assert together == as_written(parts["train"], *arguments)


def test_tonics_copy_of_dvs128_gesture_is_the_same(writers, tmp_path):
    parts = write_gestures(writers, tmp_path / "original")
    for part, name in (("train", "ibmGestureTrain"), ("test", "ibmGestureTest")):
        for index, (label, events) in enumerate(parts[part]):
            folder = tmp_path / "copy" / "dvs128-gesture" / name / f"user{index // 11:02d}_led"
            folder.mkdir(parents=True, exist_ok=True)
            x, y, t, p = events
            rows = np.stack((x, y, p, (t - t[0]) // 1000 + 5), axis=1).astype(np.float64)
            np.save(folder / f"{label}.npy", rows)
            parts[part][index] = (label, (x, y, (t - t[0]) // 1000 * 1000, p))
    data = load_dataset(
        "dvs128-gesture", tmp_path / "copy", shown=shown(3, duration_us=900_000, downsample=4)
    )
    assert loaded(data.test) == as_written(parts["test"], (2, 32, 32), 3, 900_000, 4)


@pytest.mark.parametrize("name", SETS)
def test_missing_files_are_one_line_that_says_where_from(name, tmp_path):
    with pytest.raises(
        InputError, match=rf"'{name}' has no .*{name}.*; unpack .* from https://\S+ into"
    ) as found:
        load_dataset(name, tmp_path)
    assert "\n" not in str(found.value)
    with pytest.raises(InputError) as fetched:
        fetch_dataset(name, tmp_path)
    assert str(fetched.value) == str(found.value)


def test_damaged_recordings_are_named(writers, tmp_path):
    writers["n-mnist"](tmp_path, train=3, test=1)
    file = tmp_path / "n-mnist" / "Test" / "3" / "00000.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"Test/3/00000.bin can't be read: .*; get its file again"):
        load_dataset("n-mnist", tmp_path, shown=shown(2))
    file.write_bytes(bytes([200, 3, 0, 0, 0]))
    with pytest.raises(InputError, match="events with x from 200 to 200, expected 0 to 33"):
        load_dataset("n-mnist", tmp_path, shown=shown(2))
    writers["shd"](tmp_path, train=2, test=1)
    (tmp_path / "shd" / "shd_test.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match=r"shd_test.h5 is damaged .*; get it again from https"):
        load_dataset("shd", tmp_path, shown=shown(2))


def test_too_few_recordings_to_divide_are_one_line(writers, tmp_path):
    writers["n-mnist"](tmp_path, train=1, test=1)
    with pytest.raises(
        InputError, match="10 recordings of 10 classes are too few to set some of each class aside"
    ):
        load_dataset("n-mnist", tmp_path, shown=shown(2))


def test_a_missing_package_is_one_line(writers, tmp_path, monkeypatch):
    writers["n-mnist"](tmp_path, train=3, test=1)
    monkeypatch.setitem(__import__("sys").modules, "tonic.io", None)
    with pytest.raises(
        InputError, match=r"read with tonic, which isn't installed; run `pip install 'snnkd\[events\]'`"
    ):
        load_dataset("n-mnist", tmp_path, shown=shown(2))


def test_frames_are_kept_and_made_anew_when_anything_changes(writers, tmp_path, monkeypatch):
    writers["n-mnist"](tmp_path, train=3, test=1)
    first = load_dataset("n-mnist", tmp_path, shown=shown(4, max_count=3))
    kept = sorted((tmp_path / "n-mnist" / "framed").iterdir())
    assert [path.suffix for path in kept] == [".npz", ".npz"]
    made = []
    monkeypatch.setattr(framed, "_made", lambda *all, old=framed._made: made.append(all[1]) or old(*all))

    def load(timesteps=4, **options):
        made.clear()
        return load_dataset("n-mnist", tmp_path, shown=shown(timesteps, **{"max_count": 3, **options}))

    assert loaded(load().train) == loaded(first.train)
    assert made == []
    for change in ({"timesteps": 5}, {"max_count": 1}, {"denoise_us": 9000}, {"frames": "count"}):
        load(**change)
        assert made == ["train", "test"], change
    load(max_count=1)
    assert made == []
    file = tmp_path / "n-mnist" / "Test" / "0" / "00000.bin"
    file.write_bytes(file.read_bytes()[:-5])
    changed = load()
    assert made == ["test"]
    assert loaded(changed.test) != loaded(first.test)
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    assert loaded(load().train) == loaded(first.train)
    assert made == ["train"]


WRITERS = {
    "n-mnist": lambda writers, root: writers["n-mnist"](root, train=3, test=2),
    "shd": lambda writers, root: writers["shd"](root, train=3, test=1),
    "ssc": write_ssc,
    "cifar10-dvs": write_cifar10_dvs,
    "dvs128-gesture": lambda writers, root: write_gestures(writers, root),
}


def test_what_is_trained_on_is_changed_at_random_and_nothing_else_of_every_set(writers, tmp_path):
    known = [name for name in DATASETS.names() if isinstance(DATASETS.load(name), EventSource)]
    assert sorted(WRITERS) == sorted(SETS) == known
    for name, write in WRITERS.items():
        write(writers, tmp_path / name)
        still = load_dataset(name, tmp_path / name, shown=shown(2))
        assert still.train.redrawn is None, name
        data = load_dataset(name, tmp_path / name, shown=shown(2, augmentation={"drop": 0.5}))
        assert data.validation.redrawn is data.test.redrawn is None, name
        everything = np.arange(len(data.train.labels))
        redrawn = data.train.redrawn.frames(everything, seed=1)
        own = data.train.inputs.numpy()
        assert 0.3 < redrawn.sum() / own.sum() < 0.8, name
        assert np.all(redrawn <= own), name  # events are dropped, none is another recording's


def test_a_process_that_was_killed_while_framing_is_one_line(writers, tmp_path, monkeypatch):
    writers["n-mnist"](tmp_path, train=40, test=1)
    monkeypatch.setattr(framed, "ALONE_RECORDINGS", 100)
    monkeypatch.setattr(framed, "CHUNK", 4)
    monkeypatch.setattr(framed.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)

    def kill_at(done, total, what):
        if done:
            for child in multiprocessing.active_children():
                child.kill()

    with pytest.raises(InputError, match=r"a process that frames .* start again") as found:
        load_dataset("n-mnist", tmp_path, progress=kill_at, shown=shown(2))
    assert "\n" not in str(found.value)
    assert not multiprocessing.active_children()
    assert not list((tmp_path / "n-mnist").glob("framed/*"))


@pytest.mark.slow
def test_several_processes_make_the_same_frames(writers, tmp_path, monkeypatch):
    writers["n-mnist"](tmp_path, train=40, test=2)
    options = {"augmentation": {"drop": 0.5}}
    alone = load_dataset("n-mnist", tmp_path, shown=shown(3, **options))
    for path in (tmp_path / "n-mnist" / "framed").iterdir():
        path.unlink()
    monkeypatch.setattr(framed, "ALONE_RECORDINGS", 10)
    monkeypatch.setattr(framed, "CHUNK", 37)
    together = load_dataset("n-mnist", tmp_path, shown=shown(3, **options))
    assert np.array_equal(alone.train.inputs, together.train.inputs)
    assert np.array_equal(alone.train.redrawn.events, together.train.redrawn.events)
    assert np.array_equal(alone.train.redrawn.starts, together.train.redrawn.starts)


def test_frames_that_no_memory_holds_are_refused(writers, tmp_path):
    writers["n-mnist"](tmp_path, train=3, test=1)
    with pytest.raises(
        InputError, match=r"frames of 'n-mnist' take \S+ GB of memory, at most .* take fewer timesteps"
    ):
        load_dataset("n-mnist", tmp_path, shown=shown(10**12))


def test_what_is_for_images_is_refused():
    source = DATASETS.load("n-mnist")
    with pytest.raises(InputError, match=r"encoding\.kind = 'rate' is for images, and 'n-mnist' has events"):
        source.step(Presentation(4, encoding=Encoding(kind="rate")))
    with pytest.raises(InputError, match=r"'digits' has images, not events; leave \[events\] out"):
        DATASETS.load("digits").step(shown(4, max_count=2))
