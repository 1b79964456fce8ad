"""An ONNX model while it is drawn: nodes, constants, inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import __version__
from .packages import require

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

OPSET, IR_VERSION = 17, 8
"""Old enough for runtimes of 2022, new enough for weights that are quantised per channel."""

BATCH = "batch"
"""The name of the dynamic dimension."""


class Drawing:
    """Nodes in the order of computation.

    A node that is asked for twice, with the same inputs and attributes, is drawn once: what an image that
    doesn't change causes in the first synapses is computed once for all steps.

    Args:
        outputs: names that the model's outputs shall have; nothing else is given them.
    """

    def __init__(self, outputs: Iterable[str] = ()) -> None:
        self._onnx = require("onnx")
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._drawn: dict[tuple[Any, ...], str] = {}
        self._reserved = set(outputs)
        self._names: set[str] = set()

    def input(self, name: str, shape: Sequence[int], dtype: type[np.generic] = np.float32) -> str:
        """An input (batch, *shape)."""
        name = self._free(name)
        self._inputs.append(self._tensor(name, shape, dtype))
        return name

    def output(
        self, name: str, source: str, shape: Sequence[int], dtype: type[np.generic] = np.float32
    ) -> None:
        """Let the tensor `source` leave the model, (batch, *shape) of its type `dtype`, called `name`."""
        self._reserved.discard(name)
        name = self._free(name)
        self._nodes.append(self._onnx.helper.make_node("Identity", [source], [name], name=name))
        self._outputs.append(self._tensor(name, shape, dtype))

    def constant(self, name: str, values: np.ndarray | float, dtype: type[np.generic] = np.float32) -> str:
        """A constant tensor; the same values under the same name are kept once."""
        array = np.array(values, dtype=dtype, order="C")
        key = ("constant", name, array.shape, array.tobytes())
        if key not in self._drawn:
            self._drawn[key] = self._free(name)
            self._constants[self._drawn[key]] = self._onnx.numpy_helper.from_array(array, self._drawn[key])
        return self._drawn[key]

    def node(self, operation: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """The output of `operation` on `inputs`."""
        key = (operation, *inputs, *sorted((key, str(value)) for key, value in attributes.items()))
        if key not in self._drawn:
            self._drawn[key] = self._free(name)
            made = self._onnx.helper.make_node(
                operation, list(inputs), [self._drawn[key]], name=self._drawn[key], **attributes
            )
            self._nodes.append(made)
        return self._drawn[key]

    def cast(self, tensor: str, dtype: type[np.generic], name: str) -> str:
        """`tensor` in another type."""
        return self.node("Cast", [tensor], name, to=self._kind(dtype))

    def model(self, name: str, description: str, facts: Mapping[str, Any]) -> ModelProto:
        """What was drawn, checked by onnx; `facts` stand in the file's metadata as text."""
        helper = self._onnx.helper
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, list(self._constants.values())
        )
        model = helper.make_model(
            graph,
            producer_name="snnkd",
            producer_version=__version__,
            doc_string=description,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        helper.set_model_props(model, {key: str(value) for key, value in facts.items()})
        self._onnx.checker.check_model(model, full_check=True)
        return model

    def _tensor(self, name: str, shape: Sequence[int], dtype: type[np.generic]) -> ValueInfoProto:
        return self._onnx.helper.make_tensor_value_info(name, self._kind(dtype), [BATCH, *shape])

    def _kind(self, dtype: type[np.generic]) -> int:
        """ONNX's number of a type."""
        return self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def _free(self, wanted: str) -> str:
        """`wanted`, or, where it is taken, with a number behind it."""
        name, number = wanted, 1
        while name in self._names or name in self._reserved:
            number += 1
            name = f"{wanted}.{number}"
        self._names.add(name)
        return name
