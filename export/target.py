"""What a target is: a room under `export/` that checks, exports and, where it can, runs a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..models.registry import Registry
from .graph import Graph

TARGETS = Registry(
    "target",
    "snnkd.targets",
    {
        "loihi2": "snnkd.export.loihi2.target:Loihi2",
        "loihi1": "snnkd.export.loihi1.target:Loihi1",
        "norse": "snnkd.export.norse.target:Norse",
        "onnx": "snnkd.export.onnx.target:Onnx",
        "snntorch": "snnkd.export.snntorch.target:SnnTorch",
        "spikingjelly": "snnkd.export.spikingjelly.target:SpikingJelly",
        "speck": "snnkd.export.speck.target:Speck",
        "spinnaker2": "snnkd.export.spinnaker2.target:Spinnaker2",
        "sana-fe": "snnkd.export.sanafe.target:SanaFe",
        "xylo": "snnkd.export.xylo.target:Xylo",
        "xylo-audio2": "snnkd.export.xylo.target:XyloAudio2",
    },
)

HARD_RESET = "one that spikes once and goes to zero"

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""

Inputs = np.ndarray | Mapping[str, np.ndarray]
"""Samples for a network with one input, or for each input by its name: integers, (N, *shape) shown at every
step, or (N, T, *shape)."""


@dataclass(frozen=True)
class Problem:
    """Why a network can't be put on a target: the limit it breaks, where, by how much, and the way out."""

    layer: str
    limit: str
    found: float | str
    allowed: float | str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.layer}: {self.limit} is {self.found}, the target allows {self.allowed}"
        return f"{line}; {self.remedy}" if self.remedy else line


@dataclass(frozen=True)
class Constraints:
    """The integers that a target can hold; quantisation keeps to them (DESIGN: *The integers*).

    Attributes:
        weight_bits: the bits a weight may have.
        threshold_max: largest integer threshold.
        bias_max: largest magnitude of an integer bias.
        accumulator_max: largest magnitude of one step's synaptic sum.
        membrane_max: largest magnitude of a membrane potential, in the integers' unit.
        state_fraction_bits: zero bits below an integer in the membrane (Loihi: 6); a halving is exact until
            they are used up.
        payload_max: largest input payload.
        weight_steps: what a unit of a weight may be worth, the largest first; empty: what Loihi's synapses
            have (`integers.steps`).
        one_threshold: whether all of a population's neurons have the same threshold, and so one scale.
        bias_is_free: whether a population with biases costs no more than one without; if not, none is given
            to one that has none.
    """

    weight_bits: tuple[int, ...]
    threshold_max: int
    bias_max: int
    accumulator_max: int
    membrane_max: int
    state_fraction_bits: int
    payload_max: int
    weight_steps: tuple[int, ...] = ()
    one_threshold: bool = False
    bias_is_free: bool = True


@dataclass(frozen=True)
class Recording:
    """All that a network emitted for N samples of T steps, layer delays already taken out.

    Attributes:
        spikes: for every spiking population, uint8 (N, T, *shape): how many in each step.
        sums: for every read-out, int64 (N, T, *shape): each step's sum, bias excluded; or each step's
            potential, bias included, in the register's lowest bit (2^−state_fraction_bits of an integer).
        seconds: wall-clock time of the run, start-up excluded where the backend can tell.
        figures: what the backend says each sample took of the chip that it simulates, float64 (N,):
            "energy_j", "latency_s" and counts, of a backend that simulates them.
    """

    spikes: dict[str, np.ndarray]
    sums: dict[str, np.ndarray]
    seconds: float = 0.0
    figures: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What an export wrote: file names relative to its folder and facts about the network on the target.

    Attributes:
        cores: how many it takes; None where the target has none.
        placement: the rest of what `placement.Placement.summary` says, of a target that has cores.
    """

    target: str
    bits: int
    files: list[str]
    layers: list[dict[str, Any]]
    cores: int | None
    problems: list[str] = field(default_factory=list)
    placement: dict[str, Any] = field(default_factory=dict)


def peculiarity_problems(graph: Graph) -> list[Problem]:
    """Each population whose neuron isn't the one with a hard reset, for targets that have no other."""
    remedy = "train with the neuron that goes to zero"
    return [
        Problem(population.name, "neuron", f"one that {population.neuron.peculiarity}", HARD_RESET, remedy)
        for population in graph.populations
        if population.neuron is not None and population.neuron.peculiarity
    ]


class Arithmetic(Protocol):
    """The integers of a target that computes otherwise than Loihi 2: how they are made, and what they do.

    It may also have `membrane(graph, inputs, timesteps, name)`, a population's potentials before each reset,
    (T, N, *shape), which say more of a difference.
    """

    def quantize(
        self, graph: Graph, timesteps: int, bits: int, calibration: Inputs | None
    ) -> tuple[Graph, dict[str, dict[str, Any]]]:
        """The integer network of a float one, and a report of each population by its name.

        Raises:
            Refusal: it can't hold on the target.
        """
        ...

    def record(self, graph: Graph, inputs: Inputs, timesteps: int) -> Recording:
        """What an integer network emits on the target, by our own model of it.

        Raises:
            InputError: the inputs don't fit.
        """
        ...


def arithmetic_of(room: Target) -> Arithmetic | None:
    """The arithmetic that a target brings; None where it has the project's."""
    return getattr(room, "arithmetic", None)


def own_placement(room: Target, graph: Graph) -> dict[str, Any] | None:
    """Where a target that has a `placement` of its own puts a network."""
    placement = getattr(room, "placement", None)
    return None if placement is None else placement(graph)


def is_executable(room: Target) -> bool:
    """Whether there is anything to run a target's networks in."""
    return getattr(room, "executable", True)


class Target(Protocol):
    """The contract of a room under `export/`.

    Attributes:
        name: what users type after `--target`.
        description: one line for `snnkd list targets`.
        backend: what `run` executes on, as results name it ("lava-fixed-point").
        profile: the hardware profile that its energy is estimated with.
        constraints: the integers that it can hold.
        placement: optional; says of a network where it lies, as `placement.Placement.summary` does, of a
            target whose cores are not the profile's.

    It may have an `arithmetic` (`Arithmetic`), without which the project's quantisation and simulation are
    its own, and say `executable = False`: then `run` raises InputError, there being no simulator. It may take
    the float networks too: `float_networks.WritesFloats`.
    """

    name: str
    description: str
    backend: str
    profile: str
    constraints: Constraints

    def check(self, graph: Graph) -> list[Problem]:
        """Every limit that `graph` (float or integer) breaks; an empty list means that it fits."""
        ...

    def export(self, graph: Graph, folder: Path) -> Manifest:
        """Write artefacts that run without snnkd into `folder`, and `manifest.json`.

        Raises:
            Refusal: the network breaks a limit, each of them named.
        """
        ...

    def run(
        self,
        folder: Path,
        inputs: Inputs,
        timesteps: int,
        time_limit: float,
        progress: Progress | None = None,
    ) -> Recording:
        """Execute what `export` wrote, as it lies in `folder`.

        Args:
            inputs: the samples.
            timesteps: T.
            time_limit: seconds after which the run is ended and reported.

        Raises:
            InputError: a package is missing, the files can't be read, the run hung or died.
        """
        ...


def get_target(name: str) -> Target:
    """The target called `name`, from this package or another one's `snnkd.targets` entry point.

    Raises:
        InputError: there is no such target, or what it needs isn't installed.
    """
    return TARGETS.load(name)()
