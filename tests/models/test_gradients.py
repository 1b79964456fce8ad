"""Gradient backends against backpropagation through time, float64 transcriptions and SpikingJelly."""

import nir
import numpy as np
import pytest
import torch
from spikingjelly.activation_based.neuron import DSRIFNode
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from snnkd import InputError, Refusal
from snnkd.export.lowering import lower
from snnkd.export.nir import read_nir, write_nir
from snnkd.export.student import deployability_problems, student_to_graph, student_to_nir
from snnkd.models.contract import TaskShape
from snnkd.models.conv import ConvOptions, ConvStudent
from snnkd.models.gradients.backend import GRADIENTS, install_gradient
from snnkd.models.gradients.dsr import SoftResetIF, soft_reset_forward
from snnkd.models.gradients.rate import eligibility
from snnkd.models.neurons import LIF, lif_forward
from snnkd.models.resnet import ResNetOptions, ResNetStudent
from snnkd.models.unrolled import SpikingStudent

TASK = TaskShape((3, 8, 8), 255, 10)


def conv(timesteps=4):
    torch.manual_seed(0)
    return ConvStudent(TASK, timesteps, ConvOptions(widths=(6, 8, 8), strides=(1, 2, 1)))


def resnet(timesteps=4):
    torch.manual_seed(0)
    options = ResNetOptions(blocks=(1, 2), widths=(6, 8), shortcut="pool")
    return ResNetStudent(TASK, timesteps, options, decay=0.75, threshold=0.6)


def pair(build, timesteps, dtype=torch.float64):
    """A student with bptt and the same one with rate, in training."""
    students = [build(timesteps).to(dtype).train() for _ in range(2)]
    for student, name in zip(students, ("bptt", "rate"), strict=True):
        install_gradient(student, name, {})
    return students


def images(frames=0, dtype=torch.float64):
    shape = (frames, 16, 3, 8, 8) if frames else (16, 3, 8, 8)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def with_statistics(student, inputs):
    """`student` outside training, BatchNorm's statistics those of `inputs`."""
    norms = [module for module in student.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        student.train()(inputs)
    for norm in norms:
        norm.eval()
    return student


def gradients(student, inputs):
    labels = torch.arange(16) % 10
    student.zero_grad()
    F.cross_entropy(student(inputs).logits.mean(0), labels).backward()
    return {name: parameter.grad.clone() for name, parameter in student.named_parameters()}


@pytest.mark.parametrize("build", [conv, resnet])
@pytest.mark.parametrize("frames", [0, 5])
def test_rate_s_forward_pass_is_bptt_s_to_the_bit(build, frames):
    bptt, rate = pair(build, 4, torch.float32)
    spikes = [{}, {}]
    for student, seen in zip((bptt, rate), spikes, strict=True):
        student.taps = tuple(name for name, m in student.layers.named_modules() if isinstance(m, LIF))
        output = student(images(frames, torch.float32))
        seen.update(output.features, logits=output.logits)
    assert len(spikes[0]) > 3
    for name, expected in spikes[0].items():
        assert torch.equal(spikes[1][name], expected), name
        assert name == "logits" or 0 < float(expected.detach().mean()) < 1
    for (name, expected), found in zip(bptt.named_buffers(), rate.buffers(), strict=True):
        assert torch.equal(found, expected), name  # BatchNorm's statistics, taken once
    assert not torch.equal(rate.eval()(images(frames, torch.float32)).logits, spikes[0]["logits"])


@pytest.mark.parametrize("build", [conv, resnet])
def test_rate_is_bptt_for_one_step(build):
    bptt, rate = pair(build, 1)
    expected, found = gradients(bptt, images()), gradients(rate, images())
    for name, gradient in expected.items():
        assert gradient.abs().sum() > 0, name
        torch.testing.assert_close(found[name], gradient, rtol=1e-8, atol=1e-12, msg=name)


@pytest.mark.parametrize("build", [conv, resnet])
def test_rate_is_exact_behind_the_last_neurons_and_near_before(build):
    """A loss of the mean sends the last neurons the same gradient at every step; earlier ones get others."""
    bptt, rate = pair(build, 6)
    for student in (bptt, rate):
        with_statistics(student, images())
    expected, found = gradients(bptt, images()), gradients(rate, images())
    last = "layers.norm3.bias" if build is conv else "layers.stage2.block2.norm2.bias"
    for name in ("layers.readout.weight", "layers.readout.bias", last):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-8, atol=1e-12, msg=name)
    first = "layers.conv1.weight" if build is conv else "layers.conv.weight"
    assert not torch.allclose(found[first], expected[first], rtol=1e-3)
    whole = [torch.cat([gradient.flatten() for gradient in side.values()]) for side in (expected, found)]
    assert F.cosine_similarity(*whole, 0) > 0.5


def saved_bytes(student, inputs):
    """Bytes of distinct storages that a forward pass keeps for its gradient."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        keep.append(tensor)
        return tensor

    keep = []
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        student(inputs).logits.mean(0).sum()
    return sum(storages.values())


@pytest.mark.parametrize("build", [conv, resnet])
def test_rate_keeps_as_much_for_many_steps_as_for_few(build):
    kept = {(name, steps): saved_bytes(student, images()) for steps in (2, 16)
            for name, student in zip(("bptt", "rate"), pair(build, steps), strict=True)}  # fmt: skip
    assert kept["rate", 16] == kept["rate", 2]
    assert kept["bptt", 16] > 6 * kept["bptt", 2]


def eligibility_reference(current, decay, threshold):
    """The formula, neuron by neuron."""
    found = np.zeros(current.shape[1])
    for n in range(current.shape[1]):
        v, e = 0.0, 0.0
        for x in current[:, n]:
            e = 1 + e  # what a little more current at every step so far does to v
            v = v + x
            found[n] += max(0, 1 - abs(v - threshold) / threshold) / threshold * e / len(current)
            spiked = v > threshold
            v, e = (0.0, 0.0) if spiked else (decay * v, decay * e)
    return found


@pytest.mark.parametrize(("decay", "threshold"), [(0.5, 1.0), (0.9, 0.7), (0.0, 2.0), (1.0, 1.0)])
def test_the_eligibility_is_the_rate_s_derivative_by_a_steady_current(decay, threshold):
    generator = torch.Generator().manual_seed(3)
    current = threshold * torch.randn(7, 50, generator=generator, dtype=torch.float64)
    spikes, membrane = lif_forward(current, decay, threshold)
    assert 0.05 < spikes.mean() < 0.6
    found = eligibility(membrane, spikes, decay, threshold)
    np.testing.assert_allclose(
        found.numpy(), eligibility_reference(current.numpy(), decay, threshold), rtol=1e-9
    )
    shift = torch.zeros(50, dtype=torch.float64, requires_grad=True)
    LIF(decay, threshold)(current + shift).mean(0).sum().backward()
    torch.testing.assert_close(found, shift.grad)


def test_rate_works_under_autocast():
    student = conv().train()
    install_gradient(student, "rate", {})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        student(images(dtype=torch.float32)).logits.float().mean(0).square().sum().backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_backends_name_what_they_can_t_go_through():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), LIF(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(144, 10))
    with pytest.raises(InputError, match="'rate' can't go through 2, a dropout"):
        install_gradient(SpikingStudent(layers, TASK, 4, ["1"]), "rate", {})
    with pytest.raises(InputError, match="the model has its own forward"):
        install_gradient(nn.Linear(2, 2), "rate", {})
    with pytest.raises(InputError, match="there is no gradient 'rat'; did you mean 'rate'"):
        install_gradient(conv(), "rat", {})
    install_gradient(nn.Linear(2, 2), "bptt", {})
    assert GRADIENTS.names() == ["bptt", "dsr", "rate"]
    assert [GRADIENTS.load(name).reset for name in GRADIENTS.names()] == ["hard", "soft", "hard"]


def dsr_reference(current, gradient, threshold, share):
    """Spikes and both gradients, neuron by neuron."""
    emitted, by_current, by_threshold = np.zeros_like(current), np.zeros_like(current), 0.0
    steps = len(current)
    for n in range(current.shape[1]):
        u = 0.0
        for t in range(steps):
            u += current[t, n]
            emitted[t, n] = threshold if u >= share * threshold else 0
            u -= emitted[t, n]
        rate, arriving = current[:, n].mean(), gradient[:, n].sum()
        if 0 <= rate <= threshold:
            by_current[:, n] = arriving / steps
        elif rate > threshold:
            by_threshold += arriving
    return emitted, by_current, by_threshold


@pytest.mark.parametrize(("threshold", "share"), [(6.0, 0.5), (1.0, 1.0), (0.8, 0.3)])
def test_dsr_equals_the_published_formula_and_spikingjelly(threshold, share):
    generator = torch.Generator().manual_seed(4)
    current = 2 * torch.randn(9, 80, generator=generator, dtype=torch.float64) + 0.3 * threshold
    current[:, ::7] += threshold
    gradient = torch.randn(9, 80, generator=generator, dtype=torch.float64)
    expected = dsr_reference(current.numpy(), gradient.numpy(), threshold, share)
    neuron = SoftResetIF(threshold, share).double()
    theirs = DSRIFNode(9, threshold, share).double()
    with torch.no_grad():  # their 0.8 is a float32's
        theirs.v_threshold.copy_(torch.tensor(threshold, dtype=torch.float64))
        neuron.threshold.copy_(torch.tensor(threshold, dtype=torch.float64))
    for module, precision in ((neuron, 1e-9), (theirs, 1e-5)):  # theirs goes through float32
        leaf = current.clone().requires_grad_()
        emitted = module(leaf)
        emitted.backward(gradient)
        np.testing.assert_allclose(emitted.detach().numpy(), expected[0], rtol=precision)
        np.testing.assert_allclose(leaf.grad.numpy(), expected[1], rtol=precision, atol=precision)
        assert next(module.parameters()).grad.item() == pytest.approx(expected[2], rel=precision)
    assert 0.05 < (expected[0] > 0).mean() < 0.9
    assert expected[2] != 0


def test_dsr_keeps_its_threshold_above_the_bound():
    neuron = SoftResetIF(1.0, 0.5, lower_bound=0.25)
    for used in (neuron.eval(), neuron.train()):
        with torch.no_grad():
            neuron.threshold.fill_(-3)
        emitted = used(torch.ones(2, 3))
        assert neuron.threshold.item() == 0.25 and set(emitted.unique().tolist()) == {0.25}


def soft_reset_student(build):
    student = build(6)
    install_gradient(student, "dsr", {"threshold": 1.5, "firing_share": 0.75})
    with_statistics(student, images(dtype=torch.float32))
    with torch.no_grad():
        for index, parameter in enumerate(
            m.threshold for m in student.modules() if isinstance(m, SoftResetIF)
        ):
            parameter.fill_(1.25 + index / 4)
    return student.double().eval()


def run_nir(graph, inputs, timesteps):
    """What the Output shows at every step, and the IFs' spikes, of a NIR graph that resets by subtraction."""
    state, emitted, shown = {}, {}, []
    sources = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}

    def value(name):
        if name not in now:
            node = graph.nodes[name]
            x = sum(value(source) for source in sources[name]) if sources[name] else inputs
            now[name] = apply(name, node, x)
        return now[name]

    def apply(name, node, x):
        if isinstance(node, nir.Conv2d):
            weight, bias = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
            return F.conv2d(x, weight, bias, tuple(node.stride), tuple(node.padding))
        if isinstance(node, nir.Affine):
            return x @ torch.from_numpy(node.weight).T + torch.from_numpy(node.bias)
        if isinstance(node, nir.AvgPool2d):
            return F.avg_pool2d(x, tuple(node.kernel_size), tuple(node.stride))
        if isinstance(node, nir.Scale):
            return x * torch.from_numpy(node.scale)
        if isinstance(node, nir.Flatten):
            return x.flatten(1)
        if isinstance(node, nir.IF):
            v = state.get(name, 0) + 1e-4 * torch.from_numpy(node.r) * x
            spikes = (v >= torch.from_numpy(node.v_threshold)).double()
            state[name] = v - spikes * float(node.metadata["snnkd"]["subtract"])
            emitted[name] = emitted.get(name, 0) + spikes
            return spikes
        return x

    (output,) = (name for name, node in graph.nodes.items() if isinstance(node, nir.Output))
    for _ in range(timesteps):
        now = {}
        shown.append(value(output))
    return torch.stack(shown), emitted


@pytest.mark.parametrize("build", [conv, resnet])
def test_a_soft_reset_student_s_nir_is_the_student(build, tmp_path):
    student = soft_reset_student(build)
    write_nir(tmp_path / "student.nir", student_to_nir(student))
    graph = read_nir(tmp_path / "student.nir")
    inputs = images()
    with torch.no_grad():
        expected = student(inputs)
    shown, emitted = run_nir(graph, inputs, 6)
    torch.testing.assert_close(shown, expected.logits, rtol=1e-9, atol=1e-9)
    tap = student.tap.replace(".", "_")
    height = dict(student.named_modules())[f"layers.{student.tap}"].threshold.item()
    assert torch.equal(emitted[tap] * height, expected.features[student.tap].sum(0))
    assert 0 < float(emitted[tap].mean()) < 6


def test_a_soft_reset_student_is_refused_where_neurons_go_to_zero(tmp_path):
    student = soft_reset_student(conv)
    with pytest.raises(Refusal, match=r"neuron1 \(SoftResetIF\) takes its threshold away"):
        student_to_graph(student)
    assert len(deployability_problems(student)) == 3
    assert deployability_problems(student, soft_reset=True) == []
    student.layers.pool = nn.MaxPool2d(2)
    assert "MaxPool2d" in deployability_problems(student, soft_reset=True)[0]
    write_nir(tmp_path / "student.nir", student_to_nir(soft_reset_student(conv)))
    with pytest.raises(Refusal, match="reset by 'subtract'"):
        lower(read_nir(tmp_path / "student.nir"))


def test_soft_reset_keeps_what_a_hard_one_loses():
    current = torch.tensor([[1.5], [0.0], [0.0], [1.0]])
    emitted = soft_reset_forward(current, torch.tensor(1.0), 1.0)
    assert emitted.flatten().tolist() == [1, 0, 0, 1]
    assert soft_reset_forward(current, torch.tensor(1.0), 0.5).flatten().tolist() == [1, 1, 0, 1]
    assert lif_forward(current, 1.0, 1.0)[0].flatten().tolist() == [1, 0, 0, 0]
