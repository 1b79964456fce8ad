"""How far a network can drive its registers, whatever it is shown: the proof behind "exact" and "proven".

Bounds are magnitudes in arrays (C, M): C output channels (a dense population has one per neuron) of M
neurons each, or M = 1 where a channel's neurons share one value. A convolution's bound is that of a neuron
whose kernel lies wholly inside the map; at the border it can only be smaller.
"""

from __future__ import annotations

import numpy as np

from .graph import Graph, Neuron, Population, Synapse


def payloads(graph: Graph) -> dict[str, int]:
    """The largest payload of every source: an input's `payload_max`, a population's spikes in a step."""
    return {p.name: p.neuron.max_spikes if p.neuron else 1 for p in graph.populations} | {
        port.name: port.payload_max for port in graph.inputs
    }


def by_channel(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`array`, broadcastable to a population's `shape`, as (C, M)."""
    return np.broadcast_to(array, shape).reshape(shape[0], -1)


def fan_in(synapse: Synapse) -> int:
    """Synapses of one path into one neuron, the kernel lying inside the map."""
    return 1 if synapse.kind == "identity" else int(np.prod(synapse.weight.shape[1:]))


def path_drive(synapse: Synapse, payload: int) -> tuple[np.ndarray, np.ndarray]:
    """One path's largest excitation and inhibition of one step, each (C, M).

    All excitatory sources at their largest payload and all inhibitory ones silent, or the reverse.
    """
    weight = payload * np.asarray(synapse.weight, np.float64)
    if synapse.kind == "identity":
        rows = by_channel(weight, synapse.shape)[..., None]
    else:
        rows = weight.reshape(synapse.shape[0], -1, fan_in(synapse))
    return np.maximum(rows, 0).sum(axis=-1), np.maximum(-rows, 0).sum(axis=-1)


def drive(population: Population, payload: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """A⁺ and A⁻, the largest excitation and inhibition of one step over all paths, each (C, M)."""
    excitation = inhibition = np.zeros((population.shape[0], 1))
    for synapse in population.synapses:
        up, down = path_drive(synapse, payload[synapse.source])
        excitation, inhibition = excitation + up, inhibition + down
    return excitation, inhibition


def current_reach(
    neuron: Neuron, excitation: np.ndarray, inhibition: np.ndarray, timesteps: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """How far the synaptic current u can go up and down within T steps (None: however many), each (C, M).

    A±·(1 + c + … + c^(T−1)), nothing ever resetting u; one step's A± where the current has no memory.
    """
    memory = steps_remembered(neuron.current_decay, timesteps)
    return excitation * memory, inhibition * memory


def membrane_reach(
    population: Population, up: np.ndarray, down: np.ndarray, timesteps: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """How far v can go up and down within T steps (None: however many), before a reset, each (C, M).

    Up: a potential that has just missed its threshold θ, decayed, plus the largest current: U⁺ + a·θ. Down:
    the lowest current at every step: U⁻·(1 + a + … + a^(T−1)), and so upward where θ is infinite. A bias
    counts on the side of its sign.

    Args:
        up, down: the largest magnitudes of the current, from `current_reach`; without memory, A⁺ and A⁻.
    """
    neuron = population.neuron
    assert neuron is not None
    bias = by_channel(population.bias, population.shape)
    threshold = by_channel(neuron.threshold, population.shape)
    memory = steps_remembered(neuron.decay, timesteps)
    rise, fall = up + np.maximum(bias, 0), down + np.maximum(-bias, 0)
    resets = np.isfinite(threshold)
    kept = neuron.decay * np.maximum(np.where(resets, threshold, 0), 0)
    return np.where(resets, rise + kept, _times(rise, memory)), _times(fall, memory)


def steps_remembered(decay: float, timesteps: int | None) -> float:
    """1 + a + … + a^(T−1); for ever where T isn't known."""
    if timesteps is None:
        return np.inf if decay == 1 else 1 / (1 - decay)
    return sum(decay**step for step in range(timesteps))


def _times(values: np.ndarray, factor: float) -> np.ndarray:
    """`values` · `factor`, zero staying zero under an infinite factor."""
    return np.multiply(values, factor, where=values > 0, out=np.zeros_like(values))
