"""A network in the NIR that py-spinnaker2's reader, `spinnaker2.s2_nir.from_nir`, takes rightly.

With forward Euler it makes v ← (1 − dt/τ)·v + Σ w·s + bias of a LIF, compared with v_threshold·τ/(dt·r):
the encoding of `nir.py` comes out as the integers. Two things are written otherwise for it:

- an IF adds r times its input at each step, whatever dt is: r is 1;
- a Flatten right behind neurons is passed over, and the path with it; one behind a SumPool2d isn't, so a
  window of one neuron stands between.
"""

from __future__ import annotations

from dataclasses import replace

import nir
import numpy as np

from ..graph import Graph
from ..metadata import DT
from ..nir import to_nir

CONVERSION = {
    "dt": DT,
    "conn_delay": 0,
    "scale_weights": False,
    "integrator": "Forward-Euler",
    "reset": "zero",
}
"""The fields of `s2_nir.ConversionConfig` with which the file means what it says."""


def readable(graph: Graph) -> nir.NIRGraph:
    """An integer network with none of `limits.problems`, for that reader."""
    written = to_nir(graph)
    nodes, edges = dict(written.nodes), list(written.edges)
    for name, node in written.nodes.items():
        if isinstance(node, nir.IF):
            nodes[name] = replace(node, r=np.ones_like(node.r))
        elif isinstance(node, nir.Flatten):
            window = f"{name}_window"
            nodes[window] = _window(node.input_type["input"])
            edges = [(source, window if end == name else end) for source, end in edges]
            edges.append((window, name))
    return nir.NIRGraph(nodes, edges, metadata=written.metadata, type_check=False)


def _window(shape: np.ndarray) -> nir.SumPool2d:
    one = np.array([1, 1])
    pool = nir.SumPool2d(kernel_size=one, stride=one, padding=np.array([0, 0]))
    pool.input_type, pool.output_type = {"input": np.array(shape)}, {"output": np.array(shape)}
    return pool
