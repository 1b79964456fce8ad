"""What a run has besides the integer network, for targets that write it too: a target's optional half."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .graph import Graph
from .target import Inputs, Progress


@dataclass(frozen=True)
class FloatNetwork:
    """A float network, and what it computes where it comes from.

    Attributes:
        graph: the network lowered; a teacher's as `ann.ann_to_graph` makes it.
        logits: samples → float32 (N, K).
    """

    graph: Graph
    logits: Callable[[Inputs], np.ndarray]


Watched = dict[str, tuple[np.ndarray, np.ndarray]]
"""Of every spiking population its spikes, uint8, and its potentials before each reset, float64, both
(N, T, *shape)."""


@dataclass(frozen=True)
class FloatNetworks:
    """The networks before quantisation.

    Attributes:
        student: what was quantised.
        watch: samples → what its neurons do where it comes from.
        reference: where that is, for results to name: "torch" or "simulator".
        teacher: an ANN, or None.
        no_teacher: why there is none.
        calibration: samples for int8.
        calibrated_on: what they are: "validation split", or "given samples".
    """

    student: FloatNetwork
    watch: Callable[[Inputs], Watched]
    reference: str
    teacher: FloatNetwork | None
    no_teacher: str
    calibration: Inputs
    calibrated_on: str


@runtime_checkable
class WritesFloats(Protocol):
    """A target that takes the float networks as well."""

    name: str
    backend: str

    def export_floats(self, networks: FloatNetworks, folder: Path) -> dict[str, Any]:
        """Write them into `folder`, which `export` has filled.

        Returns:
            {"files": what was written besides, "left_out": {what: why}, …}
        """
        ...

    def validate_floats(
        self,
        networks: FloatNetworks,
        folder: Path,
        inputs: Inputs,
        labels: np.ndarray | None,
        time_limit: float,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Run what was written on `inputs` and compare it with the networks.

        Returns:
            {"unexplained": what differs without an excuse, each in a line, …}

        Raises:
            InputError: something is missing or can't be read, or a run hung or died.
        """
        ...
