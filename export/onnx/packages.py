"""The optional packages of this room, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from ..script import NotInstalledError

REMEDY = 'pip install "snnkd[onnx]"'


def require(module: str) -> Any:
    """The module called `module`, of onnx or onnxruntime.

    Raises:
        NotInstalledError: it can't be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise NotInstalledError(f"{package} can't be imported ({error}): {REMEDY}") from error
