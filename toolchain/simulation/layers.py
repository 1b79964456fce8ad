"""One population compiled to tensors, in float32 or in the chip's registers, run over windows of time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ...export.bounds import current_reach, drive, membrane_reach, path_drive
from ...export.graph import Neuron, Population, Synapse, compact
from .fixed_point import FRACTION_BITS, INTEGER_MAX, STATE_MODULUS, kept_4096ths
from .peculiar import PeculiarRegisters
from .registers import UNITY, Decay, IntegerRegisters, Registers, State
from .synapses import FLOAT32_EXACT, Emitted, Path

BLOCK_NEURONS = 2**17
"""So many are run over all steps by each thread: what they keep stays in a core's cache."""

LOWEST_BIT = 2.0**-FRACTION_BITS
"""Of the chip's registers, in whole units."""


@dataclass
class Memory:
    """What one population carries from window to window; empty before the first.

    Attributes:
        neurons: the registers.
        underway: what a delay holds back, by path.
        still: an input that is the same in every window, and the sums that it causes, by path.
    """

    neurons: State | None = None
    underway: dict[int, Tensor | None] = field(default_factory=dict)
    still: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


class Layer:
    """A population compiled.

    Attributes:
        population: what it was made from.
        is_readout: the population's, which takes a look at all thresholds to say.
        unit: what 1 in its potentials is worth in the network's unit.
        sums_unit: the same of what its paths bring.
    """

    def __init__(
        self,
        population: Population,
        timesteps: int,
        device: torch.device,
        paths: list[Path],
        neurons: Registers | IntegerRegisters | PeculiarRegisters | None,
        unit: float = 1.0,
        sums_unit: float = 1.0,
    ):
        self.population, self.timesteps, self.device = population, timesteps, device
        self.is_readout = population.is_readout
        self.unit, self.sums_unit = unit, sums_unit
        self._paths, self._neurons = paths, neurons

    def sums(self, emitted: Emitted) -> Tensor:
        """The synaptic sums of all steps, bias excluded, in the network's unit, (S, B, *shape)."""
        bare = [replace(path, bias=None) for path in self._paths]
        sums = self._sum(bare, emitted, Memory(), self.timesteps)
        return sums if self.sums_unit == 1 else sums * self.sums_unit

    def received(self, emitted: Emitted, memory: Memory, steps: int) -> Tensor:
        """What arrives in a window, (S, B, *shape): S is `steps`, or 1 for the same at every step."""
        return self._sum(self._paths, emitted, memory, steps)

    def advance(
        self, emitted: Emitted, memory: Memory, steps: int, show: bool = False
    ) -> tuple[Tensor | None, Tensor | None]:
        """Run the neurons over a window of steps.

        Args:
            emitted: in the window, by all sources so far.
            memory: of the windows before; brought up to date.
            show: whether potentials are wanted.

        Returns:
            spikes, float32 (steps, B, *shape), None for a read-out; potentials before each reset, in `unit`,
            None unless wanted.
        """
        assert self._neurons is not None
        sums = self.received(emitted, memory, steps)
        if memory.neurons is None:
            memory.neurons = self._neurons.fresh(sums[0])
        spikes = None if self.is_readout else self._room_for_spikes(sums, steps)
        potentials = _window_like(sums[0], steps, sums.dtype) if show else None
        for part in _blocks(sums[0]):
            shown = (None if each is None else each[:, part] for each in (spikes, potentials))
            self._neurons.advance(sums[:, part], memory.neurons.of(part), steps, *shown)
        memory.neurons.begun = True  # as that of its parts, of whose memory it is
        return spikes, potentials

    def _room_for_spikes(self, sums: Tensor, steps: int) -> Tensor:
        """Where a window's spikes go: if it can be over its sums, made for it alone and read just before."""
        if len(sums) == steps > 1 and sums.dtype == torch.float32:
            return sums
        return _window_like(sums[0], steps, torch.float32)

    def _sum(self, paths: list[Path], emitted: Emitted, memory: Memory, steps: int) -> Tensor:
        if not paths:
            batch = next(iter(emitted.values())).shape[1]
            return torch.zeros(1, batch, *self.population.shape, device=self.device)
        received = [self._path_sums(i, path, emitted, memory, steps) for i, path in enumerate(paths)]
        total = max(received, key=len)
        for sums in received:
            if sums is not total:  # longer than 1, it was made for this window alone
                total = total.add_(sums) if len(total) > 1 else total + sums
        return total

    def _path_sums(self, index: int, path: Path, emitted: Emitted, memory: Memory, steps: int) -> Tensor:
        source = emitted[path.synapse.source]
        if index in memory.still and memory.still[index][0] is source:
            return memory.still[index][1]
        late = min(path.synapse.delay, self.timesteps)
        sums, memory.underway[index] = path.arriving(emitted, steps, late, memory.underway.get(index))
        if late == 0 and len(source) == 1 < self.timesteps:
            memory.still[index] = (source, sums)
        return sums


class FloatLayer(Layer):
    """A float network's population, or an integer one's that is proven exact in float32.

    Args:
        population: what to compile.
        payload: the largest payload of every source by name.
        timesteps: T.
        device: where its tensors live.
        channels_last: whether maps lie in memory as (H, W, C).
    """

    def __init__(
        self,
        population: Population,
        payload: dict[str, int],
        timesteps: int,
        device: torch.device,
        channels_last: bool = False,
    ):
        compiler = _Compiler(device, channels_last)
        paths, bias = compiler.paths_and_bias(population, 1.0)
        neuron, neurons = population.neuron, None
        if neuron is not None:
            threshold = compiler.threshold(population, neuron.threshold)
            if neuron.peculiarity:
                neurons = PeculiarRegisters(
                    neuron.decay,
                    neuron.current_decay,
                    threshold,
                    bias,
                    neuron.reset == "subtract",
                    neuron.max_spikes,
                    neuron.decays_input,
                )
            else:
                decays = Decay(neuron.decay), Decay(neuron.current_decay) if neuron.current_decay else None
                neurons = Registers(*decays, threshold, bias)
        super().__init__(population, timesteps, device, paths, neurons)


class FixedPointLayer(Layer):
    """An integer network's population in 24-bit registers; arguments as `FloatLayer`."""

    def __init__(
        self,
        population: Population,
        payload: dict[str, int],
        timesteps: int,
        device: torch.device,
        channels_last: bool = False,
    ):
        compiler, neuron = _Compiler(device, channels_last), population.neuron
        neurons, unit, sums_unit = None, 1.0, 1.0
        if neuron is None:
            paths = compiler.integer_paths(population, payload, torch.int64)
        elif _wraps(population, payload, timesteps):
            paths = compiler.integer_paths(population, payload, torch.int32)
            threshold = compiler.tensor(_reachable(neuron), torch.int32)
            bias = compiler.tensor(population.bias, torch.int32)
            kept, current_kept = kept_4096ths(neuron.decay), kept_4096ths(neuron.current_decay)
            neurons, unit = IntegerRegisters(kept, current_kept, threshold, bias), LOWEST_BIT
        else:
            unit = sums_unit = LOWEST_BIT
            paths, bias = compiler.paths_and_bias(population, 1 / unit)
            decay, current_decay = (
                Decay(kept_4096ths(each) / UNITY, truncates=True)
                for each in (neuron.decay, neuron.current_decay)
            )
            threshold = compiler.threshold(population, _reachable(neuron) / unit)
            saturates = _saturates(population, payload, timesteps)
            memory = current_decay if current_decay.factor else None
            neurons = Registers(decay, memory, threshold, bias, saturates)
        super().__init__(population, timesteps, device, paths, neurons, unit, sums_unit)


def _blocks(step: Tensor) -> list[slice]:
    """The samples of `step` (B, *shape) in parts that are run over all steps at once."""
    if step.device.type != "cpu":
        return [slice(None)]
    samples = max(1, BLOCK_NEURONS * torch.get_num_threads() // max(1, step[:1].numel()))
    return [slice(start, start + samples) for start in range(0, len(step), samples)]


def over_time(steps: Tensor, timesteps: int) -> Tensor:
    """(S, B, …) as (T, B, …) without copying."""
    return steps.expand(timesteps, *steps.shape[1:])


def _window_like(step: Tensor, steps: int, dtype: torch.dtype) -> Tensor:
    """Room for `steps` of what lies in memory as `step` (B, *shape) does."""
    strides = torch.empty_like(step).stride()
    return torch.empty_strided(
        (steps, *step.shape), (step.numel(), *strides), dtype=dtype, device=step.device
    )


@dataclass(frozen=True)
class _Compiler:
    """Makes tensors of a population's constants."""

    device: torch.device
    channels_last: bool

    def paths_and_bias(self, population: Population, scale: float) -> tuple[list[Path], Tensor | None]:
        """Paths of `scale`·weights in float32, one of which adds the bias; else the bias that v is to add."""
        paths = [
            self._path(synapse, synapse.weight * scale, torch.float32) for synapse in population.synapses
        ]
        bias = population.bias * scale
        if population.neuron is None or not bias.any():
            return paths, None
        for index, synapse in enumerate(population.synapses):
            along = _along_outputs(bias, synapse)
            if along is not None and synapse.delay == 0 and population.neuron.current_decay == 0:
                paths[index] = replace(paths[index], bias=self.tensor(along, torch.float32))
                return paths, None
        return paths, self._full(bias, population.shape)

    def integer_paths(
        self, population: Population, payload: dict[str, int], result: torch.dtype
    ) -> list[Path]:
        """Paths whose sums are whole numbers of any size, wrapped where Lava's convolution wraps them."""
        paths = []
        for synapse in population.synapses:
            bound = np.max(path_drive(synapse, payload[synapse.source]))
            path = self._path(
                synapse, synapse.weight, torch.float32 if bound < FLOAT32_EXACT else torch.float64
            )
            wraps = synapse.kind == "conv" and bool(bound >= STATE_MODULUS // 2)
            paths.append(replace(path, wraps=wraps, result=result))
        return paths

    def threshold(self, population: Population, values: np.ndarray) -> Tensor | float | None:
        """One number where all neurons agree; None for those that never spike."""
        if population.is_readout:
            return None
        values = np.asarray(values, np.float32)
        if np.all(values == values.flat[0]):
            return float(values.flat[0])
        return self._full(values, population.shape)

    def tensor(self, array: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.tensor(np.asarray(array), dtype=dtype, device=self.device)

    def _path(self, synapse: Synapse, weight: np.ndarray, dtype: torch.dtype) -> Path:
        maps = self.channels_last and len(synapse.source_shape) == 3
        if synapse.kind == "dense" and maps:
            weight = np.moveaxis(weight.reshape(-1, *synapse.source_shape), 1, -1).reshape(weight.shape)
            return Path(synapse, self.tensor(weight, dtype), channels_last=True)
        if synapse.kind == "identity":
            return Path(synapse, self._full(weight, synapse.shape, dtype))
        kernels = self.tensor(weight, dtype)
        if synapse.kind == "conv" and maps:
            kernels = torch.empty_like(kernels, memory_format=torch.channels_last).copy_(kernels)
        return Path(synapse, kernels)

    def _full(self, values: np.ndarray, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """One number per neuron, in memory as what it is combined with: so that is done in one go."""
        full = self.tensor(np.broadcast_to(values, shape), dtype)
        if self.channels_last and len(shape) == 3:
            return full.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        return full


def _along_outputs(bias: np.ndarray, synapse: Synapse) -> np.ndarray | None:
    """`bias` as one number per output channel or neuron of a path; None where it can't be."""
    if synapse.kind == "dense":
        return np.broadcast_to(bias, synapse.shape).reshape(-1)
    per_channel = compact(bias, synapse.shape)
    return per_channel.reshape(-1) if synapse.kind == "conv" and per_channel.shape[1:] == (1, 1) else None


def _rounded(population: Population) -> Population:
    """With the decays that the registers really have."""
    neuron = population.neuron
    assert neuron is not None
    decay, current = (kept_4096ths(d) / UNITY for d in (neuron.decay, neuron.current_decay))
    return replace(population, neuron=replace(neuron, decay=decay, current_decay=current))


def _wraps(population: Population, payload: dict[str, int], timesteps: int) -> bool:
    """Whether some input might make u wrap, or a synaptic sum before it."""
    neuron = _rounded(population).neuron
    assert neuron is not None
    reached = current_reach(neuron, *drive(population, payload), timesteps)
    return bool(max(np.max(magnitude) for magnitude in reached) > INTEGER_MAX)


def _saturates(population: Population, payload: dict[str, int], timesteps: int) -> bool:
    """Whether some input might make v saturate."""
    population = _rounded(population)
    assert population.neuron is not None
    currents = current_reach(population.neuron, *drive(population, payload), timesteps)
    return bool(np.max(membrane_reach(population, *currents, timesteps)) > INTEGER_MAX)


def _reachable(neuron: Neuron) -> np.ndarray:
    """Thresholds in 18 bits: no potential passes INTEGER_MAX, so larger ones can be the next integer."""
    return np.clip(neuron.threshold, -INTEGER_MAX - 1, INTEGER_MAX + 1)
