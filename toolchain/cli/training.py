"""The verb that makes a run: train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ... import InputError
from ..run import RUNS
from .answers import opened, show
from .options import (
    DataRoot,
    Json,
    Seed,
    Verbose,
)


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe's name or TOML file; default: digits.")
    ] = None,
    seed: Seed = None,
    method: Annotated[
        str | None, typer.Option(help="Distillation method, joined with +, as samd+nld.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set.")] = None,
    timesteps: Annotated[int | None, typer.Option(help="Steps per sample.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the student.")] = None,
    devices: Annotated[
        int | None, typer.Option(help="GPUs, or processes where there are none, that share each batch.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A key of the recipe, as student.epochs=5."),
    ] = None,
    to_hard_reset: Annotated[
        str | None,
        typer.Option(help="Go on from this run's soft-reset student with a hard reset.", metavar="RUN"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was interrupted.")] = False,
    run: Annotated[
        str | None,
        typer.Option("--run", help="Folder of the new run, or of the one to resume.", metavar="RUN"),
    ] = None,
    data_root: DataRoot = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a spiking student from an ANN teacher.

    Example: snnkd train digits --method samd+nld --seed 1
    """
    from .. import training
    from ..recipe import DEFAULT_RECIPE
    from ..tables import train_table

    if resume and to_hard_reset:
        raise InputError("--resume continues a run, --to-hard-reset begins one; leave out one of them")
    chosen = {
        "seed": seed,
        "method": method,
        "dataset": dataset,
        "timesteps": timesteps,
        "student.epochs": None if to_hard_reset else epochs,
        "devices": devices,
    }
    settings = [f"{key}={value}" for key, value in chosen.items() if value is not None]
    settings += overrides or []
    if resume:
        if recipe or settings:
            raise InputError(f"--resume continues a run as it was begun; leave out {recipe or settings[0]}")
        finished = training.resume(opened(run), data_root)
    elif to_hard_reset:
        if recipe or settings:
            raise InputError(
                f"--to-hard-reset keeps a run's recipe but for --epochs; leave out {recipe or settings[0]}"
            )
        finished = training.to_hard_reset(opened(to_hard_reset), epochs, new_folder(run), data_root)
    else:
        finished = training.train(recipe or DEFAULT_RECIPE, settings, new_folder(run), data_root)
    show(finished.summary(), as_json, train_table)


def new_folder(name: str | None) -> Path | None:
    """Where `train --run NAME` goes: below runs/ unless NAME is a path."""
    if name is None:
        return None
    return RUNS / name if Path(name).name == name else Path(name)
