"""The Speck target: checks networks against Speck2f's nine cores, exports them, and runs them in sinabs.

What is compared is sinabs' discretised simulation, which goes by time steps: a step's events are added up,
then each neuron fires at most once. The chip has no steps. Each event updates its neurons at once, so a
neuron may fire before the rest of a step's events have come, or twice, and the order of events can matter;
its cores drop events when they are overloaded. None of that is modelled here, and no simulator of it can be
installed: what spikes a chip emits is unverified (sinabs says so of its simulation too,
`docs/speck/dangers.md`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ... import InputError, Refusal, __version__
from ..files import atomic_path, write_bytes, write_json
from ..graph import Graph, Population
from ..script import SCRIPT, Engine, run_script
from ..target import Inputs, Manifest, Problem, Progress, Recording
from . import chip, limits
from .chip import Layer
from .placement import PROFILE, placement

ARRAYS = "network.npz"
MANIFEST = "manifest.json"
SCRIPTS = (SCRIPT, "network.py")
SCRIPT_FOLDER = Path(__file__).parent / "runner"
SINABS = Engine("sinabs", "sinabs", "run `snnkd doctor --install sinabs`")

ASSUMPTIONS = (
    "a step's events are added up, then a neuron fires at most once: the chip acts on each as it comes",
    "no core is given more events than it can take: the chip drops what is too much",
    "potentials are zero before each sample: the host must reset them",
)
SLOW_CLOCK = "biases are added once a step: the chip's slow clock must tick so"


class Speck:
    """See `export.target.Target`. Nothing of sinabs is imported here: it runs in a child process."""

    name = "speck"
    description = (
        "SynSense Speck2f: core assignment and integers for sinabs; run in its discretised simulation, "
        "not on silicon"
    )
    backend = "sinabs-discretised"
    profile = PROFILE
    constraints = limits.CONSTRAINTS

    def check(self, graph: Graph) -> list[Problem]:
        """Every limit that `graph` breaks: of structure and cores, and of its integers where it has them."""
        return limits.problems(graph)

    def placement(self, graph: Graph) -> dict[str, Any]:
        """Which core holds each layer, and what it takes of it; see `placement.placement`."""
        return placement(graph)

    def export(self, graph: Graph, folder: Path) -> Manifest:
        """Write the integers, scripts that run them in sinabs, and the manifest.

        The same network gives the same bytes.

        Raises:
            Refusal: the network breaks a limit, each of them named.
            InputError: it is a float network, or `folder` can't be written.
        """
        if found := self.check(graph):
            raise Refusal(f"the network doesn't fit {self.name}: {'; '.join(map(str, found))}")
        if graph.weight_bits is None:
            raise InputError(f"{self.name} takes integers and this is a float network; quantise it first")
        folder, placed, layers = Path(folder), placement(graph), limits.layers(graph)
        for script in SCRIPTS:
            write_bytes(folder / script, (SCRIPT_FOLDER / script).read_bytes())
        with atomic_path(folder / ARRAYS) as temporary:
            np.savez_compressed(temporary, **_arrays(layers))  # pyright: ignore[reportArgumentType]
        cores = {entry["name"]: entry["first_core"] for entry in placed["core_map"]}
        manifest = Manifest(
            target=self.name,
            bits=graph.weight_bits,
            files=[ARRAYS, *SCRIPTS, MANIFEST],
            layers=[_layer(graph, graph[layer.name], layer, cores[layer.name]) for layer in layers],
            cores=placed.pop("cores"),
            placement=placed,
        )
        content = {
            "target": self.name,
            "snnkd": __version__,
            "backend": self.backend,
            "silicon": "unverified",
            "assumptions": [*ASSUMPTIONS, *[SLOW_CLOCK] * any(layer.bias is not None for layer in layers)],
            "bits": manifest.bits,
            "timesteps": graph.timesteps,
            "cores": manifest.cores,
            "cores_in_order": [cores[layer.name] for layer in layers],
            **manifest.placement,
            "files": manifest.files,
            "network": ARRAYS,
            "sha256": {ARRAYS: hashlib.sha256((folder / ARRAYS).read_bytes()).hexdigest()},
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
        """Run the folder's own script in a child process and read back what it recorded.

        Raises:
            InputError: sinabs or a file is missing, the inputs don't fit, or the run hung or died.
        """
        return run_script(SINABS, Path(folder), inputs, timesteps, time_limit, progress)


def _arrays(layers: list[Layer]) -> dict[str, np.ndarray]:
    """Weights (C_out, C_in, k, k) and biases (C_out,) of each layer, int8."""
    weights = {f"{layer.name}/weight": layer.weight.astype(np.int8) for layer in layers}
    biases = {f"{layer.name}/bias": layer.bias.astype(np.int8) for layer in layers if layer.bias is not None}
    return weights | biases


def _layer(graph: Graph, population: Population, layer: Layer, core: int) -> dict[str, Any]:
    """All that a core is told besides weights; it fires where a potential reaches `threshold`."""
    assert population.neuron is not None
    threshold = int(np.broadcast_to(population.neuron.threshold, population.shape).flat[0])
    return {
        "name": layer.name,
        "kind": population.synapses[0].kind,
        "shape": list(population.shape),
        "depth": population.depth,
        "cores": 1,
        "range": "proven",
        "core": core,
        "source": layer.source,
        "source_shape": list(layer.source_shape),
        "pooling": layer.pooling,
        "kernel": list(layer.kernel),
        "stride": list(layer.stride),
        "padding": list(layer.padding),
        "threshold": threshold + 1,
        "threshold_low": chip.STATE_MIN,
        "return_to_zero": True,
        "biased": layer.bias is not None,
        "destinations": [end.name for end, path in graph.paths() if path.source == layer.name],
    }
