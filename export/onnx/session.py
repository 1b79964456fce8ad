"""Running an ONNX model in onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import InputError
from ..files import write_bytes
from ..target import Progress
from .packages import require

if TYPE_CHECKING:
    from onnx import ModelProto

BATCH = 250
"""Samples that `Session.over` runs together."""

SILENT = 4
"""onnxruntime logs nothing but what it dies of; errors are raised all the same."""


TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
"""What a model's inputs are given as."""


class Session:
    """A model that onnxruntime has read.

    Args:
        model: a model, or the file that it lies in.
        threads: that one inference may use; None: onnxruntime's choice, a thread for each core.
        unsaturated: keep sums of uint8 × int8 from saturating, as they do on x86 processors without VNNI: for
            an ANN in int8. (Where maps share weights, as unrolled steps do, onnxruntime 1.32 can't.)
        optimised: where onnxruntime shall write what it has made of the model; None: nowhere.

    Raises:
        InputError: onnxruntime isn't installed, or can't read the model.
    """

    def __init__(
        self,
        model: ModelProto | Path,
        threads: int | None = None,
        unsaturated: bool = False,
        optimised: Path | None = None,
    ) -> None:
        runtime = require("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = SILENT
        if unsaturated:
            options.add_session_config_entry("session.x64quantprecision", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
        if optimised is not None:
            options.optimized_model_filepath = str(optimised)
        source: Any = str(model) if isinstance(model, Path) else model.SerializeToString()
        try:
            self._session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own errors share no base class but this
            what = model if isinstance(model, Path) else "the model"
            reason = str(error).strip().split("\n")[0]
            raise InputError(f"onnxruntime can't read {what}: {reason}; write it again") from error
        self.inputs = {port.name: tuple(port.shape) for port in self._session.get_inputs()}
        self._types = {port.name: TYPES[port.type] for port in self._session.get_inputs()}
        self.outputs = [port.name for port in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What one batch causes, by the outputs' names."""
        given = {name: np.ascontiguousarray(array, self._types.get(name)) for name, array in inputs.items()}
        return dict(zip(self.outputs, self._session.run(None, given), strict=True))

    def over(
        self, samples: np.ndarray, progress: Progress | None = None, batch: int = BATCH
    ) -> dict[str, np.ndarray]:
        """What all samples (N, …) of the model's one input cause, batch by batch.

        Raises:
            InputError: the model has more inputs than one.
        """
        if len(self.inputs) != 1:
            raise InputError(f"the model takes {', '.join(self.inputs)}; give each of them to `run`")
        (port,) = self.inputs
        parts: list[dict[str, np.ndarray]] = []
        for start in range(0, len(samples), batch):
            parts.append(self.run({port: samples[start : start + batch]}))
            if progress is not None:
                progress(min(start + batch, len(samples)), len(samples))
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}


def write_model(path: Path, model: ModelProto) -> None:
    """Write `model` atomically."""
    write_bytes(path, model.SerializeToString())
