"""One population compiled to tensors, in float32 or in the chip's registers."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch
from torch import Tensor

from ...export.bounds import path_drive
from ...export.graph import Population
from ...models.neurons import lif_forward
from . import fixed_point
from .fixed_point import INTEGER_MAX
from .synapses import FLOAT32_EXACT, Emitted, Path


class FloatLayer:
    """A float network's population, or an integer one's that is proven exact in float32."""

    unit = 1.0

    def __init__(self, population: Population, payload: dict[str, int], timesteps: int, device: torch.device):
        self.population, self.timesteps = population, timesteps
        self.paths = [Path(s, _tensor(s.weight, torch.float32, device)) for s in population.synapses]
        self.bias = _tensor(population.bias, torch.float32, device)
        if population.neuron is not None:
            self.decay = population.neuron.decay
            self.threshold = _tensor(population.neuron.threshold, torch.float32, device)

    def sums(self, emitted: Emitted) -> Tensor:
        """The synaptic sums, bias excluded, (S, B, *shape)."""
        return reduce(torch.add, [path.sums(emitted, self.timesteps) for path in self.paths])

    def fire(self, emitted: Emitted) -> tuple[Tensor, Tensor]:
        """Its spikes, uint8, and its potentials before each reset, float32; both (T, B, *shape)."""
        current = self.sums(emitted) + self.bias
        spikes, membrane = lif_forward(over_time(current, self.timesteps), self.decay, self.threshold)
        return spikes.to(torch.uint8), membrane


class FixedPointLayer:
    """An integer network's population in 24-bit registers."""

    unit = 2.0**-fixed_point.FRACTION_BITS

    def __init__(self, population: Population, payload: dict[str, int], timesteps: int, device: torch.device):
        self.population, self.timesteps = population, timesteps
        self.bounds = [np.max(path_drive(s, payload[s.source])) for s in population.synapses]
        self.paths = [
            Path(s, _tensor(s.weight, torch.float32 if bound < FLOAT32_EXACT else torch.float64, device))
            for s, bound in zip(population.synapses, self.bounds, strict=True)
        ]
        if population.neuron is not None:
            # No potential passes INTEGER_MAX, so a larger threshold can stand at the next integer.
            reachable = np.clip(population.neuron.threshold, -INTEGER_MAX - 1, INTEGER_MAX + 1)
            self.kept = fixed_point.kept_4096ths(population.neuron.decay)
            self.bias = _tensor(population.bias, torch.int32, device)
            self.threshold = _tensor(reachable, torch.int32, device)

    def sums(self, emitted: Emitted) -> Tensor:
        """The synaptic sums, bias excluded, int32 (S, B, *shape)."""
        received = [
            self._received(path, bound, emitted) for path, bound in zip(self.paths, self.bounds, strict=True)
        ]
        return reduce(torch.add, received)

    def fire(self, emitted: Emitted) -> tuple[Tensor, Tensor]:
        """Its spikes, uint8, and its potentials before each reset, int32 in `unit`; both (T, B, *shape)."""
        current = fixed_point.membrane_input(self.sums(emitted), self.bias)
        return fixed_point.fire(over_time(current, self.timesteps), self.kept, self.threshold)

    def _received(self, path: Path, bound: float, emitted: Emitted) -> Tensor:
        sums = path.sums(emitted, self.timesteps)
        if path.synapse.kind == "conv" and bound >= fixed_point.STATE_MODULUS // 2:
            sums = fixed_point.wrap_sums(sums.to(torch.int64))
        return sums.to(torch.int32)


def over_time(steps: Tensor, timesteps: int) -> Tensor:
    """(S, B, …) as (T, B, …) without copying."""
    return steps.expand(timesteps, *steps.shape[1:])


def _tensor(array: np.ndarray, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(np.asarray(array), dtype=dtype, device=device)
