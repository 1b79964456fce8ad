"""The `quantize` stage: a run's accuracy against the bits of its weights, before and after fine-tuning.

The validation split selects; the test split is only reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import InputError
from ..export.files import read_json, require_writable, write_json
from ..export.graph import Graph
from ..export.target import Inputs, Target, arithmetic_of, get_target
from .arithmetic import quantize_for, simulate_on
from .exporting import refuse
from .finetuning import finetune
from .lowering import lower_student
from .progress import progress
from .quantization.quantize import quantize
from .run import Run
from .samples import load_with_progress, size
from .tuned import origin

if TYPE_CHECKING:
    from .data.datasets import DataSet

TABLE_BITS = (8, 4, 2, 1)
"""What `--table` compares."""

SPLITS = ("validation", "test")


def quantize_run(
    run: Run,
    target: str = "loihi2",
    bits: Sequence[int] = (),
    finetuning: bool = False,
    epochs: int | None = None,
    learning_rate: float | None = None,
    check: bool = False,
    approximate: bool = False,
    data_root: Path | None = None,
) -> dict[str, Any]:
    """Quantise a run's network to each of `bits`, and write `<run>/quantized/bits.json`.

    Args:
        bits: of every weight, first and last layer included; none: as the recipe says (8 for a NIR file).
        finetuning: whether to fine-tune each as well; its network then lies beside bits.json, and `export`
            takes it.
        epochs, learning_rate, check: of the fine-tuning; see `finetuning.finetune`.
        approximate: round decays that the target doesn't have; otherwise they are refused.
        data_root: where data sets are kept; None: the default.

    Returns:
        The answer of `snnkd quantize --json`, with the rows of earlier calls on the same student.

    Raises:
        Refusal: the network doesn't hold on the target.
        InputError: the run or the target can't be used, or has nothing to train on.
    """
    if not finetuning and (epochs is not None or learning_rate is not None or check):
        raise InputError("--epochs, --learning-rate and --check are of the fine-tuning; add --finetune")
    room = get_target(target)
    require_writable(run.bits_file)
    if finetuning and arithmetic_of(room) is not None:
        raise InputError(
            f"fine-tuning is in Loihi 2's arithmetic, and {target} has its own; leave out --finetune"
        )
    if run.from_nir and finetuning:
        raise InputError(
            "a NIR file can't be fine-tuned, for it brings no training data; leave out --finetune"
        )
    if not run.from_nir:
        lower_student(run)
    graph = run.float_graph()
    if graph.is_integer:
        raise InputError("the network is one of integers already; quantise the float one")
    refuse(room.check(graph), target)
    judges = _Judges.of(run, room, data_root)
    floats = judges.predictions(graph, "float")
    answer = {
        "run": str(run.folder),
        "target": target,
        "origin": origin(run),
        "timesteps": graph.steps,
        "samples": judges.sizes(),
        "float": judges.accuracies(floats),
        "rows": [],
    }
    rows = _earlier_rows(run, answer)
    for count in bits or (8 if run.from_nir else run.recipe.quantization.bits,):
        start = None
        if finetuning:
            start = quantize(graph, room.constraints, graph.steps, count, judges.calibration, approximate)
            integers = start.graph
        else:
            integers, _ = quantize_for(room, graph, count, judges.calibration, approximate)
        refuse(room.check(integers), target)
        scores = judges.compare(judges.predictions(integers, f"{count} bits"), floats)
        rows[count, False] = {**_row(count, False), **scores}
        if start is not None and judges.data is not None:
            tuned = finetune(run, start, judges.data, target, epochs, learning_rate, check)
            refuse(room.check(tuned.graph), target)
            facts = {key: tuned.facts[key] for key in ("epochs", "learning_rate", "seconds", "improved")}
            predicted = judges.predictions(tuned.graph, f"{count} bits, fine-tuned")
            rows[count, True] = {**_row(count, True), **judges.compare(predicted, floats), **facts}
        answer["rows"] = [rows[key] for key in sorted(rows, key=lambda key: (-key[0], key[1]))]
        write_json(run.bits_file, answer)
    return answer


def _row(bits: int, finetuned: bool) -> dict[str, Any]:
    plural = "bit" if bits == 1 else "bits"
    return {"bits": bits, "name": f"{bits} {plural}, all layers", "finetuned": finetuned}


def _earlier_rows(run: Run, answer: dict[str, Any]) -> dict[tuple[int, bool], dict[str, Any]]:
    """What an earlier call found of the same float network on the same target and samples."""
    if not run.bits_file.exists():
        return {}
    earlier = read_json(run.bits_file)
    same = ("target", "origin", "timesteps", "samples")
    if not isinstance(earlier, dict) or any(earlier.get(key) != answer[key] for key in same):
        return {}
    return {(row["bits"], row["finetuned"]): row for row in earlier["rows"]}


@dataclass(frozen=True)
class _Judges:
    """Samples to calibrate and to judge on.

    Attributes:
        room: the target.
        data: what to fine-tune on; None for a NIR file.
        splits: "validation" and "test" where there are such, and their labels where they are known.
    """

    room: Target
    data: DataSet | None
    calibration: Inputs
    splits: Mapping[str, tuple[Inputs, np.ndarray | None]]

    @classmethod
    def of(cls, run: Run, room: Target, data_root: Path | None) -> _Judges:
        if run.from_nir:
            given = run.samples()
            return cls(room, None, given.calibration, {"test": (given.inputs, given.labels)})
        data = load_with_progress(run.recipe, data_root)
        calibration = data.validation.inputs[: run.recipe.quantization.calibration_samples].numpy()
        splits = {"validation": data.validation, "test": data.test}
        arrays = {name: (split.inputs.numpy(), split.labels.numpy()) for name, split in splits.items()}
        return cls(room, data, calibration, arrays)

    def sizes(self) -> dict[str, int]:
        return {split: size(self.splits[split][0]) if split in self.splits else 0 for split in SPLITS}

    def predictions(self, graph: Graph, what: str) -> dict[str, np.ndarray]:
        """The class of each sample of each split."""
        predicted, done = {}, 0
        with progress(what, sum(self.sizes().values())) as report:
            for name, (inputs, _) in self.splits.items():
                before = done
                predicted[name] = simulate_on(
                    self.room,
                    graph,
                    inputs,
                    graph.steps,
                    progress=lambda more, _, before=before: report(before + more),
                )
                done += size(inputs)
        return predicted

    def accuracies(self, predicted: dict[str, np.ndarray]) -> dict[str, float | None]:
        """The share of right predictions in each split; None without labels."""
        answer: dict[str, float | None] = {}
        for split in SPLITS:
            labels = self.splits[split][1] if split in self.splits else None
            right = None if labels is None else float(np.mean(predicted[split] == labels))
            answer[f"{split}_accuracy"] = right
        return answer

    def compare(
        self, predicted: dict[str, np.ndarray], floats: dict[str, np.ndarray]
    ) -> dict[str, float | None]:
        """An integer network's accuracies, their difference from the float one's, how often both agree."""
        scores = self.accuracies(predicted)
        mine, other = scores["test_accuracy"], self.accuracies(floats)["test_accuracy"]
        return {
            **scores,
            "difference": None if mine is None or other is None else mine - other,
            "agreement": float(np.mean(predicted["test"] == floats["test"])),
        }
