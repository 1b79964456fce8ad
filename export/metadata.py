"""What snnkd notes in a NIR file besides the network: `metadata["snnkd"]` of the graph and of its nodes.

A reader that doesn't know the notes is right too. HDF5 gives values back as NumPy scalars; here they are made
plain and checked.
"""

from __future__ import annotations

import reprlib
from typing import Any

import nir
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from .. import InputError

DT = 1e-4
"""Seconds per step. snnTorch knows no other."""

METADATA = "snnkd"
"""Where snnkd keeps its own notes in a graph's or a node's metadata."""


class Header(BaseModel):
    """What a graph's `metadata["snnkd"]` holds.

    Attributes:
        schema_version: of these notes.
        dt: seconds per step.
        timesteps: steps T per sample.
        bits: of a weight, where weights, biases and thresholds are the chip's integers.
        readout_scale: see `Graph.readout_scale`.
        reset: what a spike does to the membrane potential: "zero", or "subtract", where its neurons say
            more.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True, allow_inf_nan=False)

    schema_version: PositiveInt = Field(default=1, alias="schema", le=1)
    dt: PositiveFloat = DT
    timesteps: PositiveInt | None = None
    bits: int | None = Field(default=None, ge=1, le=8)
    readout_scale: PositiveFloat = 1.0
    reset: str = "zero"

    def as_metadata(self) -> dict[str, Any]:
        """A graph's metadata with these notes in it."""
        return {METADATA: self.model_dump(by_alias=True, exclude_none=True)}


def note(**values: Any) -> dict[str, Any]:
    """A node's metadata with snnkd's notes in it.

    A neuron notes its `decay` (and `current_decay`), its `scale`, the threshold as the graph has it, and the
    `bias` that its v_leak stands for; one that takes its threshold away when it spikes notes that as `reset`
    "subtract" with its `max_spikes` (one that takes away more than it fires at notes how much, as `subtract`,
    in place of them), one whose input decays with its current `decays_input`; a weight that is an integer its
    `weight_exp` (w = q·2^weight_exp); an Input as `input` its largest payload.
    """
    return {METADATA: values}


def notes(node: nir.NIRNode) -> dict[str, Any]:
    """snnkd's notes on a node or graph: plain Python values, and arrays."""
    found = node.metadata.get(METADATA, {})
    values = {key: np.asarray(value) for key, value in found.items()} if isinstance(found, dict) else {}
    return {key: value if value.shape else value.item() for key, value in values.items()}


def header(graph: nir.NIRGraph) -> Header:
    """What `graph` says about itself; the defaults where it says nothing.

    Raises:
        InputError: a note has a value that makes no sense, or is of a newer schema.
    """
    try:
        return Header(**notes(graph))
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(map(str, first['loc']))} = {reprlib.repr(first['input'])}"
        raise InputError(f'metadata["{METADATA}"] has {found}: {first["msg"]}') from error
