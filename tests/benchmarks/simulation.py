"""How fast the simulator is, as ratios measured in one process: medians over alternating repeats.

    python tests/benchmarks/simulation.py --timesteps 4 --samples 64

The network is conv 16 – conv 32, stride 2 – dense 10 on 3×32×32 pixels, with random 8-bit weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.toolchain.simulation.simulator import Simulator
from snnkd.toolchain.simulation.synapses import synaptic_sums


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=4)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    calls = contenders(network(), options.samples, options.timesteps, options.device)
    seconds = alternate(calls, options.repeats, options.device)
    reference = next(iter(calls))
    print(f"{options.samples} samples, T = {options.timesteps}, {options.device}")
    print(f"{reference}: {seconds[reference] / options.samples * 1e3:.2f} ms per sample; in units of it:")
    for name, duration in seconds.items():
        print(f"{duration / seconds[reference]:8.2f}  {name}")


def network() -> Graph:
    """Integers small enough that both engines are exact."""
    rng = np.random.default_rng(0)
    source, first, second = (3, 32, 32), (16, 32, 32), (32, 16, 16)

    def weights(*shape: int) -> np.ndarray:
        return 2.0 * rng.integers(-8, 9, shape)

    def population(name: str, synapse: Synapse, threshold: float, depth: int) -> Population:
        neuron = Neuron(0.5, np.full(1, threshold))
        return Population(name, synapse.shape, (synapse,), np.zeros(1), neuron, depth)

    conv1 = Synapse("pixels", "conv", weights(16, 3, 3, 3), source, first, padding=(1, 1))
    conv2 = Synapse("a", "conv", weights(32, 16, 3, 3), first, second, (2, 2), (1, 1))
    dense = Synapse("b", "dense", weights(10, 32 * 16 * 16), second, (10,))
    readout = Population("out", (10,), (dense,), np.zeros(10), None, 3)
    layers = (population("a", conv1, 6000, 1), population("b", conv2, 60, 2), readout)
    return Graph((InputPort("pixels", source),), layers, weight_bits=8)


def contenders(graph: Graph, samples: int, timesteps: int, device: str) -> dict[str, Callable[[], object]]:
    """What is timed, by name; the first is what the others are measured against."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (samples, 3, 32, 32), generator=generator, dtype=torch.uint8)
    frames = pixels.unsqueeze(1).expand(-1, timesteps, -1, -1, -1)
    fast = Simulator(graph, timesteps, device=device)
    general = Simulator(graph, timesteps, "fixed-point", device)
    spikes = fast.run(pixels).spikes
    sources = {"pixels": frames.flatten(0, 1).to(device)} | {n: s.flatten(0, 1) for n, s in spikes.items()}
    paths = [(s, torch.tensor(s.weight, dtype=torch.float32, device=device)) for _, s in graph.paths()]

    def sums_alone() -> None:
        for synapse, weight in paths:
            synaptic_sums(synapse, weight, sources[synapse.source])

    return {
        fast.engine: lambda: fast.run(pixels),
        general.engine: lambda: general.run(pixels),
        f"{fast.engine}, first layer at every step": lambda: fast.run(frames),
        "synaptic sums at every step, no neurons": sums_alone,
    }


def alternate(calls: dict[str, Callable[[], object]], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of each call, all of them once per repeat."""
    measured: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            measured[name].append(time.perf_counter() - started)
    return {name: statistics.median(durations) for name, durations in measured.items()}


if __name__ == "__main__":
    main()
