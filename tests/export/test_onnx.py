"""ONNX files in onnxruntime: what they compute is what NumPy, torch and the students themselves compute."""

import builtins
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from snnkd import InputError, Refusal
from snnkd.export.ann import ann_to_graph
from snnkd.export.graph import Graph, Neuron, Synapse
from snnkd.export.onnx.ann import ann_model
from snnkd.export.onnx.past import NEXT
from snnkd.export.onnx.quantized import batches_of, quantized_model
from snnkd.export.onnx.session import Session, write_model
from snnkd.export.onnx.spiking import MAX_STEPS, state_shapes, step_model, unrolled_model
from snnkd.export.student import student_to_graph
from snnkd.models.contract import TaskShape, TeacherOutput
from snnkd.models.conv import ConvOptions, ConvStudent, ConvTeacher
from snnkd.models.resnet import ResNetOptions, ResNetStudent, ResNetTeacher
from snnkd.models.twin import AnnTwin

TASK = TaskShape((3, 8, 8), 255, 5)
SAMPLES = 12
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small spend a second thread on waiting."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn(draw_graph, seed: int) -> tuple[Graph, np.ndarray]:
    """A random integer network; a third has a memory of the current, another integrators at its end."""
    graph = draw_graph(seed, integer=True, plain=False, ties=seed % 2 == 0)
    populations = list(graph.populations)
    if seed % 3 == 0:
        neuron = replace(populations[1].neuron, current_decay=0.5)
        populations[1] = replace(populations[1], neuron=neuron)
    if seed % 3 == 1:
        populations[-1] = replace(populations[-1], neuron=Neuron(0.5, np.full(1, np.inf)))
    port = graph.inputs[0]
    shown = np.random.default_rng(seed).integers(0, port.payload_max + 1, (SAMPLES, *port.shape))
    return replace(graph, populations=tuple(populations)), shown


def expected(simulate, graph: Graph, inputs) -> dict[str, np.ndarray]:
    """By NumPy: what every population shows, (N, T, *shape), a read-out's bias included; and the logits."""
    trace = simulate(graph, inputs, graph.timesteps)
    readout = graph["readout"]
    shown = {**{name: spikes.astype(float) for name, spikes in trace.spikes.items()}, **trace.sums}
    if readout.neuron is not None:
        return {**shown, "logits": shown["readout"][:, -1] / graph.readout_scale}
    shown["readout"] = shown["readout"] + readout.bias
    return {**shown, "logits": shown["readout"].mean(1) / graph.readout_scale}


def same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    """Spikes, potentials and sums by ==; the logits were divided, so they may be off by a rounding."""
    shown = {name for name in theirs if name != "logits"}
    equal = all(np.array_equal(ours[name], theirs[name]) for name in shown)
    return equal and np.allclose(ours["logits"], theirs["logits"], rtol=1e-6, atol=1e-6)


def run_steps(graph: Graph, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The single-step model, its state handed on by us."""
    session = Session(step_model(graph, recorded=True), threads=1)
    state = {name: np.zeros((len(inputs), *shape)) for name, shape in state_shapes(graph).items()}
    steps = []
    for _ in range(graph.timesteps):
        answer = session.run({graph.inputs[0].name: inputs, **state})
        state = {name: answer[name + NEXT] for name in state}
        steps.append(answer)
    shown = {p.name: np.stack([answer[p.name] for answer in steps], axis=1) for p in graph.populations}
    logits = np.stack([answer["logits"] for answer in steps])
    return {**shown, "logits": logits[-1] if graph["readout"].neuron else logits.mean(0)}


@settings(max_examples=20)
@given(seed=SEEDS)
def test_integer_networks_are_exact_unrolled_and_step_by_step(simulate, draw_graph, seed):
    graph, inputs = drawn(draw_graph, seed)
    reference = expected(simulate, graph, inputs)
    assert same(Session(unrolled_model(graph, recorded=True), threads=1).over(inputs, batch=5), reference)
    assert same(run_steps(graph, inputs), reference)


@settings(max_examples=8)
@given(seed=SEEDS)
def test_frames_are_shown_one_after_the_other(simulate, draw_graph, seed):
    graph, _ = drawn(draw_graph, seed)
    port = graph.inputs[0]
    frames = np.random.default_rng(seed).integers(
        0, port.payload_max + 1, (SAMPLES, graph.timesteps, *port.shape)
    )
    reference = expected(simulate, graph, {port.name: frames})
    assert same(Session(unrolled_model(graph, frames=True, recorded=True), threads=1).over(frames), reference)


@settings(max_examples=8)
@given(seed=SEEDS)
def test_one_weight_or_one_delay_changed_is_seen(simulate, draw_graph, seed):
    graph, inputs = drawn(draw_graph, seed)
    reference = expected(simulate, graph, inputs)
    assume(graph.steps > 1 and reference["n1"].any())
    last = graph.populations[-1]
    weight = last.synapses[0].weight.copy()
    feeding = reference[last.synapses[0].source].reshape(SAMPLES, graph.timesteps, -1)
    assume(feeding[:, 0].any())
    weight[0, feeding[:, 0].any(0).argmax()] += 2
    changes = [replace(last.synapses[0], weight=weight), replace(last.synapses[0], delay=1)]
    for synapse in changes if not last.synapses[0].delay else changes[:1]:
        changed = replace(last, synapses=(synapse, *last.synapses[1:]))
        network = replace(graph, populations=(*graph.populations[:-1], changed))
        assert not same(Session(unrolled_model(network, recorded=True), threads=1).over(inputs), reference)


def lively(network: nn.Module) -> nn.Module:
    """`network` with statistics and scales that BatchNorm could have learned."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_(0.4, 0.5)
    return network.eval()


CONV, RESNET = (
    ConvOptions(widths=(6, 8), pooling=2),
    ResNetOptions(blocks=(1, 1), widths=(4, 6), shortcut="pool"),
)


def students() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    made = {"conv": ConvStudent(TASK, 4, CONV), "resnet": ResNetStudent(TASK, 4, RESNET)}
    return {name: lively(student) for name, student in made.items()}


def anns() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    made = {"conv": ConvTeacher(TASK, CONV), "resnet": ResNetTeacher(TASK, RESNET)}
    twins = {f"{name} twin": AnnTwin(student) for name, student in students().items()}
    return {name: lively(ann) for name, ann in {**made, **twins}.items()}


def images(count: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *TASK.input_shape)).astype(np.uint8)


@torch.no_grad()
def logits_of(network: nn.Module, inputs: np.ndarray) -> np.ndarray:
    logits = network(torch.from_numpy(inputs).float()).logits
    return (logits.mean(0) if logits.dim() == 3 else logits).numpy()


@pytest.mark.parametrize("name", list(anns()))
def test_an_ann_computes_what_torch_computes(name):
    ann = anns()[name]
    answers = [Session(ann_model(ann_to_graph(ann)), threads=1).over(images(), batch=b) for b in (1, 7, 20)]
    for answer in answers:
        np.testing.assert_allclose(answer["logits"], logits_of(ann, images()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", list(students()))
def test_a_float_student_computes_what_torch_computes(name):
    student = students()[name]
    graph = student_to_graph(student)
    wanted = logits_of(student, images())
    assert wanted.std(axis=0).min() > 1e-3, "the samples must matter"
    unrolled = Session(unrolled_model(graph), threads=1).over(images())["logits"]
    np.testing.assert_allclose(unrolled, wanted, atol=1e-5)
    assert (unrolled.argmax(1) == wanted.argmax(1)).all()


@pytest.mark.parametrize("name", list(anns()))
def test_an_ann_runs_in_int8_from_end_to_end(name, tmp_path):
    ann = anns()[name]
    model = ann_model(ann_to_graph(ann))
    int8 = quantized_model(model, batches_of(model, images()))
    session = Session(int8, threads=1, unsaturated=True, optimised=tmp_path / "run.onnx")
    operations = {node.op_type for node in onnx.load(tmp_path / "run.onnx").graph.node}
    assert not operations & {"Conv", "Gemm", "MatMul", "Add", "Relu"}
    assert "QLinearConv" in operations
    wanted = logits_of(ann, images())
    error = session.over(images())["logits"] - wanted
    assert 0 < np.abs(error).max() < 0.1 * np.ptp(wanted)


@pytest.mark.parametrize("name", list(students()))
def test_int8_of_a_spiking_network_rounds_its_weights_and_nothing_else(name):
    """So it is the float student with weights on the int8 grid; biases are rounded too, far more finely."""
    graph = student_to_graph(students()[name])
    model = unrolled_model(graph)
    int8 = quantized_model(model, batches_of(model, images()), spiking=True)
    rounded = Session(unrolled_model(on_the_int8_grid(graph)), threads=1).over(images())["logits"]
    exact = Session(model, threads=1).over(images())["logits"]
    answer = Session(int8, threads=1).over(images())["logits"]
    assert same_samples(answer, rounded) >= 0.9
    assert same_samples(answer, exact) <= 0.1


def same_samples(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The share of samples whose logits are equal but for rounding."""
    return float((np.abs(ours - theirs).max(1) < 1e-4).mean())


def on_the_int8_grid(graph: Graph) -> Graph:
    """Weights as multiples of a 127th of their channel's largest."""

    def rounded(synapse: Synapse) -> Synapse:
        if synapse.kind == "identity":
            return synapse
        largest = np.abs(synapse.weight).reshape(len(synapse.weight), -1).max(1)
        unit = (largest / 127).reshape(-1, *(1,) * (synapse.weight.ndim - 1))
        return replace(synapse, weight=np.round(synapse.weight / unit) * unit)

    populations = tuple(replace(p, synapses=tuple(map(rounded, p.synapses))) for p in graph.populations)
    return replace(graph, populations=populations)


def test_a_file_says_what_it_is_and_onnx_finds_no_fault_in_it(tmp_path):
    graph = student_to_graph(students()["conv"])
    write_model(tmp_path / "student.onnx", unrolled_model(graph))
    model = onnx.load(tmp_path / "student.onnx")
    onnx.checker.check_model(model, full_check=True)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts == {"kind": "unrolled", "timesteps": "4", "input_max": "255", "integer": "False"}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    first = [node for node in model.graph.node if node.name.startswith("neuron1.from")]
    assert len(first) == 1, "a static image's first convolution is computed once"
    assert Session(tmp_path / "student.onnx", threads=1).outputs == ["logits"]


def test_what_cannot_be_written_is_refused():
    graph = student_to_graph(students()["conv"])
    with pytest.raises(InputError, match=rf"{MAX_STEPS} can; write the single step"):
        unrolled_model(replace(graph, timesteps=MAX_STEPS + 1))
    with pytest.raises(InputError, match="--timesteps"):
        unrolled_model(replace(graph, timesteps=None))
    with pytest.raises(Refusal, match="2 inputs"):
        ann_model(replace(graph, inputs=(*graph.inputs, replace(graph.inputs[0], name="more"))))
    with pytest.raises(InputError, match="give at least one sample"):
        model = ann_model(ann_to_graph(anns()["conv"]))
        quantized_model(model, batches_of(model, images(0)))


class Odd(ConvTeacher):
    """Its forward does more than its layers."""

    def forward(self, images):
        return TeacherOutput(super().forward(images).logits * 2, {})


def test_an_ann_that_is_not_its_layers_or_cannot_be_lowered_is_refused():
    with pytest.raises(Refusal, match="forward isn't its layers"):
        ann_to_graph(Odd(TASK, CONV))
    with_sigmoid = ConvTeacher(TASK, CONV)
    with_sigmoid.layers.set_submodule("neuron2", nn.Sigmoid())
    with pytest.raises(Refusal, match=r"the ANN can't be lowered: neuron2 \(Sigmoid\)"):
        ann_to_graph(with_sigmoid)


def test_an_ann_is_left_as_it_was():
    ann = anns()["resnet"].train()
    before = {name: value.clone() for name, value in ann.state_dict().items()}
    ann_to_graph(ann)
    assert ann.training
    assert all(torch.equal(before[name], value) for name, value in ann.state_dict().items())


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_one_line_with_the_remedy(package, monkeypatch):
    graph = student_to_graph(students()["conv"])
    model = None if package == "onnx" else unrolled_model(graph)
    found = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return found(name, *arguments, **options)

    monkeypatch.setattr("importlib.import_module", without)
    with pytest.raises(InputError, match=rf'^{package} can\'t be imported .*: pip install "snnkd\[onnx\]"$'):
        unrolled_model(graph) if model is None else Session(model)


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"onnxruntime can't read .*net\.onnx") as raised:
        Session(path)
    assert "\n" not in str(raised.value)
