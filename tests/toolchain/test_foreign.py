"""A NIR file in place of a run, through the command line: exact, approximated or refused, and always said."""

import json
import sys
from itertools import pairwise

import nir
import numpy as np
import pytest

from snnkd import InputError, Refusal, open_run, train
from snnkd.export.target import get_target
from snnkd.toolchain.cli import main
from snnkd.toolchain.cli.answers import show
from snnkd.toolchain.exporting import CALIBRATED_ON_JUDGED
from snnkd.toolchain.fidelity import changed_spikes
from snnkd.toolchain.simulation.simulator import record
from snnkd.toolchain.tables import export_table

STEPS = 4


def constants(size: int, tau: float, **changes: float) -> dict[str, np.ndarray]:
    values = {"tau": tau, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.1, "v_reset": 0.0, **changes}
    return {name: np.full(size, value) for name, value in values.items()}


def write(path, tau: float, inputs: tuple[str, ...] = ("input",), dt: float = 1e-4, **changes: float):
    """Inputs → matrices → LIF → matrix → LI → Output; tau and dt in seconds."""
    rng = np.random.default_rng(0)
    leaky = constants(4, 2 * dt)
    nodes = {
        "hidden": nir.LIF(**constants(6, tau, **changes)),
        "classes": nir.Affine(rng.normal(size=(4, 6)), np.zeros(4)),
        "potential": nir.LI(**{name: leaky[name] for name in ("tau", "r", "v_leak")}),
        "output": nir.Output({"output": np.array([4])}),
    }
    edges = list(pairwise(nodes))
    for name in inputs:
        nodes[name] = nir.Input({"input": np.array([8])})
        nodes[f"{name}_weights"] = nir.Affine(rng.normal(size=(6, 8)), rng.normal(size=6) / 4)
        edges += [(name, f"{name}_weights"), (f"{name}_weights", "hidden")]
    nir.write(path, nir.NIRGraph(nodes, edges))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder with frames of spikes in it, inputs.npy."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    np.save("inputs.npy", (rng.random((40, STEPS, 8)) < 0.3).astype(np.uint8))
    return tmp_path


def exported(path, **options):
    opening = {"timesteps": STEPS, "inputs": "inputs.npy", **options.pop("opening", {})}
    return open_run(path, **opening).export("loihi2", **options)


def test_decays_that_the_chip_has_are_exact(folder):
    fidelity = exported(write("half.nir", tau=2e-4))["fidelity"]
    assert fidelity["outcome"] == "exact" and fidelity["roundings"] == []
    assert 0 <= fidelity["changed_spikes"] < 0.05


def test_decays_that_it_has_not_are_refused_with_the_nearest(folder):
    with pytest.raises(Refusal) as raised:
        exported(write("tenth.nir", tau=1e-3))
    assert "hidden: decay is 0.9, the nearest is 3686/4096 = 0.8999023438" in str(raised.value)
    assert "--approximate" in str(raised.value)


def test_or_rounded_where_that_is_allowed(folder):
    answer = exported(write("tenth.nir", tau=1e-3), approximate=True)
    (rounding,) = answer["fidelity"]["roundings"]
    assert rounding == {"layer": "hidden", "what": "decay", "from": 0.9, "to": 3686 / 4096}
    assert answer["fidelity"]["outcome"] == "approximated"
    run = open_run("tenth.nir")
    assert run.integer_graph("loihi2")["hidden"].neuron.decay == 3686 / 4096
    floats, integers, inputs = run.float_graph(), run.integer_graph("loihi2"), run.samples().inputs
    ours, theirs = (record(graph, inputs, STEPS).spikes["hidden"] for graph in (floats, integers))
    share = np.sum(ours != theirs) / np.sum((ours == 1) | (theirs == 1))
    assert answer["fidelity"]["changed_spikes"] == share
    assert changed_spikes(floats, floats, inputs, get_target("loihi2")) == 0


def test_dt_is_what_a_step_takes(folder):
    path = write("slow.nir", tau=2e-3, dt=1e-3)
    with pytest.raises(Refusal, match=r"hidden: decay is 0\.95, .* potential: decay is 0\.95"):
        exported(path)
    answer = exported(path, opening={"dt": 1e-3})
    assert answer["fidelity"]["outcome"] == "exact"
    assert open_run(path).float_graph()["hidden"].neuron.decay == 0.5  # without being told again


def test_another_dt_is_another_network(folder):
    path = write("net.nir", tau=2e-3, dt=1e-3)
    assert exported(path, opening={"dt": 1e-3})["fidelity"]["outcome"] == "exact"
    run = open_run(path, dt=1.5e-3)
    assert run.float_graph()["hidden"].neuron.decay == 0.25
    with pytest.raises(InputError, match="is not exported"):
        run.integer_graph("loihi2")


def test_inputs_say_how_large_they_are_where_the_file_does_not(folder):
    path = write("net.nir", tau=2e-4)
    pixels = open_run(path, timesteps=STEPS)
    assert pixels.float_graph().inputs[0].payload_max == 255
    spikes = exported(write("spikes.nir", tau=2e-4, v_threshold=0.15))
    graph = open_run("spikes.nir").float_graph()
    assert graph.inputs[0].payload_max == 1
    np.save("fewer.npy", np.zeros((3, STEPS, 8), np.uint8))
    assert open_run("spikes.nir", inputs="fewer.npy").integer_graph("loihi2").is_integer  # still exported
    np.save("pixels.npy", np.full((3, 8), 200))
    larger = open_run("spikes.nir", inputs="pixels.npy")
    assert larger.float_graph().inputs[0].payload_max == 200
    assert not larger.export_file("loihi2").exists() and spikes["problems"] == []


def test_several_inputs_have_names(folder):
    path = write("two.nir", tau=2e-4, inputs=("left", "right"))
    rng = np.random.default_rng(2)
    both = {name: rng.integers(0, 2, (5, STEPS, 8)) for name in ("left", "right")}
    np.savez("both.npz", **both)
    samples = open_run(path, inputs="both.npz", timesteps=STEPS).samples().inputs
    assert {name: array.tolist() for name, array in samples.items()} == {
        name: array.tolist() for name, array in both.items()
    }
    assert set(open_run(path, inputs="random").samples().inputs) == {"left", "right"}
    for wrong, reason in (
        (both["left"], "the network has the inputs left, right; give a .npz file"),
        ({"left": both["left"]}, "inputs are given for left, expected left, right"),
        ({**both, "right": both["right"][:4]}, "equally many, found 5 for left, 4 for right"),
    ):
        with pytest.raises(InputError, match=reason):
            open_run(path, inputs=wrong)


def test_axes_of_one_may_be_missing(folder):
    conv = nir.Conv1d(9, np.ones((4, 2, 3)), 1, 1, 1, 1, np.zeros(4))
    nodes = {
        "input": nir.Input({"input": np.array([2, 9])}),
        "conv": conv,
        "n": nir.LIF(**{name: np.full((4, 9), value[0]) for name, value in constants(1, 2e-4).items()}),
        "output": nir.Output({"output": np.array([4, 9])}),
    }
    nir.write("line.nir", nir.NIRGraph(nodes, list(pairwise(nodes))))
    shown = np.random.default_rng(3).integers(0, 2, (5, STEPS, 2, 9))
    assert open_run("line.nir", inputs=shown, timesteps=STEPS).samples().inputs.shape == (5, STEPS, 2, 1, 9)
    with pytest.raises(InputError, match="inputs have shape"):
        open_run("line.nir", inputs=shown.swapaxes(2, 3))


@pytest.fixture
def snnkd(folder, monkeypatch, capsys):
    """Runs the command line in this process; its exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["snnkd", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return call


def test_it_is_said_where_calibration_and_judgement_share_samples(folder, capsys, request):
    """A float NIR file's; not one of integers, which isn't calibrated, nor a recipe's run: it has splits."""
    path = write(folder / "half.nir", tau=2e-4)
    answer = exported(path)
    assert answer["notes"] == [CALIBRATED_ON_JUDGED]
    show(answer, False, export_table)
    assert CALIBRATED_ON_JUDGED in " ".join(capsys.readouterr().out.split())
    samples = open_run(path).samples()
    assert samples.calibration is samples.inputs
    integers = folder / answer["run"] / "loihi2" / "network.nir"
    assert exported(integers)["notes"] == []
    recipe_run = request.getfixturevalue("exported")
    assert json.loads(recipe_run.export_file("loihi2").read_text())["notes"] == []


def test_the_command_line_says_the_outcome(snnkd):
    write("tenth.nir", tau=1e-2, dt=1e-3)
    code, said, wrong = snnkd("export", "tenth.nir", "--timesteps", STEPS, "--dt", "1e-3", "--json")
    assert code == 1 and "hidden: decay is 0.9" in wrong
    assert json.loads(said)["fidelity"]["outcome"] == "refused"
    code, said, wrong = snnkd("export", "tenth.nir", "--approximate")
    assert code == 0, wrong
    assert "neurons: approximated" in said and "hidden: decay 0.9 → 0.8999023438" in said
    code, said, wrong = snnkd("check", "tenth.nir", "--dt", "1e-3", "--json")
    assert code == 1 and len(json.loads(said)["problems"]) == 1 and "hidden: decay is 0.9" in wrong
    assert snnkd("check", "tenth.nir", "--dt", "1e-3", "--approximate")[0] == 0


def test_a_recipe_with_a_decay_that_no_chip_has_is_refused_before_training(folder):
    with pytest.raises(Refusal, match=r"has the decay 0\.9, a chip's are multiples of 1/4096; set neuron"):
        train("digits", ["neuron.decay=0.9", "student.epochs=1", "teacher.epochs=1"])
