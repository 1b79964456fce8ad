"""A model family: a student and its teacher, built by name from a few options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from .contract import TaskShape
from .registry import Registry

MODELS = Registry(
    "model",
    "snnkd.models",
    {
        "conv": "snnkd.models.conv:FAMILY",
        "dense": "snnkd.models.dense:FAMILY",
        "resnet": "snnkd.models.resnet:FAMILY",
        "sew": "snnkd.models.sew:FAMILY",
        "vgg": "snnkd.models.vgg:FAMILY",
        "xylo": "snnkd.models.xylo:FAMILY",
    },
)


@dataclass(frozen=True)
class ModelFamily:
    """How to build the two networks of one family.

    Attributes:
        description: one line for `snnkd list models`.
        options: a pydantic model of what a recipe may set; its defaults make a small network.
        student: (task, timesteps, options, decay, threshold) → a `contract.Student`.
        teacher: (task, options) → an ANN whose forward gives a `contract.TeacherOutput`.
    """

    description: str
    options: type[Any]
    student: Callable[[TaskShape, int, Any, float, float], nn.Module]
    teacher: Callable[[TaskShape, Any], nn.Module]
