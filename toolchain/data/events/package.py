"""tonic, whose readers are used; it is installed only where somebody asks for it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .... import InputError


def require(module: str) -> Any:
    """A module that reads recordings.

    Raises:
        InputError: it isn't installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = (error.name or module).split(".")[0]
        raise InputError(
            f"recordings are read with {package}, which isn't installed; run `pip install 'snnkd[events]'`"
        ) from error
