"""The training loop of teachers and students: epochs, cosine schedule, model selection, resumable state.

Nothing random outlives an epoch: batch order, augmentation and noise are seeded by (seed, role, epoch), so a
run that was killed continues from its last finished epoch to the very same weights.

A batch may be shared by several processes (`parallel`), and each may look at its share in several parts
(`accumulate`). Losses and gradients are those of the whole batch, but for BatchNorm in parts: it normalises
each by its own mean and variance, and moves the running ones as often. What draws random numbers for samples
draws them for the whole batch where it asks `Batch.drawn`; everything else draws the same in every share.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from .. import InputError
from . import checkpoint
from .data.ahead import ahead
from .parallel.normalization import WholeBatchNorm
from .parallel.share import Share
from .parallel.team import ALONE, Team
from .recipe import NetworkSection

TAP_NORM_EVERY = 8
"""Batches between two measurements of each loss term's gradient at the tap (a backward pass of the head)."""

Row = dict[str, Any]


class Diverged(InputError):
    """A loss is no longer a number, and would not be the next time either."""


class Step(NamedTuple):
    """One batch's outcome: weighted loss terms, logits (B, K), and the feature whose gradient is watched."""

    terms: dict[str, Tensor]
    logits: Tensor
    tap: Tensor | None = None


class Task(Protocol):
    """What is trained.

    Attributes:
        role: "teacher" or "student".
        model: the network that is kept.
        helpers: modules that are trained beside it and dropped, or None.
    """

    role: str
    model: nn.Module
    helpers: nn.Module | None

    def step(self, images: Tensor, labels: Tensor, share: Share | None = None) -> Step:
        """The outcome of a batch, or of a share of one."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Validation metrics; `validation_accuracy` selects the model."""
        ...

    def on_epoch_end(self, validation: dict[str, float]) -> None: ...


@dataclass
class _State:
    """What training has come to after `epoch` epochs."""

    epoch: int
    best: dict[str, Tensor]
    best_accuracy: float
    rows: list[Row]

    def advance(self, row: Row, model: nn.Module) -> None:
        """Take in an epoch's metrics, and the weights if they are the best so far."""
        self.epoch += 1
        self.rows.append(row)
        if row["validation_accuracy"] > self.best_accuracy:
            self.best_accuracy = row["validation_accuracy"]
            self.best = {name: value.clone() for name, value in model.state_dict().items()}


def fit(
    task: Task,
    section: NetworkSection,
    batches: Callable[[int], Iterator[tuple[Tensor, Tensor]]],
    batches_per_epoch: int,
    seed: int,
    fabric: Fabric,
    state_path: Path,
    on_epoch: Callable[[list[Row]], None],
    team: Team = ALONE,
) -> list[Row]:
    """Train `task.model` and leave the weights of its best validation epoch in it.

    Args:
        batches: gives an epoch's batches (float images, int64 labels) for a batch seed.
        state_path: where the state after each epoch is kept; training continues from it.
        on_epoch: called with all rows so far after each epoch, and once at the start.
        team: the processes that share each batch; only the leading one keeps the state and calls `on_epoch`.

    Returns:
        One row of metrics per epoch.

    Raises:
        Diverged: the loss or a weight is no longer a number.
    """
    trained = nn.ModuleList([task.model, *([task.helpers] if task.helpers else [])])
    fabric.to_device(trained)
    optimizer = _optimizer(section, trained)
    wrapped = fabric.setup_optimizers(optimizer)
    state = _restore(state_path, trained, optimizer)
    team.wait()  # until all have read the state, before anyone writes the next
    if team.leads:
        on_epoch(state.rows)
    for epoch in range(state.epoch, section.epochs):
        started = time.monotonic()
        torch.manual_seed(derived_seed(seed, task.role, epoch))
        trained.train()
        rates = _cosine(section, epoch, batches_per_epoch)
        order = derived_seed(seed, f"{task.role} batches", epoch)
        row = {
            "role": task.role,
            "epoch": epoch + 1,
            **_train_epoch(task, trained, batches(order), rates, wrapped, fabric, section.accumulate, team),
        }
        if (lost := _no_number(row, trained)) is not None:
            raise Diverged(
                f"the {task.role}'s {lost} in epoch {epoch + 1}; lower "
                f"{task.role}.learning_rate (now {section.learning_rate}) or the methods' weights"
            )
        trained.eval()
        validation = task.evaluate()
        task.on_epoch_end(validation)
        state.advance({**row, **validation, "seconds": time.monotonic() - started}, task.model)
        if team.leads:
            _save(state_path, state, trained, optimizer)
            on_epoch(state.rows)
    task.model.load_state_dict(state.best)
    task.model.eval()
    return state.rows


def _no_number(row: Row, trained: nn.Module) -> str | None:
    """What isn't a number after an epoch: its loss, or what its last step made of the weights."""
    if not math.isfinite(row["loss"]):
        return f"loss became {row['loss']}"
    finite = all(bool(value.isfinite().all()) for value in trained.state_dict().values())
    return None if finite else "weights became NaN or infinite"


def _train_epoch(
    task: Task,
    trained: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    rates: Iterator[float],
    optimizer: Any,
    fabric: Fabric,
    parts: int,
    team: Team,
) -> Row:
    """One pass over the training split, each batch at its own learning rate."""
    meter = _Meter()
    with WholeBatchNorm(trained, team.size) as norms, closing(ahead(batches)) as ready:
        for index, ((images, labels), rate) in enumerate(zip(ready, rates, strict=True)):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            shares = list(team.shares(len(labels), parts))
            norms.alone = shares[0].is_whole
            before = _random_state(fabric) if len(shares) > 1 else None
            for share in shares:
                if before is not None:
                    _restore_random(before, fabric)
                images_there, labels_there = fabric.to_device(share.of(images, labels))
                with fabric.autocast():
                    step = _step(task, images_there, labels_there, share)
                    loss = torch.stack([term.float() for term in step.terms.values()]).sum() * share.weight
                if index % TAP_NORM_EVERY == 0 and step.tap is not None:
                    meter.add_norms(index, step.terms, step.tap, share)
                fabric.backward(loss)
                meter.add(step, labels_there, share)
            team.sum_gradients(trained.parameters())
            optimizer.step()
    return meter.summary(team)


def _step(task: Task, images: Tensor, labels: Tensor, share: Share) -> Step:
    return task.step(images, labels) if share.is_whole else task.step(images, labels, share)


def _random_state(fabric: Fabric) -> tuple[Tensor, Tensor | None]:
    """What torch draws next, on the CPU and on the GPU that is trained on."""
    on_gpu = fabric.device.type == "cuda"
    return torch.get_rng_state(), torch.cuda.get_rng_state(fabric.device) if on_gpu else None


def _restore_random(state: tuple[Tensor, Tensor | None], fabric: Fabric) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], fabric.device)


def derived_seed(seed: int, *parts: object) -> int:
    """A 63-bit seed for one purpose, independent of those for others."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _cosine(section: NetworkSection, epoch: int, batches_per_epoch: int) -> Iterator[float]:
    """The learning rate of each batch of `epoch`."""
    steps = section.epochs * batches_per_epoch
    for step in range(epoch * batches_per_epoch, (epoch + 1) * batches_per_epoch):
        yield section.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2


def _optimizer(section: NetworkSection, trained: nn.Module) -> torch.optim.Optimizer:
    if section.optimizer == "sgd":
        return torch.optim.SGD(
            trained.parameters(),
            lr=section.learning_rate,
            momentum=section.momentum,
            weight_decay=section.weight_decay,
        )
    return torch.optim.AdamW(
        trained.parameters(), lr=section.learning_rate, weight_decay=section.weight_decay
    )


def _save(path: Path, state: _State, trained: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    tensors = {
        **checkpoint.with_prefix("model", trained.state_dict()),
        **checkpoint.with_prefix("best", state.best),
        **checkpoint.with_prefix("optimizer", checkpoint.optimizer_tensors(optimizer)),
    }
    facts = {"epoch": state.epoch, "best_accuracy": state.best_accuracy, "rows": state.rows}
    checkpoint.save_tensors(path, tensors, facts)


def _restore(path: Path, trained: nn.Module, optimizer: torch.optim.Optimizer) -> _State:
    if not path.exists():
        return _State(epoch=0, best={}, best_accuracy=-1.0, rows=[])
    tensors, facts = checkpoint.load_tensors(path)
    try:
        trained.load_state_dict(checkpoint.without_prefix("model", tensors))
    except RuntimeError as error:
        raise InputError(f"training state {path} is of another network; start a new run") from error
    checkpoint.restore_optimizer(optimizer, checkpoint.without_prefix("optimizer", tensors))
    best = checkpoint.without_prefix("best", tensors)
    try:
        return _State(facts["epoch"], best, facts["best_accuracy"], facts["rows"])
    except KeyError as error:
        raise InputError(f"training state {path} is damaged (no {error}); start a new run") from error


class _Meter:
    """Means over an epoch: loss, each term, each term's gradient norm at the tap, accuracy, spike rate."""

    def __init__(self) -> None:
        self.samples = 0.0
        self.correct = 0.0
        self.sums: defaultdict[str, float] = defaultdict(float)
        self.squares: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))

    def add(self, step: Step, labels: Tensor, share: Share) -> None:
        count = share.weight * share.total
        self.samples += count
        self.correct += int((step.logits.argmax(1) == labels).sum()) * (count / share.count)
        for name, term in step.terms.items():
            self.sums[name] += float(term.detach()) * count

    def add_norms(self, batch: int, terms: dict[str, Tensor], tap: Tensor, share: Share) -> None:
        """Add a share's part of the squared norm of each term's gradient.

        Shares hold different samples, so their squares add up; where each process has the whole of a small
        batch, each adds its weight's part of the same square.
        """
        overlap = share.weight if share.is_whole else 1.0
        for name, term in terms.items():
            (gradient,) = torch.autograd.grad(term * share.weight, tap, retain_graph=True, allow_unused=True)
            self.squares[name][batch] += 0.0 if gradient is None else float(gradient.norm()) ** 2 / overlap

    def summary(self, team: Team) -> Row:
        samples, correct = team.sum([self.samples, self.correct])
        sums = dict(zip(self.sums, team.sum(list(self.sums.values())), strict=True))
        terms = {name: value / samples for name, value in sums.items()}
        row: Row = {"loss": sum(terms.values()), "terms": terms, "train_accuracy": correct / samples}
        norms = {
            name: [math.sqrt(square) for square in team.sum(list(batches.values()))]
            for name, batches in self.squares.items()
        }
        if norms:
            row["tap_gradient_norms"] = {name: sum(v) / len(v) for name, v in norms.items()}
        return row
