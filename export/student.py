"""From a trained student to the lowered graph, and the check, before training, that there is such a way.

The student's layers are traced with torch.fx; BatchNorm is folded, in float64, into the map before it; what
remains becomes NIR nodes, which `lowering.lower` takes from there. (The trace is needed to see what a
BatchNorm follows and how large every map is; with it at hand, nirtorch's tracer would add nothing.)
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from .. import InputError, Refusal
from ..models.contract import Student
from ..models.neurons import LIF
from .graph import Graph, Neuron
from .lowering import lower
from .metadata import Header, note
from .nir import neuron_node
from .shapes import Shape

SPIKES, POOLED, CURRENT = "spikes", "pooled spikes", "current"
"""What a layer may emit: spikes (or the input), averages of spikes, or what a neuron takes in."""

LINEAR = (nn.Conv2d, nn.Linear)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
PASSING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
"""Layers that do nothing outside training."""

ADDITIONS = (operator.add, operator.iadd, torch.add)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool2d)


def student_to_graph(student: Student) -> Graph:
    """The float network that `student` computes outside training; the student itself stays as it is.

    Its input is the task's integers: the first weights hold the division by `input_max`. Populations have the
    names of the student's layers.

    Raises:
        Refusal: it can't be lowered, with every reason.
        InputError: its layers don't take the task's input.
    """
    problems = deployability_problems(student)
    if problems:
        raise Refusal(f"the student can't be exported: {'; '.join(problems)}")
    layers = copy.deepcopy(student.layers).cpu().double().eval()
    traced = fx.GraphModule(layers, _Tracer().trace(layers))
    _fold_batch_norms(traced)
    _infer_shapes(traced, student.task.input_shape)
    return lower(_nir_graph(traced, student))


def deployability_problems(student: Student) -> list[str]:
    """Why `student` can't be exported, each reason with its layer and the way out; empty if it can.

    Looks at the layers alone, not at their weights, so that it can be asked before training and in any mode.
    """
    try:
        graph = _Tracer().trace(student.layers)
    except Exception as error:  # whatever the layers' own code raises when it is run on symbols
        reason = str(error).strip().split("\n")[0]
        return [f"the layers can't be traced ({reason}); let forward call layers and add, without conditions"]
    return list(_problems(graph, student.layers))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LIF) or super().is_leaf_module(m, module_qualified_name)


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


def _problems(graph: fx.Graph, layers: nn.Module) -> Iterator[str]:
    """Every problem, in the order of the layers."""
    emitted: dict[fx.Node, frozenset[str]] = {}
    for node in graph.nodes:
        arriving = frozenset[str]().union(*(emitted[source] for source in node.all_input_nodes))
        emitted[node] = arriving or frozenset({SPIKES})
        if node.op == "call_module":
            layer = _Layer(node.target, layers.get_submodule(node.target), arriving, _before(node, layers))
            yield from CHECKS.get(type(layer.module), _unknown)(layer)
            emitted[node] = _emits(layer)
        elif node.op == "output":
            yield from _end_problems(arriving)
        elif node.op != "placeholder" and not _is_addition(node):
            called = getattr(node.target, "__name__", node.target)
            yield f"{node.name}: {called!r} can't be lowered; use layers of torch.nn, LIF, and + between them"


def _before(node: fx.Node, layers: nn.Module) -> nn.Module | None:
    sources = node.all_input_nodes
    if len(sources) != 1 or sources[0].op != "call_module" or len(sources[0].users) != 1:
        return None
    return layers.get_submodule(str(sources[0].target))


def _is_addition(node: fx.Node) -> bool:
    """Whether `node` adds two different signals and does nothing else."""
    function = node.op == "call_function" and node.target in ADDITIONS
    method = node.op == "call_method" and node.target in ("add", "add_")
    return (function or method) and len(node.all_input_nodes) == len(node.args) == 2 and not node.kwargs


def _emits(layer: _Layer) -> frozenset[str]:
    if isinstance(layer.module, (*LINEAR, *BATCH_NORMS)):
        return frozenset({CURRENT})
    if isinstance(layer.module, nn.AvgPool2d):
        return frozenset({POOLED})
    if isinstance(layer.module, (nn.Flatten, *PASSING, *MAX_POOLS)):
        return layer.arriving
    return frozenset({SPIKES})


def _end_problems(arriving: frozenset[str]) -> Iterator[str]:
    if arriving != {CURRENT}:
        yield f"the network ends in {' and '.join(sorted(arriving))}; end it in a linear read-out"


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


def _spiking(layer: _Layer) -> Iterator[str]:
    if POOLED in layer.arriving:
        yield f"{layer} takes pooled values; put a convolution or linear layer right behind the pooling"


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
    **dict.fromkeys(PASSING, _nothing),
    **dict.fromkeys(ACTIVATIONS, _activation),
    **dict.fromkeys(MAX_POOLS, _max_pool),
}
"""What there is to say against a layer of each type."""


def _fold_batch_norms(traced: fx.GraphModule) -> None:
    """Replace each pair of map and BatchNorm by the one map that does the same."""
    for node in list(traced.graph.nodes):
        module = traced.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(module, BATCH_NORMS):
            before = node.all_input_nodes[0]
            fuse: Any = fuse_conv_bn_eval if isinstance(module, nn.BatchNorm2d) else fuse_linear_bn_eval
            folded = fuse(traced.get_submodule(before.target), module)
            before.target = f"{before.name}_with_{node.name}"
            traced.add_submodule(before.target, folded)
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()


def _infer_shapes(traced: fx.GraphModule, input_shape: Shape) -> None:
    """Note on each traced node the shape of what it emits."""
    try:
        with torch.no_grad():
            ShapeProp(traced).propagate(torch.zeros(1, *input_shape, dtype=torch.float64))
    except RuntimeError as error:
        raise InputError(
            f"the student's layers don't take its task's input {input_shape}: {error}"
        ) from error


def _nir_graph(traced: fx.GraphModule, student: Student) -> nir.NIRGraph:
    """The traced network as NIR; sums and layers that do nothing become edges."""
    nodes: dict[str, nir.NIRNode] = {}
    edges: list[tuple[str, str]] = []
    ends: dict[fx.Node, list[str]] = {}
    for node in traced.graph.nodes:
        arriving = [end for source in node.all_input_nodes for end in ends[source]]
        shape = tuple(node.meta["tensor_meta"].shape[1:])
        if node.op == "placeholder":
            largest = student.task.input_max
            nodes["input"] = nir.Input({"input": np.array(shape)}, metadata=note(input=largest))
            nodes[node.name], arriving = nir.Scale(np.full(shape, 1 / largest)), ["input"]
        elif node.op == "output":
            nodes[node.name] = nir.Output({"output": np.array(shape)})
        elif node.op == "call_module":
            module = traced.get_submodule(node.target)
            if type(module) in NODES:
                nodes[node.name] = NODES[type(module)](module, shape)
        edges += [(end, node.name) for end in arriving if node.name in nodes]
        ends[node] = [node.name] if node.name in nodes else arriving
    header = Header(timesteps=student.timesteps)
    return nir.NIRGraph(nodes, edges, metadata=header.as_metadata(), type_check=False)


def _numbers(values: torch.Tensor | None, absent: int) -> np.ndarray:
    return np.zeros(absent) if values is None else values.detach().numpy()


def _conv_node(module: Any, shape: Shape) -> nir.Conv2d:
    return nir.Conv2d(
        input_shape=None,
        weight=_numbers(module.weight, 0),
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.groups,
        bias=_numbers(module.bias, module.out_channels),
    )


def _linear_node(module: nn.Linear, shape: Shape) -> nir.Affine:
    return nir.Affine(_numbers(module.weight, 0), _numbers(module.bias, module.out_features))


def _pool_node(module: nn.AvgPool2d, shape: Shape) -> nir.AvgPool2d:
    sizes = (module.kernel_size, module.stride, module.padding)
    return nir.AvgPool2d(*(np.array(size) for size in sizes))


def _flatten_node(module: nn.Flatten, shape: Shape) -> nir.Flatten:
    return nir.Flatten({"input": np.array(shape)}, 0, -1)


def _spiking_node(module: LIF, shape: Shape) -> nir.NIRNode:
    return neuron_node(Neuron(module.decay, np.array(module.threshold)), shape)


NODES: dict[type[nn.Module], Callable[[Any, Shape], nir.NIRNode]] = {
    nn.Conv2d: _conv_node,
    nn.Linear: _linear_node,
    nn.AvgPool2d: _pool_node,
    nn.Flatten: _flatten_node,
    LIF: _spiking_node,
}
"""The NIR node of each layer, given the shape of what it emits."""
