"""The `train` stage: a teacher, then a spiking student distilled from it, then the student's lowered network.

Every epoch leaves a resumable state behind; `resume(run)` continues a killed run to the same weights.
The validation split selects the model; the test split is looked at once, at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from .. import InputError, Refusal
from ..export.files import write_bytes, write_json, write_text
from ..export.student import deployability_problems
from ..models.compiling import compile_neurons
from ..models.gradients.backend import GRADIENTS
from . import checkpoint
from .data.batches import batches
from .data.datasets import DataSet
from .distillation.method import Method
from .distillation.registry import build_method
from .fitting import Row, derived_seed, fit
from .hardening import hard_reset_recipe, start_from
from .lowering import lower_student
from .memory import keep_freed_memory
from .networks import build_networks, freeze, spike_rates
from .parallel.processes import require_devices, together
from .parallel.team import ALONE, Team
from .parallel.worker import Request
from .progress import progress
from .recipe import NetworkSection, Recipe, dump, load_recipe
from .run import Run, new_run_folder
from .samples import load_with_progress
from .tasks import StudentTask, TeacherTask, accuracy_on, ann_accuracy_on, check_method
from .teaching import teacher_task


def train(
    recipe: Recipe | str | Path = "digits",
    overrides: Iterable[str] = (),
    folder: Path | None = None,
    data_root: Path | None = None,
) -> Run:
    """Train a student as `recipe` asks, in a new folder, and lower it.

    Args:
        recipe: a recipe, the name of one that ships with snnkd, or a TOML file.
        overrides: changes to it, as `student.epochs=5`.
        folder: where to; None: the next free one below `runs/`.
        data_root: where data sets are kept; None: the default.

    Raises:
        InputError: the recipe, its data or the folder can't be used.
        Refusal: the student couldn't be put on a chip.
    """
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    if folder is not None and (Run(folder).recipe_file.exists() or Run(folder).from_nir):
        raise InputError(f"{folder} already holds a run; continue it with --resume, or choose another folder")
    training = _Training.of(chosen, data_root)
    run = Run(new_run_folder(chosen.name) if folder is None else folder)
    write_text(run.recipe_file, dump(chosen))
    with together(chosen.devices, _request(run, data_root)) as team:
        training.joined(team).finish(run)
    return run


def to_hard_reset(
    run: Run, epochs: int | None = None, folder: Path | None = None, data_root: Path | None = None
) -> Run:
    """Fine-tune a run's soft-reset student into one with a hard reset, which a chip has: a run of its own.

    It has the run's teacher and recipe, but for the neuron, the gradient (bptt), the start and the epochs.

    Args:
        epochs: of the fine-tuning; None: a fourth of the student's.
        folder, data_root: as for `train`.

    Raises:
        InputError: the run can't be used, or its student has a hard reset already.
    """
    recipe = hard_reset_recipe(run, epochs)
    hardened = Run(new_run_folder(recipe.name) if folder is None else folder)
    if not hardened.recipe_file.exists() and run.teacher_file.exists():
        write_bytes(hardened.teacher_file, run.teacher_file.read_bytes())
    return train(recipe, folder=hardened.folder, data_root=data_root)


def resume(run: Run, data_root: Path | None = None) -> Run:
    """Bring a run's training to its end from wherever it stands; a finished run is returned as it is.

    Raises:
        InputError: the run's recipe, state or data can't be used.
        Refusal: the student couldn't be put on a chip.
    """
    if not run.is_trained:
        training = _Training.of(run.recipe, data_root)
        with together(run.recipe.devices, _request(run, data_root)) as team:
            training.joined(team).finish(run)
    return run


def train_teacher(run: Run, data_root: Path | None = None) -> float:
    """Train the teacher of `run`'s recipe alone, from wherever it stands, and give its test accuracy.

    Raises:
        InputError, Refusal: as `resume`.
    """
    training = _Training.of(run.recipe, data_root)
    with together(run.recipe.devices, _request(run, data_root, teaches=True)) as team:
        return training.joined(team).train_teacher(run)["test_accuracy"]


def assist(run: Run, team: Team, teaches: bool, data_root: Path | None = None) -> None:
    """Do what a process that doesn't lead does while another trains `run`, or (`teaches`) its teacher.

    Raises:
        InputError, Refusal: as `resume`.
    """
    training = _Training.of(run.recipe, data_root).joined(team)
    if teaches:
        training.train_teacher(run)
    else:
        training.finish(run)


def _request(run: Run, data_root: Path | None, teaches: bool = False) -> Request:
    """What is asked of the other processes, where several train `run`."""
    return Request(str(run.folder), str(data_root or ""), teaches)


@dataclass
class _Training:
    """Everything one training run works with."""

    recipe: Recipe
    data: DataSet
    method: Method
    fabric: Fabric
    student: Any
    teacher: Any
    rows: dict[str, list[Row]] = field(default_factory=dict)
    team: Team = ALONE

    @classmethod
    def of(cls, recipe: Recipe, data_root: Path | None) -> _Training:
        data = load_with_progress(recipe, data_root)
        torch.manual_seed(derived_seed(recipe.seed, "weights"))
        student, teacher = build_networks(recipe, data.task)
        method = build_method(recipe.method, recipe.methods)
        _check_reset(recipe, method)
        problems = deployability_problems(student, soft_reset=True)
        if problems and recipe.student.deployable:
            raise Refusal(
                f"the student can't be put on a chip: {'; '.join(problems)}; "
                "to train it for comparison alone, set student.deployable=false"
            )
        if recipe.student.start:
            start_from(student, recipe.student.start, data.task)
        check_method(method, student, teacher, data.train)
        require_devices(recipe.devices)
        _check_shares(recipe, method)
        return cls(recipe, data, method, ALONE.fabric(precision_of(recipe)), student, teacher)

    def joined(self, team: Team) -> _Training:
        """It, as a process of that team does it."""
        if team == ALONE:
            return self
        return replace(self, team=team, fabric=team.fabric(precision_of(self.recipe)))

    def finish(self, run: Run) -> None:
        """Train whatever isn't trained yet in `run`'s folder, and lower the student."""
        for row in run.metrics():
            self.rows.setdefault(row["role"], []).append(row)
        summary: dict[str, Any] = {
            "run": str(run.folder),
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "method": self.recipe.method,
            "gradient": self.recipe.student.gradient,
            "start": self.recipe.student.start or None,
            "teacher": self.train_teacher(run) if self.method.needs_teacher else {"test_accuracy": None},
        }
        summary["student"] = self.train_student(run)
        if not self.team.leads:
            return
        if self.recipe.student.deployable or not deployability_problems(self.student, soft_reset=True):
            lower_student(run)
        summary["seconds"] = sum(row["seconds"] for part in self.rows.values() for row in part)
        write_json(run.summary_file, summary)

    def train_teacher(self, run: Run) -> dict[str, Any]:
        """Train the teacher, or take the one that lies in the run's folder; freeze it.

        Raises:
            InputError: the one there was trained on other input.
        """
        path, windows = run.teacher_file, self.recipe.teacher.windows
        seen = asdict(teacher_task(self.recipe, self.data.task, windows))
        if not self.team.agree(path.exists()):
            task = TeacherTask(self.teacher, self.data.validation, self.fabric, windows)
            self._fit(run, task, self.recipe.teacher)
            if self.team.leads:
                accuracy = ann_accuracy_on(self.teacher, self.data.test, self.fabric, windows)
                facts = {**_architecture(self.recipe.teacher, seen), "test_accuracy": accuracy}
                checkpoint.save_weights(path, self.teacher, facts)
            self.team.wait()
        facts = checkpoint.load_weights(path, self.teacher)
        if json.loads(json.dumps(seen)) != facts.get("task"):
            raise InputError(
                f"{path} holds a teacher of {facts.get('task')}, and this recipe's sees {seen}; train another"
            )
        self.fabric.to_device(self.teacher)
        freeze(self.teacher)
        return {"test_accuracy": facts["test_accuracy"]}

    def train_student(self, run: Run) -> dict[str, Any]:
        """Train the student and write its checkpoint, of which the leading process knows."""
        teacher = self.teacher if self.method.needs_teacher else None
        task = StudentTask(
            *(self.student, teacher, self.method, self.data, self.fabric, self.recipe.seed),
            windows=self.recipe.teacher.windows,
        )
        if self.recipe.student.compiled:
            with progress("compiling the neurons", 1):
                compile_neurons(self.student, self.recipe.timesteps)
        self._fit(run, task, self.recipe.student)
        self.method.finish(self.student)
        if not self.team.leads:
            return {}
        with spike_rates(self.student) as rates:
            accuracy = accuracy_on(self.student, self.data.test, self.fabric)
        facts = {
            "test_accuracy": accuracy,
            "parameters": sum(p.numel() for p in self.student.parameters()),
            "timesteps": self.recipe.timesteps,
            "spike_rate": rates.mean(),
            "spike_rates": rates.by_layer(),
        }
        architecture = _architecture(self.recipe.student, asdict(self.data.task))
        checkpoint.save_weights(run.student_file, self.student, {**architecture, **facts})
        return facts

    def _fit(self, run: Run, task: Any, section: NetworkSection) -> None:
        keep_freed_memory()
        with progress(f"{task.role}, {section.epochs} epochs", section.epochs) as report:

            def on_epoch(rows: list[Row]) -> None:
                self.rows[task.role] = rows
                lines = [json.dumps(row) for part in self.rows.values() for row in part]
                write_text(run.metrics_file, "".join(f"{line}\n" for line in lines))
                note = f"validation {rows[-1]['validation_accuracy']:.4f}" if rows else ""
                report(len(rows), note)

            fit(
                task,
                section,
                batches=lambda seed: batches(
                    self.data.train, section.batch_size, seed, self.recipe.augmentation
                ),
                batches_per_epoch=-(-len(self.data.train.labels) // section.batch_size),
                seed=self.recipe.seed,
                fabric=self.fabric,
                state_path=run.folder / "resume" / f"{task.role}.safetensors",
                on_epoch=on_epoch,
                team=self.team,
            )


def _check_reset(recipe: Recipe, method: Method) -> None:
    """See that the method can train the neurons that the gradient backend makes."""
    reset = GRADIENTS.load(recipe.student.gradient).reset
    if reset not in method.resets:
        raise InputError(
            f"method {recipe.method!r} trains neurons with a {' or '.join(method.resets)} reset, and "
            f"gradient {recipe.student.gradient!r} makes some with a {reset} one; choose another of the two"
        )


def _check_shares(recipe: Recipe, method: Method) -> None:
    """See that batches can be shared by processes, or looked at in parts, as the recipe asks.

    Raises:
        InputError: the method or the gradient backend needs the whole batch.
    """
    if recipe.devices == recipe.student.accumulate == 1:
        return
    if method.needs_whole_batch:
        raise InputError(
            f"method {recipe.method!r} scales by all samples of a batch, so it can't be looked at in shares; "
            "leave devices and student.accumulate at 1, or choose another variant"
        )
    if recipe.devices > 1 and recipe.student.gradient == "rate":
        raise InputError(
            "gradient 'rate' normalises by what one process sees; leave devices at 1, or use bptt"
        )


def _architecture(section: NetworkSection, task: dict[str, Any]) -> dict[str, Any]:
    return {"model": section.model, "options": section.options, "task": task}


def precision_of(recipe: Recipe) -> str:
    """Lightning's name for the recipe's precision; `auto` is bf16 where a GPU has it, else float32."""
    if recipe.precision == "auto":
        capable = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return "bf16-mixed" if capable else "32-true"
    if recipe.precision == "16" and not torch.cuda.is_available():
        raise InputError("precision 16 needs a GPU, and there is none; use 32 or bf16")
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[recipe.precision]
