"""Running layers over time: what a spiking student's forward is, and how its layers are traced.

A student's `layers` say nothing about time. They are traced with torch.fx and run on signals (S, B, …), where
S is T, or 1 as long as nothing has changed from step to step. Neurons get all steps at once; every other
layer sees time folded into the batch; where a signal of one step meets one of T, it counts at each of them.
So whatever lies before the first neurons is computed once for a static image.

While a student is trained, another gradient than that through time may take over (`gradients`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn

from .. import InputError, Refusal
from .contract import StudentOutput, TaskShape
from .joined import NORM, NormalisedNeurons, join
from .neurons import SpikingNeuron

OUT_OF_PLACE = {operator.iadd: operator.add, "add_": "add"}
"""A sum in place would have the shape of its first term, which may be one step."""

Signal = TypeVar("Signal")


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SpikingNeuron) or super().is_leaf_module(m, module_qualified_name)


def trace(layers: nn.Module) -> fx.Graph:
    """The calls that `layers` makes, down to `torch.nn` layers and neurons.

    Raises:
        Refusal: they can't be known without a signal.
    """
    try:
        return _Tracer().trace(layers)
    except Exception as error:  # whatever the layers' own code raises when it is run on symbols
        reason = str(error).strip().split("\n")[0]
        raise Refusal(
            f"the layers can't be traced ({reason}); let forward call layers and add, without conditions"
        ) from error


class SpikingStudent(nn.Module):
    """Traceable layers as a spiking network, a `contract.Student`.

    Attributes:
        taps: paths of the layers whose spikes come out as features; the last of them is `tap`.
        channels_last: whether maps lie in memory with their channels last, which makes deep networks faster.
        gradient: what runs the layers in training, if not `run_over_time`.

    Raises:
        Refusal: the layers can't be traced.
    """

    def __init__(
        self,
        layers: nn.Module,
        task: TaskShape,
        timesteps: int,
        taps: Iterable[str],
        channels_last: bool = False,
    ):
        super().__init__()
        self.channels_last = channels_last
        self.gradient: Runner | None = None
        self.layers, self.task, self.timesteps = layers, task, timesteps
        self.taps = tuple(taps)
        self.tap = self.taps[-1]
        self.retrace()

    def forward(self, inputs: Tensor, timesteps: int | None = None) -> StudentOutput:
        """Per-step logits and the taps' spikes for integer images (B, C, H, W) or frames (T, B, C, H, W).

        Args:
            timesteps: how often a static image is shown; None: the student's own T.

        Raises:
            InputError: there are fewer or more frames than that.
        """
        static = inputs.dim() == len(self.task.input_shape) + 1
        if not static and timesteps not in (None, len(inputs)):
            raise InputError(f"{len(inputs)} frames can't be shown in {timesteps} steps; show static images")
        signal = (inputs[None] if static else inputs) / self.task.input_max
        if self.channels_last:
            folded = signal.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            signal = folded.unflatten(0, (-1, signal.shape[1]))
        steps = (timesteps or self.timesteps) if static else len(inputs)
        trained = self.training and torch.is_grad_enabled()
        return (self.gradient if trained and self.gradient else run_over_time)(self, signal, steps)

    def retrace(self) -> None:
        """Take note that `layers` have changed.

        Raises:
            Refusal: they can't be traced.
        """
        self._calls = join(trace(self.layers), self.layers, self.taps)

    @property
    def joins(self) -> bool:
        """Whether some of the layers are run as one, see `joined`."""
        return any(NORM in node.meta for node in self._calls.nodes)

    def walk(
        self,
        signal: Signal,
        emitted: Callable[..., Signal],
        called: Callable[[fx.Node, Callable[[fx.Node], Signal]], Signal],
        tapped: Callable[[Signal], Signal] | None = None,
    ) -> tuple[Signal, dict[str, Signal]]:
        """Call after call; what no later call needs is dropped, so that inference takes little memory.

        Args:
            signal: what the layers are given.
            emitted: what a layer makes of a signal, or `NormalisedNeurons` of one or two.
            called: what another call makes of those that it gets by their nodes.
            tapped: what a tap makes of a signal that passes it; None: nothing.

        Returns:
            What comes out at the end, and at each tap.
        """
        signals: dict[fx.Node, Signal] = {}
        waiting = {node: len(node.users) for node in self._calls.nodes}
        features: dict[str, Signal] = {}
        result = signal
        for node in self._calls.nodes:
            if node.op == "placeholder":
                result = signal
            elif node.op == "output":
                result = signals[node.all_input_nodes[0]]
            elif node.op == "call_module":
                layer: Any = self.layers.get_submodule(str(node.target))
                if NORM in node.meta:
                    norm: Any = self.layers.get_submodule(node.meta[NORM])
                    layer = NormalisedNeurons(norm, layer)
                sources: Any = node.args if NORM in node.meta else node.all_input_nodes
                result = emitted(layer, *(signals[source] for source in sources))
                if node.target in self.taps:
                    result = tapped(result) if tapped else result
                    features[str(node.target)] = result
            else:
                result = called(node, signals.__getitem__)
            signals[node] = result
            for source in node.all_input_nodes:
                waiting[source] -= 1
                if not waiting[source]:
                    del signals[source]
        return result, features


Runner = Callable[[SpikingStudent, Tensor, int], StudentOutput]
"""Runs a student's layers on a signal (S, B, …) for so many steps."""


def run_over_time(student: SpikingStudent, signal: Tensor, timesteps: int) -> StudentOutput:
    """Every step of every layer, with autograd's gradient through all of them."""

    def emitted(layer: nn.Module | NormalisedNeurons, signal: Tensor, *added: Tensor) -> Tensor:
        if isinstance(layer, NormalisedNeurons):
            return layer.over_time(timesteps, signal, *added)
        if isinstance(layer, SpikingNeuron):
            return layer(signal.expand(timesteps, *signal.shape[1:]))
        return at_each_step(layer, signal)

    result, features = student.walk(signal, emitted, call)
    return StudentOutput(result.expand(timesteps, *result.shape[1:]), features)


def at_each_step(layer: nn.Module, signal: Tensor) -> Tensor:
    """What a layer without state makes of a signal (S, B, …)."""
    return layer(signal.flatten(0, 1)).unflatten(0, signal.shape[:2])


def call(node: fx.Node, signal_of: Callable[[fx.Node], Tensor]) -> Tensor:
    """What a traced call that isn't a layer gives, its arguments taken from the nodes that they are."""
    arguments, options = fx.map_arg((node.args, node.kwargs), signal_of)  # pyright: ignore[reportArgumentType]
    target = OUT_OF_PLACE.get(node.target, node.target)
    if node.op == "call_method":
        return getattr(torch.Tensor, str(target))(*arguments, **options)
    return target(*arguments, **options)  # pyright: ignore[reportCallIssue]
