"""How much the chip's acting on single events may change what Speck's step-by-step simulation says.

    python tests/benchmarks/speck_events.py RUN [--samples N] [--orders K]

Takes a run's export to `speck` and shows its test samples event by event, as sinabs' documentation describes
the chip: each event updates the neurons that its kernel reaches; one that reaches its threshold fires and
goes to zero; what it emits waits its turn behind the events that are on their way. A step's input events come
in a random order, K of them; the next step's come when all is quiet. Congestion, and time itself, aren't
modelled, and nothing here has been compared with a chip.

Prints accuracies, how often both ways predict the same class, and spikes per sample of both.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from pathlib import Path

import numpy as np

from snnkd.toolchain.run import open_run
from snnkd.toolchain.samples import choose, take
from snnkd.toolchain.simulation.simulator import record


class Chip:
    """The layers of an exported folder, their potentials, and the events that wait.

    Args:
        folder: of the export.
    """

    def __init__(self, folder: Path):
        self.layers = json.loads((folder / "manifest.json").read_text())["layers"]
        with np.load(folder / "network.npz") as file:
            self.arrays = {name: file[name].astype(np.int64) for name in file.files}
        if any(layer["biased"] for layer in self.layers):
            raise SystemExit("biases are added by a clock that this script hasn't; train without")
        self.ends = {source["name"]: [] for source in self.layers} | {self.layers[0]["source"]: []}
        for layer in self.layers:
            self.ends[layer["source"]].append(layer)

    def show(self, frames: np.ndarray, order: np.random.Generator) -> dict[str, np.ndarray]:
        """Spikes of each layer, summed over the steps, for one sample (T, C, H, W)."""
        self.states = {name["name"]: np.zeros(_map(name["shape"]), np.int64) for name in self.layers}
        self.counts = {name: np.zeros_like(state) for name, state in self.states.items()}
        source = self.layers[0]["source"]
        for frame in frames:
            waiting = deque((source, *event) for event in order.permutation(np.argwhere(frame)).tolist())
            while waiting:
                name, *event = waiting.popleft()
                for layer in self.ends[name]:
                    waiting.extend((layer["name"], *spike) for spike in self.deliver(layer, *event))
        return self.counts

    def deliver(self, layer: dict, channel: int, row: int, column: int) -> list[list[int]]:
        """Add an event's weights, and return the neurons that fire."""
        state, weight = self.states[layer["name"]], self.arrays[f"{layer['name']}/weight"]
        (height, width), pool = layer["kernel"], layer["pooling"]
        (down, right), (top, left) = layer["stride"], layer["padding"]
        row, column = row // pool + top, column // pool + left
        rows = [(y, row - y * down) for y in range(state.shape[1]) if 0 <= row - y * down < height]
        columns = [(x, column - x * right) for x in range(state.shape[2]) if 0 <= column - x * right < width]
        fired = []
        for y, tap in rows:
            for x, across in columns:
                reached = state[:, y, x] + weight[:, channel, tap, across]
                spikes = reached >= layer["threshold"]
                state[:, y, x] = np.where(spikes, 0, np.maximum(reached, layer["threshold_low"]))
                self.counts[layer["name"]][:, y, x] += spikes
                fired += [[int(feature), y, x] for feature in np.flatnonzero(spikes)]
        return fired


def _map(shape: list[int]) -> tuple[int, ...]:
    return (*shape, 1, 1) if len(shape) == 1 else tuple(shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--samples", type=int, default=10**9)
    parser.add_argument("--orders", type=int, default=3)
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    judged, graph = run.samples(), run.integer_graph("speck")
    chosen = choose(judged.inputs, arguments.samples)
    if judged.labels is None:
        raise SystemExit("the samples have no labels; take a run that was trained")
    frames, labels = np.asarray(take(judged.inputs, chosen)), judged.labels[chosen]
    stepped = record(graph, frames, graph.steps).spikes
    (end,) = graph.deciding
    by_step = stepped[end.name].sum(axis=1, dtype=int).argmax(axis=1)
    spikes = sum(int(layer.sum(dtype=int)) for layer in stepped.values()) / len(frames)
    print(f"{len(frames)} samples, T = {graph.steps}")
    right = (by_step == labels).mean()
    print(f"step by step             accuracy {right:.4f}   {spikes:.0f} spikes a sample")
    chip = Chip(run.target_folder("speck"))
    for seed in range(arguments.orders):
        order, total, predicted = np.random.default_rng(seed), 0, []
        for sample in frames:
            counts = chip.show(sample, order)
            predicted.append(int(counts[end.name].ravel().argmax()))
            total += sum(int(count.sum()) for count in counts.values())
        same, right = (np.array(predicted) == by_step).mean(), (np.array(predicted) == labels).mean()
        print(
            f"event by event, order {seed}   accuracy {right:.4f}   {total / len(frames):.0f} spikes a sample"
            f"   same prediction {same:.4f}"
        )


if __name__ == "__main__":
    main()
