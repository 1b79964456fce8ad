"""The SANA-FE target: a network mapped onto the cores of SANA-FE's Loihi, run there with energy and time.

Its soma keeps the membrane potential in 64ths, cuts what a decay leaves below them, compares with > and
resets to zero: Loihi's arithmetic, so any decay and any number of steps are exact. All else is done in
float64, on integers that are proven to stay below 2^17. Its synaptic current isn't cut: see `limits`.

sanafe is GPL-3.0. Nothing of it is imported here or copied into the folder: the exported script imports it in
a process of its own, and reads the architecture file that comes with it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ... import InputError, Refusal, __version__
from ..files import atomic_path, write_bytes, write_json
from ..graph import Graph, Population
from ..loihi2.limits import CONSTRAINTS
from ..placement import place
from ..script import SCRIPT, Engine, run_script
from ..target import Inputs, Manifest, Problem, Progress, Recording
from .limits import LOIHI, sanafe_problems
from .mapping import bit_planes, executed
from .wiring import wire

ARRAYS = "network.npz"
MANIFEST = "manifest.json"
SCRIPTS = (SCRIPT, "chip.py")
SCRIPT_FOLDER = Path(__file__).parent / "runner"
SANAFE = Engine("SANA-FE", "sanafe", 'pip install "snnkd[sanafe]" (GPL-3.0)')


class SanaFe:
    """See `export.target.Target`."""

    name = "sana-fe"
    description = "SANA-FE's Loihi: the network mapped onto cores, simulated with energy and latency"
    backend = "sana-fe"
    profile = "loihi1"
    constraints = CONSTRAINTS
    figures_boundary = (
        "SANA-FE's Loihi architecture: synapses, neurons, messages and hops, those of the input included; "
        "no static power"
    )

    def check(self, graph: Graph) -> list[Problem]:
        """Every limit that `graph` breaks: the chip's, and what SANA-FE's model of it doesn't have."""
        return sanafe_problems(graph)

    def executed(self, graph: Graph, inputs: Inputs) -> tuple[Graph, Inputs]:
        """The network that SANA-FE runs in `graph`'s place and its samples: what its figures are of."""
        return executed(graph), bit_planes(graph, inputs)

    def export(self, graph: Graph, folder: Path) -> Manifest:
        """Write mapping, weights, scripts and manifest into `folder`. The same network gives the same bytes.

        Raises:
            Refusal: the network breaks a limit, each of them named.
            InputError: it is a float network, or `folder` can't be written.
        """
        if found := self.check(graph):
            raise Refusal(f"the network doesn't fit {self.name}: {'; '.join(map(str, found))}")
        if graph.weight_bits is None:
            raise InputError(f"{self.name} takes integers and this is a float network; quantise it first")
        folder, mapped = Path(folder), executed(graph)
        placement = place(mapped, LOIHI.device)
        for script in SCRIPTS:
            write_bytes(folder / script, (SCRIPT_FOLDER / script).read_bytes())
        groups, paths, arrays = wire(graph, mapped, placement)
        with atomic_path(folder / ARRAYS) as temporary:
            np.savez_compressed(temporary, **arrays)  # pyright: ignore[reportArgumentType]
        cores = {placed.name: placed.cores for placed in placement.populations}
        summary = placement.summary()
        manifest = Manifest(
            target=self.name,
            bits=graph.weight_bits,
            files=[ARRAYS, *SCRIPTS, MANIFEST],
            layers=[_layer(p, cores[p.name]) for p in graph.populations],
            cores=summary.pop("cores"),
            placement=summary,
        )
        content = {
            "target": self.name,
            "snnkd": __version__,
            "backend": self.backend,
            "silicon": "unverified",
            "architecture": "sanafe.examples/loihi.yaml",
            "bits": manifest.bits,
            "timesteps": graph.timesteps,
            "cores": manifest.cores,
            **manifest.placement,
            "files": manifest.files,
            "network": ARRAYS,
            "sha256": {ARRAYS: hashlib.sha256((folder / ARRAYS).read_bytes()).hexdigest()},
            "inputs": [
                {"name": port.name, "shape": list(port.shape), "payload_max": port.payload_max}
                for port in graph.inputs
            ],
            "layers": manifest.layers,
            "outputs": [_output(population, graph.readout_scale) for population in graph.outputs],
            "groups": groups,
            "paths": paths,
        }
        write_json(folder / MANIFEST, content)
        return manifest

    def run(
        self,
        folder: Path,
        inputs: Inputs,
        timesteps: int,
        time_limit: float,
        progress: Progress | None = None,
    ) -> Recording:
        """Run the folder's own script in a child process and read back what it recorded.

        Raises:
            InputError: sanafe or a file is missing, the inputs don't fit, or the run hung or died.
        """
        return run_script(SANAFE, Path(folder), inputs, timesteps, time_limit, progress)


def _layer(population: Population, cores: int) -> dict[str, Any]:
    return {
        "name": population.name,
        "kind": population.synapses[0].kind if population.synapses else "bias",
        "shape": list(population.shape),
        "depth": population.depth,
        "cores": cores,
        "range": "proven",
    }


LOGITS = {
    "sums": "(sum over all steps of sums + timesteps * bias) / scale",
    "potentials": "potential of the last step / 64 / scale",
    "spikes": "sum over all steps of spikes",
}


def _output(population: Population, scale: float) -> dict[str, Any]:
    """What a class is read from, and how."""
    emits = "sums" if population.neuron is None else "potentials" if population.is_readout else "spikes"
    bias = population.bias if emits == "sums" else 0
    return {
        "name": population.name,
        "emits": emits,
        "logits": LOGITS[emits],
        "bias": np.broadcast_to(bias, population.shape).astype(np.int64).ravel().tolist(),
        "scale": scale,
    }
