"""A NIR file in place of a trained run: a run folder around it, with samples in place of a data set."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np

from .. import InputError
from ..export.files import atomic_path
from ..export.graph import Graph, InputPort
from ..export.lowering import lower
from ..export.nir import read_nir, to_nir, write_nir
from .run import RUNS, Run

RANDOM_SAMPLES = 64
"""Samples of `--inputs random`."""

RANDOM_RATE = 0.2
"""Spikes per input and step of `--inputs random`, where the input takes binary spikes."""


def run_from_nir(
    file: Path,
    inputs: str | Path | np.ndarray | None = None,
    labels: str | Path | np.ndarray | None = None,
    timesteps: int | None = None,
    seed: int | None = None,
) -> Run:
    """A run around a NIR file; the same file gives the same folder, with what was exported into it before.

    Args:
        inputs: integers (N, *shape) or frames (N, T, *shape): an array, a .npy file, a file of NIR's
            TimeGriddedData, or "random". None: the samples that the folder holds already, else "random".
        labels: int64 (N,): an array or a .npy file.
        timesteps: steps per sample, where the file doesn't say.
        seed: of random inputs (0 by default).

    Raises:
        InputError: the file isn't NIR, or inputs or labels don't fit it.
        Refusal: the network holds what can't be lowered.
    """
    run = Run(RUNS / f"{file.stem}-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}")
    known = run.float_graph().timesteps if run.network_file.exists() else None
    graph = lower(read_nir(file), timesteps=timesteps)
    graph = replace(graph, timesteps=graph.timesteps or known)
    if graph.timesteps is None:
        raise InputError(f"{file} doesn't say how many steps a sample takes; say it with --timesteps")
    if graph.timesteps != known:
        run.discard_results()
        write_nir(run.network_file, to_nir(graph))
    if not run.from_nir or any(option is not None for option in (inputs, labels, seed)):
        _write_samples(run, graph, inputs, labels, seed)
    run.samples_file.touch()  # the run that was used last is the latest
    return run


def _write_samples(
    run: Run,
    graph: Graph,
    inputs: str | Path | np.ndarray | None,
    labels: str | Path | np.ndarray | None,
    seed: int | None,
) -> None:
    """Write inputs and labels; inputs that aren't given are those there already, else random ones."""
    if inputs is None and seed is None and run.from_nir:
        samples = run.samples().inputs
    elif inputs is None or (isinstance(inputs, str) and inputs == "random"):
        print(f"inputs: {RANDOM_SAMPLES} random samples, seed {seed or 0}", file=sys.stderr)
        samples = _random_inputs(graph.inputs[0], graph.steps, seed or 0)
    elif seed is not None:
        raise InputError(f"--seed goes with random inputs, and {inputs} are given")
    else:
        samples = inputs if isinstance(inputs, np.ndarray) else _read_inputs(Path(inputs))
    arrays = {"inputs": _checked_inputs(samples, graph.inputs[0], graph.steps)}
    if labels is not None:
        arrays["labels"] = _checked_labels(labels, len(samples))
    with atomic_path(run.samples_file) as temporary:
        np.savez_compressed(temporary, **arrays)  # pyright: ignore[reportArgumentType]


def _checked_labels(labels: str | Path | np.ndarray, samples: int) -> np.ndarray:
    """`labels` as int64, one per sample.

    Raises:
        InputError: another number of them, or no integers.
    """
    given = labels if isinstance(labels, np.ndarray) else _read_array(Path(labels))
    if given.shape != (samples,) or given.dtype.kind not in "iu":
        raise InputError(f"labels must be {samples} integers, found {given.dtype} of shape {given.shape}")
    return given.astype(np.int64)


def _random_inputs(port: InputPort, timesteps: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if port.payload_max == 1:
        shape = (RANDOM_SAMPLES, timesteps, *port.shape)
        return (generator.random(shape) < RANDOM_RATE).astype(np.uint8)
    return generator.integers(0, port.payload_max + 1, (RANDOM_SAMPLES, *port.shape), dtype=np.uint8)


def _checked_inputs(samples: np.ndarray, port: InputPort, timesteps: int) -> np.ndarray:
    """`samples` as uint8, in the shape (N, *shape) or (N, T, *shape).

    Raises:
        InputError: another shape, or values that the input can't take.
    """
    shapes = (port.shape, (timesteps, *port.shape))
    if samples.shape[1:] not in shapes or not len(samples):
        raise InputError(
            f"inputs have shape {samples.shape}, "
            f"expected (N, *{port.shape}) or (N, {timesteps}, *{port.shape})"
        )
    whole = samples.dtype.kind in "biu" or bool((samples == np.floor(samples)).all())
    if not whole or samples.min() < 0 or samples.max() > port.payload_max:
        raise InputError(
            f"inputs range from {samples.min()} to {samples.max()}, expected integers 0 … {port.payload_max}"
        )
    return samples.astype(np.uint8)


def _read_inputs(path: Path) -> np.ndarray:
    """A .npy array, or the one TimeGriddedData (N, T, n) in a file of NIR data."""
    if path.suffix == ".npy":
        return _read_array(path)
    try:
        data: Any = nir.read_data(str(path))
        nodes = list(data.nodes.values())
        (observable,) = nodes[0].observables.values()
        return np.asarray(observable.data)
    except (OSError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InputError(
            f"can't read inputs from {path} ({error}); give a .npy file or one node's TimeGriddedData"
        ) from error


def _read_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"can't read {path} as a NumPy array ({error})") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive of arrays, expected one array as numpy.save writes it")
    return array
