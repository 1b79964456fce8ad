"""A run's float and integer NIR in norse, snnTorch and SpikingJelly, every spike compared with `==`.

    python tests/benchmarks/conformance.py runs/mnist-1 --samples 256

Prints a row per network and simulator. In the float network a spike may differ where the membrane lies within
rounding of its threshold: each such place is listed. In the integer network none may.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

import snnkd
from snnkd import InputError, Refusal
from snnkd.export.conformance import SIMULATORS, compare_with_simulator
from snnkd.export.graph import Graph
from snnkd.toolchain.samples import choose
from snnkd.toolchain.simulation.simulator import Simulator, record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--samples", type=int, default=256)
    options = parser.parse_args()
    run = snnkd.open_run(options.run)
    inputs = run.samples().inputs
    inputs = inputs[choose(inputs, options.samples)]
    for kind, graph in (("float", run.float_graph()), ("integer", run.integer_graph("loihi2"))):
        for name in SIMULATORS:
            print(f"{kind:8s} {name:13s} {row(name, graph, inputs)}", flush=True)


def row(name: str, graph: Graph, inputs: np.ndarray) -> str:
    """What comparing `graph` with one simulator found."""
    timesteps = graph.steps
    spikes = record(graph, inputs, timesteps).spikes
    try:
        result = compare_with_simulator(name, graph, inputs, spikes, membranes(graph, inputs))
    except (InputError, Refusal) as error:
        return f"refused: {error}"
    text = f"{result.mismatches} of {result.neuron_steps:,} neuron-steps differ, {len(inputs)} samples"
    for first in result.first:
        verdict = "within rounding" if first.within_rounding else "REAL"
        text += (
            f"\n    sample {first.sample}, step {first.step + 1}, {first.population}{list(first.neuron)}: "
            f"membrane {first.distance:+.1e} of its threshold away, {verdict}"
        )
    return text


def membranes(graph: Graph, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The membrane potentials of every spiking population before each reset, (N, T, *shape)."""
    simulator = Simulator(graph, graph.steps)
    samples = torch.from_numpy(inputs)
    return {p.name: simulator.membrane(samples, p.name).transpose(0, 1).numpy() for p in graph.spiking}


if __name__ == "__main__":
    main()
