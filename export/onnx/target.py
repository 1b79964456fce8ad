"""ONNX as a target: the integer network, and the run's float networks, for onnxruntime on any CPU.

`network.onnx` is one step of the integer network, Loihi 2's, in the chip's own arithmetic (`fixed_point.py`):
`run` executes it in onnxruntime, and every spike must be the integer simulator's. Beside it lie the networks
in float32 and int8 that `floats.py` writes. `run.py` runs any of them with numpy and onnxruntime alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ... import InputError, Refusal, __version__
from ..files import write_bytes, write_json
from ..float_networks import FloatNetworks
from ..graph import Graph, Population
from ..loihi2.limits import CONSTRAINTS, integer_problems
from ..script import SCRIPT, run_script
from ..target import Constraints, Inputs, Manifest, Problem, Progress, Recording, peculiarity_problems
from . import comparison, floats
from .ann import LOGITS
from .fixed_point import network_model
from .folder import ENGINE, MANIFEST, described
from .layers import states_of
from .past import NEXT, pasts
from .session import write_model

NETWORK = "network.onnx"
SCRIPTS = (SCRIPT, "engine.py")
SCRIPT_FOLDER = Path(__file__).parent / "runner"


class Onnx:
    """See `export.target.Target` and `export.float_networks.WritesFloats`."""

    name = "onnx"
    description = "ONNX files of the integer, float and int8 networks for CPUs; run in onnxruntime"
    backend = "onnxruntime"
    profile = "cpu"
    constraints: Constraints = CONSTRAINTS

    def check(self, graph: Graph) -> list[Problem]:
        """Every limit that `graph` breaks: of structure, and of its integers where it has them."""
        found = [*_structure_problems(graph), *peculiarity_problems(graph)]
        if graph.weight_bits is not None:
            found += integer_problems(graph, graph.weight_bits, self.constraints)
        return found

    def export(self, graph: Graph, folder: Path) -> Manifest:
        """Write the integer network, the script that runs it, and the manifest.

        The same network gives the same bytes.

        Raises:
            Refusal: the network breaks a limit, each of them named.
            InputError: it is a float network, onnx isn't installed, or `folder` can't be written.
        """
        if found := self.check(graph):
            raise Refusal(f"the network doesn't fit {self.name}: {'; '.join(map(str, found))}")
        if graph.weight_bits is None:
            raise InputError(f"{self.name} takes integers and this is a float network; quantise it first")
        folder = Path(folder)
        for script in SCRIPTS:
            write_bytes(folder / script, (SCRIPT_FOLDER / script).read_bytes())
        write_model(folder / NETWORK, network_model(graph))
        manifest = Manifest(
            target=self.name,
            bits=graph.weight_bits,
            files=[NETWORK, *SCRIPTS, MANIFEST],
            layers=[_layer(population) for population in graph.populations],
            cores=None,
        )
        content = {
            "target": self.name,
            "snnkd": __version__,
            "backend": self.backend,
            "silicon": "unverified",
            "bits": manifest.bits,
            "timesteps": graph.timesteps,
            "files": manifest.files,
            "inputs": [
                {"name": port.name, "shape": list(port.shape), "payload_max": port.payload_max}
                for port in graph.inputs
            ],
            "layers": manifest.layers,
            "outputs": [_output(population, graph.readout_scale) for population in graph.outputs],
            **described(folder, {"network": {"file": NETWORK, "kind": "network"}}),
        }
        write_json(folder / MANIFEST, content)
        return manifest

    def export_floats(self, networks: FloatNetworks, folder: Path) -> dict[str, Any]:
        """Write the float and int8 networks beside the integer one; see `floats.write_floats`."""
        return floats.write_floats(networks, Path(folder))

    def validate_floats(
        self,
        networks: FloatNetworks,
        folder: Path,
        inputs: Inputs,
        labels: np.ndarray | None,
        time_limit: float,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Run each of them on `inputs` and compare; see `comparison.validate_floats`."""
        return comparison.validate_floats(networks, Path(folder), inputs, labels, time_limit, progress)

    def run(
        self,
        folder: Path,
        inputs: Inputs,
        timesteps: int,
        time_limit: float,
        progress: Progress | None = None,
    ) -> Recording:
        """Run the folder's own script in a child process and read back what the integer network emitted.

        Raises:
            InputError: onnxruntime or a file is missing, the inputs don't fit, or the run hung or died.
        """
        return run_script(ENGINE, Path(folder), inputs, timesteps, time_limit, progress)


def _structure_problems(graph: Graph) -> Iterator[Problem]:
    """What can't be drawn as nodes, or not told apart."""
    if not graph.populations:
        yield Problem("network", "number of populations", 0, "at least 1", "add a layer")
    if not graph.inputs:
        yield Problem("network", "number of inputs", 0, "at least 1", "feed the first layer from an input")
    silent = {population.name for population in graph.readouts}
    for population, synapse in graph.paths():
        if synapse.source in silent:
            what = f"{synapse.source}, which emits no spikes"
            remedy = "give it a threshold, or let it feed nothing"
            yield Problem(population.name, "source", what, "a spiking population", remedy)
    states = {*pasts(graph), *(name for p in graph.populations for name in states_of(p))}
    taken = states | {f"{name}{NEXT}" for name in states}
    for name in [*(port.name for port in graph.inputs), *(p.name for p in graph.populations)]:
        if name in taken:
            yield Problem(name, "name", "that of a state too", "one of its own", "rename the layer")
        if name == LOGITS:
            yield Problem(name, "name", "that of the models' answer", "another", "rename the layer")


def _layer(population: Population) -> dict[str, Any]:
    return {
        "name": population.name,
        "kind": population.synapses[0].kind if population.synapses else "bias",
        "shape": list(population.shape),
        "depth": population.depth,
        "range": "proven",
    }


READINGS = {
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
        "logits": READINGS[emits],
        "bias": np.broadcast_to(bias, population.shape).astype(np.int64).ravel().tolist(),
        "scale": scale,
    }
