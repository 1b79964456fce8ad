"""An exported folder: what its manifest says of the models in it, and running one of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ... import InputError
from ..files import read_json
from ..script import Engine, run_and_read
from ..target import Inputs, Progress
from .packages import REMEDY

MANIFEST = "manifest.json"
ENGINE = Engine("onnxruntime", "onnxruntime", REMEDY)

Models = dict[str, dict[str, Any]]
"""What the script needs to know of each model, by its name: "file", "kind" and what belongs to that."""


def described(folder: Path, models: Models) -> dict[str, Any]:
    """What the manifest says of `models`, whose files lie in `folder`."""
    sums = {
        facts["file"]: hashlib.sha256((folder / facts["file"]).read_bytes()).hexdigest()
        for facts in models.values()
    }
    return {"models": models, "sha256": sums}


def models_of(folder: Path) -> Models:
    """The models in `folder`.

    Raises:
        InputError: there is no manifest, or it is damaged.
    """
    manifest = read_json(folder / MANIFEST)
    models = manifest.get("models") if isinstance(manifest, dict) else None
    if not isinstance(models, dict) or not all(isinstance(facts, dict) for facts in models.values()):
        raise InputError(f"{folder / MANIFEST} is damaged; export the network again")
    return models


def logits_of(
    folder: Path,
    model: str,
    inputs: Inputs,
    timesteps: int,
    time_limit: float,
    progress: Progress | None = None,
) -> np.ndarray:
    """What the folder's own script says of `inputs`, float32 (N, K).

    Raises:
        InputError: onnxruntime or a file is missing or damaged, or the run hung or died.
    """
    return run_and_read(
        ENGINE, folder, inputs, timesteps, time_limit, _read_logits, progress, ["--model", model]
    )


def _read_logits(path: Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            logits = file["logits"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"run.py left no readable logits ({error}); export the network again") from error
    if logits.dtype != np.float32 or logits.ndim != 2:
        raise InputError(f"run.py left logits of {logits.dtype} {logits.shape}; export the network again")
    return logits
