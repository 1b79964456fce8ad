"""Quantisation-aware training: the module is the exported integer network, before and after training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from snnkd import Refusal
from snnkd.export.graph import Graph, Neuron
from snnkd.models.neurons import LIF
from snnkd.toolchain.quantization.aware import ChipNetwork
from snnkd.toolchain.quantization.fire import fire
from snnkd.toolchain.quantization.quantize import Quantized, quantize
from snnkd.toolchain.simulation.simulator import record

SAMPLES = 24


def quantized(graph: Graph, loihi2, bits: int, timesteps: int, inputs: np.ndarray) -> Quantized:
    return quantize(graph, loihi2, timesteps, bits, inputs)


def frames(graph: Graph, timesteps: int, static: bool) -> np.ndarray:
    port = graph.inputs[0]
    shape = (SAMPLES, *port.shape) if static else (SAMPLES, timesteps, *port.shape)
    return np.random.default_rng(0).integers(0, port.payload_max + 1, shape, np.uint8)


def batch(inputs: np.ndarray, graph: Graph) -> Tensor:
    """Samples as students take them: float32 images, or frames with time first."""
    shown = torch.from_numpy(inputs).float()
    return shown if inputs.ndim == len(graph.inputs[0].shape) + 1 else shown.transpose(0, 1)


def train(model: ChipNetwork, inputs: Tensor, steps: int = 4) -> None:
    """A few steps so large that many integers change."""
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (SAMPLES,))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.05)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs).logits.mean(0), labels).backward()
        optimizer.step()
    model.eval()
    model.project()


def differences(model: ChipNetwork, graph: Graph, inputs: np.ndarray) -> tuple[int, int]:
    """How many spikes and read-outs of the module and of the simulated graph differ, all of them compared."""
    recording = record(graph, inputs, graph.steps)
    shown, spikes, readouts = batch(inputs, graph), 0, 0
    with torch.no_grad():
        for population in graph.spiking:
            model.tap = population.name
            expected = recording.spikes[population.name]
            found = model(shown).features[population.name].transpose(0, 1).reshape(expected.shape)
            spikes += int((found.numpy() != expected).sum())
        logits = model(shown).logits.double().transpose(0, 1).numpy() * graph.readout_scale
    for population in graph.readouts:
        sums = recording.sums[population.name]
        if population.neuron is None:
            readouts += int((np.round(logits) != sums + population.bias).sum())
        else:
            readouts += int((np.round(logits[:, -1] * 64) != sums[:, -1]).sum())
    return spikes, readouts


def with_neurons(graph: Graph, current_decay: float, potentials: bool) -> Graph:
    """`graph` with a memory of its currents, and a read-out of sums or of potentials."""
    populations = [
        replace(p, neuron=replace(p.neuron, current_decay=current_decay)) if p.neuron else p
        for p in graph.populations
    ]
    if potentials:
        leaky = Neuron(0.875, np.full(1, np.inf), current_decay)
        populations[-1] = replace(populations[-1], neuron=leaky)
    return replace(graph, populations=tuple(populations))


CASES = [  # decay, current decay, T, read-out of potentials, static input, bits
    *((0.5, 0.0, 4, False, True, bits) for bits in (8, 4, 2, 1)),
    (0.5, 0.0, 7, False, False, 8),
    (0.9375, 0.0, 12, False, True, 4),
    (0.5, 0.25, 5, True, False, 2),
    (1.0, 0.0, 6, True, True, 1),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_module_is_the_exported_network(network, loihi2, case):
    decay, current_decay, timesteps, potentials, static, bits = case
    graph = with_neurons(network(5, decay, 16, 0.2, True), current_decay, potentials)
    inputs = frames(graph, timesteps, static)
    start = quantized(graph, loihi2, bits, timesteps, inputs)
    model = ChipNetwork(start, "b", check=True).eval()
    assert differences(model, model.integer_graph(), inputs) == (0, 0)
    before = [s.weight for _, s in model.integer_graph().paths()]
    train(model, batch(inputs, graph))
    tuned = start.with_integers(model.integer_graph())
    changed = [np.sum(a != s.weight) for a, (_, s) in zip(before, tuned.graph.paths(), strict=True)]
    assert sum(changed) > 5
    assert differences(model, tuned.graph, inputs) == (0, 0)
    spikes = record(tuned.graph, inputs, timesteps).spikes
    assert all(0 < fired.mean() < 1 for fired in spikes.values())
    assert all(layer.range == "proven" for layer in tuned.layers)


@pytest.mark.parametrize("bits", [8, 1])
def test_the_comparison_sees_one_changed_weight(network, loihi2, bits):
    graph = network(5, 0.5, 16, 0.2, True)
    inputs = frames(graph, 4, True)
    start = quantized(graph, loihi2, bits, 4, inputs)
    model = ChipNetwork(start, "b").eval()
    (path,) = start.graph["out"].synapses
    weight = path.weight.copy()
    fired = record(start.graph, inputs, 4).spikes["c"].sum(axis=(0, 1))
    weight[0, fired.argmax()] += start.layers[-1].weight_step * (1 if bits > 1 else -np.sign(weight[0, 0]))
    changed = replace(start.graph["out"], synapses=(replace(path, weight=weight),))
    wrong = replace(start.graph, populations=(*start.graph.populations[:-1], changed))
    spikes, readouts = differences(model, wrong, inputs)
    assert (spikes, readouts) == (0, fired.max())


def test_the_start_is_what_post_training_quantisation_gave(network, loihi2):
    graph = network(2, 0.5, 255, 0.2, False)
    inputs = frames(graph, 4, True)
    for bits in (8, 4, 2, 1):
        start = quantized(graph, loihi2, bits, 4, inputs)
        after = ChipNetwork(start, "b").integer_graph()
        for one, other in zip(start.graph.populations, after.populations, strict=True):
            assert np.array_equal(
                np.broadcast_to(one.bias, one.shape), np.broadcast_to(other.bias, one.shape)
            )
            assert all(
                np.array_equal(a.weight, b.weight) for a, b in zip(one.synapses, other.synapses, strict=True)
            )


class Surrogate(torch.autograd.Function):
    """A step whose gradient is the triangle around the threshold; autograd does the rest."""

    @staticmethod
    def forward(ctx, membrane, threshold):
        ctx.save_for_backward(membrane, threshold)
        return (membrane > threshold).float()

    @staticmethod
    def backward(ctx, *grads):
        membrane, threshold = ctx.saved_tensors
        return grads[0] * torch.relu(1 - (membrane - threshold).abs() / threshold) / threshold, None


def unrolled(sums: Tensor, bias: Tensor, threshold: Tensor, neuron: Neuron) -> Tensor:
    """The neuron written out step by step for autograd; a read-out's potentials."""
    current, state, shown = torch.zeros_like(sums[0]), torch.zeros_like(sums[0]), []
    for arriving in sums:
        current = neuron.current_decay * current + arriving
        state = neuron.decay * state + current + bias
        if neuron.spikes:
            spikes = Surrogate.apply(state, threshold)
            assert isinstance(spikes, Tensor)
            shown.append(spikes)
            state = state * (1 - spikes.detach())
        else:
            shown.append(state)
    return torch.stack(shown)


@pytest.mark.parametrize("current_decay", [0.0, 0.5])
@pytest.mark.parametrize("spiking", [True, False])
def test_the_gradient_is_that_of_the_neuron_written_out(current_decay, spiking):
    generator = torch.Generator().manual_seed(0)
    threshold = torch.tensor([100.0, 300.0, 20.0])[:, None, None]
    neuron = Neuron(0.5, threshold.numpy() if spiking else np.full(1, np.inf), current_decay)
    wanted = torch.randn(5, 2, 3, 4, 4, generator=generator)
    gradients = []
    for run in (fire, unrolled):
        generator.manual_seed(1)
        sums = torch.randint(-150, 200, wanted.shape, generator=generator).float().requires_grad_()
        bias = torch.randint(-9, 30, (3, 1, 1), generator=generator).float().requires_grad_()
        shown = run(sums, bias, threshold if spiking else torch.tensor(torch.inf), neuron)
        (shown * wanted).sum().backward()
        gradients.append((shown.detach(), sums.grad, bias.grad))
    for ours, theirs in zip(*gradients, strict=True):
        assert ours is not None
        assert theirs is not None
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs)


def test_the_gradient_is_the_students_own_in_units_of_the_threshold():
    """One neuron in two units: current x with threshold 1, and 64·x with threshold 64."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randint(-100, 150, (4, 6, 3, 2, 2), generator=generator).float()
    wanted = torch.randn(whole.shape, generator=generator)
    currents = (whole / 64).requires_grad_()
    (LIF()(currents) * wanted).sum().backward()
    sums = whole.clone().requires_grad_()
    neuron = Neuron(0.5, np.full((3, 1, 1), 64.0))
    (fire(sums, torch.zeros(3, 1, 1), torch.full((3, 1, 1), 64.0), neuron) * wanted).sum().backward()
    assert currents.grad is not None
    assert sums.grad is not None
    torch.testing.assert_close(64 * sums.grad, currents.grad)


def test_the_gradient_passes_rounding_as_a_product(layer, loihi2):
    graph = readout_of(layer([[0.7, -0.4], [0.2, 0.9]], payload=255))
    start = quantize(graph, loihi2, 4, 4)
    model = ChipNetwork(start, "n")
    logits = model(torch.tensor([[3.0, 200.0]])).logits
    logits[:, 0, 1].sum().backward()
    latent, bias = (model.get_parameter(f"layers.1.{name}").grad for name in ("latent.0", "bias"))
    step, scale = start.layers[1].weight_step, start.graph.readout_scale
    spikes = model(torch.tensor([[3.0, 200.0]])).features["n"]
    assert spikes.shape == (4, 1, 2, 1, 1)  # a map of one place, as dense students and teachers give
    fired = spikes.sum(0).flatten()
    assert latent is not None
    assert bias is not None
    torch.testing.assert_close(latent[1], fired * step * 7 / scale)
    assert latent[0].tolist() == [0, 0]
    assert bias.tolist() == [0, 4]


def readout_of(graph: Graph) -> Graph:
    """`graph`, a dense population "n" of two, with a read-out of two classes."""
    (population,) = graph.populations
    path = replace(population.synapses[0], source="n", weight=np.array([[1.0, -0.5], [0.3, 0.8]]))
    path = replace(path, source_shape=(2,), shape=(2,))
    readout = replace(population, name="out", synapses=(path,), bias=np.zeros(2), neuron=None, depth=2)
    return replace(graph, populations=(population, readout))


def test_a_channel_that_leaves_its_range_is_brought_back(layer, loihi2):
    weights = np.array([[0.2, -0.2] * 60, [0.01, -0.01] * 60])
    start = quantize(readout_of(layer(weights, payload=16)), loihi2, 4, 8)
    model = ChipNetwork(start, "n").eval()
    latent = model.get_parameter("layers.0.latent.0")
    with torch.no_grad():
        latent[0] = 1.0
    with pytest.raises(Refusal, match=r"n: channel 0 takes 3\.7.* times the target's accumulator range"):
        start.with_integers(model.integer_graph())
    other = latent[1].clone()
    model.project()
    assert torch.equal(latent[1], other)
    assert 0.9 < start.with_integers(model.integer_graph()).layers[0].accumulator_share <= 1


def test_single_bits_that_leave_their_range_are_refused(layer, loihi2):
    """So many pixels that even ±2 stays within the range only while the signs are mixed."""
    weights = np.array([[0.01, -0.01] * 75] * 2)
    start = quantize(readout_of(layer(weights, payload=255)), loihi2, 4, 1)
    model = ChipNetwork(start, "n").eval()
    model.project()
    with torch.no_grad():
        model.get_parameter("layers.0.latent.0").fill_(-1.0)
    with pytest.raises(
        Refusal, match=r"n: channel 0 has .* 1-bit weights can't be made smaller; take more bits"
    ):
        model.project()


def test_single_bits_hold_their_range_whatever_their_signs(layer, loihi2):
    graph = readout_of(layer([[0.01, -0.01] * 4] * 2, payload=255))
    start = quantize(graph, loihi2, 4, 1)
    model = ChipNetwork(start, "n").eval()
    for sign in (1.0, -1.0):
        with torch.no_grad():
            model.get_parameter("layers.0.latent.0").fill_(sign)
        assert start.with_integers(model.integer_graph()).layers[0].accumulator == 255 * 32 * 8


def test_inputs_that_are_not_whole_are_noticed(network, loihi2):
    graph = network(5, 0.5, 16, 0.2, True)
    inputs = frames(graph, 4, True)
    model = ChipNetwork(quantized(graph, loihi2, 4, 4, inputs), "b", check=False)
    with pytest.raises(AssertionError, match="a: training left the integers"):
        model(batch(inputs, graph) + 0.5)
    model(batch(inputs, graph))
    model(batch(inputs, graph) + 0.5)  # after the first batch it trusts
    model.check = True
    with pytest.raises(AssertionError, match="a: training left the integers"):
        model(batch(inputs, graph) + 0.5)


def test_what_has_no_read_out_is_refused(layer, loihi2):
    with pytest.raises(Refusal, match="read-outs of one size"):
        ChipNetwork(quantize(layer([[1.0]]), loihi2, 4), "n")
