"""Students learn recordings read by tonic, and what they became is exact on the chip."""

import pytest

import snnkd
from snnkd import InputError
from snnkd.toolchain.samples import load_samples

pytest.importorskip("tonic")

SHARED = ["augmentation={}", "student.batch_size=16", "teacher.batch_size=16"]


def test_one_epoch_on_n_mnist(writers, tmp_path):
    writers["n-mnist"](tmp_path, train=5, test=2)
    recipe = [
        *(*SHARED, "dataset=n-mnist", "timesteps=8", "student.epochs=1", "teacher.epochs=1"),
        *(
            "student.options={widths=[4, 6], strides=[2, 2]}",
            "teacher.options={widths=[4, 6], strides=[2, 2]}",
        ),
        *("events.augmentation={drop=0.1, jitter_us=500, shift=1}", "events.downsample=2"),
    ]
    run = snnkd.train("digits", recipe, tmp_path / "run", tmp_path)
    assert [row["role"] for row in run.metrics()] == ["teacher", "student"]
    assert load_samples(run, tmp_path).inputs.shape == (20, 8, 2, 17, 17)
    still = snnkd.train("digits", [*recipe, "events.augmentation={}"], tmp_path / "still", tmp_path)
    assert still.student_file.read_bytes() != run.student_file.read_bytes()


def shd_recipe(epochs: int) -> list[str]:
    return [
        *(*SHARED, "dataset=shd", "timesteps=10", "method=nld", "events.downsample=5"),
        *(
            "student.model=dense",
            "teacher.model=dense",
            f"student.epochs={epochs}",
            f"teacher.epochs={epochs}",
        ),
        *("student.options={widths=[40]}", "teacher.options={widths=[40]}"),
    ]


def test_one_epoch_on_shd(writers, tmp_path):
    writers["shd"](tmp_path, train=4, test=1)
    run = snnkd.train("digits", shd_recipe(1), tmp_path / "run", tmp_path)
    graph = run.float_graph()
    assert [port.shape for port in graph.inputs] == [(140, 1, 1)]
    assert [population.size for population in graph.populations] == [40, 20]


@pytest.mark.slow
def test_a_dense_student_learns_shd_and_is_exact_on_the_chip(writers, tmp_path):
    writers["shd"](tmp_path, train=12, test=3)
    recipe = [*shd_recipe(12), "student.learning_rate=5e-3"]
    run = snnkd.train("digits", recipe, tmp_path / "run", tmp_path)
    assert run.summary()["student"]["test_accuracy"] > 0.5  # chance: 0.05
    run.export("loihi2", data_root=tmp_path)
    validated = run.validate("loihi2", samples=6, data_root=tmp_path)
    assert (validated["spike_mismatches"], validated["readout_mismatches"]) == (0, 0)
    assert validated["spikes_total"] > 0


def test_training_without_the_recordings_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"data set 'shd' has no .*shd_train\.h5; unpack shd_train\.h5\.gz"):
        snnkd.train("digits", shd_recipe(1), tmp_path / "run", tmp_path)
