"""The verbs about what an inference costs: energy, profile show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ... import InputError, Refusal
from .answers import opened, show
from .options import (
    DataRoot,
    Dt,
    Inputs,
    Json,
    Labels,
    Network,
    RunOption,
    Seed,
    Target,
    Timesteps,
    Verbose,
)

BATCH = 64


def energy(
    network: Network = None,
    target: Target = "loihi2",
    profiles: Annotated[
        list[str] | None,
        typer.Option("--profile", help="Profile, by name or TOML file; repeatable."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Test samples whose activity is counted; default: all.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Second batch size on processors, beside 1.")] = BATCH,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=1e-9, metavar="HZ", help="Requests a second, idle time between them."),
    ] = None,
    always_on: Annotated[
        bool, typer.Option("--always-on", help="Power while it listens to a sensor without pause too.")
    ] = False,
    window: Annotated[
        float | None,
        typer.Option(
            "--window",
            min=1e-9,
            metavar="SECONDS",
            help="With --always-on: how long a sample lasts; default: as long as the event data's.",
        ),
    ] = None,
    twins: Annotated[
        bool, typer.Option("--twins", help="Train the ANN twin that the student is compared with.")
    ] = False,
    cite: Annotated[
        bool, typer.Option("--cite", help="Print only a paragraph to paste: figure, bounds, sources.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure on this machine's CPU and GPU too (a minute).")
    ] = False,
    validate: Annotated[
        bool, typer.Option("--validate", help="Judge the estimator by measurements (-v: every case).")
    ] = False,
    cases: Annotated[
        list[Path] | None, typer.Option("--cases", help="With --validate: a folder of further cases.")
    ] = None,
    run: RunOption = None,
    inputs: Inputs = None,
    labels: Labels = None,
    timesteps: Timesteps = None,
    dt: Dt = None,
    seed: Seed = None,
    data_root: DataRoot = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Estimate joules, watts and seconds per inference, with bounds and sources; measure; or be judged.

    Example: snnkd energy --profile loihi2 --profile h100
    """
    from ..tables import citation_text, energy_table

    estimating = {
        "--profile": profiles, "--samples": samples, "--rate": rate,
        "--always-on": always_on, "--window": window, "--twins": twins, "--cite": cite,
    }  # fmt: skip
    if validate:
        _alone("--validate", {"a run": network or run, "--measure": measure, **estimating})
        _judge(cases or [], as_json, verbose)
        return
    if cases:
        raise InputError("--cases are judged with --validate; add it")
    if window and not always_on:
        raise InputError("--window is how long a sample lasts with --always-on; add it")
    if measure and cite:
        raise InputError("--cite prints a paragraph about the estimate alone; leave out --measure")
    chosen = opened(network, run, inputs=inputs, labels=labels, timesteps=timesteps, dt=dt, seed=seed)
    options = {"target": target, "samples": samples, "batch": batch, "rate": rate, "twins": twins}
    options |= {"always_on": always_on, "window": window}
    answer = chosen.energy(profiles or (), **options, data_root=data_root)
    if measure:
        answer["measured"] = chosen.measure(batch=batch, data_root=data_root)
    show(answer, as_json, citation_text if cite else energy_table)
    if rate and all(row["refused"] for row in answer["rate"]["rows"]):
        raise Refusal(f"none of the devices keeps up with {rate:g} requests a second")


def profile_show(
    name: Annotated[str, typer.Argument(help="A profile's name, or its TOML file.")],
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Print a profile: every number with its bounds, its source and how far that is to be trusted.

    Example: snnkd profile show loihi2
    """
    from ...hardware_profiles import load_profile
    from ...hardware_profiles.describe import profile_details
    from ..tables import profile_table

    show(profile_details(load_profile(name)), as_json, profile_table)


def _judge(cases: list[Path], as_json: bool, every_case: bool) -> None:
    """The estimator against published measurements."""
    from ..energy.judging import judge
    from ..energy.judging.tables import judgement_table

    show(judge(cases), as_json, lambda answer: judgement_table(answer, every_case))


def _alone(option: str, others: dict[str, Any]) -> None:
    """Refuse options that don't go with `option`."""
    given = [name for name, value in others.items() if value]
    if given:
        raise InputError(f"{option} stands alone; leave out {', '.join(given)}")
