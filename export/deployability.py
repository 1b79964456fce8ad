"""Whether a student's layers can be lowered: asked before training, of the traced network, layer by layer."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from ..models.gradients.dsr import SoftResetIF
from ..models.neurons import LIF, Gate
from ..models.unrolled import trace
from ..models.xylo_neuron import XyloNeuron

SPIKES, POOLED, CURRENT = "spikes", "pooled spikes", "current"
"""What a layer may emit: spikes (or the input), averages of spikes, or what a neuron takes in."""

DECAY_UNIT = 4096
"""A chip's decay is a whole number of so many parts (Loihi, `loihi2/limits.py`)."""

LINEAR = (nn.Conv2d, nn.Linear)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
PASSING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
"""Layers that do nothing outside training."""

ADDITIONS = (operator.add, operator.iadd, torch.add)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool2d)


@dataclass(frozen=True)
class _Layer:
    """One layer in the traced network.

    Attributes:
        arriving: what reaches it; a sum may bring several kinds.
        before: the layer that alone feeds it and feeds nothing else, if there is one.
    """

    name: str
    module: Any
    arriving: frozenset[str]
    before: nn.Module | None

    def __str__(self) -> str:
        return f"{self.name} ({type(self.module).__name__})"


def problems(graph: fx.Graph, layers: nn.Module, soft_reset: bool = False) -> Iterator[str]:
    """What is wrong with the traced `graph` of `layers`, each problem with its way out, in their order.

    Args:
        soft_reset: let neurons with a soft reset pass, which NIR can hold and no chip.
    """
    checks = {**CHECKS, SoftResetIF: _takes_sums} if soft_reset else CHECKS
    emitted: dict[fx.Node, frozenset[str]] = {}
    emitters: dict[fx.Node, frozenset[fx.Node]] = {}
    for node in graph.nodes:
        arriving = frozenset[str]().union(*(emitted[source] for source in node.all_input_nodes))
        emitted[node] = arriving or frozenset({SPIKES})
        emitters[node] = _emitters(node, layers, emitters)
        if node.op == "call_module":
            layer = _Layer(node.target, layers.get_submodule(node.target), arriving, _before(node, layers))
            yield from checks.get(type(layer.module), _unknown)(layer)
            emitted[node] = _emits(layer)
        elif node.op == "output":
            yield from _end_problems(arriving, node.all_input_nodes[0], layers)
        elif node.op == "placeholder":
            if node.prev.op == "placeholder":
                yield f"{node.name} is a second input; let the layers take one"
        elif not _is_addition(node):
            called = getattr(node.target, "__name__", node.target)
            yield f"{node.name}: {called!r} can't be lowered; use layers of torch.nn, LIF, and + between them"
        elif emitters[node.args[0]] & emitters[node.args[1]]:
            yield f"{node.name}: the same signal is added to itself; double the weights before it"


def emitting_layers(layers: nn.Module, path: str) -> list[str]:
    """The layers whose signals, added, are what the layer at `path` gives: itself, or those it passes on.

    Raises:
        Refusal: the layers can't be traced.
    """
    emitters: dict[fx.Node, frozenset[fx.Node]] = {}
    for node in (graph := trace(layers)).nodes:
        emitters[node] = _emitters(node, layers, emitters)
    (tap,) = (node for node in graph.nodes if node.op == "call_module" and node.target == path)
    return [str(node.target) for node in graph.nodes if node in emitters[tap]]


def _emitters(
    node: fx.Node, layers: nn.Module, emitters: dict[fx.Node, frozenset[fx.Node]]
) -> frozenset[fx.Node]:
    """Whose signals are in what `node` gives: its own, or those that it passes on or adds."""
    passing = node.op == "call_module" and isinstance(layers.get_submodule(str(node.target)), PASSING)
    if passing or _is_addition(node):
        return frozenset[fx.Node]().union(*(emitters[source] for source in node.all_input_nodes))
    return frozenset({node})


def _before(node: fx.Node, layers: nn.Module) -> nn.Module | None:
    sources = node.all_input_nodes
    if len(sources) != 1 or sources[0].op != "call_module" or len(sources[0].users) != 1:
        return None
    return layers.get_submodule(str(sources[0].target))


def _is_addition(node: fx.Node) -> bool:
    """Whether `node` adds two signals and does nothing else."""
    function = node.op == "call_function" and node.target in ADDITIONS
    method = node.op == "call_method" and node.target in ("add", "add_")
    signals = len(node.args) == 2 and all(isinstance(argument, fx.Node) for argument in node.args)
    return (function or method) and signals and not node.kwargs


def _emits(layer: _Layer) -> frozenset[str]:
    if isinstance(layer.module, (*LINEAR, *BATCH_NORMS)):
        return frozenset({CURRENT})
    if isinstance(layer.module, nn.AvgPool2d):
        return frozenset({POOLED})
    if isinstance(layer.module, (nn.Flatten, *PASSING, *MAX_POOLS)):
        return layer.arriving
    return frozenset({SPIKES})


def _end_problems(arriving: frozenset[str], last: fx.Node, layers: nn.Module) -> Iterator[str]:
    """A class is read from sums, or from the spikes of neurons that feed nothing else."""
    module = layers.get_submodule(str(last.target)) if last.op == "call_module" else None
    counted = isinstance(module, (LIF, Gate, XyloNeuron)) and len(last.users) == 1
    if arriving != {CURRENT} and not counted:
        yield (
            f"the network ends in {' and '.join(sorted(arriving))}; end it in a linear read-out, or in LIF "
            "right behind one"
        )


def _linear(layer: _Layer) -> Iterator[str]:
    if CURRENT in layer.arriving:
        yield f"{layer} follows another linear map without a spiking neuron between; put LIF before it"
    if getattr(layer.module, "padding_mode", "zeros") != "zeros":
        yield f"{layer} pads with {layer.module.padding_mode!r}; pad with zeros"


def _batch_norm(layer: _Layer) -> Iterator[str]:
    foldable = nn.Conv2d if isinstance(layer.module, nn.BatchNorm2d) else nn.Linear
    if type(layer.before) is not foldable:
        yield f"{layer} can't be folded; put it right behind a {foldable.__name__} that feeds nothing else"
    if layer.module.running_mean is None:
        yield f"{layer} keeps no running statistics that could be folded; set track_running_stats"


def _average_pool(layer: _Layer) -> Iterator[str]:
    pool: nn.AvgPool2d = layer.module
    if CURRENT in layer.arriving:
        yield f"{layer} averages the input of a neuron; pool its spikes, right before the next linear map"
    uneven_border = bool(np.any(pool.padding)) and not pool.count_include_pad
    if pool.ceil_mode or uneven_border or pool.divisor_override is not None:
        yield f"{layer} does not always divide by its kernel's size; leave its options at their defaults"


def _flatten(layer: _Layer) -> Iterator[str]:
    if (layer.module.start_dim, layer.module.end_dim) != (1, -1):
        yield f"{layer} flattens some axes only; use nn.Flatten()"


def _takes_sums(layer: _Layer) -> Iterator[str]:
    if POOLED in layer.arriving:
        yield f"{layer} takes pooled values; put a convolution or linear layer right behind the pooling"


def _spiking(layer: _Layer) -> Iterator[str]:
    yield from _takes_sums(layer)
    decay = float(layer.module.decay)
    held = round(decay * DECAY_UNIT) / DECAY_UNIT
    if decay != held:
        yield (
            f"{layer} has the decay {decay:.10g}, a chip's are multiples of 1/{DECAY_UNIT}; set neuron.decay "
            f"to the nearest, {held:.12g}"
        )


def _soft_reset(layer: _Layer) -> Iterator[str]:
    yield (
        f"{layer} takes its threshold away when it spikes, and a chip's neuron goes to zero; train with the "
        "gradient bptt or rate, or go on from its run with `snnkd train --to-hard-reset RUN`"
    )


def _activation(layer: _Layer) -> Iterator[str]:
    yield f"{layer} is an analogue activation on the spiking path; use LIF"


def _max_pool(layer: _Layer) -> Iterator[str]:
    yield f"{layer} isn't linear; use AvgPool2d right before a linear map, or a convolution with a stride"


def _nothing(layer: _Layer) -> Iterator[str]:
    yield from ()


def _unknown(layer: _Layer) -> Iterator[str]:
    known = ", ".join(kind.__name__ for kind in (*LINEAR, *BATCH_NORMS, nn.AvgPool2d, nn.Flatten, LIF))
    yield f"{layer} can't be lowered; there are: {known}"


CHECKS: dict[type[nn.Module], Callable[[_Layer], Iterator[str]]] = {
    **dict.fromkeys(LINEAR, _linear),
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    nn.AvgPool2d: _average_pool,
    nn.Flatten: _flatten,
    LIF: _spiking,
    Gate: _spiking,
    SoftResetIF: _soft_reset,
    XyloNeuron: _takes_sums,
    **dict.fromkeys(PASSING, _nothing),
    **dict.fromkeys(ACTIVATIONS, _activation),
    **dict.fromkeys(MAX_POOLS, _max_pool),
}
"""What there is to say against a layer of each type."""
