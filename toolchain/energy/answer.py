"""The whole of energy.json: what the network did, what that costs where, and which figure to quote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...export.graph import Graph
from .activity import NetworkActivity
from .always_on import always_on
from .citation import USES, citation
from .estimate import Estimate, Priced
from .operations import Workload
from .ratios import comparisons
from .requests import at_rate

WHAT = {
    "student": "the spiking network, as it was exported",
    "teacher": "the ANN that the student was distilled from",
    "ann-twin": "an ANN of the student's layers, ReLU for spikes, one pass",
    "int8-twin": "the ANN twin with 8-bit weights and activations",
}


def energy_report(
    activity: NetworkActivity,
    priced: Priced,
    network_hash: str,
    run: str | None = None,
    target: str = "",
    networks: Sequence[Workload] = (),
    rate: float | None = None,
    listening: tuple[Graph, float] | None = None,
    neurobench: dict[str, Any] | None = None,
    judged: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Everything that is known, for JSON.

    Args:
        priced: of this activity.
        network_hash: of the file that the network was lowered from.
        run: the run's name, if it has one.
        target: the profile of the target's chip.
        networks: all that are compared, the student among them.
        rate: requests per second, for `rate`.
        listening: the network and the seconds that a sample lasts, for `always_on`.
        neurobench: NeuroBench's metrics.
        judged: of each family of models, how the estimator fared against measurements.
    """
    answer = {
        "run": run,
        "network_hash": network_hash,
        "samples": activity.samples,
        "activity": activity.as_dict(),
        "neurobench": neurobench,
        "networks": [_network(network) for network in networks],
        "profiles": [estimate.as_row() for estimate in priced.estimates],
        "unfit": [unfit.as_row() for unfit in priced.unfit],
        "ratios": comparisons(priced.estimates, target),
        "rate": at_rate(priced.estimates, rate) if rate is not None else None,
        "always_on": always_on(priced.estimates, activity, *listening) if listening is not None else None,
    }
    headline = to_quote(priced.estimates, target)
    answer["quote"] = [_key(estimate) for estimate in headline]
    answer["judged"] = (judged or {}).get(headline[0].family) if headline else None
    answer["citation"] = citation(answer)
    return answer


def to_quote(estimates: Sequence[Estimate], target: str) -> list[Estimate]:
    """The estimates to quote: the student on the target's chip, or on the first device with a figure."""
    students = [e for e in estimates if e.workload.name == "student"]
    devices = [e.profile.name for e in students if e.family == "chip"]
    devices += [e.profile.name for e in students if e.family == "processor"]
    chosen = target if target in devices else next(iter(devices), None)
    return [e for e in students if e.profile.name == chosen]


def _network(network: Workload) -> dict[str, Any]:
    return {
        "name": network.name,
        "what": WHAT.get(network.name, ""),
        "accuracy": network.accuracy,
        "precision": network.precision,
        "passes": network.passes,
    }


def _key(estimate: Estimate) -> dict[str, Any]:
    """What the row is found by, and what it is the figure for."""
    names = {"profile": estimate.profile.name, "model": estimate.workload.name}
    return names | {"mode": estimate.mode, "batch": estimate.batch, "use": USES[estimate.mode]}
