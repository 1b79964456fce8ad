"""The SpiNNaker2 target: checks networks and writes what py-spinnaker2 reads. Nothing of it is executed.

py-spinnaker2 is on no package registry, and what runs on the chip's cores isn't public; so no spike of these
networks has been compared with anything. `limits` says what is known and what isn't.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ... import InputError, Refusal, __version__
from ..files import write_json
from ..graph import Graph, Population
from ..nir import write_nir
from ..placement import place
from ..target import Inputs, Manifest, Problem, Progress, Recording
from . import limits
from .network import CONVERSION, readable

NETWORK = "spinnaker2.nir"
MANIFEST = "manifest.json"
UNKNOWN = (
    "whether a potential equal to its threshold fires: thresholds lie between what potentials can be",
    "how many bits a step's weights are added up in",
    "how many steps a spike takes from a layer to the next; each layer's spikes may come a step later",
    "where its mapper puts neurons, and what it leaves of a core's memory",
)


class Spinnaker2:
    """See `export.target.Target`. It can't be run: `executable` says so."""

    name = "spinnaker2"
    description = "SpiNNaker2: NIR for py-spinnaker2, checked against what is published of it; never executed"
    backend = "unexecuted"
    executable = False
    profile = limits.PROFILE
    constraints = limits.CONSTRAINTS

    def check(self, graph: Graph) -> list[Problem]:
        """Every known limit that `graph` breaks: of structure, placement, and of its integers."""
        return limits.problems(graph)

    def placement(self, graph: Graph) -> dict[str, Any]:
        """Where each population could lie, on one board; its own mapper decides."""
        return place(graph, limits.device()).summary()

    def export(self, graph: Graph, folder: Path) -> Manifest:
        """Write the network for `s2_nir.from_nir`, and the manifest with what to tell it.

        The same network gives the same bytes.

        Raises:
            Refusal: the network breaks a limit, each of them named.
            InputError: it is a float network, or `folder` can't be written.
        """
        if found := self.check(graph):
            raise Refusal(f"the network doesn't fit {self.name}: {'; '.join(map(str, found))}")
        if graph.weight_bits is None:
            raise InputError(f"{self.name} takes integers and this is a float network; quantise it first")
        folder, placed = Path(folder), self.placement(graph)
        write_nir(folder / NETWORK, readable(graph))
        cores = {entry["name"]: entry["cores"] for entry in placed["core_map"]}
        manifest = Manifest(
            target=self.name,
            bits=graph.weight_bits,
            files=[NETWORK, MANIFEST],
            layers=[_layer(population, cores[population.name]) for population in graph.populations],
            cores=placed.pop("cores"),
            placement=placed,
        )
        content = {
            "target": self.name,
            "snnkd": __version__,
            "backend": self.backend,
            "silicon": "unverified",
            "executed": False,
            "unknown": list(UNKNOWN),
            "conversion": CONVERSION,
            "bits": manifest.bits,
            "timesteps": graph.timesteps,
            "cores": manifest.cores,
            **manifest.placement,
            "files": manifest.files,
            "network": NETWORK,
            "sha256": {NETWORK: hashlib.sha256((folder / NETWORK).read_bytes()).hexdigest()},
            "inputs": [
                {"name": port.name, "shape": list(port.shape), "payload_max": port.payload_max}
                for port in graph.inputs
            ],
            "layers": manifest.layers,
            "outputs": [
                {"name": population.name, "emits": "spikes", "logits": "sum over all steps of spikes"}
                for population in graph.outputs
            ],
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
        """There is nothing to run it in.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{self.name} can't be executed: no simulator of it can be installed, py-spinnaker2 is on no "
            f"registry; load {Path(folder) / NETWORK} with its s2_nir where there is a board"
        )


def _layer(population: Population, cores: int) -> dict[str, Any]:
    return {
        "name": population.name,
        "kind": population.synapses[0].kind,
        "shape": list(population.shape),
        "depth": population.depth,
        "cores": cores,
        "range": "proven for float32",
    }
