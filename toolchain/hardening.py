"""From a student with a soft reset to one with a hard reset, which a chip has: a start for fine-tuning.

With V the threshold of a soft-reset population and αV what it fires at, the new one spikes 1 instead of V and
fires at its own θ: what it sends on is multiplied by V in the next weights, what it takes in by θ/(αV) in the
BatchNorm before it. An identity skip has no weight to take V in and stays as it is, and what a soft reset
would have kept is lost. Fine-tuning makes up for both, as far as it can.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from .. import InputError
from ..export.student import has_soft_reset
from ..models.contract import TaskShape
from ..models.gradients.dsr import SoftResetIF
from ..models.unrolled import trace
from .checkpoint import load_weights
from .networks import build_networks
from .recipe import Recipe, validate
from .run import Run

EPOCHS_SHARE = 4
"""A fourth of the student's epochs, unless the caller says how many."""

INTEGRATING = {"decay": 1.0, "threshold": 1.0}
"""The neuron of the new student: like the old one it keeps its potential."""

LINEAR = (nn.Conv2d, nn.Linear)
SCALED = (*LINEAR, nn.BatchNorm1d, nn.BatchNorm2d)


def hard_reset_recipe(run: Run, epochs: int | None = None) -> Recipe:
    """The recipe of the run that goes on from `run`'s student with a hard reset.

    Raises:
        InputError: `run` isn't trained, or its student has a hard reset already.
    """
    recipe = run.recipe
    if not run.student_file.exists():
        raise InputError(f"{run.folder} holds no trained student; finish it with `snnkd train --resume`")
    if recipe.student.gradient != "dsr":
        raise InputError(f"the student in {run.folder} has a hard reset already; export it as it is")
    values = recipe.model_dump(mode="json")
    values["name"] = f"{recipe.name}-hard-reset"
    values["neuron"] = INTEGRATING
    values["student"]["gradient"] = "bptt"
    values["student"]["start"] = str(run.folder.resolve())
    values["student"]["epochs"] = -(-recipe.student.epochs // EPOCHS_SHARE) if epochs is None else epochs
    values["gradients"] = {}
    return validate(values, f"{run.recipe_file} with a hard reset")


def start_from(student: Any, start: str, task: TaskShape) -> None:
    """Give `student` the weights of the soft-reset student in the run's folder `start`, rescaled.

    Raises:
        InputError: there is no such student, or it is of another architecture.
    """
    run = Run(Path(start))
    if not run.recipe_file.exists():
        raise InputError(f"there is no run {start}, which student.start names; name another, or leave it out")
    soft, _ = build_networks(run.recipe, task)
    if not has_soft_reset(soft):
        raise InputError(
            f"student.start names {start}, whose student has no soft reset; name one trained by dsr"
        )
    load_weights(run.student_file, soft)
    kept = {name: value for name, value in soft.state_dict().items() if name in student.state_dict()}
    try:
        student.load_state_dict(kept)
    except RuntimeError as error:
        raise InputError(f"student.start names {start}, whose student is of another architecture") from error
    _rescale(student.layers, soft.layers)


@torch.no_grad()
def _rescale(layers: nn.Module, soft: nn.Module) -> None:
    """Bring `layers`, which have the weights of `soft`, to spikes of 1 and thresholds of their own."""
    heights: dict[fx.Node, float] = {}
    for node in trace(soft).nodes:
        module = soft.get_submodule(str(node.target)) if node.op == "call_module" else None
        heights[node] = max((heights[source] for source in node.all_input_nodes), default=1.0)
        if isinstance(module, LINEAR):
            _weighted(layers.get_submodule(str(node.target)), heights[node], bias=False)
            heights[node] = 1.0
        elif isinstance(module, SoftResetIF):
            heights[node] = module.threshold.item()
            own: Any = layers.get_submodule(str(node.target))
            factor = own.threshold / (module.firing_share * module.threshold.item())
            for name in _currents(node, soft):
                _weighted(layers.get_submodule(name), factor, bias=True)


def _currents(neuron: fx.Node, layers: nn.Module) -> list[str]:
    """The layers whose sums arrive at a neuron."""
    found, waiting = [], list(neuron.all_input_nodes)
    while waiting:
        node = waiting.pop()
        module = layers.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, SCALED):
            found.append(str(node.target))
        elif not isinstance(module, SoftResetIF):
            waiting += node.all_input_nodes
    return found


def _weighted(layer: Any, factor: float, bias: bool) -> None:
    layer.weight.mul_(factor)
    if bias and layer.bias is not None:
        layer.bias.mul_(factor)
