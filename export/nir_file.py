"""Reading a NIR file that anyone may have written: nothing is trusted, nothing large is allocated unseen.

A NIR file is HDF5. Links that leave the file, arrays that live elsewhere, and sizes beyond any network are
refused before a byte of them is read; what remains is checked node by node and edge by edge.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from .. import InputError
from .shapes import MAX_ELEMENTS, node_shapes, predecessors

BYTES_PER_NUMBER = 8
MAX_BYTES = BYTES_PER_NUMBER * MAX_ELEMENTS
"""The most that all arrays of one file may take in memory, as float64."""

MAX_OBJECTS = 200_000
"""The most groups, arrays and strings in one file."""

MAX_DEPTH = 16
"""How deep groups may be nested; a NIR graph needs four, metadata may add some."""

NUMERIC = "iufb"
"""NumPy's kinds of numbers: integers, floats and truth values."""

_POOL = ("kernel_size", "stride", "padding")
_CONV = ("weight", "bias", "stride", "padding", "dilation", "groups")
PARAMETERS: dict[str, tuple[str, ...]] = {
    "Input": ("shape",),
    "Output": ("shape",),
    "Affine": ("weight", "bias"),
    "Linear": ("weight",),
    "Scale": ("scale",),
    "Conv1d": _CONV,
    "Conv2d": _CONV,
    "SumPool2d": _POOL,
    "AvgPool2d": _POOL,
    "Flatten": ("start_dim", "end_dim"),
    "Delay": ("delay",),
    "Threshold": ("threshold",),
    "I": ("r",),
    "IF": ("r", "v_threshold"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"),
}
"""The node types of NIR and the fields that each can't do without."""

_log = logging.getLogger(__name__)


def read_nir(path: Path) -> nir.NIRGraph:
    """The graph in a NIR file, every shape checked and every number finite.

    Grouped convolutions and oblong kernels are read too, which nir's own type check rejects.

    Raises:
        InputError: the file is missing, isn't NIR, or holds what no network does; the node and field named.
    """
    path = Path(path)
    try:
        graph = _graph(_description(path))
        _declare_types(graph)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return graph


def _description(path: Path) -> dict[str, Any]:
    """The file's `node` group as nested dictionaries of arrays, numbers and strings."""
    if path.exists() and not path.is_file():
        raise InputError("is not a file")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror or error}") from error
    try:
        with h5py.File(path, "r") as file:
            contents = _Reader().group(file, "")
    except InputError:
        raise
    except Exception as error:  # HDF5 reports damage in whichever way it stumbles over it
        raise InputError(f"is truncated, damaged or not a NIR file (HDF5): {_first_line(error)}") from error
    _check_version(contents.get("version"))
    graph = contents.get("node")
    if not isinstance(graph, dict) or graph.get("type") != "NIRGraph":
        raise InputError("is HDF5, but not NIR: it has no group 'node' that is a NIRGraph")
    return graph


def _check_version(version: Any) -> None:
    if not isinstance(version, str):
        raise InputError("is HDF5, but not NIR: it names no version")
    if version.split(".")[0] != nir.version.split(".")[0]:
        _log.warning("the file is of NIR %s, this is NIR %s; their meaning may differ", version, nir.version)


@dataclass
class _Reader:
    """Reads HDF5 groups, counting what it meets so that it stops before memory does."""

    objects: int = 0
    size: int = 0

    def group(self, group: h5py.Group, where: str) -> dict[str, Any]:
        """All that `group` holds; `where` is its path inside the file."""
        if where.count("/") > MAX_DEPTH:
            raise InputError(f"groups are nested more than {MAX_DEPTH} deep at {where[:80]}")
        contents = {}
        self.count(len(group))
        for name in group:
            below = f"{where}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise InputError(f"{below} is a link that leads elsewhere; NIR has none")
            item = group[name]
            contents[name] = (
                self.group(item, below) if isinstance(item, h5py.Group) else self.value(item, below)
            )
        return contents

    def value(self, item: Any, where: str) -> Any:
        """An array, a number or a string, after its size has been looked at."""
        if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external or item.shape is None:
            raise InputError(f"{where} is not an array in this file")
        for shape in (item.chunks or (), item.shape):
            if _extent(shape) > MAX_ELEMENTS:
                raise InputError(f"{where} has shape {shape}, more than {MAX_ELEMENTS} numbers")
        self.spend(_extent(item.shape) * max(item.dtype.itemsize, BYTES_PER_NUMBER))
        if h5py.check_string_dtype(item.dtype) is not None:
            return self.text(item)
        if item.dtype.kind not in NUMERIC:
            raise InputError(f"{where} has dtype {item.dtype}, expected numbers or text")
        return item[()]

    def text(self, item: h5py.Dataset) -> Any:
        """A string, or rows of strings: one by one, since many may share one long string in the file."""
        strings = item.asstr()
        if item.shape == ():
            self.spend(len(strings[()]))
            return strings[()]
        self.count(_extent(item.shape))
        rows = []
        for index in range(len(item)):
            rows.append(strings[index])
            self.spend(sum(map(len, np.atleast_1d(rows[-1]))))
        return np.array(rows, dtype=object)

    def count(self, objects: int) -> None:
        """Count groups, arrays and strings.

        Raises:
            InputError: there are more than any network needs.
        """
        self.objects += objects
        if self.objects > MAX_OBJECTS:
            raise InputError(f"it holds more than {MAX_OBJECTS} groups, arrays and strings")

    def spend(self, size: int) -> None:
        """Count bytes.

        Raises:
            InputError: there are more than any network needs.
        """
        self.size += size
        if self.size > MAX_BYTES:
            raise InputError(f"its arrays together have more than {MAX_ELEMENTS} numbers")


def _extent(shape: tuple[int, ...]) -> int:
    """The elements of an array, and at least its longest side: an array of a million rows of nothing is long."""
    return math.prod(max(side, 1) for side in shape)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _graph(description: dict[str, Any]) -> nir.NIRGraph:
    nodes, edges = description.get("nodes"), description.get("edges")
    if not isinstance(nodes, dict) or not all(isinstance(fields, dict) for fields in nodes.values()):
        raise InputError("its graph has no nodes")
    if not isinstance(edges, np.ndarray) or edges.dtype.kind != "O" or edges.ndim != 2 or edges.shape[1] != 2:
        raise InputError("its edges are not pairs of node names")
    return nir.NIRGraph(
        nodes={name: _node(name, fields) for name, fields in nodes.items()},
        edges=[(str(source), str(target)) for source, target in edges],
        metadata=_metadata("the graph", description),
        type_check=False,
    )


def _node(name: str, fields: dict[str, Any]) -> nir.NIRNode:
    kind = fields.pop("type", None)
    if kind == "NIRGraph":
        raise InputError(f"node {name!r} is a graph inside the graph; write the network flat")
    if not isinstance(kind, str) or kind not in PARAMETERS:
        raise InputError(f"node {name!r} has the unknown type {kind!r}; NIR has {', '.join(PARAMETERS)}")
    title = f"node {name!r} ({kind})"
    for field in PARAMETERS[kind]:
        if field not in fields:
            raise InputError(f"{title} has no field {field!r}")
    metadata = _metadata(title, fields)
    parameters = {
        field: _parameter(title, field, value) for field, value in fields.items() if field != "metadata"
    }
    if kind in ("Conv1d", "Conv2d"):
        parameters.setdefault("input_shape", None)
    try:
        with np.errstate(all="ignore"):
            return nir.dict2NIRNode({"type": kind, **parameters, "metadata": metadata})
    except Exception as error:  # nir checks with bare asserts and indexing: any of it means a malformed node
        raise InputError(f"{title} is malformed: {_first_line(error) or type(error).__name__}") from error


def _declare_types(graph: nir.NIRGraph) -> None:
    """Write each node's shapes into it; what nir works out is wrong or missing for several kinds of node."""
    shapes = node_shapes(graph)
    for name, sources in predecessors(graph).items():
        arriving = shapes[sources[0]] if sources else shapes[name]
        graph.nodes[name].input_type = {"input": np.array(arriving)}
        graph.nodes[name].output_type = {"output": np.array(shapes[name])}


def _metadata(title: str, fields: dict[str, Any]) -> dict[str, Any]:
    metadata = fields.get("metadata", {})
    if not isinstance(metadata, dict):
        raise InputError(f"{title}: metadata is not a group")
    return metadata


def _parameter(title: str, field: str, value: Any) -> Any:
    """A field's value if it is what NIR allows: finite numbers, or the name of a padding."""
    if field == "padding" and isinstance(value, str):
        return value
    numbers = np.asarray(value)
    if numbers.dtype.kind not in NUMERIC:
        raise InputError(f"{title}: field {field!r} is {type(value).__name__}, expected numbers")
    if not np.all(np.isfinite(numbers)):
        raise InputError(f"{title}: field {field!r} has NaN or infinite values")
    return value if numbers.shape == () else numbers
