"""`snnkd check`: whether a network fits a target, before anything is spent on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import InputError
from ..export.graph import Graph
from ..export.placement import DEFAULT_WEIGHT_BITS, Placement, can_be_placed, place
from ..export.target import arithmetic_of, get_target, own_placement
from ..hardware_profiles import load_profile

if TYPE_CHECKING:
    from .recipe import Recipe


def check_network(
    file: Path | None,
    model: str | None,
    target: str,
    dt: float | None = None,
    approximate: bool = False,
    overrides: Sequence[str] = (),
    bits: int | None = None,
) -> dict[str, Any]:
    """Every limit of `target` that a NIR file, or the untrained student of a recipe or model, breaks.

    Args:
        dt: seconds per step, where a NIR file doesn't say.
        approximate: decays may be rounded to what the target has.
        overrides: keys of the recipe, as "student.options.width=0.5".
        bits: of a float network's weights to be; None: the recipe's, 8 for a NIR file.

    Returns:
        {"network", "target", "bits", "problems"}, and "placement" where the target has cores: `neurons` and
        `synapses` in all, and what `Placement.summary` says.

    Raises:
        InputError: neither or both are given, or can't be read.
        Refusal: the network holds what can't be lowered.
    """
    from .quantization.decays import decay_problems

    if (file is None) == (model is None):
        raise InputError("say what to check: either a NIR file, or --model with a recipe or model")
    room = get_target(target)
    if file is not None:
        if overrides:
            raise InputError(f"--set changes a recipe; {file} is a NIR file")
        name, graph = str(file), _graph_of_file(file, dt)
    else:
        if dt is not None:
            raise InputError("--dt says how long a step of a NIR file is; leave it out with --model")
        recipe = _recipe(str(model), overrides)
        name, graph = f"the student of {model}", _graph_of_student(recipe)
        bits = bits or recipe.quantization.bits
    bits = graph.weight_bits or bits or DEFAULT_WEIGHT_BITS
    own = arithmetic_of(room) is not None
    problems = [] if own or approximate or graph.is_integer else decay_problems(graph)
    problems += room.check(graph)
    limits = load_profile(room.profile).limits
    answer = {"network": name, "target": target, "bits": bits}
    if (placed := own_placement(room, graph)) is not None:
        answer["placement"] = _with_totals(placed)
    elif not own and limits and limits.neurons_per_core and can_be_placed(graph):
        placement = place(graph, limits, bits)
        problems += () if graph.is_integer else placement.problems
        answer["placement"] = _placement(placement)
    return answer | {"problems": [str(problem) for problem in problems]}


def _placement(placement: Placement) -> dict[str, Any]:
    return _with_totals(placement.summary())


def _with_totals(summary: dict[str, Any]) -> dict[str, Any]:
    totals = {key: sum(placed[key] for placed in summary["core_map"]) for key in ("neurons", "synapses")}
    return totals | summary


def _graph_of_file(file: Path, dt: float | None) -> Graph:
    from ..export.lowering import lower
    from ..export.nir import read_nir

    return lower(read_nir(file), dt=dt)


def _recipe(name: str, overrides: Sequence[str]) -> Recipe:
    """The recipe of that name, or that of a model with its defaults on the default data set."""
    from ..models.family import MODELS
    from .recipe import DEFAULT_RECIPE, load_recipe

    if name not in MODELS.names():
        return load_recipe(name, overrides)
    return load_recipe(DEFAULT_RECIPE, [f"student.model={name}", "student.options={}", *overrides])


def _graph_of_student(recipe: Recipe) -> Graph:
    from ..export.student import student_to_graph
    from .networks import build_networks
    from .samples import task_of

    student, _ = build_networks(recipe, task_of(recipe))
    return student_to_graph(student)
