"""From a trained student to the lowered graph, and the check, before training, that there is such a way.

The student's layers are traced with torch.fx; BatchNorm is folded, in float64, into the map before it; what
remains becomes NIR nodes, which `lowering.lower` takes from there. (The trace is needed to see what a
BatchNorm follows and how large every map is; with it at hand, nirtorch's tracer would add nothing.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from .. import InputError, Refusal, SnnkdError
from ..models.contract import Student
from ..models.gradients.dsr import SoftResetIF
from ..models.neurons import LIF, Gate
from ..models.unrolled import trace
from ..models.xylo_neuron import XyloNeuron, kept
from .deployability import BATCH_NORMS, problems
from .graph import Graph, Neuron
from .lowering import lower
from .metadata import METADATA, Header, note
from .nir import neuron_node, to_nir
from .shapes import Shape


def student_to_graph(student: Student) -> Graph:
    """The float network that `student` computes outside training; the student itself stays as it is.

    Its input is the task's integers: the first weights hold the division by `input_max`. Populations have the
    names of the student's layers.

    Raises:
        Refusal: it can't be lowered, with every reason.
        InputError: its layers don't take the task's input.
    """
    found = _layer_problems(student)
    if found:
        raise Refusal(f"the student can't be exported: {'; '.join(found)}")
    return _lowered(student)


def student_to_nir(student: Student) -> nir.NIRGraph:
    """`student_to_graph` in NIR; and students with a soft reset, which that can't hold.

    A neuron that takes its threshold V away becomes an IF that fires at αV, with V noted as `subtract` in
    its metadata and the reset in the graph's, and a Scale of V behind it; where α is 1 it is a neuron that
    `graph.Neuron` knows. Without the notes it reads as an IF that resets to zero.

    Raises:
        Refusal, InputError: as for `student_to_graph`.
    """
    if not has_soft_reset(student):
        return to_nir(student_to_graph(student))
    found = _layer_problems(student, soft_reset=True)
    if found:
        raise Refusal(f"the student can't be written as NIR: {'; '.join(found)}")
    traced = _folded(student)
    graph = _nir_graph(traced, student)
    for node in traced.graph.nodes:
        if node.op == "call_module" and node.name in graph.nodes:
            _complete(graph.nodes[node.name], _shape(node.all_input_nodes[0]), _shape(node))
    return graph


def _complete(node: nir.NIRNode, taken: Shape, given: Shape) -> None:
    """Note the shapes of what a node takes and gives, which lowering finds by itself."""
    if isinstance(node, nir.Conv2d):
        node.input_shape = (taken[1], taken[2])
    node.input_type = {"input": np.array(taken)}
    node.output_type = {"output": np.array(given)}


def _shape(node: fx.Node) -> Shape:
    """What a traced node emits, without batch."""
    return tuple(node.meta["tensor_meta"].shape[1:])


def has_soft_reset(student: Student) -> bool:
    """Whether neurons of `student` take their threshold away when they spike, and don't go to zero."""
    return any(isinstance(module, SoftResetIF) for module in student.layers.modules())


def deployability_problems(student: Student, soft_reset: bool = False) -> list[str]:
    """Why `student` can't be exported, each reason with its layer and the way out; empty if it can.

    Nothing depends on the weights: it can be asked before training, and in any mode.

    Args:
        soft_reset: ask only for what keeps it from being written as NIR, where a soft reset doesn't.
    """
    found = _layer_problems(student, soft_reset)
    if not found:
        try:
            if soft_reset and has_soft_reset(student):
                student_to_nir(student)
            else:
                _lowered(student)
        except SnnkdError as error:
            found.append(str(error))
    return found


def _layer_problems(student: Student, soft_reset: bool = False) -> list[str]:
    try:
        graph = trace(student.layers)
    except Refusal as refusal:
        return [str(refusal)]
    return list(problems(graph, student.layers, soft_reset))


def _lowered(student: Student) -> Graph:
    return lower(_nir_graph(_folded(student), student))


def _folded(student: Student) -> fx.GraphModule:
    """A copy of the student's layers, in float64, BatchNorm folded, the shape of what each emits noted."""
    layers = copy.deepcopy(student.layers).cpu().double().eval()
    traced = fx.GraphModule(layers, trace(layers))
    _fold_batch_norms(traced)
    _infer_shapes(traced, student.task.input_shape)
    return traced


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
        shape = _shape(node)
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
        if node.op == "call_module" and isinstance(module := traced.get_submodule(node.target), SoftResetIF):
            height = f"{node.name}_height"
            nodes[height] = nir.Scale(np.full(shape, module.threshold.item()))
            edges.append((node.name, height))
            ends[node] = [height]
    header = Header(timesteps=student.timesteps, reset="subtract" if has_soft_reset(student) else "zero")
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
    return nir.AvgPool2d(*(np.array(np.broadcast_to(size, 2)) for size in sizes))


def _flatten_node(module: nn.Flatten, shape: Shape) -> nir.Flatten:
    return nir.Flatten({"input": np.array(shape)}, 0, -1)


def _spiking_node(module: LIF, shape: Shape) -> nir.NIRNode:
    return neuron_node(Neuron(module.decay, np.array(module.threshold)), shape, bias=np.zeros(1))


def _xylo_node(module: XyloNeuron, shape: Shape) -> nir.NIRNode:
    neuron = Neuron(
        kept(module.dash),
        np.full(1, module.threshold),
        kept(module.current_dash),
        reset="subtract",
        max_spikes=module.most,
        decays_input=True,
    )
    return neuron_node(neuron, shape, bias=np.zeros(1))


def _soft_reset_node(module: SoftResetIF, shape: Shape) -> nir.NIRNode:
    threshold = module.threshold.item()
    if module.firing_share == 1:
        return neuron_node(Neuron(1.0, np.full(1, threshold), reset="subtract"), shape)
    node = neuron_node(Neuron(1.0, np.full(1, module.firing_share * threshold)), shape)
    node.metadata[METADATA]["subtract"] = threshold
    return node


NODES: dict[type[nn.Module], Callable[[Any, Shape], nir.NIRNode]] = {
    nn.Conv2d: _conv_node,
    nn.Linear: _linear_node,
    nn.AvgPool2d: _pool_node,
    nn.Flatten: _flatten_node,
    LIF: _spiking_node,
    Gate: _spiking_node,
    SoftResetIF: _soft_reset_node,
    XyloNeuron: _xylo_node,
}
"""The NIR node of each layer, given the shape of what it emits."""
