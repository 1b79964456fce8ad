"""A student of Xylo's neuron from training to xylosim, and folders that somebody has been at."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import snnkd
from snnkd import InputError, Refusal
from snnkd.export.files import read_json
from snnkd.export.target import get_target
from snnkd.toolchain.run import Run
from snnkd.toolchain.validation import agrees, disagreement

SMALL = ["student.options={widths=[24, 16]}", "student.epochs=3"]
SAMPLES = 12
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    run = snnkd.train("digits-xylo", SMALL, tmp_path_factory.mktemp("runs") / "xylo")
    run.export("xylo")
    return run


@pytest.fixture
def run(trained, tmp_path) -> Run:
    return Run(shutil.copytree(trained.folder, tmp_path / "run"))


def test_xylosim_spikes_as_the_integers_do(run):
    answer = run.validate("xylo", samples=SAMPLES)
    assert agrees(answer)
    assert (answer["backend"], answer["silicon"], answer["timesteps"]) == ("xylosim", "unverified", 8)
    assert (answer["target_samples"], answer["populations_compared"]) == (SAMPLES, 3)
    assert answer["neuron_steps_compared"] == SAMPLES * 8 * (24 + 16 + 10)
    assert answer["spikes_total"] > 200
    accuracy = answer["accuracy"]
    assert accuracy["target"] == answer["integer_accuracy_on_target_samples"]
    assert accuracy["float"] > 0.3 and abs(accuracy["float"] - accuracy["integer"]) < 0.1


def test_the_answers_are_complete(run):
    answer = read_json(run.export_file("xylo"))
    assert (answer["bits"], answer["cores"], answer["problems"]) == (8, 1, [])
    assert answer["files"] == ["network.nir", "network.npz", "run.py", "manifest.json"]
    assert [layer["name"] for layer in answer["layers"]] == ["neuron1", "neuron2", "output"]
    assert [layer["delay"] for layer in answer["layers"]] == [0, 1, 2]
    assert all(layer["range"] in ("not reached", "saturates") for layer in answer["layers"])
    assert answer["fidelity"] == {"outcome": "exact", "roundings": [], "changed_spikes": None}
    manifest = read_json(run.target_folder("xylo") / "manifest.json")
    assert manifest["device"] == "Xylo IMU (SYNS63300)"
    assert (manifest["hidden_neurons"], manifest["output_neurons"]) == (40, 10)


def test_the_same_network_gives_the_same_bytes(run, trained):
    run.export("xylo")
    for name in ("network.nir", "network.npz", "manifest.json", "run.py"):
        ours, theirs = (each.target_folder("xylo") / name for each in (run, trained))
        assert ours.read_bytes() == theirs.read_bytes(), name


@pytest.mark.parametrize(
    "what", ["weight", *(pytest.param(each, marks=SLOW) for each in ("threshold", "dash"))]
)
def test_a_change_on_the_way_to_the_chip_is_found(run, what):
    path = run.target_folder("xylo") / "network.npz"
    with np.load(path) as file:
        tables = {name: file[name] for name in file.files}
    spikes = (
        get_target("xylo").arithmetic.record(run.integer_graph("xylo"), run.samples().inputs[:40], 8).spikes
    )
    busiest = int(spikes["neuron1"].sum((0, 1)).argmax())
    if what == "weight":
        target = int(np.abs(tables["recurrent"][busiest]).argmax())
        tables["recurrent"][busiest, target] //= 2
    elif what == "threshold":
        tables["hidden_threshold"][busiest] *= 2
    else:
        tables["hidden_dash"][busiest] += 1
    np.savez_compressed(path, **tables)
    answer = run.validate("xylo", samples=40)
    assert not agrees(answer)
    first = answer["first_mismatch"]
    assert first["layer"] in ("neuron1", "neuron2") and isinstance(first["membrane"], float)
    assert "spikes and 0 read-outs differ between the integer network and xylosim" in disagreement(answer)


def test_energy_counts_several_spikes_of_a_step_as_one_event(run):
    answer = run.energy(["xylo-audio2"], target="xylo", samples=SAMPLES)
    activity = answer["activity"]
    judged = run.samples().inputs
    from snnkd.toolchain.samples import choose, take

    graph, inputs = run.integer_graph("xylo"), take(judged, choose(judged, SAMPLES))
    spikes = get_target("xylo").arithmetic.record(graph, inputs, 8).spikes
    events = {name: int(np.count_nonzero(counts)) for name, counts in spikes.items()}
    emitted = {name: int(counts.sum(dtype=np.int64)) for name, counts in spikes.items()}

    def counted(what):
        return {layer["name"]: round(layer[what]["mean"] * SAMPLES) for layer in activity["layers"]}

    assert counted("spike_events") == events != emitted == counted("spikes")
    assert activity["spikes_per_inference"] == sum(emitted.values()) / SAMPLES
    assert activity["spike_events_per_inference"] == sum(events.values()) / SAMPLES
    second = graph["neuron2"].synapses[0].weight
    fired = np.count_nonzero(spikes["neuron1"], axis=(0, 1))
    by_hand = int((fired * np.count_nonzero(second, axis=0)).sum())
    (layer,) = (layer for layer in activity["layers"] if layer["name"] == "neuron2")
    assert round(layer["synops"]["mean"] * SAMPLES) == by_hand
    assert answer["profiles"][0]["energy_j"]["nominal"] > 0


def test_the_chip_with_fewer_outputs_refuses_it_by_name(run):
    with pytest.raises(Refusal, match=r"xylo-audio2: network: number of output neurons is 10, .* allows 8"):
        run.export("xylo-audio2")
    with pytest.raises(Refusal, match=r"doesn't fit loihi2: .*takes its threshold away"):
        run.export("loihi2")


def test_bits_are_compared_and_fine_tuning_is_refused(run):
    rows = run.quantize("xylo", bits=[8, 2])["rows"]
    assert [row["bits"] for row in rows] == [8, 2]
    assert rows[0]["agreement"] > rows[1]["agreement"]
    with pytest.raises(InputError, match="xylo has its own; leave out --finetune"):
        run.quantize("xylo", finetuning=True)
    with pytest.raises(InputError, match="xylo rounds no decays"):
        run.export("xylo", approximate=True)


def call(folder, *arguments):
    return subprocess.run(
        [sys.executable, folder / "run.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
    )


def test_the_folder_runs_without_snnkd(run, tmp_path):
    """In an interpreter that can't import it."""
    folder, inputs, output = run.target_folder("xylo"), tmp_path / "inputs.npy", tmp_path / "out.npz"
    judged = run.samples().inputs[:3]
    np.save(inputs, judged)
    code = (
        "import sys; sys.modules['snnkd'] = sys.modules['torch'] = None; import runpy; "
        f"sys.argv = ['run.py', '--inputs', {str(inputs)!r}, '--output', {str(output)!r}]; "
        f"runpy.run_path({str(folder / 'run.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd="/")
    assert done.returncode == 0, done.stderr
    ours = get_target("xylo").arithmetic.record(run.integer_graph("xylo"), judged, 8).spikes
    with np.load(output) as file:
        assert all(np.array_equal(file[f"spikes/{name}"], spikes) for name, spikes in ours.items())


HOSTILE = {
    "no tables": (
        lambda f: (f / "network.npz").unlink(),
        "can't read .*network.npz .*export the network again",
    ),
    "cut tables": (lambda f: (f / "network.npz").write_bytes(b"PK\x03\x04"), "is damaged"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "can't read .*manifest.json"),
    "another manifest": (lambda f: (f / "manifest.json").write_text("[1]"), "is damaged"),
    "more neurons": (lambda f: edit(f, hidden_neurons=41), "is damaged .*input is int8"),
    "a layer elsewhere": (lambda f: move(f), "is damaged .*neuron2 lies outside its population"),
}


def edit(folder, **fields):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def move(folder):
    layers = json.loads((folder / "manifest.json").read_text())["layers"]
    layers[1]["first_neuron"] = 30
    edit(folder, layers=layers)


@pytest.mark.parametrize("case", HOSTILE)
def test_damaged_folders_are_named_in_one_line(run, case):
    damage, reason = HOSTILE[case]
    folder = run.target_folder("xylo")
    damage(folder)
    with pytest.raises(InputError, match=reason):
        get_target("xylo").run(folder, run.samples().inputs[:2], 8, 60)


def test_inputs_that_do_not_fit_are_named(run, tmp_path):
    folder = run.target_folder("xylo")
    for inputs, reason in (
        (np.zeros((2, 7, 16, 1, 1), np.uint8), "inputs have shape .* takes"),
        (np.full((2, 8, 16, 1, 1), 16, np.uint8), r"inputs hold uint8 16 … 16, .* integers 0 … 15"),
        (np.zeros((0, 8, 16, 1, 1), np.uint8), "inputs have shape"),
        (np.zeros((2, 8, 16, 1, 1)), "inputs hold float64"),
    ):
        with pytest.raises(InputError, match=reason):
            get_target("xylo").run(folder, inputs, 8, 60)
    done = call(folder, "--inputs", tmp_path / "none.npy", "--output", tmp_path / "out.npz")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("run.py: can't read")


def test_without_xylosim_one_line_says_what_to_install(run, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "xylosim" else find(name))
    with pytest.raises(InputError, match=r'xylosim isn\'t installed; pip install "snnkd\[xylo\]"'):
        run.validate("xylo", samples=2)


@SLOW
def test_the_shipped_recipe_reaches_what_the_readme_says(tmp_path):
    """About 20 seconds of training on one core."""
    run = snnkd.train("digits-xylo", folder=tmp_path / "run")
    run.export("xylo")
    answer = run.validate("xylo")
    assert agrees(answer) and answer["target_samples"] == 64
    assert answer["accuracy"]["float"] > 0.91
    assert answer["accuracy"]["integer"] > 0.9
