"""Samples back to back without resets: the same spikes in Lava, and a class from each window."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from snnkd import InputError
from snnkd.export.target import Recording
from snnkd.toolchain.cli.entry import app
from snnkd.toolchain.run import Run
from snnkd.toolchain.simulation.simulator import record
from snnkd.toolchain.streaming import as_stream, stream_run, windows
from snnkd.toolchain.validation import agrees, compare, disagreement

SHOWN = 5


@pytest.fixture(scope="module")
def copied(exported, tmp_path_factory):
    return Run(shutil.copytree(exported.folder, tmp_path_factory.mktemp("stream") / "run"))


@pytest.fixture(scope="module")
def streamed(copied):
    """A stream that Lava ran."""
    return copied.stream("loihi2", samples=SHOWN, execute=True)


def stream_of(run, count=SHOWN):
    """The stream of the first samples, its network, and T."""
    graph = run.integer_graph("loihi2")
    shown = run.samples().inputs[:count]
    return graph, shown, as_stream(shown, graph, graph.steps)


def test_lava_emits_the_very_spikes_of_the_stream(streamed, copied):
    assert (streamed["spike_mismatches"], streamed["readout_mismatches"]) == (0, 0)
    assert streamed["spikes_total"] > 0
    assert streamed["steps"] == SHOWN * streamed["timesteps"]
    neurons = sum(population.size for population in copied.integer_graph("loihi2").spiking)
    assert streamed["neuron_steps_compared"] == streamed["steps"] * neurons
    assert streamed["backend"] == "lava-fixed-point"
    assert agrees(streamed)
    assert streamed["range_problems"] == []
    assert json.loads(copied.stream_file("loihi2").read_text()) == streamed


def test_each_window_has_its_class(streamed, copied):
    labels = copied.samples().labels
    for number, row in enumerate(streamed["classes"]):
        assert row["window"] == number
        assert row["label"] == labels[row["sample"]]
        assert row["integer"] == row["target"]
    right = [row["integer"] == row["label"] for row in streamed["classes"]]
    assert streamed["accuracy"] == {"integer": np.mean(right), "target": np.mean(right)}
    alone = [row["with_resets"] == row["label"] for row in streamed["classes"]]
    assert streamed["accuracy_with_resets"] == np.mean(alone)


def test_a_class_is_read_from_its_window_s_sums(copied):
    from snnkd.toolchain.simulation.simulator import predictions

    graph, _, stream = stream_of(copied)
    recording = record(graph, stream, SHOWN * graph.steps)
    (readout,) = graph.readouts
    sums = recording.sums[readout.name].reshape(SHOWN, graph.steps, -1).astype(object)
    expected = (sums.sum(1) + graph.steps * readout.bias.astype(np.int64).astype(object)).tolist()
    found = predictions(graph, windows(recording, graph.steps))
    assert found.tolist() == [row.index(max(row)) for row in expected]


def test_a_stream_differs_from_samples_that_begin_at_rest(copied):
    """The negative control: a network that is reset between windows is found out, and where."""
    graph, shown, stream = stream_of(copied)
    carried = windows(record(graph, stream, SHOWN * graph.steps), graph.steps)
    reset = record(graph, shown, graph.steps)
    found = compare(graph, carried, reset)
    assert found["spike_mismatches"] > 0
    assert found["first_mismatch"]["sample"] > 0  # the first window begins at rest in both
    one = windows(record(graph, stream[:, : graph.steps], graph.steps), graph.steps)
    assert compare(graph, one, record(graph, shown[:1], graph.steps))["spike_mismatches"] == 0


def test_a_single_wrong_spike_is_found_with_its_window(copied, monkeypatch):
    """What the target recorded is changed by one bit."""
    graph, _, _ = stream_of(copied)
    (population, *_) = graph.spiking

    def run(_room, _folder, inputs, timesteps, _limit, _progress=None):
        recorded = record(graph, inputs, timesteps)
        spikes = {name: values.copy() for name, values in recorded.spikes.items()}
        spikes[population.name][0, 2 * graph.steps + 1].flat[3] ^= 1
        return Recording(spikes, recorded.sums)

    monkeypatch.setattr("snnkd.export.loihi2.target.Loihi2.run", run)
    answer = stream_run(copied, samples=SHOWN, execute=True)
    assert (answer["spike_mismatches"], answer["readout_mismatches"]) == (1, 0)
    first = answer["first_mismatch"]
    assert (first["layer"], first["window"], first["step"], first["neuron"]) == (population.name, 2, 1, 3)
    assert isinstance(first["membrane"], float)
    assert not agrees(answer)
    assert "window 2" in disagreement(answer)


def test_frames_are_laid_end_to_end_and_images_are_held(copied):
    graph, shown, stream = stream_of(copied, 3)
    steps = graph.steps
    assert stream.shape == (1, 3 * steps, *shown.shape[1:])
    assert all(np.array_equal(stream[0, step], shown[step // steps]) for step in range(3 * steps))
    frames = np.stack([shown] * steps, axis=1)
    frames[:, 1] = 0
    laid = as_stream(frames, graph, steps)
    assert all(np.array_equal(laid[0, step], frames[divmod(step, steps)]) for step in range(3 * steps))
    (port,) = graph.inputs
    assert np.array_equal(as_stream({port.name: frames}, graph, steps)[port.name], laid)


def test_the_verb_streams_without_lava(copied):
    arguments = ["stream", str(copied.folder), "--samples", "4"]
    answer = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert answer["backend"] is None
    assert [row["window"] for row in answer["classes"]] == [0, 1, 2, 3]
    assert "spike_mismatches" not in answer
    table = CliRunner().invoke(app, arguments)
    assert table.exit_code == 0
    assert "4 samples of 4 steps as one stream, in the integer simulator" in " ".join(table.stdout.split())


def test_a_run_that_is_not_exported_is_named(copied, tmp_path):
    bare = shutil.copytree(copied.folder, tmp_path / "bare")
    shutil.rmtree(bare / "loihi2")
    with pytest.raises(InputError, match="is not exported to loihi2 yet"):
        Run(bare).stream()


@pytest.mark.slow
def test_a_changed_weight_is_found_in_the_stream(copied, tmp_path):
    """Lava runs the files as they lie there: one weight of them is changed by one unit."""
    run = Run(shutil.copytree(copied.folder, tmp_path / "run"))
    path = run.target_folder("loihi2") / "network.npz"
    with np.load(path) as file:
        arrays = dict(file)
    name = max((n for n in arrays if "weight" in n), key=lambda n: arrays[n].size)
    changed = arrays[name].reshape(-1)
    changed[np.abs(changed).argmax()] -= 2 * np.sign(changed[np.abs(changed).argmax()])
    np.savez(path, **arrays)
    answer = run.stream(samples=SHOWN, execute=True)
    assert answer["spike_mismatches"] + answer["readout_mismatches"] > 0
