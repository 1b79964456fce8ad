"""`snnkd check`: whether a network fits a target, before anything is spent on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import InputError
from ..export.graph import Graph
from ..export.target import get_target


def check_network(file: Path | None, model: str | None, target: str) -> dict[str, Any]:
    """Every limit of `target` that a NIR file, or the untrained student of a recipe or model, breaks.

    Raises:
        InputError: neither or both are given, or can't be read.
        Refusal: the network holds what can't be lowered.
    """
    if (file is None) == (model is None):
        raise InputError("say what to check: either a NIR file, or --model with a recipe or model")
    room = get_target(target)
    if file is not None:
        name, graph = str(file), _graph_of_file(file)
    else:
        name, graph = f"the student of {model}", _graph_of_student(str(model))
    return {"network": name, "target": target, "problems": [str(problem) for problem in room.check(graph)]}


def _graph_of_file(file: Path) -> Graph:
    from ..export.lowering import lower
    from ..export.nir import read_nir

    return lower(read_nir(file))


def _graph_of_student(name: str) -> Graph:
    """The untrained student of a recipe, or of a model with its defaults on the default data set."""
    from ..export.student import student_to_graph
    from ..models.family import MODELS
    from .data.datasets import DATASETS
    from .networks import build_networks
    from .recipe import DEFAULT_RECIPE, load_recipe

    of_model = [f"student.model={name}", "student.options={}"]
    recipe = load_recipe(DEFAULT_RECIPE, of_model) if name in MODELS.names() else load_recipe(name)
    student, _ = build_networks(recipe, DATASETS.load(recipe.dataset).task)
    return student_to_graph(student)
