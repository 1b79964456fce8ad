"""The losses of the published methods against float64 NumPy transcriptions, gradients included."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from snnkd import InputError
from snnkd.models.contract import StudentOutput, TeacherOutput
from snnkd.toolchain.distillation.bkd import Generator, bkd_feature_loss, bkd_logits_loss
from snnkd.toolchain.distillation.joint import (
    Factors,
    Joint,
    JointNetworks,
    Outcome,
    SharedFactors,
    joint_loss,
)
from snnkd.toolchain.distillation.kd import KD
from snnkd.toolchain.distillation.kd_feature import KDFeature, kd_feature_loss
from snnkd.toolchain.distillation.lasnn import LaSNN, lasnn_loss
from snnkd.toolchain.distillation.method import Batch, Joined
from snnkd.toolchain.distillation.registry import build_method
from snnkd.toolchain.distillation.s2w import StrongToWeak
from snnkd.toolchain.distillation.temporal import Temporal, right_steps
from snnkd.toolchain.distillation.tssd import TSSD
from snnkd.toolchain.distillation.w2s import WeakToStrong

T, B, C_S, C, H, W, K = 4, 6, 5, 7, 3, 4, 10


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(p, q):
    return (p * (np.log(p) - np.log(q))).sum() / len(p)


def cross_entropies(logits, labels):
    return -np.log(softmax(logits)[np.arange(len(labels)), labels])


@pytest.fixture
def numbers():
    rng = np.random.default_rng(5)
    values = {
        "logits": 2 * rng.normal(size=(T, B, K)),
        "more": 2 * rng.normal(size=(T, B, K)),
        "teacher": 3 * rng.normal(size=(B, K)),
        "spikes": (rng.random((T, B, C_S, H, W)) < 0.3).astype(float),
        "early": (rng.random((T, B, C_S, 2 * H, W)) < 0.3).astype(float),
        "features": rng.normal(size=(B, C, H, W)).clip(0),
        "early_features": rng.normal(size=(B, C, 2 * H, W)).clip(0),
        "labels": rng.integers(0, K, B),
    }
    values["logits"][1, :3, :] += (
        6 * np.eye(K)[values["labels"][:3]]
    )  # steps that are right, for three samples
    return values


def as_batch(n, helpers=None, logits=None):
    t = {name: torch.from_numpy(np.asarray(value)) for name, value in n.items()}
    logits = t["logits"] if logits is None else logits
    own = StudentOutput(logits, {"early": t["early"], "late": t["spikes"]})
    longer = StudentOutput(torch.cat([logits, t["more"]]), {})
    taught = TeacherOutput(t["teacher"], {"a": t["early_features"], "b": t["features"]})
    taps = {"student_taps": ("early", "late"), "teacher_taps": ("a", "b")}
    return Batch(t["labels"], own, "late", taught, "b", None, longer=longer, helpers=helpers, **taps)


def total(method, batch):
    return torch.stack(list(method.losses(batch).values())).sum()


def test_kd_feature_is_the_mean_square_behind_its_map(numbers):
    helpers = nn.Conv2d(C_S, C, 1).double()
    weight, bias = (p.detach().numpy() for p in (helpers.weight[:, :, 0, 0], helpers.bias))
    mapped = np.einsum("oc,bchw->bohw", weight, numbers["spikes"].mean(0)) + bias[:, None, None]
    expected = 3 * ((mapped - numbers["features"]) ** 2).mean()
    assert total(KDFeature(3.0), as_batch(numbers, helpers)).item() == pytest.approx(expected, rel=1e-6)
    assert torch.autograd.gradcheck(
        lambda m: kd_feature_loss(m, torch.from_numpy(numbers["features"])),
        torch.from_numpy(mapped).requires_grad_(),
    )


def test_bkd_weighs_soft_targets_by_what_the_student_lacks(numbers):
    z, taught, labels = numbers["logits"].mean(0), numbers["teacher"], numbers["labels"]
    factor = 1 - np.exp(-cross_entropies(z, labels) / (cross_entropies(taught, labels) + 1e-7))
    expected = 4 * (factor * -(softmax(taught / 2) * np.log(softmax(z / 2))).sum(1)).mean()
    own, teacher, wanted = (torch.from_numpy(np.asarray(v)) for v in (z, taught, labels))
    assert float(bkd_logits_loss(own, teacher, wanted)) == pytest.approx(expected, rel=1e-6)
    leaf = own.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(bkd_logits_loss(leaf, teacher, wanted), leaf)
    by_hand = (
        2 * factor[:, None] * (softmax(z / 2) - softmax(taught / 2)) / B
    )  # the factor passes no gradient
    np.testing.assert_allclose(gradient.numpy(), by_hand, rtol=1e-6)


def test_bkd_restores_features_behind_a_mask_of_whole_channels(numbers):
    restored, taught = (torch.from_numpy(numbers[name]) for name in ("spikes", "spikes"))
    restored, taught = restored[0].requires_grad_(), taught[1]
    expected = ((restored.detach().numpy() - taught.numpy()) ** 2).sum() / B
    assert bkd_feature_loss(restored, taught).item() == pytest.approx(expected, rel=1e-6)
    assert torch.autograd.gradcheck(lambda r: bkd_feature_loss(r, taught), restored)
    seen = []
    generator = Generator(4, 4, drop=0.15)
    generator.restore = nn.Identity()
    for seed in range(200):
        torch.manual_seed(seed)
        kept = generator(torch.ones(2, 4, 3, 3)).flatten(2)
        assert torch.equal(kept, kept[..., :1].expand_as(kept))
        seen.append(float(kept.mean()))
    assert np.mean(seen) == pytest.approx(0.85, abs=0.03)
    assert Generator(4, 6, 0.1)(torch.rand(2, 4, 3, 3)).shape == (2, 6, 3, 3)


def test_lasnn_compares_where_each_stage_looks(numbers):
    expected = 0.0
    for own, taught in (("early", "early_features"), ("spikes", "features")):
        maps = [(f**2).sum(1).reshape(B, -1) for f in (numbers[own].mean(0), numbers[taught])]
        ours, theirs = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in maps)
        expected += np.linalg.norm(theirs - ours, axis=1).mean()
    assert float(total(LaSNN(1.0), as_batch(numbers))) == pytest.approx(expected, rel=1e-6)
    taught = [torch.from_numpy(numbers["features"])]
    leaf = torch.from_numpy(numbers["spikes"].mean(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: lasnn_loss([f], taught), leaf)


def test_a_silent_stage_passes_no_gradient_to_lasnn(numbers):
    silent = torch.zeros(B, C_S, H, W, dtype=torch.float64, requires_grad=True)
    loss = lasnn_loss([silent], [torch.from_numpy(numbers["features"])])
    (gradient,) = torch.autograd.grad(loss, silent)
    assert loss.item() == pytest.approx(1)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def temporal_reference(n):
    labels, logits = n["labels"], n["logits"]
    ensemble = np.zeros((B, K))
    for b in range(B):
        right = [logits[t, b] for t in range(T) if logits[t, b].argmax() == labels[b]]
        ensemble[b] = np.mean(right, axis=0) if right else 0
    loss = 0.0
    for z in logits:
        by_teacher, by_ensemble = (
            kl(softmax(target / 3), softmax(z / 3)) for target in (n["teacher"], ensemble)
        )
        loss += cross_entropies(z, labels).mean() + 0.2 * 9 * by_teacher + 0.5 * 9 * by_ensemble
    return loss / T, ensemble


def test_temporal_decouples_the_steps(numbers):
    expected, ensemble = temporal_reference(numbers)
    batch = as_batch(numbers)
    found = right_steps(batch.student.logits, batch.labels).numpy()
    np.testing.assert_allclose(found, ensemble, atol=1e-12)
    silent = np.all(ensemble == 0, axis=1)
    assert silent.any()
    assert not silent.all()
    assert float(total(Temporal(), batch)) == pytest.approx(expected, rel=1e-6)


def test_temporal_s_gradient_leaves_its_targets_alone(numbers):
    leaf = torch.from_numpy(numbers["logits"]).requires_grad_()
    (gradient,) = torch.autograd.grad(total(Temporal(), as_batch(numbers, logits=leaf)), leaf)
    _, ensemble = temporal_reference(numbers)
    for t in range(T):
        z = numbers["logits"][t]
        expected = softmax(z) - np.eye(K)[numbers["labels"]]
        for target, weight in ((numbers["teacher"], 0.2), (ensemble, 0.5)):
            expected = expected + weight * 3 * (softmax(z / 3) - softmax(target / 3))
        np.testing.assert_allclose(gradient[t].numpy(), expected / B / T, atol=1e-12)


@pytest.mark.parametrize("method", [StrongToWeak(), WeakToStrong()])
def test_the_surest_and_the_least_sure_step_teach_each_other(numbers, method):
    confidence = softmax(numbers["logits"]).max(2)
    strong, weak = (
        np.stack([numbers["logits"][t, b] for b, t in enumerate(steps)])
        for steps in (confidence.argmax(0), confidence.argmin(0))
    )
    teacher, pupil = (strong, weak) if isinstance(method, StrongToWeak) else (weak, strong)
    expected = 4 * kl(softmax(teacher / 2), softmax(pupil / 2))
    leaf = torch.from_numpy(numbers["logits"]).requires_grad_()
    loss = total(method, as_batch(numbers, logits=leaf))
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, leaf)
    steps = confidence.argmin(0) if isinstance(method, StrongToWeak) else confidence.argmax(0)
    for b in range(B):
        by_hand = np.zeros((T, K))
        by_hand[steps[b]] = 2 * (softmax(pupil[b] / 2) - softmax(teacher[b] / 2)) / B
        np.testing.assert_allclose(gradient[:, b].numpy(), by_hand, atol=1e-12)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(C_S, K).double()

    def forward(self, rates):
        return self.linear(rates.mean((2, 3)))


def test_tssd_learns_from_more_steps_and_teaches_its_middle(numbers):
    head = Head()
    weight, bias = (p.detach().numpy() for p in head.linear.parameters())
    own = numbers["logits"].mean(0)
    longer = np.concatenate([numbers["logits"], numbers["more"]]).mean(0)
    middle = numbers["early"].mean((0, 3, 4)) @ weight.T + bias
    temporal = kl(softmax(longer / 2), softmax(own / 2))
    spatial = kl(softmax(own / 2), softmax(middle / 2))
    losses = TSSD(0.5, 0.3).losses(as_batch(numbers, head))
    assert float(losses["tssd-temporal"]) == pytest.approx(0.5 * 4 * temporal, rel=1e-6)
    assert float(losses["tssd-spatial"]) == pytest.approx(0.3 * 4 * spatial, rel=1e-6)
    leaf = torch.from_numpy(numbers["logits"]).requires_grad_()
    (gradient,) = torch.autograd.grad(total(TSSD(0.5, 0.3), as_batch(numbers, head, leaf)), leaf)
    by_hand = 0.5 * 2 * (softmax(own / 2) - softmax(longer / 2)) / B / T  # neither target passes any
    np.testing.assert_allclose(gradient.numpy(), np.broadcast_to(by_hand, gradient.shape), atol=1e-12)


def joint_reference(ann, snn, labels, alpha, tau, beta):
    def soft(p, q):
        return -(softmax(p / tau) * np.log(softmax(q / tau))).sum(1).mean()

    loss = (1 - alpha) * sum(cross_entropies(z, labels).mean() for z in (*ann[0], *snn[0]))
    loss += alpha * tau**2 * sum(soft(ann[0][-1], z) for z in ann[0][:-1])
    loss += alpha * tau**2 * sum(soft(a, s) for a, s in zip(ann[0], snn[0], strict=True))
    for a, s in zip(ann[1], snn[1], strict=True):
        loss += beta * sum((y - x) ** 2 for x, y in zip(a.ravel(), s.ravel(), strict=True) if x > 0 or y > 0)
    return loss


def test_joint_equals_its_formula():
    rng = np.random.default_rng(2)
    ann, snn = (
        ([2 * rng.normal(size=(B, K)) for _ in range(3)], [rng.normal(size=(B, C)) for _ in range(3)])
        for _ in range(2)
    )
    labels = rng.integers(0, K, B)
    expected = joint_reference(ann, snn, labels, 0.3, 3.0, 0.01)
    outcomes = [Outcome(*([torch.from_numpy(v) for v in part] for part in side)) for side in (ann, snn)]
    losses = joint_loss(*outcomes, torch.from_numpy(labels), 0.3, 3.0, 0.01)
    assert float(torch.stack(list(losses.values())).sum()) == pytest.approx(expected, rel=1e-6)


def test_joint_s_gradient_by_the_student_equals_finite_differences():
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(2, 3, B, n, generator=generator, dtype=torch.float64) for n in (K, C)]
    labels = torch.randint(0, K, (B,), generator=generator)

    def loss(logits, features):
        outcomes = [Outcome(list(z), list(f)) for z, f in ((values[0][0], values[1][0]), (logits, features))]
        return torch.stack(list(joint_loss(*outcomes, labels, beta=0.1).values())).sum()

    assert torch.autograd.gradcheck(loss, (values[0][1].requires_grad_(), values[1][1].requires_grad_()))


def test_joint_s_modes_share_the_singular_vectors_and_nothing_else():
    conv, twin = nn.Conv2d(3, 5, 3, bias=False).double(), nn.Conv2d(3, 5, 3, bias=False).double()
    before = conv.weight.detach().clone()
    nn.utils.parametrize.register_parametrization(conv, "weight", Factors())
    own = conv.parametrizations.weight
    nn.utils.parametrize.register_parametrization(twin, "weight", SharedFactors(own))
    torch.testing.assert_close(conv.weight, before)
    torch.testing.assert_close(twin.weight, before)
    assert [name for name, _ in twin.named_parameters()] == ["parametrizations.weight.original"]
    assert twin.parametrizations.weight.original.shape == (3, 3, 3)
    with torch.no_grad():
        twin.parametrizations.weight.original[1, 2, 0] *= 2
        expected = before.numpy().copy()
        left, scale, right = np.linalg.svd(expected[:, :, 1, 2], full_matrices=False)
        expected[:, :, 1, 2] = left @ np.diag(scale * [2, 1, 1]) @ right
    np.testing.assert_allclose(twin.weight.detach().numpy(), expected, atol=1e-12)
    torch.testing.assert_close(conv.weight, before)


def test_joined_methods_find_their_own_helpers(numbers):
    joined = build_method("kd+kd-feature", {"kd-feature": {"weight": 2.0}})
    helpers = nn.ModuleDict({"1": nn.Conv2d(C_S, C, 1).double()})
    alone = KDFeature(2.0).losses(as_batch(numbers, helpers["1"]))
    together = joined.losses(as_batch(numbers, helpers))
    assert list(together) == ["kd", "kd-feature"]
    assert torch.equal(together["kd-feature"], alone["kd-feature"])
    assert torch.equal(together["kd"], KD().losses(as_batch(numbers))["kd"])


def test_what_a_network_of_integers_can_learn_from():
    joined = build_method("kd+tssd+joint", {})
    assert isinstance(joined, Joined)
    assert joined.for_finetuning() == Joined((KD(),))
    assert Joint().for_finetuning() is None
    assert build_method("kd", {}).for_finetuning() == KD()


def test_methods_say_what_a_student_lacks():
    class Short(nn.Module):
        timesteps, taps = 1, ("only",)

    for name, reason in (("s2w", "has one; set timesteps"), ("w2s", "has one"), ("tssd", "one stage")):
        with pytest.raises(InputError, match=reason):
            build_method(name, {}).check(Short(), None)
    with pytest.raises(InputError, match="'joint' puts a branch"):
        Joint().check(Short(), None)
    with pytest.raises(InputError, match="stage is 2, and the student has 1 stages"):
        build_method("kd+samd", {"samd": {"stage": 2}}).check(Short(), None)


def test_two_methods_with_the_cross_entropy_are_not_joined():
    with pytest.raises(InputError, match="Joint and Temporal each hold the cross-entropy themselves"):
        build_method("joint+kd+temporal", {})


def test_no_loss_is_lost_where_two_have_one_name(numbers):
    with pytest.raises(InputError, match="call a loss 'kd'"):
        Joined((KD(), KD())).losses(as_batch(numbers))


def test_every_method_s_hyper_parameters_are_validated():
    from pydantic import ValidationError

    from snnkd.toolchain.distillation.registry import METHODS

    for name in METHODS.names():
        method = build_method(name, {})
        assert dataclasses.is_dataclass(method)
        with pytest.raises(ValidationError):
            build_method(name, {name: {"not_a_parameter": 1}})
        with pytest.raises(dataclasses.FrozenInstanceError):
            method.anything = 1


def test_joint_s_networks_are_the_student_in_both_modes(tmp_path):
    """At σ as it begins, the ANN's convolutions are the student's."""
    from snnkd.models.contract import TaskShape
    from snnkd.models.resnet import ResNetOptions, ResNetStudent

    options = ResNetOptions(blocks=(1, 1, 1), widths=(4, 8, 8))
    student = ResNetStudent(TaskShape((3, 8, 8), 255, 10), 3, options)
    names = list(student.state_dict())
    networks = JointNetworks(student)
    assert len(networks.branches) == 2
    for name, module in student.layers.named_modules():
        if isinstance(module, nn.Conv2d):
            torch.testing.assert_close(networks.ann.layers.get_submodule(name).weight, module.weight)
    outcome = networks.run_ann(torch.randint(0, 256, (4, 3, 8, 8)).float())
    assert [tuple(z.shape) for z in outcome.logits] == [(4, 10)] * 3
    assert [tuple(f.shape) for f in outcome.features] == [(4, 8)] * 3
    shared = {id(p) for p in student.parameters()} & {id(p) for p in networks.parameters()}
    assert not shared
    Joint().finish(student)
    assert list(student.state_dict()) == names
