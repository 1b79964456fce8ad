"""The verb that sets methods against each other: compare."""

from __future__ import annotations

from typing import Annotated

import typer

from ... import Refusal
from .answers import show
from .options import DataRoot, Json, Verbose
from .training import new_folder


def compare(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe's name or TOML file; default: digits.")
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD[:KEY=VALUE…]",
            help="A method, with changes to the recipe for it alone; repeatable. "
            "Default: ce, kd, samd+nld, bkd.",
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of each method; default: 5.")] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time.")] = 1,
    trials: Annotated[
        int | None,
        typer.Option(help="Settings of each method's constants to choose from; default: 1, the recipe's."),
    ] = None,
    tune_learning_rate: Annotated[
        bool | None,
        typer.Option(
            "--tune-learning-rate/--no-tune-learning-rate",
            help="Have the learning rate among these, of every method; default: yes.",
        ),
    ] = None,
    to_hard_reset: Annotated[
        bool | None,
        typer.Option(
            "--to-hard-reset/--no-to-hard-reset",
            help="A further row for each method with a soft reset: its students fine-tuned with a hard one.",
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="Hardware profile to price each student on, or none.")
    ] = "loihi2",
    time_limit: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="How long a run may take; default: any.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A key of the recipe, for all methods, as student.epochs=5."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Folder of the study, which then has what isn't given; default: its own.",
            metavar="RUN",
        ),
    ] = None,
    data_root: DataRoot = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train methods × seeds under one budget and compare them; started again, it goes on where it was.

    Example: snnkd compare digits --method ce --method kd --method samd+nld --seeds 5
    """
    from ..comparing.study import compare as run_study
    from ..tables import comparison_table
    from ..tables.comparing import failed_name

    answer = run_study(
        recipe,
        methods or (),
        seeds,
        overrides or (),
        new_folder(run),
        jobs,
        time_limit,
        data_root,
        trials,
        tune_learning_rate,
        profile,
        to_hard_reset,
    )
    show(answer, as_json, comparison_table)
    if failed := answer["failed"]:
        first, runs = failed[0], len(answer["runs"]) + len(answer["trials"])
        raise Refusal(
            f"{len(failed)} of {runs} runs failed, the first of them {failed_name(first)}: "
            f"{first['reason']}; the same command tries them again"
        )
