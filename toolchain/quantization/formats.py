"""What a unit of a population's weights is worth: the power of two g that its synapses' exponent gives.

With few bits the plain g = 2^(9−b) is large. Then a channel's scale k, which makes its weights multiples of
g, makes its bias and its sums of pixels outgrow their registers; k has to shrink, and the weights with it,
to nothing. A smaller g lets the same mantissas go with a smaller k, at the price of a coarser threshold and
bias. The largest g is taken whose rounding errors are about as small as any's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ... import Refusal
from ...export.bounds import by_channel
from ...export.graph import Population, Synapse
from ...export.integers import steps
from ...export.target import Constraints
from .scales import Format, Rules, largest_weight, multiplied, to_integers

PRESENT = 0.1
"""Mean square of what a source emits, as a share of its largest payload's square: it is mostly silent."""

AS_SMALL = 1.1
"""How many times the least error of any g a larger g may have."""


def choose_rules(
    population: Population,
    payload: dict[str, int],
    timesteps: int,
    bits: int,
    constraints: Constraints,
    clip_ratios: tuple[float, ...],
) -> Rules:
    """The rules of a population with threshold 1 (or a read-out), its weights' format chosen.

    Single bits that are trained only ever change signs: their ranges hold for all signs, where they can.

    Args:
        payload: the largest payload of every source.
        clip_ratios: candidates for the largest weight that keeps its own integer, as shares of a channel's
            largest; each channel's error is that of its best.

    Raises:
        Refusal: under no format does any scale hold, with layer, channel and excess.
    """
    refusals = []
    for any_signs in (True, False) if bits == 1 else (False,):
        found: list[tuple[Rules, float]] = []
        for step in constraints.weight_steps or steps(bits):
            rules = Rules(population, payload, timesteps, Format(bits, step), constraints, any_signs)
            try:
                ratios, error = _best(rules, clip_ratios)
            except Refusal as refusal:
                refusals.append(refusal)
                continue
            found.append((rules, error))
            if rules.weights_decide(largest_weight(population) * ratios):
                break  # nothing shrinks the mantissas: a smaller g would only make threshold and bias coarser
        if found:
            least = min(error for _, error in found)
            return next(rules for rules, error in found if error <= AS_SMALL * least)
    raise refusals[-1]


def best_ratios(rules: Rules, candidates: tuple[float, ...]) -> np.ndarray:
    """Of each channel the candidate of least rounding error, (C,); of a read-out one for all classes."""
    return _best(rules, candidates)[0]


def _best(rules: Rules, candidates: tuple[float, ...]) -> tuple[np.ndarray, float]:
    """`best_ratios`, and the errors that they leave, summed over the channels."""
    clip = largest_weight(rules.population)
    errors = np.array([rounding_errors(rules, rules.largest_scales(clip * ratio)) for ratio in candidates])
    if rules.one_scale:
        best = int(errors.sum(axis=1).argmin())
        return np.full(errors.shape[1], candidates[best]), float(errors[best].sum())
    return np.array(candidates)[errors.argmin(axis=0)], float(errors.min(axis=0).sum())


def rounding_errors(rules: Rules, scales: np.ndarray) -> np.ndarray:
    """The mean square of what rounding adds to a step's input, (C,), sources taken to be independent."""
    exact = rules.population
    rounded = multiplied(to_integers(exact, scales, rules.form), 1 / scales)
    bias = by_channel(rounded.bias - exact.bias, exact.shape)
    errors = (bias**2).mean(axis=1)
    for before, after in zip(exact.synapses, rounded.synapses, strict=True):
        change = replace(after, weight=after.weight - before.weight)
        errors = errors + PRESENT * rules.payload[before.source] ** 2 * _squares(change)
    return errors


def _squares(synapse: Synapse) -> np.ndarray:
    """Σ w² over a neuron's synapses, the mean over a channel's neurons, (C,)."""
    if synapse.kind == "identity":
        return (by_channel(synapse.weight, synapse.shape) ** 2).mean(axis=1)
    return (synapse.weight**2).reshape(synapse.shape[0], -1).sum(axis=1)
