"""A run's folder: what each stage reads and writes, and the stages as methods.

| stage | writes |
|---|---|
| train | recipe.toml, teacher.safetensors, student.safetensors, metrics.jsonl, train.json, resume/ |
| lower | student.nir |
| quantise, export | <target>/network.nir, the target's files, <target>/export.json |
| quantize | quantized/bits.json; fine-tuned networks, quantized/<bits>-bit.nir and .json |
| validate | <target>/validation.json |
| stream | <target>/stream.json |
| energy | energy.json, energy.csv, energy-breakdown.csv |
| energy --twins | twin/: an ANN of the student's layers as safetensors and ONNX, twin.json |
| energy --measure | measured.json |
| report | report.html |

A NIR file can take the place of the trained student: `open_run("net.nir", inputs=…)` makes a folder that
holds a copy of it and the samples to use in place of a data set.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import InputError
from ..export.files import read_json

if TYPE_CHECKING:
    from ..export.graph import Graph
    from .recipe import Recipe
    from .samples import Samples

RUNS = Path("runs")
"""Where runs are kept, below the current folder."""

VALIDATION_SAMPLES = 64
"""Samples that a target runs unless asked otherwise."""

TIME_LIMIT = 1800.0
"""Seconds after which a target's run is ended."""


@dataclass(frozen=True)
class Run:
    """One run, known by its folder."""

    folder: Path

    @property
    def recipe_file(self) -> Path:
        return self.folder / "recipe.toml"

    @property
    def student_file(self) -> Path:
        return self.folder / "student.safetensors"

    @property
    def teacher_file(self) -> Path:
        return self.folder / "teacher.safetensors"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def summary_file(self) -> Path:
        """The `train` stage's answer."""
        return self.folder / "train.json"

    @property
    def network_file(self) -> Path:
        """The float NIR that everything after training starts from."""
        return self.folder / "student.nir"

    @property
    def samples_file(self) -> Path:
        """Samples that stand in for a data set, where the run began with a NIR file."""
        return self.folder / "samples.npz"

    def target_folder(self, target: str) -> Path:
        return self.folder / target

    def export_file(self, target: str) -> Path:
        """The `export` stage's answer, written last: without it an export isn't whole."""
        return self.target_folder(target) / "export.json"

    def validation_file(self, target: str) -> Path:
        """The `validate` stage's answer."""
        return self.target_folder(target) / "validation.json"

    def stream_file(self, target: str) -> Path:
        """The `stream` stage's answer."""
        return self.target_folder(target) / "stream.json"

    @property
    def bits_file(self) -> Path:
        """The `quantize` stage's answer."""
        return self.folder / "quantized" / "bits.json"

    def finetuned_file(self, bits: int) -> Path:
        """The integer NIR that fine-tuning left, beside it what is known of it as JSON."""
        return self.folder / "quantized" / f"{bits}-bit.nir"

    @property
    def energy_file(self) -> Path:
        """The `energy` stage's answer; beside it the same as CSV."""
        return self.folder / "energy.json"

    @property
    def measured_file(self) -> Path:
        """What `snnkd energy --measure` found on this machine, of the trained networks, not of an export."""
        return self.folder / "measured.json"

    @property
    def twin_file(self) -> Path:
        """What is known of the ANN twin, written last: without it a twin isn't whole."""
        return self.folder / "twin" / "twin.json"

    @property
    def twin_weights_file(self) -> Path:
        return self.twin_file.with_name("twin.safetensors")

    def twin_onnx(self, precision: str) -> Path:
        """The twin as ONNX, in "float32" or "int8"."""
        return self.twin_file.with_name("twin.onnx" if precision == "float32" else f"twin-{precision}.onnx")

    @property
    def report_file(self) -> Path:
        """The page about it all."""
        return self.folder / "report.html"

    def integer_file(self, target: str) -> Path:
        """The integer NIR for `target`."""
        return self.target_folder(target) / "network.nir"

    @property
    def is_trained(self) -> bool:
        """Whether training finished."""
        if not self.summary_file.exists():
            return False
        return self.network_file.exists() or not self.recipe.student.deployable

    @property
    def from_nir(self) -> bool:
        """Whether the run began with a NIR file and not with a recipe."""
        return self.samples_file.exists()

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe.

        Raises:
            InputError: the file is missing or was damaged.
        """
        from .recipe import validate

        try:
            values = tomllib.loads(self.recipe_file.read_text())
        except OSError as error:
            raise InputError(
                f"{self.folder} is not a run: {self.recipe_file.name} is missing; `snnkd train` makes one"
            ) from error
        except ValueError as error:
            raise InputError(f"{self.recipe_file} is damaged ({error}); restore it or train again") from error
        return validate(values, str(self.recipe_file))

    def float_graph(self) -> Graph:
        """The lowered float network.

        Raises:
            InputError: training isn't finished.
            Refusal: the student was trained for comparison and can't be lowered.
        """
        if not self.network_file.exists() and self.is_trained:
            from .lowering import lower_student

            lower_student(self)
        if not self.network_file.exists():
            raise InputError(
                f"{self.folder} has no trained student yet; finish it with `snnkd train --resume`"
            )
        return _lowered(self.network_file)

    def integer_graph(self, target: str) -> Graph:
        """The integer network made for `target`."""
        if not self.export_file(target).exists():
            raise InputError(
                f"{self.folder} is not exported to {target} yet; run `snnkd export --target {target}`"
            )
        return _lowered(self.integer_file(target))

    def samples(self, data_root: Path | None = None) -> Samples:
        """What the run is calibrated and judged on: a data set's splits, or samples given with a NIR file."""
        from .samples import load_samples

        return load_samples(self, data_root)

    def summary(self) -> dict[str, Any]:
        """What training found.

        Raises:
            InputError: the file is damaged.
        """
        summary = read_json(self.summary_file)
        if not isinstance(summary, dict) or not {"recipe", "student", "teacher"} <= set(summary):
            raise InputError(f"{self.summary_file} is damaged; delete it and run `snnkd train --resume`")
        return summary

    def twin_facts(self) -> dict[str, Any] | None:
        """What the ANN twin scores, see `energy.twin`; None if there is none yet.

        Raises:
            InputError: the file is damaged.
        """
        if not self.twin_file.exists():
            return None
        facts = read_json(self.twin_file)
        if not isinstance(facts, dict) or not {"test_accuracy", "int8_test_accuracy"} <= facts.keys():
            raise InputError(f"{self.twin_file} is damaged; delete it and run `snnkd energy --twins`")
        return facts

    def metrics(self) -> list[dict[str, Any]]:
        """One row per epoch so far, the teacher's first.

        Raises:
            InputError: the file is damaged.
        """
        if not self.metrics_file.exists():
            return []
        try:
            return [json.loads(line) for line in self.metrics_file.read_text().splitlines()]
        except ValueError as error:
            raise InputError(
                f"{self.metrics_file} is damaged ({error}); delete it to go on without"
            ) from error

    def discard_results(self, target: str = "*") -> None:
        """Delete what is known of an earlier export to `target` ("*": to any), before a new one is made."""
        for path in self.folder.glob(f"{target}/export.json"):
            path.unlink(missing_ok=True)
        self.discard_judgements(target)

    def discard_judgements(self, target: str = "*") -> None:
        """Delete what samples said of an export to `target` ("*": to any), and the report."""
        judged = [p for name in ("validation", "stream") for p in self.folder.glob(f"{target}/{name}.json")]
        for path in (*judged, *self.folder.glob("energy*.*"), self.report_file):
            path.unlink(missing_ok=True)

    def export(self, target: str = "loihi2", **options: Any) -> dict[str, Any]:
        """Quantise for `target` and write its files; the answer is `snnkd export --json`'s."""
        from .exporting import export_run

        return export_run(self, target, **options)

    def quantize(self, target: str = "loihi2", **options: Any) -> dict[str, Any]:
        """Score it at fewer bits, fine-tuned or not; the answer is `snnkd quantize --json`'s."""
        from .quantizing import quantize_run

        return quantize_run(self, target, **options)

    def validate(self, target: str = "loihi2", **options: Any) -> dict[str, Any]:
        """Compare float, integer and target; the answer is `snnkd validate --json`'s."""
        from .validation import validate_run

        return validate_run(self, target, **options)

    def stream(self, target: str = "loihi2", **options: Any) -> dict[str, Any]:
        """Show samples back to back, without resets; the answer is `snnkd stream --json`'s."""
        from .streaming import stream_run

        return stream_run(self, target, **options)

    def conformance(self, **options: Any) -> dict[str, Any]:
        """Compare its spikes with other simulators'; the answer is `snnkd conformance --json`'s."""
        from .conformance import conformance_of_run

        return conformance_of_run(self, **options)

    def energy(self, profiles: Sequence[str] = (), **options: Any) -> dict[str, Any]:
        """Estimate energy and latency per inference; the answer is `snnkd energy --json`'s."""
        from .energy.stage import energy_of_run

        return energy_of_run(self, profiles, **options)

    def measure(self, **options: Any) -> dict[str, Any]:
        """Measure its networks on this machine; the answer is `snnkd energy --measure --json`'s."""
        from .energy.measuring import measure_run

        return measure_run(self, **options)

    def report(self) -> Path:
        """Write one self-contained HTML page and return where it is."""
        from .report.page import write_report

        return write_report(self)


def _lowered(path: Path) -> Graph:
    from ..export.lowering import lower
    from ..export.nir import read_nir

    return lower(read_nir(path))


def open_run(source: str | Path | None = None, **options: Any) -> Run:
    """The run in a folder, the latest run (None), or a new run around a NIR file.

    Args:
        options: for a NIR file, what `foreign.run_from_nir` takes (inputs, labels, timesteps, dt, seed).

    Raises:
        InputError: there is no such run, or the NIR file can't be used.
    """
    if source is None:
        source = latest_run().folder
    path = Path(source)
    if path.is_file():
        from .foreign import run_from_nir

        return run_from_nir(path, **options)
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given:
        raise InputError(f"{', '.join(given)} go with a NIR file, and {source} is none")
    if not path.is_dir() and (RUNS / path).is_dir():
        path = RUNS / path
    if not path.is_dir():
        raise InputError(f"there is no run {path}; {_known_runs()}")
    if not (path / "recipe.toml").exists() and not (path / "samples.npz").exists():
        raise InputError(f"{path} is not a run (no recipe.toml in it); {_known_runs()}")
    return Run(path)


def latest_run() -> Run:
    """The run that was begun last.

    Raises:
        InputError: there is none.
    """
    begun = [*RUNS.glob("*/recipe.toml"), *RUNS.glob("*/samples.npz")]
    if not begun:
        raise InputError(f"there is no run in {RUNS}/; begin with `snnkd train`, or name one with --run")
    return Run(max(begun, key=lambda path: path.stat().st_mtime).parent)


def new_run_folder(name: str) -> Path:
    """A fresh folder below `runs/`: name-1, name-2, …"""
    number = 1
    while True:
        folder = RUNS / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.is_dir():
                raise InputError(f"{folder} is in the way; move it, or choose a folder with --run") from None
            number += 1
        except OSError as error:
            raise InputError(f"can't make {folder}: {error.strerror}; choose a folder with --run") from error
        else:
            return folder


def _known_runs() -> str:
    names = sorted(path.parent.name for path in RUNS.glob("*/recipe.toml"))
    return f"there are: {', '.join(names)}" if names else "begin with `snnkd train`"
