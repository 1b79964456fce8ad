"""The verb that shows samples as one long stream: stream."""

from __future__ import annotations

from typing import Annotated

import typer

from ... import Refusal
from ..run import TIME_LIMIT, VALIDATION_SAMPLES
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


def stream(
    network: Network = None,
    target: Target = "loihi2",
    samples: Annotated[
        int, typer.Option(help="Test samples that are shown back to back.")
    ] = VALIDATION_SAMPLES,
    validate: Annotated[
        bool, typer.Option("--validate", help="Have the target run the stream too, and compare every spike.")
    ] = False,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that the target may take.")] = TIME_LIMIT,
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
    """Show samples to an exported network back to back, without resets, and read a class from each window.

    Example: snnkd stream --samples 64 --validate
    """
    from ..tables import stream_table
    from ..validation import agrees, disagreement

    chosen = opened(network, run, inputs=inputs, labels=labels, timesteps=timesteps, dt=dt, seed=seed)
    answer = chosen.stream(
        target, samples=samples, execute=validate, time_limit=time_limit, data_root=data_root
    )
    show(answer, as_json, stream_table)
    if validate and not agrees(answer):
        raise Refusal(disagreement(answer))
