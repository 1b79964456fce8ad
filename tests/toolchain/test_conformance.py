"""`snnkd conformance`: networks by simulators, exact, approximate with the reason, or refused."""

import io
import json
import time
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import snnkd
from snnkd import InputError
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.nir import to_nir, write_nir
from snnkd.export.onnx.target import Onnx
from snnkd.export.spikingjelly.target import SpikingJelly
from snnkd.export.target import TARGETS, Problem, get_target
from snnkd.toolchain import conformance, verdicts
from snnkd.toolchain.recipe import load_recipe
from snnkd.toolchain.run import Run
from snnkd.toolchain.simulation.simulator import record
from snnkd.toolchain.tables import conformance_table, recipes_table
from snnkd.toolchain.untrained import BALANCE_SAMPLES, RATES, balanced, untrained
from snnkd.toolchain.verdicts import summed_up

NAMES = ["norse", "snntorch", "spikingjelly"]
SAMPLES = 12
WIDTH = 110


def test_a_small_student_is_exact_in_every_simulator(exported, command):
    """Float and integer, as the command line tells it; rounding may excuse a float spike."""
    only = [word for name in (*NAMES, "onnx", "loihi1") for word in ("--only", name)]
    shown = command("conformance", exported.folder, "--samples", SAMPLES, *only, "--json")
    assert shown.returncode == 0, shown.stderr
    answer = json.loads(shown.stdout)
    assert (answer["samples"], answer["timesteps"], answer["weights"]) == (SAMPLES, 4, "trained")
    rows = {(row["network"], row["simulator"]): row for row in answer["rows"]}
    integers = ("loihi1", "norse", "onnx", "snntorch", "spikingjelly")
    assert list(rows) == [*(("float", name) for name in NAMES), *(("integer", name) for name in integers)]
    assert all(row["explained"] for row in rows.values())
    refused = rows.pop(("integer", "loihi1"))
    assert refused["verdict"] == "refused" and "payload is 16, the target allows 1" in refused["reason"]
    assert all(row["neuron_steps"] == SAMPLES * 4 * (8 * 64 + 12 * 16) for row in rows.values())
    for (network, _), row in rows.items():
        if network == "integer":
            assert (row["verdict"], row["differing"]) == ("exact", 0)
        else:
            assert row["verdict"] == "exact" or "of their thresholds" in row["reason"]
    assert rows["integer", "onnx"]["readouts_differing"] == 0


def test_every_target_that_can_be_run_has_its_rows(exported):
    answer = exported.conformance(samples=1)
    verdicts = {row["simulator"]: row["verdict"] for row in answer["rows"] if row["network"] == "integer"}
    assert set(verdicts) == {room.name for room in conformance.simulators()}
    for name in (*NAMES, "loihi2", "onnx", "sana-fe"):
        assert verdicts[name] == "exact"
    assert verdicts["speck"] == "refused"
    assert set(answer["not_executable"]) | set(verdicts) == set(TARGETS.names())


def test_the_matrix_of_the_small_recipes(tmp_path, capsys):
    """Each has a chip that others don't fit, and what runs it there agrees to the last spike."""
    answer = conformance.conformance_of_recipes(
        ["digits", "digits-speck", "digits-xylo"], 1, data_root=tmp_path
    )
    with capsys.disabled():
        print()
        Console(width=110).print(recipes_table(answer))
    exact = {
        matrix["recipe"]: {
            row["simulator"]
            for row in matrix["rows"]
            if row["network"] == "integer" and row["verdict"] == "exact" and not row["silent"]
        }
        for matrix in answer["matrices"]
    }
    assert exact["digits"] == {*NAMES, "loihi2", "onnx", "sana-fe"}
    assert exact["digits-speck"] == {"spikingjelly", "loihi1", "loihi2", "onnx", "sana-fe", "speck"}
    assert exact["digits-xylo"] == {"xylo"}
    assert conformance.unexplained(answer) == []


class OneUnitMore(SpikingJelly):
    """SpikingJelly that is given the network with one weight a unit larger."""

    name = "one-unit-more"

    @staticmethod
    def view(graph):
        first, *rest = graph.populations
        weight = first.synapses[0].weight.copy()
        weight[0, 0, 1, 1] += 1 if graph.is_integer else 1 / 64
        changed = replace(first, synapses=(replace(first.synapses[0], weight=weight),))
        return SpikingJelly.view(replace(graph, populations=(changed, *rest)))

    def inexactness(self, graph):
        return SpikingJelly().inexactness(graph)


def test_one_unit_in_a_weight_is_told_from_rounding(exported, monkeypatch):
    monkeypatch.setattr(conformance, "simulators", lambda: [OneUnitMore()])
    answer = exported.conformance(samples=SAMPLES)
    for row in answer["rows"]:
        assert row["verdict"] == "approximate" and not row["explained"]
        assert row["share"] == row["differing"] / row["neuron_steps"] > 0
        assert "neuron1" in row["reason"] and "of its threshold away" in row["reason"]
    told = conformance.unexplained(answer)
    assert told[1].startswith("integer network in one-unit-more: ") and len(told) == 2


@pytest.fixture
def long_run(tmp_path, monkeypatch):
    """40 steps, in which the chip cuts off halvings that the simulators keep, and a skip with weights."""
    rng = np.random.default_rng(0)
    dense = lambda source, size, out, most: Synapse(  # noqa: E731
        source, "dense", 2.0 * rng.integers(-most, most + 1, (out, size)), (size,), (out,)
    )
    thresholds = rng.integers(1, 6, (2, 30)).astype(float)
    paths = (dense("before", 30, 30, 1), dense("input", 6, 30, 1))
    populations = (
        Population("before", (30,), (dense("input", 6, 30, 1),), np.zeros(30), Neuron(0.5, thresholds[0]), 1),
        Population("hidden", (30,), paths, np.zeros(30), Neuron(0.5, thresholds[1]), 2),
        Population("readout", (4,), (dense("hidden", 30, 4, 9),), np.zeros(4), None, 3),
    )
    monkeypatch.chdir(tmp_path)
    write_nir(tmp_path / "long.nir", to_nir(Graph((InputPort("input", (6,), 1),), populations, 40, 8)))
    np.save("inputs.npy", (rng.random((50, 40, 6)) < 0.5).astype(np.uint8))
    run = snnkd.open_run("long.nir", inputs="inputs.npy")
    run.export("loihi2")
    return run


def test_what_the_chip_cuts_off_and_what_is_misread_are_named(long_run):
    answer = long_run.conformance(samples=50, only=[*NAMES, "onnx"])
    rows = {row["simulator"]: row for row in answer["rows"] if row["network"] == "integer"}
    assert rows["onnx"]["verdict"] == "exact" and rows["onnx"]["neuron_steps"] == 50 * 40 * 60
    assert rows["norse"]["verdict"] == "refused" and "place in norse's order" in rows["norse"]["reason"]
    for name in ("snntorch", "spikingjelly"):
        assert rows[name]["verdict"] == "approximate" and 0 < rows[name]["share"] < 1e-3
        wanted = "before, hidden: number of halvings, T is 40, the target allows 7"
        assert rows[name]["reason"].startswith(wanted)
        left = rows[name]["differing_untruncated"]  # potentials that lie on the raised thresholds
        assert left < rows[name]["differing"] and rows[name]["explained"]
        assert f"; {left} differ from the same network without the chip's" in rows[name]["reason"]
        assert not left or "membranes within 0.0e+00 of their thresholds" in rows[name]["reason"]
        assert set(rows[name]["firing_rates"]) == {"before", "hidden"} and rows[name]["silent"] == []
    assert conformance.unexplained(answer) == []


class OneUnitLess(SpikingJelly):
    """SpikingJelly that is given the network with one weight a unit smaller."""

    name = "one-unit-less"

    @staticmethod
    def view(graph):
        first, *rest = graph.populations
        weight = first.synapses[0].weight.copy()
        weight[weight.sum(axis=1).argmax(), 0] -= 1
        changed = replace(first, synapses=(replace(first.synapses[0], weight=weight),))
        return SpikingJelly.view(replace(graph, populations=(changed, *rest)))

    def inexactness(self, graph):
        return SpikingJelly().inexactness(graph)


def test_truncation_excuses_no_other_weight(long_run, monkeypatch):
    monkeypatch.setattr(conformance, "simulators", lambda: [OneUnitLess()])
    (row,) = (row for row in long_run.conformance(samples=50)["rows"] if row["network"] == "integer")
    assert row["differing_untruncated"] > 0 and not row["explained"]
    assert "the first in sample" in row["reason"]


@pytest.mark.parametrize("inverted", [1, 50 * 40 * 30], ids=["one", "all"])
def test_truncation_excuses_no_spike_that_is_inverted_here(long_run, monkeypatch, inverted):
    """The simulator still does what the network without truncation does: that alone is no excuse."""

    recorded = verdicts.Subject.recorded

    def wrong(*arguments):
        recording = recorded(*arguments)
        spikes = {name: emitted.copy() for name, emitted in recording.spikes.items()}
        spikes["hidden"].reshape(-1)[:inverted] ^= 1
        return replace(recording, spikes=spikes)

    monkeypatch.setattr(verdicts.Subject, "recorded", wrong)
    answer = long_run.conformance(samples=50, only=["spikingjelly"])
    (row,) = (row for row in answer["rows"] if row["network"] == "integer")
    assert row["differing"] >= inverted * 0.99 and not row["explained"]
    assert row["differing_untruncated"] < 20 and "truncation doesn't reach so far" in row["reason"]


def test_what_never_fires_is_named(exported):
    """A network whose second layer can't reach its thresholds: its silence is the same everywhere."""
    graph = exported.float_graph()
    raised = replace(graph.populations[1].neuron, threshold=graph.populations[1].neuron.threshold * 1e6)
    graph = replace(
        graph,
        populations=(
            graph.populations[0],
            replace(graph.populations[1], neuron=raised),
            *graph.populations[2:],
        ),
    )
    given = exported.samples()
    room = get_target("spikingjelly")
    subject = verdicts.Subject(graph, get_target("loihi2"), None, given.inputs[:2], given.calibration, 8)
    row = verdicts.judged(room, "float", subject, 60)
    assert (row["verdict"], row["silent"]) == ("exact", ["neuron2"])
    assert row["firing_rates"]["neuron1"] > 0 == row["firing_rates"]["neuron2"]
    answer = {"weights": "trained", "samples": 2, "timesteps": 4, "rows": [row], "not_executable": []}
    assert "float: neuron2 (in spikingjelly)" in text_of(conformance_table(answer))


def test_an_untrained_students_layers_all_fire(tmp_path):
    """With weights far too small and far too large: each layer is scaled by a power of two."""
    student = untrained(load_recipe("digits-speck"), tmp_path)
    samples = student.inputs[:BALANCE_SAMPLES]
    rates = {n: s.mean() for n, s in record(student.graph, samples, student.graph.steps).spikes.items()}
    assert list(rates) == ["neuron1", "neuron2", "classes"] and min(rates.values()) > 0.002
    off = replace(student.graph, populations=tuple(
        replace(p, synapses=tuple(replace(s, weight=s.weight * factor) for s in p.synapses))
        for p, factor in zip(student.graph.populations, (1 / 64, 1, 256), strict=True)
    ))  # fmt: skip
    again = balanced(off, samples)
    for population in again.spiking:
        rate = record(again, samples, again.steps).spikes[population.name].mean()
        assert RATES[0] <= rate <= RATES[1]
        ratio = population.synapses[0].weight / off[population.name].synapses[0].weight
        assert len(factors := set(ratio[np.isfinite(ratio)].tolist())) == 1
        assert np.log2(factors.pop()) % 1 == 0


def test_a_simulator_that_is_missing_is_a_row(exported, monkeypatch):
    def read(graph, dt):
        raise ImportError("No module named 'norse'")

    (norse,) = (room for room in conformance.simulators() if room.name == "norse")
    monkeypatch.setattr(norse.reader, "read", read)
    rows = exported.conformance(samples=2, only=["norse"])["rows"]
    assert {row["verdict"] for row in rows} == {"not installed"}
    assert 'pip install "snnkd[simulators]"' in rows[0]["reason"]


def test_every_target_that_can_be_run_is_asked():
    assert {*NAMES, "loihi1", "loihi2", "onnx"} <= {room.name for room in conformance.simulators()}
    assert not any(getattr(room, "executable", True) is False for room in conformance.simulators())


class Crashing(Onnx):
    name = "crashing"

    def run(self, *arguments, **options):
        raise RuntimeError("the ground\nopened")


class Slow(SpikingJelly):
    name = "slow"

    class reader:  # noqa: N801
        BATCHED = True

        @staticmethod
        def read(graph, dt):
            time.sleep(60)


class OtherWeight(Onnx):
    """onnxruntime that is given the network with one weight a unit larger."""

    name = "other-weight"

    def export(self, graph, folder):
        first, *rest = graph.populations
        weight = first.synapses[0].weight.copy()
        weight[0, 0, 1, 1] += 2 if weight[0, 0, 1, 1] < 250 else -2
        changed = replace(first, synapses=(replace(first.synapses[0], weight=weight),))
        return super().export(replace(graph, populations=(changed, *rest)), folder)


def test_one_targets_fault_costs_no_other_row(exported, monkeypatch):
    rooms = [Crashing(), OtherWeight(), Onnx()]
    monkeypatch.setattr(conformance, "simulators", lambda: rooms)
    answer = exported.conformance(samples=SAMPLES)
    rows = {(row["network"], row["simulator"]): row for row in answer["rows"]}
    crashed = rows["integer", "crashing"]
    assert (crashed["verdict"], crashed["reason"]) == ("failed", "RuntimeError: the ground opened")
    other = rows["integer", "other-weight"]
    assert other["verdict"] == "approximate" and other["share"] > 0 and not other["explained"]
    assert other["samples_differing"] >= 1 and "neuron1" in other["reason"]
    assert rows["integer", "onnx"]["verdict"] == "exact"
    told = conformance.unexplained(answer)
    assert told[0] == "integer network in crashing: failed, RuntimeError: the ground opened"
    assert told[1].startswith("integer network in other-weight: ") and len(told) == 2


def test_a_simulator_that_takes_too_long_is_not_finished(exported, monkeypatch):
    monkeypatch.setattr(conformance, "simulators", lambda: [Slow()])
    answer = exported.conformance(samples=1, time_limit=0.5)
    for row in answer["rows"]:
        assert row["verdict"] == "not finished" and row["explained"] and 0.5 <= row["seconds"] < 30
        assert row["reason"].startswith("slow didn't finish within 0.5 s")
    assert conformance.unexplained(answer) == []


def test_a_script_that_takes_too_long_is_not_finished(exported):
    (row,) = exported.conformance(samples=2, only=["onnx"], time_limit=0.01)["rows"]
    assert row["verdict"] == "not finished" and "within 0.01 s" in row["reason"] and row["explained"]


def test_targets_that_are_not_there_or_cannot_be_run_say_so(exported):
    with pytest.raises(InputError, match="nowhere"):
        exported.conformance(only=["nowhere"])


def test_an_untrained_students_matrix_needs_no_run(tmp_path):
    """Speck has an arithmetic of its own: it is judged on the network that its own quantisation makes."""
    only = ["onnx", "speck", "spikingjelly"]
    answer = conformance.conformance_of_recipes(["digits-speck"], 2, data_root=tmp_path, only=only)
    (matrix,) = answer["matrices"]
    assert (matrix["recipe"], matrix["weights"], matrix["samples"]) == ("digits-speck", "untrained", 2)
    verdicts = {(row["network"], row["simulator"]): row["verdict"] for row in matrix["rows"]}
    assert verdicts["float", "spikingjelly"] == verdicts["integer", "onnx"] == "exact"
    assert verdicts["integer", "speck"] == "exact"
    assert all(0 < rate < 0.9 for rate in matrix["firing_rates"].values())
    for row in matrix["rows"]:
        if row["verdict"] == "exact":
            assert list(row["firing_rates"]) == ["neuron1", "neuron2", "classes"] and row["silent"] == []


@pytest.mark.slow
def test_the_command_line_takes_recipes(command):
    shown = command("conformance", "--recipe", "digits", "--samples", 2, "--only", "onnx", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["matrices"][0]["rows"][0]["verdict"] == "exact"
    for wrong in (["--recipe", "digits", "--recipes"], ["--recipes", "--run", "runs/one"]):
        shown = command("conformance", *wrong)
        assert shown.returncode == 2 and "leave" in shown.stderr


def test_the_shipped_recipes_whose_data_is_there_are_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(conformance, "recipe_names", lambda: ["cifar10-resnet20", "digits", "mnist"])
    answer = conformance.conformance_of_recipes(samples=2, only=["onnx"], data_root=tmp_path)
    assert [matrix["recipe"] for matrix in answer["matrices"]] == ["digits"]
    assert {row["verdict"] for matrix in answer["matrices"] for row in matrix["rows"]} == {"exact"}
    assert answer["left_out"]["cifar10-resnet20"] == "188,416 neurons; --large takes it"
    assert "neurons" not in answer["left_out"]["mnist"]
    shown = text_of(recipes_table(answer))
    assert "(random weights)" in " ".join(shown.split()) and "left out: mnist" in shown


def test_the_same_seed_gives_the_same_untrained_student(tmp_path):
    one, two = (untrained(load_recipe("digits"), tmp_path).graph for _ in range(2))
    other = untrained(load_recipe("digits", ["seed=1"]), tmp_path).graph
    weights = [graph.populations[0].synapses[0].weight for graph in (one, two, other)]
    assert np.array_equal(weights[0], weights[1]) and not np.array_equal(weights[0], weights[2])


def test_long_reasons_are_wrapped_and_said_once():
    problems = [Problem(f"layer{n}", "decay", 0.25, "0.5", "train with another") for n in range(6)]
    problems.append(Problem("last", "type", "Scale", "LIF"))
    reason = summed_up(problems)
    assert reason == (
        "layer0, layer1, layer2, 3 more: decay is 0.25, the target allows 0.5; train with another; "
        "last: type is Scale, the target allows LIF"
    )
    row = {"network": "float", "simulator": "norse", "verdict": "refused", "reason": reason * 3}
    row |= {"differing": None, "explained": True, "problems": [reason * 3], "silent": []}
    answer = {"weights": "trained", "samples": 1, "timesteps": 4, "rows": [row], "not_executable": ["paper"]}
    lines = text_of(conformance_table(answer)).splitlines()
    assert max(map(len, lines)) <= WIDTH and len(lines) > 8
    assert lines[-1].strip() == "without a simulator that can be installed: paper"
    row["problems"] = [reason, *["elsewhere"] * 3]
    lines = text_of(conformance_table(answer)).splitlines()
    assert max(map(len, lines)) <= WIDTH and "elsewhere" not in "".join(lines)
    assert any("… and 3 more" in line for line in lines)


def test_the_matrix_of_recipes_can_be_read():
    """Names of targets are whole, recipes with the same marks share a row, equal reasons are said once."""
    alone = {"differing": None, "share": None, "explained": True, "silent": [], "firing_rates": {}}
    exact = {
        **alone,
        "verdict": "exact",
        "reason": "",
        "problems": [],
        "firing_rates": {"one": 0.05, "two": 0.2},
    }
    near = {**exact, "verdict": "approximate", "reason": "it cuts off", "share": 2e-4}
    wrong = {**near, "reason": "nobody knows", "explained": False}
    readers, others = ["norse", "snntorch", "spikingjelly"], [n for n in TARGETS.names() if n not in NAMES]

    def matrix(recipe, largest):
        problems = [f"input: largest is {largest}, the target allows 15", "other", "third"]
        refused = {**alone, "verdict": "refused", "reason": "; ".join(problems), "problems": problems}
        rows = [{**exact, "network": "float", "simulator": name} for name in readers]
        rows += [
            {**found, "network": "integer", "simulator": n}
            for n, found in zip(readers, (exact, near, wrong), strict=True)
        ]
        rows += [
            {**(refused if "xylo" in n else exact), "network": "integer", "simulator": n} for n in others
        ]
        return {"recipe": recipe, "timesteps": 4, "firing_rates": {}, "rows": rows}

    matrices = [matrix("digits", 16), matrix("fashion-mnist", 255), matrix("mnist", 255)]
    lines = text_of(recipes_table({"matrices": matrices, "left_out": {}})).splitlines()
    assert max(map(len, lines)) <= WIDTH and len(lines) < 45
    headings = [line for line in lines if line.strip().startswith("recipe")]
    assert sorted(name for line in headings for name in line.split()[3:]) == sorted(
        ["network", *readers, *others]
    )
    assert (
        sum("largest is 255" in line for line in lines) == sum("largest is 16" in line for line in lines) == 1
    )
    assert sum("5–20 %" in line for line in lines) == 3 and len(headings) == 3
    text = " ".join(" ".join(lines).split())
    assert "≈ 2e-04" in text and "≠ 2e-04" in text and "… and 2 more" in text and "other" not in text
    assert [row["simulator"] for row in matrices[0]["rows"] if row["problems"]] == [
        n for n in others if "xylo" in n
    ]


def text_of(table) -> str:
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_a_run_that_is_not_exported_says_so(exported):
    with pytest.raises(InputError, match="is not exported to loihi1 yet"):
        Run(exported.folder).conformance(target="loihi1")
