"""NIR's neurons as `graph.Neuron`: one forward Euler step of dt, in units that leave the weights alone.

NIR's equations, discretised with the current before the potential, as `graph.Neuron` has them:

    I[t] = b·I[t−1] + (1 − b)·w_in·x[t]                      b = 1 − dt/τ_syn (CubaLIF, CubaLI; else I = x)
    v[t] = a·v[t−1] + (1 − a)·(v_leak + r·I[t])              a = 1 − dt/τ_mem

snnTorch's `Synaptic`, SpikingJelly's `CUBALIFNode` and norse's reader of CubaLIF compute the same; NIR itself
leaves the order open, and a reader that lets v see I[t−1] is a step later.

A sample begins with v = v_reset and I = 0. Where r·(1 − a) is 1 but for rounding, as snnTorch and
SpikingJelly write it, v is the file's own; otherwise it is measured in units of 1 − a, so that r alone
multiplies the weights. v_leak is then a constant bias, or, where v also resets to it, the origin that v is
measured from.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np

from .. import InputError, Refusal
from .graph import Neuron, compact
from .metadata import METADATA, notes
from .shapes import Shape

DECAY_STEPS = (2**12, 10**6)
"""A decay read from a rounded τ is taken to be a multiple of 1/4096, what a chip has, or of 10⁻⁶, what people
type, where that gives this τ."""

TAU_ULPS = 2
"""How many units in its last place a τ may be off for the decay that it stands for."""

UNITY_ULPS = 8
"""The same for a product that is meant to be 1."""

READOUT_NEURONS = (nir.I, nir.LI, nir.CubaLI)
"""Neurons that show their potential and never spike."""


RESETTING = (nir.IF, nir.LIF, nir.CubaLIF)
"""Neurons that a spike resets."""


@dataclass(frozen=True)
class Reading:
    """A node's neuron, the factor of its input, and what is added to v at every step (both broadcastable)."""

    neuron: Neuron
    gain: np.ndarray
    bias: np.ndarray


def read_neuron(node: nir.NIRNode, dt: float, shape: Shape) -> Reading:
    """The neuron of a population of `shape`, whose node has one number for all or one for each.

    Raises:
        InputError: a time constant isn't positive.
        Refusal: `graph.Neuron` can't be it; the constant and the way out named.
    """
    reading = NEURON_KINDS[type(node)](node, dt)
    threshold = compact(reading.neuron.threshold, shape)
    return Reading(
        replace(reading.neuron, threshold=threshold, **_peculiarities(node)), reading.gain, reading.bias
    )


def _peculiarities(node: nir.NIRNode) -> dict[str, Any]:
    """What a node notes of a reset by subtraction and of an input that decays; nothing by default.

    Raises:
        InputError: a note has a value that makes no sense.
    """
    noted = {name: value for name, value in notes(node).items() if name in _PECULIAR}
    for name, value in noted.items():
        if not _PECULIAR[name](value):
            raise InputError(f'metadata["{METADATA}"] has {name} = {value!r}, which makes no sense')
    if noted.get("reset") == "subtract" and np.any(getattr(node, "v_reset", 0)):
        raise Refusal("resets by subtraction and has a v_reset as well; leave one of them out")
    if noted.get("max_spikes", 1) > 1 and noted.get("reset") != "subtract":
        raise Refusal("spikes several times in a step, which only a reset by subtraction allows")
    return noted


_PECULIAR: dict[str, Callable[[Any], bool]] = {
    "reset": lambda value: isinstance(value, str) and value in ("zero", "subtract"),
    "max_spikes": lambda value: type(value) is int and value >= 1,
    "decays_input": lambda value: isinstance(value, bool),
}
"""The notes that change what a neuron does, and what each may be."""


def _lif(node: nir.LIF, dt: float) -> Reading:
    decay = _decay(node, "tau", dt, "decay")
    return _spiking(node, decay, 0.0, np.ones(1))


def _cuba_lif(node: nir.CubaLIF, dt: float) -> Reading:
    current_decay = _decay(node, "tau_syn", dt, "current_decay")
    inflow = _unity(node.w_in, _inflow(node, current_decay))
    return _spiking(node, _decay(node, "tau_mem", dt, "decay"), current_decay, inflow)


def _inflow(node: nir.CubaLIF | nir.CubaLI, current_decay: float) -> float:
    """What multiplies w_in: 1 − b, or what makes up for the input's own decay where that is noted."""
    share = 1 - current_decay
    return share / current_decay if notes(node).get("decays_input") and current_decay else share


def _spiking(node: nir.LIF | nir.CubaLIF, decay: float, current_decay: float, inflow: np.ndarray) -> Reading:
    leak = 1 - decay
    origin = _origin(node)
    own_units = np.all(_unity(node.r, leak) == 1)
    threshold = _height(node, origin) if own_units else _in_leaks(node, origin, leak)
    bias = (node.v_leak - origin) * (leak if own_units else 1)
    gain = inflow if own_units else inflow * node.r
    return Reading(Neuron(decay, threshold, current_decay), gain, _leaked_bias(node, bias))


def _li(node: nir.LI, dt: float) -> Reading:
    decay = _decay(node, "tau", dt, "decay")
    return _showing(node, decay, 0.0, _unity(node.r, 1 - decay))


def _cuba_li(node: nir.CubaLI, dt: float) -> Reading:
    decay = _decay(node, "tau_mem", dt, "decay")
    current_decay = _decay(node, "tau_syn", dt, "current_decay")
    inflow = _unity(node.w_in, _inflow(node, current_decay))
    return _showing(node, decay, current_decay, inflow * _unity(node.r, 1 - decay))


def _showing(node: nir.LI | nir.CubaLI, decay: float, current_decay: float, gain: np.ndarray) -> Reading:
    """A read-out of potentials: v is the file's own, since people look at it."""
    neuron = Neuron(decay, np.full(1, np.inf), current_decay)
    return Reading(neuron, gain, _leaked_bias(node, node.v_leak * (1 - decay)))


def _i(node: nir.I, dt: float) -> Reading:
    return Reading(Neuron(1.0, np.full(1, np.inf)), _unity(node.r, dt), np.zeros(1))


def _if(node: nir.IF, dt: float) -> Reading:
    if np.any(node.v_reset):
        raise Refusal(
            f"v_reset is {_first(node.v_reset):g}, only 0 is supported; measure the potentials from there"
        )
    return Reading(Neuron(1.0, _float64(node.v_threshold)), _unity(node.r, dt), np.zeros(1))


def _threshold(node: nir.Threshold, dt: float) -> Reading:
    """No state at all: each step starts afresh."""
    return Reading(Neuron(0.0, _float64(node.threshold)), np.ones(1), np.zeros(1))


NEURON_KINDS: dict[type[nir.NIRNode], Callable[[Any, float], Reading]] = {
    nir.LIF: _lif,
    nir.CubaLIF: _cuba_lif,
    nir.IF: _if,
    nir.Threshold: _threshold,
    nir.LI: _li,
    nir.CubaLI: _cuba_li,
    nir.I: _i,
}
"""How each node's constants become a `graph.Neuron`'s."""


def _decay(node: nir.NIRNode, field: str, dt: float, note: str) -> float:
    """1 − dt/τ: as noted or as a round number, if that gives this τ, otherwise as it comes out."""
    values = getattr(node, field)
    taus = np.unique(values.astype(np.result_type(values, np.float32)))
    tau = taus[0]
    if tau <= 0:
        raise InputError(f"{field} is {tau:g} s, expected a positive time")
    if len(taus) > 1:
        raise Refusal(
            f"{field} differs within the population ({tau:g} … {taus[-1]:g} s); make it one number, or split "
            f"the population"
        )
    if not dt <= tau:
        raise Refusal(
            f"{field} is {tau:g} s, shorter than a step of {dt:g} s; give the time step that the network is "
            f"for (--dt)"
        )
    decay = 1 - dt / float(tau)
    if decay == 1:
        raise Refusal(f"{field} is {tau:g} s, so long that a step of {dt:g} s leaks nothing; use IF")
    candidates = [notes(node).get(note), *(round(decay * steps) / steps for steps in DECAY_STEPS)]
    for candidate in candidates:
        if isinstance(candidate, float) and 0 <= candidate < 1:
            off = abs(type(tau)(dt / (1 - candidate)) - tau)
            if off <= TAU_ULPS * np.spacing(tau):
                return candidate
    return decay


def _unity(factor: np.ndarray, share: float) -> np.ndarray:
    """`factor`·`share`, exactly 1 where it is that but for the rounding of `factor`."""
    eps = np.finfo(np.result_type(factor, np.float32)).eps
    product = _float64(factor) * share
    return np.where(np.abs(product - 1) <= UNITY_ULPS * eps, 1.0, product)


def _origin(node: Any) -> np.ndarray:
    """What v is measured from: 0, or v_reset where v also leaks to it."""
    if np.any(node.v_reset) and not np.array_equal(node.v_leak, node.v_reset):
        raise Refusal(
            f"v_reset is {_first(node.v_reset):g}, only 0 is supported, or what v_leak is; measure the "
            f"potentials from there"
        )
    return _float64(node.v_reset)


def _height(node: nir.LIF | nir.CubaLIF, origin: np.ndarray) -> np.ndarray:
    return _float64(node.v_threshold) - origin


def _in_leaks(node: nir.LIF | nir.CubaLIF, origin: np.ndarray, leak: float) -> np.ndarray:
    """v_threshold in units of the leak: as noted, if that gives the very v_threshold, or as it comes out."""
    height = _height(node, origin)
    noted = _noted(
        node, "scale", lambda scale: np.array_equal(np.broadcast_to(leak * scale, height.shape), height)
    )
    return height / leak if noted is None else noted


def _leaked_bias(node: Any, bias: np.ndarray) -> np.ndarray:
    """The bias that v_leak makes: as noted, if that is this one but for rounding, or as it comes out."""
    close = UNITY_ULPS * np.finfo(np.float64).eps
    noted = _noted(
        node, "bias", lambda noted: np.allclose(np.broadcast_to(noted, bias.shape), bias, close, 0)
    )
    return bias if noted is None else noted


def _noted(node: nir.NIRNode, name: str, agrees: Callable[[np.ndarray], bool]) -> np.ndarray | None:
    """The array noted as `name`, if it `agrees` with the node's own numbers."""
    noted = np.asarray(notes(node).get(name, np.nan))
    with suppress(ValueError):  # a note that doesn't broadcast is none
        if noted.dtype == np.float64 and agrees(noted):
            return noted
    return None


def _float64(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _first(values: Any) -> float:
    """The first value that isn't 0."""
    flat = np.ravel(values)
    return float(flat[np.flatnonzero(flat)[0]])
