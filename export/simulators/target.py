"""A simulator that reads NIR, as a target: its rooms (norse, snntorch, spikingjelly) name what differs.

The integer network is Loihi 2's. It is written in the encoding of `nir.py`, in the form that the simulator's
own reader takes rightly; the simulator computes in float64, and the check proves from the network's numbers
that no rounding can change a spike.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nir
import numpy as np

from ... import InputError, Refusal, __version__
from ..files import write_bytes, write_json
from ..graph import Graph, Population
from ..loihi2.limits import CONSTRAINTS, integer_problems
from ..metadata import DT
from ..nir import write_nir
from ..script import SCRIPT, Engine, run_script
from ..target import Constraints, Inputs, Manifest, Problem, Progress, Recording, peculiarity_problems
from .exactness import rounding_problems, truncation_problems
from .views import View

MANIFEST = "manifest.json"
READER = "reader.py"
SCRIPTS = (SCRIPT, "network.py")
SCRIPT_FOLDER = Path(__file__).parent / "runner"
REMEDY = 'pip install "snnkd[simulators]"'

MAPS = (nir.Affine, nir.Conv2d, nir.Flatten)
LEAKY = (nir.LIF, nir.CubaLIF)

WAYS_OUT = {
    nir.Delay: "take the delay out of the model",
    nir.Scale: "let a skip have its population's threshold for a weight, or be a convolution",
    nir.LI: "let the read-out be a map without neurons",
    nir.CubaLI: "let the read-out be a map without neurons",
    nir.I: "let the read-out be a map without neurons",
    nir.IF: "give the neuron a leak",
}


class SimulatorTarget:
    """See `export.target.Target`. Nothing of the simulator is imported here: it runs in a child process.

    Attributes:
        package: what is imported.
        reader: the room's module that is copied beside the script; see `runner/network.py`.
        nodes: the node types that the simulator's reader takes rightly, besides Input and Output.
        weights: the type that it rounds weights and thresholds to.
        view: writes a network so that it reads it rightly.
    """

    name: str
    description: str
    backend: str
    package: str
    reader: ModuleType
    nodes: tuple[type[nir.NIRNode], ...]
    weights: type[np.floating]
    view: Callable[[Graph], View]
    profile = "cpu"
    constraints: Constraints = CONSTRAINTS

    def misreadings(self, graph: nir.NIRGraph) -> Iterator[Problem]:
        """What the simulator's reader doesn't take, or not rightly; rooms add their own."""
        for what, ends in (("inputs", graph.inputs), ("outputs", graph.outputs)):
            if len(ends) != 1:
                yield Problem("network", f"number of {what}", len(ends), 1)
        for name in graph.outputs:
            if (paths := sum(end == name for _, end in graph.edges)) > 1:
                yield Problem(name, "number of paths to the output", paths, 1, "end it in one map")
        fed = {end for _, end in graph.edges}
        for name, node in graph.nodes.items():
            if name not in fed and not isinstance(node, nir.Input):
                yield Problem(name, "number of sources", 0, "at least 1", "feed it, or take it out")
            if np.any(leak := np.asarray(getattr(node, "v_leak", 0))):
                worst = float(leak.flat[np.abs(leak).argmax()])
                yield Problem(name, "v_leak", worst, 0, "let the map before it hold the bias")
            if not isinstance(node, (nir.Input, nir.Output, *self.nodes)):
                kinds = ", ".join(kind.__name__ for kind in self.nodes)
                way_out = WAYS_OUT.get(type(node), "")
                yield Problem(name, "type of node", type(node).__name__, kinds, way_out)
            elif isinstance(node, nir.Conv2d) and int(node.groups) != 1:
                yield Problem(name, "convolution's groups", int(node.groups), 1, "use one without groups")

    def inexactness(self, graph: Graph) -> list[Problem]:
        """Why an integer network's spikes may differ here from the chip's, though all is read rightly."""
        return [*truncation_problems(graph)] or [*rounding_problems(graph, self.view(graph), self.weights)]

    def check(self, graph: Graph) -> list[Problem]:
        """Every limit that `graph` breaks: what isn't read rightly, and of integers what isn't exact."""
        if not graph.populations:
            return [Problem("network", "number of populations", 0, "at least 1", "add a layer")]
        broken: list[Problem] = peculiarity_problems(graph)
        if graph.weight_bits is not None:
            broken += [*integer_problems(graph, graph.weight_bits, self.constraints)]
        try:
            found = [*self.misreadings(self.view(graph).to_nir())]
        except Refusal as refusal:
            return [*broken, Problem("network", "NIR for it", f"impossible ({refusal})", "what it reads")]
        if graph.is_integer and not broken:
            found += self.inexactness(graph)
        return [*broken, *found]

    def export(self, graph: Graph, folder: Path) -> Manifest:
        """Write the network for the simulator's reader, a script that runs it, and the manifest.

        The same network gives the same bytes.

        Raises:
            Refusal: the network breaks a limit, each of them named.
            InputError: it is a float network, or `folder` can't be written.
        """
        if found := self.check(graph):
            raise Refusal(f"the network doesn't fit {self.name}: {'; '.join(map(str, found))}")
        if graph.weight_bits is None:
            raise InputError(f"{self.name} takes integers and this is a float network; quantise it first")
        folder, network = Path(folder), f"{self.name}.nir"
        for script in SCRIPTS:
            write_bytes(folder / script, (SCRIPT_FOLDER / script).read_bytes())
        write_bytes(folder / READER, Path(inspect.getfile(self.reader)).read_bytes())
        written = self.view(graph).to_nir()
        write_nir(folder / network, written)
        manifest = Manifest(
            target=self.name,
            bits=graph.weight_bits,
            files=[network, *SCRIPTS, READER, MANIFEST],
            layers=[_layer(population) for population in graph.populations],
            cores=None,
        )
        (end,) = written.outputs
        content = {
            "target": self.name,
            "snnkd": __version__,
            "backend": self.backend,
            "bits": manifest.bits,
            "timesteps": graph.timesteps,
            "dt": DT,
            "files": manifest.files,
            "network": network,
            "sha256": {network: hashlib.sha256((folder / network).read_bytes()).hexdigest()},
            "inputs": [
                {"name": port.name, "shape": list(port.shape), "payload_max": port.payload_max}
                for port in graph.inputs
            ],
            "layers": manifest.layers,
            "spiking": [population.name for population in graph.spiking],
            "outputs": [_output(population, end, graph.readout_scale) for population in graph.outputs],
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
            InputError: the simulator or a file is missing, the inputs don't fit, or the run hung or died.
        """
        engine = Engine(self.name, self.package, REMEDY)
        return run_script(engine, Path(folder), inputs, timesteps, time_limit, progress)


def _layer(population: Population) -> dict[str, Any]:
    return {
        "name": population.name,
        "kind": population.synapses[0].kind if population.synapses else "bias",
        "shape": list(population.shape),
        "depth": population.depth,
        "range": "proven",
    }


def _output(population: Population, node: str, scale: float) -> dict[str, Any]:
    """What a class is read from, how, and at which node of the NIR it comes out."""
    if not population.is_readout:
        return {"name": population.name, "emits": "spikes", "logits": "sum over all steps of spikes"}
    bias = np.broadcast_to(population.bias, population.shape).astype(np.int64)
    return {
        "name": population.name,
        "node": node,
        "emits": "sums",
        "logits": "(sum over all steps of sums + timesteps * bias) / scale",
        "bias": bias.tolist(),
        "scale": scale,
    }
