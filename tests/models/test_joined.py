"""BatchNorm, sum and neurons run as one, against the same layers run one after the other."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snnkd.models import fused, joined, loops
from snnkd.models.compiling import compile_neurons
from snnkd.models.contract import TaskShape
from snnkd.models.gradients.backend import install_gradient
from snnkd.models.neurons import LIF, Gate
from snnkd.models.resnet import ResNetOptions, ResNetStudent
from snnkd.models.sew import SEWOptions, SEWStudent
from snnkd.models.unrolled import SpikingStudent, trace

TASK = TaskShape((3, 8, 8), 255, 10)


@pytest.fixture
def as_python(monkeypatch):
    """Loops that aren't compiled."""
    monkeypatch.setattr(fused, "_compiled", lambda loop, *variant: loop)


@pytest.fixture
def runs(monkeypatch):
    """What layers were run on as one; compiling runs some too."""
    seen = []
    found = fused.Normalised.moments

    def noted(self, *arguments):
        seen.append(self)
        return found(self, *arguments)

    monkeypatch.setattr(fused.Normalised, "moments", noted)
    return seen


def resnet(timesteps=4):
    options = ResNetOptions(blocks=(1, 2), widths=(6, 8))
    return ResNetStudent(TASK, timesteps, options, decay=0.75, threshold=0.6)


def sew(timesteps=4):
    options = SEWOptions(blocks=(1, 2), widths=(6, 8), connect="iand")
    return SEWStudent(TASK, timesteps, options, threshold=0.5)


def pair(build=resnet, dtype=torch.float64, gradient="bptt", change=lambda norm: None):
    """A student in training, nothing of it joined, and the same one compiled."""
    torch.manual_seed(0)
    plain = build().to(dtype).train()
    for name, layer in list(plain.layers.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            with torch.no_grad():
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(std=0.2)
            replaced = change(layer)
            if replaced is not None:
                plain.layers.set_submodule(name, replaced.to(dtype))
    plain.retrace()
    own = copy.deepcopy(plain)
    plain._calls = trace(plain.layers)
    for student in (plain, own):
        install_gradient(student, gradient, {})
    compile_neurons(own, 4)
    return plain, own


def images(dtype=torch.float64, frames=0):
    shape = (frames, 8, 3, 8, 8) if frames else (8, 3, 8, 8)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def step(student, inputs):
    """Everything that a training step finds."""
    student.zero_grad()
    output = student(inputs)
    weights = torch.linspace(0.5, 1.5, len(output.logits), dtype=output.logits.dtype)[:, None, None]
    loss = F.cross_entropy((weights * output.logits).mean(0), torch.arange(8) % 10)
    loss = loss + sum(spikes[::2].mean() for spikes in output.features.values())
    loss.backward()
    gradients = {name: p.grad for name, p in student.named_parameters() if p.requires_grad}
    return {"loss": loss.detach(), **gradients, **dict(student.named_buffers()), **output.features}


def agree(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, msg=lambda text, name=name: f"{name}: {text}", **tolerance
        )


def momentless(norm):
    norm.momentum = None


def bare(norm):
    return nn.BatchNorm2d(norm.num_features, affine=False)


def forgetful(norm):
    return nn.BatchNorm2d(norm.num_features, track_running_stats=False)


@pytest.mark.parametrize("gradient", ["bptt", "rate"])
@pytest.mark.parametrize("build", [resnet, sew])
@pytest.mark.parametrize("frames", [0, 5])
def test_a_step_is_the_same_but_for_rounding(as_python, runs, gradient, build, frames):
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-3)):
        plain, own = pair(build, dtype, gradient)
        for _ in range(2):  # the running statistics move twice
            runs.clear()
            expected, found = step(plain, images(dtype, frames)), step(own, images(dtype, frames))
            assert len(runs) >= 5
            agree(found, expected, rtol=tolerance, atol=tolerance)
    assert all(value.abs().sum() > 0 for name, value in expected.items() if name.endswith("weight"))


@pytest.mark.parametrize("gradient", ["bptt", "rate"])
@pytest.mark.parametrize("change", [momentless, bare, forgetful])
def test_so_it_is_for_every_batchnorm(as_python, runs, gradient, change):
    plain, own = pair(gradient=gradient, change=change)
    runs.clear()
    for _ in range(2):
        agree(step(own, images()), step(plain, images()), rtol=1e-11, atol=1e-11)
    assert runs


def test_for_one_step_and_for_more_than_it_was_compiled_for(as_python, runs):
    for timesteps in (1, 7):
        plain, own = pair(lambda steps=timesteps: resnet(steps))
        runs.clear()
        agree(step(own, images()), step(plain, images()), rtol=1e-11, atol=1e-11)
    assert runs


@pytest.mark.parametrize("wrong", ["statistics", "decay"])
def test_a_wrong_pass_would_be_seen(as_python, monkeypatch, wrong):
    if wrong == "statistics":
        sums = loops.gradient_sums
        monkeypatch.setattr(loops, "gradient_sums", lambda *given: (0 * sums(*given)[0], sums(*given)[1]))
    else:
        by = loops.gradient_by_signals
        monkeypatch.setattr(
            loops, "gradient_by_signals", lambda *given: by(*given[:-2], given[-2] / 2, given[-1])
        )
    plain, own = pair()
    with pytest.raises(AssertionError, match="weight"):
        agree(step(own, images()), step(plain, images()), rtol=1e-6, atol=1e-9)


def test_statistics_far_from_zero(as_python):
    """The mean is ten thousand times the deviation."""
    x = 1e4 + torch.randn(4, 8, 36, 5, generator=torch.Generator().manual_seed(2))
    mean, variance, *_ = loops.moments(x, None, None, 0.0)
    torch.testing.assert_close(mean.double(), x.double().mean((0, 1, 2)), rtol=1e-6, atol=0)
    torch.testing.assert_close(variance.double(), x.double().var((0, 1, 2), correction=0), rtol=1e-4, atol=0)


def test_outside_training_nothing_changes(monkeypatch, as_python, runs):
    plain, own = pair(dtype=torch.float32)
    runs.clear()
    for student in (plain, own):
        with torch.no_grad():
            student(images(torch.float32))
    expected, found = (student.eval()(images(torch.float32)) for student in (plain, own))
    assert torch.equal(found.logits, expected.logits) and not runs
    for name, spikes in expected.features.items():
        assert torch.equal(found.features[name], spikes) and spikes.any()


def in_another_order(student):
    student.channels_last = False


def watched(student):
    for module in student.layers.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *given: None)


def replaced(student):
    for module in student.layers.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = type(module).forward.__get__(module)


def frozen(student):
    for module in student.layers.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@pytest.mark.parametrize("gradient", ["bptt", "rate"])
@pytest.mark.parametrize("change", [in_another_order, watched, replaced, frozen])
def test_what_does_not_fit_is_run_layer_after_layer(as_python, runs, gradient, change):
    plain, own = pair(gradient=gradient)
    runs.clear()
    for student in (plain, own):
        change(student)
    agree(step(own, images()), step(plain, images()), rtol=1e-11, atol=1e-11)
    assert not runs and own.joins


def usual():
    return ResNetStudent(TASK, 4, ResNetOptions(blocks=(1, 1), widths=(6, 8)))


@pytest.mark.parametrize("gradient", ["bptt", "rate"])
def test_half_precision_is_left_as_it_is(as_python, runs, gradient):
    plain, own = pair(usual, torch.float32, gradient)
    runs.clear()
    found = []
    for student in (plain, own):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(student(images(torch.float32)).logits)
        found[-1].float().mean(0).square().sum().backward()
    assert torch.equal(*found) and not runs
    assert all(p.grad is not None for p in own.parameters())


def test_one_value_for_a_channel_is_refused_as_by_batchnorm(as_python):
    layers = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (192, 1, 1)), nn.BatchNorm2d(192), LIF())
    student = SpikingStudent(layers, TASK, 1, ["3"]).train()
    compile_neurons(student, 1)
    assert student.joins
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        student(torch.zeros(1, 3, 8, 8))


class Branches(nn.Module):
    """BatchNorm whose result goes two ways, and one behind which a tap lies."""

    def __init__(self):
        super().__init__()
        self.norm, self.lif = nn.BatchNorm2d(3), LIF()
        self.tapped, self.again = nn.BatchNorm2d(3), LIF()
        self.twice, self.last = nn.BatchNorm2d(3), LIF()

    def forward(self, x):
        x = self.norm(x)
        spikes = self.again(self.tapped(self.lif(x) + x))
        doubled = self.twice(spikes)
        return self.last(doubled + doubled)


def test_what_is_used_elsewhere_stays():
    assert not SpikingStudent(Branches(), TASK, 2, ["tapped", "lif"]).joins
    student = SpikingStudent(Branches(), TASK, 2, ["lif"])
    joins = [node for node in student._calls.nodes if joined.NORM in node.meta]
    assert [(node.target, node.meta[joined.NORM]) for node in joins] == [("again", "tapped")]


class Unusual(nn.Module):
    """BatchNorm beside its own input, layers called by keyword, sums of three and with a number."""

    def __init__(self):
        super().__init__()
        self.first, self.lif = nn.Conv2d(3, 6, 3, padding=1, bias=False), LIF()
        self.second, self.third = (nn.Conv2d(6, 6, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(5))
        self.again, self.more, self.named, self.last = LIF(), LIF(), LIF(), Gate()
        self.out = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))

    def forward(self, x):
        x = self.lif(self.norms[0](self.first(x)))
        x = self.second(x)
        x = self.third(self.again(self.norms[1](x) + x))
        x = self.more(x + self.norms[2](x) + x)
        x = self.named(current=self.norms[3](input=x))
        return self.out(self.last(self.norms[4](x) + 0.5))


def unusual():
    return SpikingStudent(Unusual(), TASK, 4, ["lif", "more"], channels_last=True)


@pytest.mark.parametrize("gradient", ["bptt", "rate"])
@pytest.mark.parametrize("build", [resnet, sew, unusual])
@pytest.mark.parametrize("frames", [0, 5])
def test_what_is_overwritten_changes_nothing(monkeypatch, gradient, build, frames):
    """Uncompiled, to the bit."""
    torch.manual_seed(0)
    own = build().train()
    install_gradient(own, gradient, {})
    plain = copy.deepcopy(own)
    plain._calls = trace(plain.layers)
    overwritten = []
    overwriting = LIF.overwriting
    monkeypatch.setattr(LIF, "overwriting", lambda *given: overwritten.append(1) or overwriting(*given))
    expected = step(plain, images(torch.float32, frames))
    assert not overwritten
    found = step(own, images(torch.float32, frames))
    assert bool(overwritten) == (gradient == "bptt")
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    for student in (own, plain):
        student.eval()
    with torch.no_grad():
        shown = own(images(torch.float32, frames)), plain(images(torch.float32, frames))
    assert torch.equal(shown[0].logits, shown[1].logits) and overwritten


def test_a_sum_with_its_own_input_is_compiled_too(as_python, runs):
    plain, own = pair(unusual)
    runs.clear()
    agree(step(own, images()), step(plain, images()), rtol=1e-11, atol=1e-11)
    assert runs


class Loud(LIF):
    """Neurons with a forward of their own."""

    def forward(self, current):
        return torch.ones_like(current)


def test_other_neurons_keep_their_forward():
    layers = nn.Sequential(nn.BatchNorm2d(3), Loud(), nn.BatchNorm2d(3), LIF())
    student = SpikingStudent(layers, TASK, 2, ["1"]).train()
    assert student(images(torch.float32, 2)).features["1"].min() == 1
    layers[3] = Loud()  # and those that come when the layers have been traced
    assert student(images(torch.float32, 2)).logits.min() == 1


def test_who_watches_all_layers_sees_what_they_made():
    student = resnet().train()
    seen = []
    handle = nn.modules.module.register_module_forward_hook(
        lambda layer, given, made: (
            seen.append((type(layer), made)) if "Norm" in type(layer).__name__ else None
        )
    )
    try:
        student(images(torch.float32))
    finally:
        handle.remove()
    norms = [made.mean().abs() for kind, made in seen if kind is nn.BatchNorm2d]
    assert len(norms) >= 5 and max(norms) < 1e-5


def test_a_student_can_be_exported_by_torch():
    student = resnet().eval()
    shown = images(torch.float32)
    with torch.no_grad():
        exported = torch.export.export(student, (shown,), strict=False).module()
        assert torch.equal(exported(shown).logits, student(shown).logits)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["bptt", "rate"])
def test_compiled_it_is_still_the_same(runs, gradient):
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-3)):
        plain, own = pair(dtype=dtype, gradient=gradient)
        runs.clear()
        for frames in (0, 5):
            expected, found = step(plain, images(dtype, frames)), step(own, images(dtype, frames))
            agree(found, expected, rtol=tolerance, atol=tolerance)
    assert runs
