"""Quantisation-aware training: the integer network as a torch module whose weights can be trained.

The forward pass is the chip's. Integer weights, biases and thresholds stand in float32, which adds integers
exactly; where potentials keep within their fraction bits (decay ½ and few steps) float32 is the chip's neuron
too, and elsewhere the neuron is run in the chip's registers. What `integer_graph` gives is the very network
that was trained.

Behind each weight stands a number r in [−1, 1], in units of the largest weight g·Q, and behind each bias one
in units of the threshold. The gradient passes rounding as if it weren't there (straight-through), and a spike
by the surrogate max(0, 1 − |v − k|/k)/k. Scales k and formats g are those that quantisation chose, and stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ... import Refusal
from ...export.graph import Graph, Population, Synapse
from ...models.contract import StudentOutput, TaskShape
from ..simulation.synapses import FLOAT32_EXACT, Emitted, Path, full_precision
from .fire import fire
from .probe import as_tensor, over_time, total
from .quantize import Quantized
from .scales import Format, Rules, along_channels

SHRINKING = 0.99
"""The weights of a channel that left its range are made smaller by so much at least, until it is back."""


class ChipNetwork(nn.Module):
    """A quantised network to be trained on; a `contract.Student` in all but its layers.

    Args:
        quantized: the network to start from, with its scales and formats.
        tap: the population whose spikes distillation looks at.
        check: assert at every forward pass, not only at the first, that all that should be is whole.
        others: populations whose spikes are features too, in their order before the tap.
        parts: of a feature that is no population, those whose spikes it adds.

    Raises:
        Refusal: the network has several inputs, or no read-out to train on.
    """

    def __init__(
        self,
        quantized: Quantized,
        tap: str,
        check: bool = False,
        others: Sequence[str] = (),
        parts: Mapping[str, Sequence[str]] | None = None,
    ):
        super().__init__()
        graph = quantized.graph
        if len(graph.inputs) != 1 or not graph.readouts or len({p.size for p in graph.readouts}) > 1:
            raise Refusal("only a network with one input, and read-outs of one size, can be fine-tuned")
        self.quantized, self.tap, self.timesteps = quantized, tap, graph.steps
        self.others, self.parts = tuple(others), dict(parts or {})
        self.check, self._unchecked = check, True
        self.layers = nn.ModuleList(_ChipLayer(quantized, p.name) for p in graph.populations)

    def forward(self, inputs: Tensor) -> StudentOutput:
        """Logits (T, B, K) and the tap's spikes for integer samples (B, …) or frames (T, B, …).

        The logits are those of every step, whose mean is what the host makes of a read-out's sums; of a
        read-out of potentials, the last one at every step.
        """
        (port,) = self.quantized.graph.inputs
        static = inputs.dim() == len(port.shape) + 1
        emitted = {port.name: inputs.unsqueeze(0) if static else inputs}
        logits = []
        with full_precision(), torch.autocast(inputs.device.type, enabled=False):
            for layer in self._layers():
                shown = layer(emitted, self.check or self._unchecked)
                if layer.rounded.is_readout:
                    logits.append(shown.flatten(2))
                else:
                    emitted[layer.rounded.name] = shown
        self._unchecked = False
        features = {
            tap: _as_maps(torch.stack([emitted[part] for part in self.parts.get(tap, (tap,))]).sum(dim=0))
            for tap in self.taps
            if set(self.parts.get(tap, (tap,))) <= emitted.keys()
        }
        return StudentOutput(torch.stack(logits).sum(dim=0), features)

    @property
    def taps(self) -> tuple[str, ...]:
        """The populations whose spikes are features."""
        return (*self.others, self.tap)

    @property
    def task(self) -> TaskShape:
        """What the network is for."""
        (port,), readouts = self.quantized.graph.inputs, self.quantized.graph.readouts
        return TaskShape(port.shape, port.payload_max, readouts[0].size)  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def project(self) -> None:
        """Shrink the weights and biases of channels that some input could drive out of their range.

        Raises:
            Refusal: a channel can't be brought back, its weights having no smaller value; it is named.
        """
        for layer in self._layers():
            layer.project()

    def integer_graph(self) -> Graph:
        """The integer network that the module is."""
        populations = tuple(layer.integers() for layer in self._layers())
        return replace(self.quantized.graph, populations=populations)

    def _layers(self) -> Iterator[_ChipLayer]:
        for layer in self.layers:
            assert isinstance(layer, _ChipLayer)
            yield layer


class _ChipLayer(nn.Module):
    """One population: latent weights and bias, and what the chip makes of them."""

    def __init__(self, quantized: Quantized, name: str):
        super().__init__()
        exact, self.rounded = quantized.floats[name], quantized.graph[name]
        self.rules: Rules = quantized.rules[name]
        self.readout_scale = quantized.graph.readout_scale
        self.timesteps = quantized.graph.steps
        scales = quantized.scales[name]
        self.largest_bias = np.inf if self.rounded.neuron is None else self.rules.constraints.bias_max
        self.latent = nn.ParameterList(
            _latent(before, after, scales, self.rules.form)
            for before, after in zip(exact.synapses, self.rounded.synapses, strict=True)
        )
        along = along_channels(scales, len(self.rounded.shape)).astype(np.float64)
        bias = np.broadcast_to(self.rounded.bias, np.broadcast_shapes(self.rounded.bias.shape, along.shape))
        self.bias = nn.Parameter(as_tensor(bias / along))
        self.scale: Tensor
        self.register_buffer("scale", as_tensor(along), persistent=False)

    def forward(self, emitted: Emitted, check: bool) -> Tensor:
        """Spikes, or a read-out's logits of every step, (T, B, *shape)."""
        if self.training:
            self._clamp()
        weights, bias = self._weights(), self._bias()
        paths = [Path(s, w) for s, w in zip(self.rounded.synapses, weights, strict=True)]
        sums = total([path.sums(emitted, self.timesteps) for path in paths])
        if check:
            self._check([*weights, bias, sums, *(emitted[s.source] for s in self.rounded.synapses)])
        neuron = self.rounded.neuron
        if neuron is None:
            return (over_time(sums, self.timesteps) + bias) / self.readout_scale
        if not self.rounded.is_readout:
            return fire(over_time(sums, self.timesteps), bias, self.scale, neuron)
        shown = fire(over_time(sums, self.timesteps), bias, torch.full_like(self.scale, torch.inf), neuron)
        return over_time(shown[-1:], self.timesteps) / self.readout_scale

    def integers(self) -> Population:
        """The population with the integers of now."""
        weights = [weight.detach().cpu().double().numpy() for weight in self._weights()]
        synapses = tuple(
            replace(s, weight=weight) for s, weight in zip(self.rounded.synapses, weights, strict=True)
        )
        return replace(self.rounded, synapses=synapses, bias=self._bias().detach().cpu().double().numpy())

    def project(self) -> None:
        """See `ChipNetwork.project`."""
        self._clamp()
        while (loads := self._loads(self.integers())).max() > 1:
            if self.rules.form.bits == 1:
                self._require_room()
            self._shrink(np.where(loads > 1, np.minimum(1 / loads, SHRINKING), 1.0))

    def _require_room(self) -> None:
        """See that no channel's single bits, which can't be made smaller, leave their range by themselves."""
        alone = self._loads(replace(self.integers(), bias=np.zeros(1)))
        if alone.max() > 1:
            raise Refusal(
                f"{self.rounded.name}: channel {int(alone.argmax())} has {alone.max():.4g} times its "
                "range, and 1-bit weights can't be made smaller; take more bits"
            )

    def _loads(self, integers: Population) -> np.ndarray:
        """The share of its range that each channel can use at most, (C,)."""
        return np.max(list(self.rules.loads_of(integers).values()), axis=0)

    def _shrink(self, factor: np.ndarray) -> None:
        for synapse, latent in zip(self.rounded.synapses, self.latent, strict=True):
            if synapse.kind != "identity":
                rows = np.repeat(factor, len(latent) // len(factor))
                latent.mul_(as_tensor(along_channels(rows, latent.dim())).to(latent))
        self.bias.mul_(as_tensor(along_channels(factor, self.bias.dim())).to(self.bias))

    @torch.no_grad()
    def _clamp(self) -> None:
        for synapse, latent in zip(self.rounded.synapses, self.latent, strict=True):
            if synapse.kind != "identity":
                latent.clamp_(-1, 1)
        limit = self.largest_bias / self.scale
        self.bias.copy_(torch.minimum(torch.maximum(self.bias, -limit), limit))

    def _weights(self) -> list[Tensor]:
        """The integer weights of every path, float32."""
        return [
            latent if synapse.kind == "identity" else _Rounded.apply(latent, self.rules.form)
            for synapse, latent in zip(self.rounded.synapses, self.latent, strict=True)
        ]  # pyright: ignore[reportReturnType]

    def _bias(self) -> Tensor:
        return _RoundedBias.apply(self.bias, self.scale, self.largest_bias)  # pyright: ignore[reportReturnType]

    def _check(self, numbers: list[Tensor]) -> None:
        for values in numbers:
            whole = bool((values == values.round()).all()) and bool((values.abs() < FLOAT32_EXACT).all())
            assert whole, f"{self.rounded.name}: training left the integers that float32 holds"


def _latent(before: Synapse, after: Synapse, scales: np.ndarray, form: Format) -> nn.Parameter:
    """What stands behind a path's weights; an identity skip's are the integers themselves, and stay."""
    if before.kind == "identity":
        return nn.Parameter(as_tensor(after.weight), requires_grad=False)
    rows = np.repeat(scales, len(before.weight) // len(scales))
    latent = before.weight * along_channels(rows, before.weight.ndim) / form.largest
    return nn.Parameter(as_tensor(np.clip(latent, -1, 1)))


def _as_maps(spikes: Tensor) -> Tensor:
    """Spikes (T, B, C, H, W); of a population without a map, (T, B, C), as a map of one place."""
    return spikes[..., None, None] if spikes.dim() == 3 else spikes


class _Rounded(torch.autograd.Function):
    """Latent weights in [−1, 1] to integers; the gradient passes as through a product with g·Q."""

    @staticmethod
    def forward(ctx, latent: Tensor, form: Format) -> Tensor:
        ctx.largest = form.largest
        if form.bits == 1:
            return torch.where(latent >= 0, float(form.step), -float(form.step))
        mantissa_max = form.largest / form.step
        return (latent * mantissa_max).round_().clamp_(-mantissa_max, mantissa_max).mul_(form.step)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return grad_outputs[0] * ctx.largest, None


class _RoundedBias(torch.autograd.Function):
    """Latent biases in units of the threshold to integers; the gradient passes as by a product with k."""

    @staticmethod
    def forward(ctx, latent: Tensor, scale: Tensor, largest: float) -> Tensor:
        ctx.save_for_backward(scale)
        return (latent * scale).round_().clamp_(-largest, largest)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (scale,) = ctx.saved_tensors
        return grad_outputs[0] * scale, None, None
