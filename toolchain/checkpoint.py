"""Weights and training state on disk: safetensors, written atomically, never pickle.

A weights file carries the facts that say which network it belongs to; loading it into another one is an
error that names the difference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from .. import InputError
from ..export.files import write_bytes

METADATA_KEY = "snnkd"


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write named tensors and JSON-able facts about them."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, metadata={METADATA_KEY: json.dumps(facts)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote.

    Raises:
        InputError: missing, truncated or foreign file.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}; train it first, or name another run with --run")
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
        return load(path.read_bytes()), facts  # a copy: tensors mapped from a file fall with it
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"checkpoint {path} is truncated or not a safetensors file ({error}); restore it or train again"
        ) from error


def load_weights(path: Path, model: nn.Module) -> dict[str, Any]:
    """Load a weights file into `model` and return its facts.

    Raises:
        InputError: as `load_tensors`; or the weights are of another architecture, or not finite.
    """
    tensors, facts = load_tensors(path)
    expected = model.state_dict()
    for name in [*expected, *tensors]:
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        wanted = tuple(expected[name].shape) if name in expected else "nothing"
        if found != wanted:
            raise InputError(
                f"checkpoint {path} is of another architecture: "
                f"{name} is {found}, the recipe's network has {wanted}"
            )
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"checkpoint {path} holds NaN or infinity in {name}; train again")
    model.load_state_dict(tensors)
    return facts


def save_weights(path: Path, model: nn.Module, facts: dict[str, Any]) -> None:
    """Write `model`'s parameters and buffers with facts about them."""
    save_tensors(path, model.state_dict(), facts)


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with `prefix.` before each name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name begins with `prefix.`, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as tensors named `<parameter index>.<state name>`."""
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Undo `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
