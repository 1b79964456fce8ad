"""SAMD, NLD and KD against float64 NumPy transcriptions of their formulas, and at the edges."""

import numpy as np
import pytest
import torch
from torch import nn

from snnkd.models.contract import StudentOutput, TeacherOutput
from snnkd.toolchain.distillation.kd import kd_loss
from snnkd.toolchain.distillation.maps import grad_cam, map_agreement, teacher_map
from snnkd.toolchain.distillation.method import Batch
from snnkd.toolchain.distillation.nld import nld_loss
from snnkd.toolchain.distillation.samd import SAMD, map_loss, samd_loss

T, B, C_S, C, H, W, K = 4, 6, 5, 7, 3, 4, 10


@pytest.fixture
def tensors():
    rng = np.random.default_rng(3)
    return {
        "spikes": (rng.random((T, B, C_S, H, W)) < 0.3).astype(float),
        "features": rng.normal(size=(B, C, H, W)).clip(0),
        "weight": rng.normal(size=(K, C)),
        "teacher": 3 * rng.normal(size=(B, K)),
        "student": 2 * rng.normal(size=(B, K)),
        "noise": rng.normal(size=(B, K)),
        "labels": rng.integers(0, K, B),
    }


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def kl(p, q):
    return (p * (np.log(p) - np.log(q))).sum() / len(p)


def samd_reference(t, classes, variant):
    cam = np.zeros((B, H * W))
    for b in range(B):
        total = sum(t["weight"][classes[b], c] * t["features"][b, c] for c in range(C))
        cam[b] = np.maximum(total, 0).ravel()
    counts = t["spikes"].sum(axis=(0, 2)).reshape(B, -1)
    if variant == "paper":
        return 4 * kl(softmax(cam / 2), softmax(counts / 2))
    if variant == "released":
        scaled = [(m - m.min()) / ((m - m.min()).max() + 1e-3) for m in (cam, counts)]
        p, q = (softmax(m / 2) + 1e-10 for m in scaled)
        return kl(p, q)
    scaled = [
        (m - m.min(1, keepdims=True)) / np.ptp(m, axis=1, keepdims=True).clip(1e-300) for m in (cam, counts)
    ]
    return kl(*(softmax(m) for m in scaled))


def nld_reference(t, variant):
    z, n = t["student"], t["noise"]
    mean, spread = z.mean(1, keepdims=True), z.std(1, ddof=1, keepdims=True)
    target = softmax(t["teacher"] / 2)
    if variant == "released":
        q = 0.9 * softmax(z / 2) + 0.1 * softmax((mean + n * spread**2) / 2)
        return 4 * kl(target, q)
    shift = mean if variant == "paper" else 0
    return 4 * kl(target, softmax((z + 0.1 * (shift + spread * n)) / 2))


def as_tensors(t):
    return {name: torch.from_numpy(np.asarray(value)) for name, value in t.items()}


@pytest.mark.parametrize("variant", ["paper", "released", "normalized"])
@pytest.mark.parametrize("labelled", [True, False])
def test_samd_equals_its_formula(tensors, variant, labelled):
    t = as_tensors(tensors)
    classes = tensors["labels"] if labelled else tensors["teacher"].argmax(1)
    loss = samd_loss(
        t["spikes"], t["features"], t["weight"], t["teacher"], t["labels"] if labelled else None, variant
    )
    assert float(loss) == pytest.approx(samd_reference(tensors, classes, variant), rel=1e-6)


@pytest.mark.parametrize("variant", ["paper", "released", "normalized"])
def test_nld_equals_its_formula(tensors, variant):
    t = as_tensors(tensors)
    loss = nld_loss(t["student"], t["teacher"], t["noise"], variant)
    assert float(loss) == pytest.approx(nld_reference(tensors, variant), rel=1e-6)


def test_kd_equals_its_formula(tensors):
    t = as_tensors(tensors)
    expected = 9 * kl(softmax(tensors["teacher"] / 3), softmax(tensors["student"] / 3))
    assert float(kd_loss(t["student"], t["teacher"], 3.0)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("variant", ["paper", "released", "normalized"])
def test_gradients_equal_finite_differences(tensors, variant):
    """The noise statistics carry a gradient in `released` alone: there the derivative is the full one."""
    t = as_tensors(tensors)
    assert torch.autograd.gradcheck(
        lambda f: samd_loss(f, t["features"], t["weight"], t["teacher"], None, variant),
        (t["spikes"] + torch.rand_like(t["spikes"])).requires_grad_(),
    )
    if variant == "released":
        assert torch.autograd.gradcheck(
            lambda z: nld_loss(z, t["teacher"], t["noise"], variant), t["student"].requires_grad_()
        )


def test_detached_noise_statistics_pass_no_gradient(tensors):
    t = as_tensors(tensors)
    z = t["student"].requires_grad_()
    (gradient,) = torch.autograd.grad(nld_loss(z, t["teacher"], t["noise"], "normalized"), z)
    blurred = z.detach() + 0.1 * z.detach().std(1, keepdim=True) * t["noise"]
    expected = 2 * (torch.softmax(blurred / 2, 1) - torch.softmax(t["teacher"] / 2, 1)) / B
    torch.testing.assert_close(gradient, expected)


def a_teacher_s_end(t, size=(2 * H, 2 * W)):
    """An early stage's features (B, C, H', W'), the last stage's, and the logits, of a small network."""
    torch.manual_seed(1)
    early = torch.rand(B, 3, *size, dtype=torch.float64, requires_grad=True)
    late = nn.Conv2d(3, C, 3, stride=2, padding=1).double().requires_grad_(False)(early).relu()
    return early, late, late.mean((2, 3)) @ t["weight"].T


def test_an_early_stage_s_map_is_grad_cam(tensors):
    """Each channel weighted by what a small rise of all of its pixels does to the class's logit."""
    t = as_tensors(tensors)
    early, _, logits = a_teacher_s_end(t)
    found = grad_cam(early, logits, t["labels"])
    step, expected = 1e-6, np.zeros((B, 2 * H, 2 * W))
    torch.manual_seed(1)
    values = torch.rand(B, 3, 2 * H, 2 * W, dtype=torch.float64)
    network = nn.Conv2d(3, C, 3, stride=2, padding=1).double()

    def logit(x):
        return network(x).relu().mean((2, 3)) @ t["weight"].T

    for channel in range(3):
        risen = values.clone()
        risen[:, channel] += step
        slope = (logit(risen) - logit(values)).detach().numpy()[np.arange(B), tensors["labels"]] / step
        expected += slope[:, None, None] * values[:, channel].numpy()
    np.testing.assert_allclose(found.numpy(), expected.clip(0), rtol=1e-4, atol=1e-6)
    assert not found.requires_grad and float(found.max()) > 0


def test_behind_the_last_stage_grad_cam_is_the_class_activation_map(tensors):
    t = as_tensors(tensors)
    _, late, logits = a_teacher_s_end(t)
    torch.testing.assert_close(
        grad_cam(late, logits, t["labels"]), teacher_map(late, t["weight"], t["labels"]).detach()
    )


def test_a_stage_s_loss_is_that_of_its_maps(tensors):
    t = as_tensors(tensors)
    early, late, logits = a_teacher_s_end(t)
    spikes = t["spikes"].repeat_interleave(2, 3).repeat_interleave(2, 4)
    own = StudentOutput(torch.zeros(T, B, K), {"a": spikes, "b": t["spikes"]})
    batch = Batch(
        *(t["labels"], own, "b", TeacherOutput(logits, {"x": early, "y": late}), "y", t["weight"]),
        student_taps=("a", "b"),
        teacher_taps=("x", "y"),
    )
    of = {stage: SAMD(stage=stage).losses(batch)["samd"] for stage in (0, 1, 2)}
    expected = 5 * map_loss(spikes, grad_cam(early, logits, t["labels"]), "normalized")
    torch.testing.assert_close(of[1], expected)
    torch.testing.assert_close(of[2], of[0])
    assert float(of[1]) != pytest.approx(float(of[0]), rel=1e-3)


def test_a_silent_map_is_uniform_and_passes_no_gradient(tensors):
    t = as_tensors(tensors)
    silent = torch.zeros_like(t["spikes"]).requires_grad_()
    loss = samd_loss(silent, t["features"], t["weight"], t["teacher"])
    (gradient,) = torch.autograd.grad(loss, silent)
    assert torch.isfinite(loss)
    assert torch.equal(gradient, torch.zeros_like(gradient))
    both = samd_loss(silent, torch.zeros_like(t["features"]), t["weight"], t["teacher"])
    assert both.item() == pytest.approx(0, abs=1e-12)


def test_normalized_samd_sees_where_and_not_how_much(tensors):
    t = as_tensors(tensors)
    arguments = (t["features"], t["weight"], t["teacher"])
    once, thrice = (samd_loss(factor * t["spikes"], *arguments) for factor in (1, 3))
    assert float(once) == pytest.approx(float(thrice))


def test_unknown_variants_and_unequal_maps_are_refused(tensors):
    t = as_tensors(tensors)
    with pytest.raises(ValueError, match="unknown SAMD variant 'original'"):
        samd_loss(t["spikes"], t["features"], t["weight"], t["teacher"], variant="original")  # pyright: ignore
    with pytest.raises(ValueError, match="maps of one size"):
        samd_loss(t["spikes"][..., :2], t["features"], t["weight"], t["teacher"])
    with pytest.raises(ValueError, match="unknown NLD variant"):
        nld_loss(t["student"], t["teacher"], variant="original")  # pyright: ignore


def test_map_agreement_is_the_correlation_of_each_sample(tensors):
    rng = np.random.default_rng(0)
    a, b = rng.random((2, B, H, W))
    expected = [np.corrcoef(a[i].ravel(), b[i].ravel())[0, 1] for i in range(B)]
    torch.testing.assert_close(
        map_agreement(torch.from_numpy(a), torch.from_numpy(b)), torch.tensor(expected, dtype=torch.float64)
    )
    assert map_agreement(torch.zeros(2, H, W), torch.rand(2, H, W)).tolist() == [0, 0]
