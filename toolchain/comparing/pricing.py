"""What an inference of a trained student costs on one hardware profile.

The student's integer network, as `snnkd export` makes it for Loihi 2 but without its files, runs on some test
samples; what it does there is counted and priced as `snnkd energy` does (single-shot).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ... import Refusal
from ...export.graph import Graph
from ...export.placement import Placement, place
from ...export.target import get_target
from ...hardware_profiles import Profile, load_profile
from ...hardware_profiles.quantities import FAMILY
from ..energy.activity import ActivityCounter, NetworkActivity
from ..energy.admission import refusals
from ..energy.estimate import price
from ..exporting import refuse
from ..quantization.quantize import quantize
from ..run import Run
from ..samples import Samples, choose
from ..simulation.simulator import simulate
from .cells import facts_of_pricing

TARGET = "loihi2"
SAMPLES = 256
"""Test samples, spread evenly, that activity is counted on."""


def price_student(run: Run, profile: str, data_root: Path | None = None) -> dict[str, Any]:
    """The energy of an inference, with bounds.

    Args:
        run: a trained one.
        profile: name of a hardware profile, or its TOML file.

    Returns:
        `profile`, `bits`, `mode`, `samples`, `spikes_per_inference`, `energy_j` {low, nominal, high}, and
        whether that is a `lower_bound`; or `profile` and the `reason` why there is no figure. Besides, the
        hashes of `cells.facts_of_pricing`.

    Raises:
        InputError: the profile is unknown or faulty, or the samples can't be read.
    """
    device = load_profile(profile)
    samples = run.samples(data_root)
    about = {"profile": profile, **facts_of_pricing(run, profile)}
    try:
        return about | _priced(_integers(run, samples), device, samples)
    except Refusal as refusal:
        return about | {"reason": str(refusal)}


def _integers(run: Run, samples: Samples) -> Graph:
    """The run's integer network.

    Raises:
        Refusal: the target can't have it.
    """
    target, graph = get_target(TARGET), run.float_graph()
    refuse(target.check(graph), TARGET)
    bits = run.recipe.quantization.bits
    return quantize(graph, target.constraints, graph.steps, bits, samples.calibration).graph


def _priced(graph: Graph, device: Profile, samples: Samples) -> dict[str, Any]:
    """What an inference of the integer network costs.

    Raises:
        Refusal: the device can't hold it.
    """
    inputs = samples.inputs
    assert isinstance(inputs, np.ndarray), "a recipe's data set has one input"
    chosen = inputs[choose(inputs, SAMPLES)]
    is_chip = device.limits is not None and FAMILY[device.kind] == "chip"
    placements = {device.name: place(graph, device.limits)} if is_chip and device.limits else {}
    activity = _activity(graph, placements, chosen)
    refused = refusals(graph, [device], get_target(TARGET))
    priced = price(activity, graph, [device], 1, [], placements=placements, refused=refused)
    if priced.unfit:
        raise Refusal(f"the network doesn't fit {device.name}: {'; '.join(priced.unfit[0].reasons)}")
    first = priced.estimates[0]
    return {
        "bits": graph.weight_bits,
        "mode": first.mode,
        "samples": len(chosen),
        "spikes_per_inference": activity.spikes.mean,
        "energy_j": first.interval("energy_j"),
        "lower_bound": bool(first.unknown),
    }


def _activity(graph: Graph, placements: dict[str, Placement], inputs: np.ndarray) -> NetworkActivity:
    fitting = {name: placement for name, placement in placements.items() if not placement.problems}
    counter = ActivityCounter(graph, graph.steps, fitting)
    simulate(graph, inputs, graph.steps, [counter])
    return counter.result()
