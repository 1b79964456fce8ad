"""`--target onnx`: the integer network in onnxruntime is what the chip's registers hold; damaged files."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from snnkd import InputError, Refusal
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.onnx.fixed_point import network_model
from snnkd.export.onnx.past import NEXT
from snnkd.export.onnx.session import Session
from snnkd.export.onnx.target import Onnx
from snnkd.export.script import NotInstalledError
from snnkd.export.target import Recording, get_target

SECONDS = 300.0
SEEDS = range(6)


def load(name: str) -> ModuleType:
    """Another file of tests beside this one, for what it draws."""
    known = f"drawn_by_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, Path(__file__).with_name(f"{name}.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[known] = module
        spec.loader.exec_module(module)
    return sys.modules[known]


graphs = load("test_loihi2_graphs")
"""Random networks of any form, and the chip's arithmetic in NumPy."""


def emitted(graph: Graph, inputs: dict[str, np.ndarray]) -> Recording:
    """network.onnx stepped in this process, for inputs (N, T, *shape)."""
    session = Session(network_model(graph), threads=1)
    samples = len(next(iter(inputs.values())))
    state = {n: np.zeros((samples, *s[1:])) for n, s in session.inputs.items() if n not in inputs}
    answers = []
    for step in range(graph.steps):
        answer = session.run({**{name: values[:, step] for name, values in inputs.items()}, **state})
        state = {name: answer[name + NEXT] for name in state}
        answers.append(answer)
    spikes, sums = (
        {p.name: np.stack([answer[p.name] for answer in answers], axis=1) for p in populations}
        for populations in (graph.spiking, graph.readouts)
    )
    return Recording(spikes, sums)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_are_the_chips(seed):
    """Any decay, memory of the current, delays, skips, groups, several inputs, all kinds of output."""
    drawn = graphs.draw(seed, 5)
    assert Onnx().check(drawn.graph) == []
    expected = graphs.chip_reference(drawn.graph, drawn.inputs)
    graphs.assert_fires(expected)
    assert graphs.first_difference(emitted(drawn.graph, drawn.inputs), expected) is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300, 360))
def test_many_random_networks_are_the_chips(seed):
    test_random_networks_are_the_chips(seed)


def test_an_exported_folder_is_the_chip_by_its_own_script(tmp_path):
    drawn = graphs.draw(3, 5)
    target = get_target("onnx")
    target.export(drawn.graph, tmp_path)
    done: list[int] = []
    found = target.run(
        tmp_path, drawn.inputs, drawn.graph.steps, SECONDS, lambda count, _all: done.append(count)
    )
    expected = graphs.chip_reference(drawn.graph, drawn.inputs)
    assert graphs.first_difference(found, expected) is None
    assert done == [3]
    assert all(spikes.dtype == np.uint8 for spikes in found.spikes.values())
    assert all(sums.dtype == np.int64 for sums in found.sums.values())


@pytest.fixture
def residual() -> tuple[Graph, dict[str, np.ndarray]]:
    """Graded images, skips with and without projection, a delay of the model's own."""
    part = graphs.Residual(3, "", 3, 4)
    return Graph(tuple(part.ports), tuple(part.populations), 4, 8, 37.0), part.inputs


def changes(graph: Graph) -> dict[str, Graph]:
    """The graph with one number of its first and its last layer changed by the least there is."""
    first, last = graph.populations[0], graph.populations[-1]
    found = {}
    for population in (first, last):
        (synapse, *others) = population.synapses
        for index in np.ndindex(synapse.weight.shape):
            weight = synapse.weight.copy()
            weight[index] += 2 if weight[index] < 250 else -2
            altered = replace(population, synapses=(replace(synapse, weight=weight), *others))
            found[f"{population.name} weight {index}"] = with_population(graph, altered)
    for population in graph.spiking:
        for index in np.ndindex(population.neuron.threshold.shape):
            threshold = population.neuron.threshold.copy()
            threshold[index] += 1
            altered = replace(population, neuron=replace(population.neuron, threshold=threshold))
            found[f"threshold ({population.name}) {index}"] = with_population(graph, altered)
    late = graph["late"]
    paths = tuple(replace(synapse, delay=synapse.delay and synapse.delay - 1) for synapse in late.synapses)
    found["delay"] = with_population(graph, replace(late, synapses=paths))
    bias = np.broadcast_to(first.bias, first.shape).copy()
    bias.flat[0] += 1
    found["bias"] = with_population(graph, replace(first, bias=bias))
    found["decay"] = with_population(
        graph, replace(first, neuron=replace(first.neuron, decay=first.neuron.decay - 1 / 4096))
    )
    return found


def with_population(graph: Graph, changed: Population) -> Graph:
    return replace(
        graph, populations=tuple(changed if p.name == changed.name else p for p in graph.populations)
    )


def test_one_number_changed_is_seen(residual):
    """Of each kind, the first change that alters what the chip emits alters what onnxruntime emits, alike."""
    graph, inputs = residual
    expected = graphs.chip_reference(graph, inputs)
    assert graphs.first_difference(emitted(graph, inputs), expected) is None
    seen: dict[str, bool] = {}
    for name, changed in changes(graph).items():
        kind = name.partition(" (")[0]
        if seen.get(kind):
            continue
        altered = graphs.chip_reference(changed, inputs)
        seen[kind] = graphs.first_difference(altered, expected) is not None
        if seen[kind]:
            found = emitted(changed, inputs)
            assert graphs.first_difference(found, expected) is not None, name
            assert graphs.first_difference(found, altered) is None, name
    telling = {kind for kind, told in seen.items() if told}
    assert telling >= {"stem weight", "readout weight", "threshold", "delay"}, seen


def test_sums_at_the_end_of_a_register_are_exact():
    """The largest sums that pass the check, of odd and even terms, through a convolution and a matrix."""
    rng = np.random.default_rng(0)
    weight = 2.0 * rng.integers(-127, 128, (4, 2, 3, 3))
    conv = Synapse("input", "conv", weight, (2, 9, 9), (4, 9, 9), padding=(1, 1))
    dense = Synapse("maps", "dense", 2.0 * rng.integers(-127, 128, (6, 324)), (4, 9, 9), (6,))
    maps = Population("maps", (4, 9, 9), (conv,), np.zeros(1), Neuron(0.5, np.full(1, 9.0)), 1)
    sums = Population("sums", (6,), (dense,), np.zeros(1), None, 2)
    largest = int(131071 // np.maximum(weight, 0).sum(axis=(1, 2, 3)).max())
    graph = Graph((InputPort("input", (2, 9, 9), largest),), (maps, sums), 3, 8)
    inputs = {"input": rng.choice([0, largest - 1, largest], (8, 3, 2, 9, 9))}
    assert graphs.first_difference(emitted(graph, inputs), graphs.chip_reference(graph, inputs)) is None
    beyond = replace(graph, inputs=(InputPort("input", (2, 9, 9), 255 * largest),))
    with pytest.raises(Refusal, match=r"maps: largest synaptic sum \(channel \d\) is .*131071"):
        Onnx().export(beyond, Path("nowhere"))


def small(**options) -> Graph:
    path = Synapse("input", "dense", np.array([[2.0, -4.0], [6.0, 8.0]]), (2,), (2,))
    hidden = Population("hidden", (2,), (path,), np.zeros(2), Neuron(0.5, np.full(2, 3.0)), 1)
    back = replace(path, source="hidden")
    return Graph(
        (InputPort("input", (2,), 3),),
        (hidden, Population("sums", (2,), (back,), np.zeros(2), None, 2)),
        **{"timesteps": 3, "weight_bits": 8, **options},
    )


def named(graph: Graph, old: str, new: str) -> Graph:
    def renamed(population: Population) -> Population:
        paths = tuple(
            replace(synapse, source=new if synapse.source == old else synapse.source)
            for synapse in population.synapses
        )
        return replace(population, name=new if population.name == old else population.name, synapses=paths)

    ports = tuple(replace(port, name=new if port.name == old else port.name) for port in graph.inputs)
    return replace(graph, inputs=ports, populations=tuple(map(renamed, graph.populations)))


@pytest.mark.parametrize("name", ["nothing", "fraction", "decay unit", "index.1", "hidden.sums"])
def test_a_layer_may_have_the_name_of_something_inside(name, tmp_path):
    graph = named(small(), "sums", name)
    inputs = np.array([[3, 0], [1, 2], [0, 0]])
    Onnx().export(graph, tmp_path)
    found = Onnx().run(tmp_path, inputs, 3, SECONDS)
    frames = {"input": np.repeat(inputs[:, None], 3, axis=1)}
    assert graphs.first_difference(found, graphs.chip_reference(graph, frames)) is None


@pytest.mark.parametrize(
    ("graph", "line"),
    [
        (replace(small(), populations=()), "number of populations is 0"),
        (
            Graph((), (replace(small()["sums"], name="alone", synapses=()),), 3, 8),
            "number of inputs is 0",
        ),
        (named(small(), "sums", "hidden.potential"), "hidden.potential: name is that of a state too"),
        (named(small(), "hidden", "logits"), "logits: name is that of the models' answer"),
        (replace(small(), weight_bits=9), "weight bits is 9"),
        (
            with_population(
                small(), replace(small()["hidden"], neuron=Neuron(1.0, np.full(2, 3.0), reset="subtract"))
            ),
            "hidden: neuron is one that takes its threshold away",
        ),
        (
            with_population(small(), replace(small()["hidden"], neuron=None)),
            "sums: source is hidden, which emits no spikes",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(graph, line, tmp_path):
    with pytest.raises(Refusal, match=line):
        Onnx().export(graph, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_float_network_is_not_exported(tmp_path):
    with pytest.raises(InputError, match="quantise it first"):
        Onnx().export(replace(small(), weight_bits=None), tmp_path)


def test_the_same_network_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        Onnx().export(small(), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["engine.py", "manifest.json", "network.onnx", "run.py"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def edited(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return edit


DAMAGES = {
    "no model file": (lambda folder: (folder / "network.onnx").unlink(), "can't read .*network.onnx"),
    "a damaged model": (
        lambda folder: (folder / "network.onnx").write_bytes(b"no model"),
        "can't read .*network.onnx",
    ),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "can't read .*manifest.json"),
    "no JSON": (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is damaged"),
    "no models": (edited(lambda manifest: manifest.pop("models")), "manifest.json is damaged"),
    "an unknown kind": (
        edited(lambda manifest: manifest["models"]["network"].update(kind="odd")),
        "calls the model 'odd'",
    ),
    "another input": (
        edited(lambda manifest: manifest["inputs"][0].update(name="other")),
        r"the network takes \['other'\]|doesn't take other",
    ),
    "no script": (lambda folder: (folder / "run.py").unlink(), "there is no run.py"),
}


@pytest.mark.parametrize("name", ["no model file", "no models", "an unknown kind", "another input"])
def test_a_damaged_folder_is_one_line(name, tmp_path):
    one_line(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(DAMAGES))
def test_any_damaged_folder_is_one_line(name, tmp_path):
    one_line(name, tmp_path)


def one_line(name: str, folder: Path) -> None:
    damage, line = DAMAGES[name]
    Onnx().export(small(), folder)
    damage(folder)
    with pytest.raises(InputError, match=line) as raised:
        Onnx().run(folder, np.ones((2, 2), int), 3, SECONDS)
    assert "\n" not in str(raised.value)


def test_inputs_that_do_not_fit_are_one_line(tmp_path):
    Onnx().export(small(), tmp_path)
    with pytest.raises(InputError, match="inputs hold 4 … 4, the network takes integers 0 … 3"):
        Onnx().run(tmp_path, np.full((2, 2), 4), 3, SECONDS)


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    Onnx().export(small(), tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(
        NotInstalledError, match=r"^onnxruntime isn't installed; pip install \"snnkd\[onnx\]\"$"
    ):
        Onnx().run(tmp_path, np.ones((2, 2), int), 3, SECONDS)


@pytest.mark.slow
def test_the_folder_runs_with_numpy_and_onnxruntime_alone(tmp_path, residual):
    graph, inputs = residual
    Onnx().export(graph, tmp_path / "exported")
    moved = shutil.copytree(tmp_path / "exported", tmp_path / "an odd name")
    np.save(moved / "inputs.npy", inputs["input"])
    blocked = "import sys\nfor name in ('snnkd', 'torch', 'onnx', 'nir', 'h5py'): sys.modules[name] = None\n"
    run = f"{blocked}import runpy\nsys.argv = ['run.py', '--inputs', 'inputs.npy', '--output', 'found.npz']\n"
    run += "sys.path.insert(0, '.')\nrunpy.run_path('run.py', run_name='__main__')\n"
    subprocess.run([sys.executable, "-B", "-c", run], cwd=moved, check=True, timeout=SECONDS)
    expected = graphs.chip_reference(graph, inputs)
    with np.load(moved / "found.npz") as found:
        for name, spikes in expected.spikes.items():
            assert np.array_equal(found[f"spikes/{name}"], spikes)
        for name, sums in expected.sums.items():
            assert np.array_equal(found[f"sums/{name}"], sums)
