"""What an ANN sees of samples that a spiking student is shown over time.

Of an image an ANN sees the image. Samples over time are cut into W windows of T/W steps each, and it looks at
the sum of each window, which holds integers again, up to T/W times as large as a frame's:

    f_w = Σ_{t in w} x[t]        logits of the sample: 1/W·Σ_w z_t(f_w)

It is trained on all windows, each with its sample's label. For distillation each window counts as a sample of
its own, with the student's T/W steps there; so what a method says of T steps holds of a window's:

    L = 1/(W·B) Σ_{b,w} l( z_t(f_w), mean_{t in w} z_s[t] )          (NLD, and others on logits)
    L = 1/(W·B) Σ_{b,w} l( map of f_w, Σ_{t in w} student's spikes )  (SAMD, and others on maps)

The student isn't reset between windows. Its cross-entropy on labels is that of its mean over all T; methods
that hold the cross-entropy themselves (temporal, joint) take it, like the rest of their losses, window by
window. W = 1 is an ANN that looks once. SAMD and NLD are published for what they call DVS data, how their
teacher sees it isn't said: windows are our reading, after which nothing of the losses themselves has to
change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..models.contract import StudentOutput, TaskShape
from .data.datasets import DATASETS

if TYPE_CHECKING:
    from torch import Tensor

    from .recipe import Recipe

FRAMES = 5
"""Dimensions of a batch of frames, (T, B, C, H, W)."""


def teacher_input(images: Tensor, windows: int = 1) -> Tensor:
    """What an ANN is given: images (B, C, H, W) as they are, of frames (T, B, C, H, W) sums (W·B, C, H, W).

    The first window's sums of all samples come first.
    """
    if images.dim() < FRAMES:
        return images
    return images.unflatten(0, (windows, -1)).sum(1, dtype=images.dtype).flatten(0, 1)


def mean_frame(images: Tensor, windows: int = 1) -> Tensor:
    """What an ANN with the student's own weights is given: as `teacher_input`, means in place of sums."""
    return images.unflatten(0, (windows, -1)).mean(1).flatten(0, 1) if images.dim() == FRAMES else images


def over_windows(values: Tensor, windows: int) -> Tensor:
    """The mean over a sample's windows, (B, …), of what an ANN made of each, (W·B, …)."""
    return values.unflatten(0, (windows, -1)).mean(0) if windows > 1 else values


def by_window(output: StudentOutput, windows: int) -> StudentOutput:
    """What a student emitted, (T, B, …), with each window as a sample, (T/W, W·B, …)."""
    if windows == 1:
        return output
    features = {name: _windows_as_samples(spikes, windows) for name, spikes in output.features.items()}
    return StudentOutput(_windows_as_samples(output.logits, windows), features)


def _windows_as_samples(values: Tensor, windows: int) -> Tensor:
    return values.unflatten(0, (windows, -1)).transpose(0, 1).flatten(1, 2)


def over_time(samples: np.ndarray, windows: int = 1) -> np.ndarray:
    """What an ANN is given of samples: uint8 (N, C, H, W) as they are, or int64 sums of (N, T, C, H, W).

    With windows, N·W sums; a sample's come one after another.
    """
    if samples.ndim < FRAMES:
        return samples
    count, steps, *shape = samples.shape
    return samples.reshape(count * windows, steps // windows, *shape).sum(1, dtype=np.int64)


def time_first(samples: np.ndarray) -> np.ndarray:
    """What a student is given of samples: (N, C, H, W) as they are, or (T, N, C, H, W) of (N, T, C, H, W)."""
    return samples.swapaxes(0, 1) if samples.ndim == FRAMES else samples


def teacher_task(recipe: Recipe, task: TaskShape, windows: int = 1) -> TaskShape:
    """What an ANN is built for that sees so many windows; `task` is what the recipe's student is built for.

    Raises:
        InputError: the recipe's data can't be shown as it says.
    """
    temporal = DATASETS.load(recipe.dataset).step(recipe.shown).temporal
    summed = recipe.timesteps // windows
    return replace(task, input_max=task.input_max * summed) if temporal else task
