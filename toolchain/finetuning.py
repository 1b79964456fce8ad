"""Quantisation-aware fine-tuning: a run's student trained on as the integer network that the chip computes.

It begins with what post-training quantisation makes of the student, and trains with the run's own method
(where that needs more than integers have, with cross-entropy), teacher, augmentation and batches. The
validation split chooses the epoch, the start among them.
"""

from __future__ import annotations

import copy
import hashlib
import json

import torch
from lightning_fabric import Fabric

from .. import Refusal
from ..export.deployability import emitting_layers
from ..export.graph import Graph
from ..models.contract import Student
from . import checkpoint
from .data.batches import batches
from .data.datasets import DataSet
from .distillation.ce import CE
from .distillation.registry import build_method
from .fitting import Row, derived_seed, fit
from .networks import build_networks, freeze
from .progress import progress
from .quantization.aware import ChipNetwork
from .quantization.quantize import Quantized
from .recipe import NetworkSection, Recipe
from .run import Run
from .tasks import StudentTask, taps_of
from .tuned import Tuned, keep, origin

EPOCHS_SHARE = 4
"""A fourth of the student's epochs, unless the recipe or the caller says how many."""

LEARNING_RATE = 2e-4
SIGN_LEARNING_RATE = 1e-2
"""In units of the largest weight; a sign changes only after a weight has crossed zero."""


def finetune(
    run: Run,
    start: Quantized,
    data: DataSet,
    target: str,
    epochs: int | None = None,
    learning_rate: float | None = None,
    check: bool = False,
) -> Tuned:
    """Train `start` on, and keep the result in the run's folder; an interrupted training is taken up again.

    Args:
        start: the run's student after post-training quantisation.
        target: what it was quantised for.
        epochs, learning_rate: None: as the recipe says.
        check: assert in every batch that all numbers are whole, and not in the first alone.

    Raises:
        InputError: the run has nothing to train on, or its files can't be used.
        Refusal: the network can't be fine-tuned, or no longer holds on the target.
    """
    recipe = run.recipe
    bits = start.graph.weight_bits
    assert bits is not None
    section = _section(recipe, bits, epochs, learning_rate)
    fabric = Fabric(devices=1, precision="32-true")  # anything less would round the integers
    student, teacher = build_networks(recipe, data.task)
    method = build_method(recipe.method, recipe.methods).for_finetuning() or CE()
    if method.needs_teacher:
        checkpoint.load_weights(run.teacher_file, teacher)
        fabric.to_device(teacher)
        freeze(teacher)
    torch.manual_seed(derived_seed(recipe.seed, "fine-tuning"))
    parts = {tap: _populations(start.graph, student, tap) for tap in taps_of(student)}
    *taps, last = parts
    model = ChipNetwork(start, last, check, taps, parts)
    task = _FineTuning(
        *(model, teacher if method.needs_teacher else None, method, data, fabric, recipe.seed),
        windows=recipe.teacher.windows,
    )
    fabric.to_device(model)
    first, before = copy.deepcopy(model.state_dict()), task.evaluate()
    rows = _fit(run, task, section, data, bits, _settings(run, section, target))
    best = max(row["validation_accuracy"] for row in rows)
    if best < before["validation_accuracy"]:
        model.load_state_dict(first)
    tuned = start.with_integers(model.eval().cpu().integer_graph())
    facts = {
        "target": target,
        "bits": bits,
        "epochs": section.epochs,
        "learning_rate": section.learning_rate,
        "start_validation_accuracy": before["validation_accuracy"],
        "validation_accuracy": max(best, before["validation_accuracy"]),
        "improved": best >= before["validation_accuracy"],
        "seconds": sum(row["seconds"] for row in rows),
        "metrics": rows,
    }
    return keep(run, tuned, facts)


class _FineTuning(StudentTask):
    """The student's task on a `ChipNetwork`, whose weights are brought back into range before they count."""

    role = "fine-tuning"

    def evaluate(self) -> dict[str, float]:
        self.model.project()
        metrics = super().evaluate()
        metrics.pop("spike_rate")  # counted in the student's own neurons, and these are none
        return metrics


def _fit(
    run: Run, task: _FineTuning, section: NetworkSection, data: DataSet, bits: int, settings: str
) -> list[Row]:
    state = run.folder / "resume" / f"finetune-{bits}-{settings}.safetensors"
    for stale in state.parent.glob(f"finetune-{bits}-*.safetensors"):
        if stale != state:
            stale.unlink()
    with progress(f"fine-tuning to {bits} bits, {section.epochs} epochs", section.epochs) as report:

        def on_epoch(rows: list[Row]) -> None:
            report(len(rows), f"validation {rows[-1]['validation_accuracy']:.4f}" if rows else "")

        return fit(
            task,
            section,
            batches=lambda seed: batches(data.train, section.batch_size, seed, run.recipe.augmentation),
            batches_per_epoch=-(-len(data.train.labels) // section.batch_size),
            seed=run.recipe.seed,
            fabric=task.fabric,
            state_path=state,
            on_epoch=on_epoch,
        )


def _section(recipe: Recipe, bits: int, epochs: int | None, learning_rate: float | None) -> NetworkSection:
    """How the fine-tuning trains; weights in [−1, 1] need no decay."""
    chosen = recipe.quantization
    default_rate = chosen.finetune_learning_rate or (SIGN_LEARNING_RATE if bits == 1 else LEARNING_RATE)
    default_epochs = chosen.finetune_epochs or -(-recipe.student.epochs // EPOCHS_SHARE)
    return recipe.student.model_copy(
        update={
            "epochs": default_epochs if epochs is None else epochs,
            "learning_rate": default_rate if learning_rate is None else learning_rate,
            "optimizer": "adamw",
            "weight_decay": 0.0,
        }
    )


def _settings(run: Run, section: NetworkSection, target: str) -> str:
    """Names the training that a resumable state belongs to."""
    values = [
        origin(run),
        target,
        section.model_dump(mode="json"),
        run.recipe.quantization.calibration_samples,
    ]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]


def _populations(graph: Graph, student: Student, tap: str) -> list[str]:
    """The populations that a student's tap became: one, or those whose spikes it adds."""
    names = {population.name.replace(".", "_"): population.name for population in graph.spiking}
    layers = emitting_layers(student.layers, tap)
    for layer in layers:
        if layer.replace(".", "_") not in names:
            raise Refusal(
                f"the lowered network has no population {layer!r}, of the student's tap; name its layer so"
            )
    return [names[layer.replace(".", "_")] for layer in layers]
