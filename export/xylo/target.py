"""The Xylo targets: check and export networks, and run them in SynSense's xylosim.

`xylo` is Xylo IMU, which has 16 outputs, `xylo-audio2` Xylo Audio 2 with 8. rockpool simulates both with the
same class of xylosim (`xylosim.v2.XyloLayer`), whose authors call it bit-accurate; whether silicon agrees is
unverified.
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
from . import chips, limits
from .arithmetic import XyloArithmetic
from .network import Block, arrays, blocks

ARRAYS = "network.npz"
MANIFEST = "manifest.json"
SCRIPT_FOLDER = Path(__file__).parent / "runner"
XYLOSIM = Engine("xylosim", "xylosim", 'pip install "snnkd[xylo]"')


class Xylo:
    """Xylo IMU. See `export.target.Target`. xylosim isn't imported here: it runs in a child process."""

    name = "xylo"
    description = "SynSense Xylo IMU: one recurrent population of 496 neurons; run in xylosim, not on silicon"
    backend = "xylosim"
    profile = "xylo-audio2"
    profile_stands_in_for = "Xylo IMU"
    chip = chips.IMU
    constraints = chips.CONSTRAINTS
    arithmetic = XyloArithmetic()

    def check(self, graph: Graph) -> list[Problem]:
        """Every limit that `graph` breaks: of structure, and of its integers where it has them."""
        return limits.problems(graph, self.chip)

    def export(self, graph: Graph, folder: Path) -> Manifest:
        """Write the chip's tables, a script that runs them in xylosim, and the manifest.

        The same network gives the same bytes.

        Raises:
            Refusal: the network breaks a limit, each of them named.
            InputError: it is a float network or doesn't say its steps, or `folder` can't be written.
        """
        if found := self.check(graph):
            raise Refusal(f"the network doesn't fit {self.name}: {'; '.join(map(str, found))}")
        if graph.weight_bits is None:
            raise InputError(f"{self.name} takes integers and this is a float network; quantise it first")
        folder, tables, places = Path(folder), arrays(graph), {block.name: block for block in blocks(graph)}
        write_bytes(folder / SCRIPT, (SCRIPT_FOLDER / SCRIPT).read_bytes())
        with atomic_path(folder / ARRAYS) as temporary:
            np.savez_compressed(temporary, **tables)  # pyright: ignore[reportArgumentType]
        manifest = Manifest(
            target=self.name,
            bits=graph.weight_bits,
            files=[ARRAYS, SCRIPT, MANIFEST],
            layers=[_layer(population, places[population.name]) for population in graph.populations],
            cores=1,
        )
        (port,) = graph.inputs
        content = {
            "target": self.name,
            "device": self.chip.device,
            "snnkd": __version__,
            "backend": self.backend,
            "silicon": "unverified",
            "bits": manifest.bits,
            "timesteps": graph.steps,
            "files": manifest.files,
            "sha256": {ARRAYS: hashlib.sha256((folder / ARRAYS).read_bytes()).hexdigest()},
            "input": {"name": port.name, "shape": list(port.shape), "payload_max": port.payload_max},
            "hidden_neurons": len(tables["hidden_threshold"]),
            "output_neurons": len(tables["output_threshold"]),
            "weight_shifts": dict(
                zip(("input", "recurrent", "output"), tables["shifts"].tolist(), strict=True)
            ),
            "layers": manifest.layers,
            "outputs": [{"name": p.name, "logits": "sum over all steps of spikes"} for p in graph.outputs],
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
            InputError: xylosim or a file is missing, the inputs don't fit, or the run hung or died.
        """
        return run_script(XYLOSIM, Path(folder), inputs, timesteps, time_limit, progress)


class XyloAudio2(Xylo):
    """Xylo Audio 2."""

    name = "xylo-audio2"
    description = (
        "SynSense Xylo Audio 2: one recurrent population of 1000 neurons, 8 outputs; run in xylosim, "
        "not on silicon"
    )
    profile_stands_in_for = ""
    chip = chips.AUDIO2


def _layer(population: Population, block: Block) -> dict[str, Any]:
    """Where a layer's neurons lie, and how many steps behind the first layer they work."""
    return {
        "name": population.name,
        "kind": "dense",
        "shape": list(population.shape),
        "depth": population.depth,
        "cores": 1,
        "population": "output" if block.outputs else "hidden",
        "first_neuron": block.first,
        "delay": block.delay,
    }
