"""Prices an inference on each hardware profile: joules and seconds with bounds, and what they rest on.

Three families of models: chips count operations (`chip`), processors draw power for a time (`processor`), and
a technology table prices bare additions and multiplications (`technology`). How a result's bounds follow from
those of the constants is `bounds`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ... import InputError
from ...export.graph import Graph
from ...export.placement import Placement
from ...hardware_profiles import Profile
from ...hardware_profiles.quantities import FAMILY
from . import processor, technology
from .activity import NetworkActivity
from .bounds import Bounded, bounded
from .chip import MODES, ChipWork, chip_figures, chip_work, constants_used, unknown_costs
from .figures import Figures, Interval
from .operations import Workload, dense_operations

DEFAULT_BATCH = 64
TIMED = ("static_j", "occupied_s", "latency_s", "power_w")
FIGURES = ("energy_j", "dynamic_j", *TIMED)
"""What a row of energy.json says with bounds; None for those of a technology table that take time."""

OPERATIONS_ONLY = "operations"
"""The mode of a technology table's row: no time, and so no static energy."""


@dataclass(frozen=True)
class Estimate:
    """What an inference of one network costs on one device, done in one way.

    Attributes:
        workload: the network; a chip reads only its name and accuracy.
        mode: "single-shot", "streaming", "batched" or "operations".
        evaluate: the model: constants in SI units → figures.
        used: the constants that it rests on.
        unknown: what the figures leave out since no source gives it.
        steps: that an inference occupies the device for: time steps, or dense passes.
        chips, cores: of a chip, how many the network takes.
        stands_in_for: the chip that is meant, of which nothing is published, where the profile is another's.
    """

    profile: Profile
    workload: Workload
    batch: int
    mode: str
    evaluate: Callable[[Mapping[str, float]], Figures]
    used: tuple[str, ...]
    unknown: tuple[str, ...]
    steps: int
    notes: tuple[str, ...] = ()
    cores: int | None = None
    chips: int | None = None
    stands_in_for: str = ""

    @cached_property
    def result(self) -> Bounded[Figures]:
        """The figures with all constants nominal, and with some moved to either end."""
        return bounded(self.profile, self.evaluate)

    @property
    def family(self) -> str:
        """Which of the models this is."""
        return FAMILY[self.profile.kind]

    @property
    def unverified(self) -> list[str]:
        """The recalled constants (M) among those it rests on."""
        return [name for name in self.used if name in self.profile.unverified]

    @property
    def inferred(self) -> list[str]:
        """The constants among them that no source gives for this device (I): priors and judgement."""
        return [name for name in self.used if self.profile.constants[name].confidence == "I"]

    def interval(self, figure: str) -> Interval | None:
        """One of `FIGURES`, low, nominal and high; None where the device has no time."""
        if figure in TIMED and self.family == "technology":
            return None
        return self.result.interval(lambda figures: _figure(figures, figure))

    def as_row(self) -> dict[str, Any]:
        """The row of energy.json."""
        return {
            "profile": self.profile.name,
            "stands_in_for": self.stands_in_for,
            "kind": self.profile.kind,
            "family": self.family,
            "model": self.workload.name,
            "precision": self.workload.precision,
            "accuracy": self.workload.accuracy,
            "batch": self.batch,
            "mode": self.mode,
            **{figure: self.interval(figure) for figure in FIGURES},
            "steps": self.steps,
            "cores": self.cores,
            "chips": self.chips,
            "description": self.profile.description,
            "boundary": self.profile.boundary,
            "unknown": list(self.unknown),
            "lower_bound": bool(self.unknown),
            "unverified": self.unverified,
            "inferred": self.inferred,
            "notes": list(self.notes),
            "sources": [f"{name}: {self.profile.constants[name].source}" for name in self.used],
            "breakdown": self._breakdown(),
        }

    def _breakdown(self) -> dict[str, Any]:
        """The energy by term, and the dynamic energy by layer."""
        nominal, interval = self.result.nominal, self.result.interval
        terms = {term: interval(lambda f, t=term: f.dynamic_terms[t]) for term in nominal.dynamic_terms}
        terms |= {term: interval(lambda f, t=term: f.static_terms[t]) for term in nominal.static_terms}
        layers = [
            {"name": name, "dynamic_j": interval(lambda f, n=name: f.layers[n])} for name in nominal.layers
        ]
        return {"terms": terms, "static_terms": list(nominal.static_terms), "layers": layers}


@dataclass(frozen=True)
class Unfit:
    """A chip that the network doesn't fit: there is no figure, there are reasons."""

    profile: Profile
    reasons: tuple[str, ...]

    def as_row(self) -> dict[str, Any]:
        """For the `unfit` list of energy.json."""
        return {"profile": self.profile.name, "kind": self.profile.kind, "reasons": list(self.reasons)}


@dataclass(frozen=True)
class Priced:
    """A network on all profiles: what it costs, and where it can't be."""

    estimates: list[Estimate] = field(default_factory=list)
    unfit: list[Unfit] = field(default_factory=list)


def price(
    activity: NetworkActivity,
    graph: Graph,
    profiles: Iterable[Profile],
    batch: int = DEFAULT_BATCH,
    networks: Sequence[Workload] | None = None,
    accuracy: float | None = None,
    placements: Mapping[str, Placement] | None = None,
    refused: Mapping[str, Sequence[str]] | None = None,
    stand_ins: Mapping[str, str] | None = None,
) -> Priced:
    """What an inference of the network costs on each profile.

    On a chip: the student, single-shot and streaming. On a processor: the student (T passes) and the networks
    it is compared with, alone and `batch` at a time. Of a technology table: the operations of each.

    Args:
        activity: of the same graph.
        batch: how many inferences a processor does together, beside one.
        networks: what the student is compared with; None: "ann-twin", an ANN of the same layers (one pass).
        accuracy: the student's.
        placements: on chips, by the profile's name, where they are known.
        refused: by the profile's name, why its chip doesn't take the network, see `admission.refusals`.
        stand_ins: by the profile's name, the chip that it stands in for, see `admission.stand_ins`.

    Raises:
        InputError: the batch isn't a positive number.
    """
    if batch < 1:
        raise InputError(f"batch is {batch}; it must be at least 1")
    layers = dense_operations(graph)
    student = Workload("student", layers, activity.timesteps, accuracy=accuracy)
    compared = [Workload("ann-twin", layers)] if networks is None else list(networks)
    priced = Priced()
    for profile in profiles:
        family = FAMILY[profile.kind]
        if family == "chip":
            work = chip_work(graph, activity, profile, (placements or {}).get(profile.name))
            reasons = tuple((refused or {}).get(profile.name, ()) or work.problems)
            if reasons:
                priced.unfit.append(Unfit(profile, reasons))
            else:
                priced.estimates.extend(
                    _on_chip(work, student, profile, (stand_ins or {}).get(profile.name, ""))
                )
        elif family == "processor":
            priced.estimates.extend(_on_processor([student, *compared], profile, batch))
        else:
            priced.estimates.extend(_of_table(activity, [student, *compared], profile))
    return priced


def estimate(
    activity: NetworkActivity,
    graph: Graph,
    profiles: Iterable[Profile],
    batch: int = DEFAULT_BATCH,
    networks: Sequence[Workload] | None = None,
) -> list[dict[str, Any]]:
    """`price` as rows of energy.json's `profiles`, without the chips that the network doesn't fit.

    `latency_s` is the time until the answer; `occupied_s` the time per inference that static power is paid
    for, shorter where inferences overlap or share a batch; `power_w` is the mean over that time.
    """
    return [row.as_row() for row in price(activity, graph, profiles, batch, networks).estimates]


def _on_chip(work: ChipWork, student: Workload, profile: Profile, meant: str) -> list[Estimate]:
    note = f"priced with the constants of {profile.name}: no figures of {meant} are published"
    return [
        Estimate(
            profile=profile,
            workload=student,
            batch=1,
            mode=mode,
            evaluate=lambda constants, m=mode: chip_figures(work, constants, m),
            used=tuple(constants_used(work, profile)),
            unknown=tuple(unknown_costs(work, profile)),
            steps=work.steps(mode),
            notes=(*([note] if meant else []), *work.notes),
            cores=work.cores,
            chips=work.chips,
            stands_in_for=meant,
        )
        for mode in MODES
    ]


def _on_processor(networks: Sequence[Workload], profile: Profile, batch: int) -> list[Estimate]:
    return [
        Estimate(
            profile=profile,
            workload=network,
            batch=size,
            mode="single-shot" if size == 1 else "batched",
            evaluate=lambda constants, n=network, s=size: processor.processor_figures(n, constants, s),
            used=tuple(processor.constants_used(network, profile)),
            unknown=profile.unknown,
            steps=network.passes,
            notes=(_limit(network, profile, size), *processor.notes(network, profile)),
        )
        for network in networks
        for size in sorted({1, batch})
    ]


def _of_table(activity: NetworkActivity, networks: Sequence[Workload], profile: Profile) -> list[Estimate]:
    """The student's spikes, and the others' MACs, at what the bare operations cost."""

    def figures(constants: Mapping[str, float], dense: Workload | None) -> Figures:
        return technology.technology_figures(None if dense else activity.layers, dense, constants)

    return [
        Estimate(
            profile=profile,
            workload=network,
            batch=1,
            mode=OPERATIONS_ONLY,
            evaluate=lambda constants, d=dense: figures(constants, d),
            used=tuple(technology.constants_used(dense, profile)),
            unknown=tuple(technology.unknown_costs(profile)),
            steps=network.passes,
        )
        for network in networks
        for dense in [None if network.name == "student" else network]
    ]


def _limit(network: Workload, profile: Profile, batch: int) -> str:
    return f"limited by {processor.limited_by(network, profile.corners['nominal'], batch)}"


def _figure(figures: Figures, name: str) -> float:
    if name == "power_w":
        return figures.energy_j / figures.occupied_s
    return getattr(figures, name)
