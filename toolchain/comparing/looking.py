"""Where a trained student looks, against its seed's teacher: also of a student that had none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...export.files import atomic_path
from ..checkpoint import load_weights
from ..data.batches import batches
from ..data.datasets import Split
from ..distillation.maps import map_agreement, student_map, teacher_map
from ..networks import build_networks, freeze
from ..run import Run
from ..samples import load_with_progress
from ..teaching import FRAMES, by_window, teacher_input

SHOWN = 4
"""Test samples whose maps are kept: the first of each of the first classes."""

BATCH = 100


def look(run: Run, teacher_file: Path, maps_file: Path, data_root: Path | None = None) -> float | None:
    """Compare the maps of `run`'s student with a teacher's for the true class, and keep some.

    Returns:
        `maps.map_agreement` as in `metrics.jsonl`: the mean over the validation split and the teacher's
        windows, each with the student's spikes in it; or None where the two networks' maps aren't of one
        size. The maps that are kept are means over the windows.

    Raises:
        InputError: weights or data can't be read.
    """
    data = load_with_progress(run.recipe, data_root)
    student, teacher = build_networks(run.recipe, data.task)
    load_weights(run.student_file, student)
    load_weights(teacher_file, teacher)
    freeze(student)
    freeze(teacher)
    shown = _first_of_each_class(data.test)
    windows = run.recipe.teacher.windows
    own, taught = (maps.mean(1) for maps in _maps(student, teacher, shown, windows))
    if own.shape != taught.shape:
        return None
    _save(
        maps_file,
        {"images": _pictures(shown.inputs), "labels": shown.labels, "student": own, "teacher": taught},
    )
    seen = (maps.flatten(0, 1) for maps in _maps(student, teacher, data.validation, windows))
    return float(map_agreement(*seen).mean())


@torch.inference_mode()
def _maps(student: Any, teacher: Any, split: Split, windows: int) -> tuple[Tensor, Tensor]:
    """The maps of both networks for the true classes in each of the teacher's windows, (N, W, H, W) each."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    student.to(device)
    weight = teacher.to(device).classifier_weight
    own, taught = [], []
    for batch in batches(split, BATCH):
        images, labels = (tensor.to(device) for tensor in batch)
        output = by_window(student(images), windows)
        own.append(_by_sample(student_map(output.features[student.tap]), windows))
        features = teacher(teacher_input(images, windows)).features[teacher.tap]
        taught.append(_by_sample(teacher_map(features, weight, labels.repeat(windows)), windows))
    return torch.cat(own), torch.cat(taught)


def _by_sample(maps: Tensor, windows: int) -> Tensor:
    """Maps (W·B, …), the first window's of all samples first, as (B, W, …)."""
    return maps.cpu().unflatten(0, (windows, -1)).transpose(0, 1)


def _first_of_each_class(split: Split) -> Split:
    """One sample of each of the first `SHOWN` classes."""
    labels = split.labels.unique()[:SHOWN]
    indices = torch.stack([(split.labels == label).nonzero()[0, 0] for label in labels])
    return Split(split.inputs[indices], split.labels[indices])


def _pictures(inputs: Tensor) -> Tensor:
    """Images as they are; of frames (N, T, C, H, W) the sums over time, (N, C, H, W), the largest 255."""
    if inputs.dim() < FRAMES:
        return inputs
    sums = inputs.sum(1, dtype=torch.int64)
    return (255 * sums / sums.max().clamp(min=1)).to(torch.uint8)


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, **{name: tensor.numpy() for name, tensor in tensors.items()})
