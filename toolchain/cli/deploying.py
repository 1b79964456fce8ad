"""The verbs that bring a network to a target: export, quantize, validate, conformance, check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ... import InputError, Refusal
from ..run import TIME_LIMIT, VALIDATION_SAMPLES
from .answers import opened, show
from .options import (
    Approximate,
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


def export(
    network: Network = None,
    target: Target = "loihi2",
    bits: Annotated[
        int | None, typer.Option(min=1, max=8, help="Bits of a weight; default: the recipe's.")
    ] = None,
    post_training: Annotated[
        bool, typer.Option("--post-training", help="Quantise anew, even if there is a fine-tuned network.")
    ] = False,
    approximate: Approximate = False,
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
    """Quantise a network and write what a target runs.

    A NIR file is exported exactly; or its decays are rounded to what the target has (--approximate), each
    rounding and the share of spikes that change reported; or it is refused with the reason.

    Example: snnkd export --target loihi2
    """
    from ..tables import export_table

    try:
        chosen = opened(network, run, inputs=inputs, labels=labels, timesteps=timesteps, dt=dt, seed=seed)
        options = {"bits": bits, "data_root": data_root, "post_training": post_training}
        answer = chosen.export(target, approximate=approximate, **options)
    except Refusal as refusal:
        if as_json:
            from ..fidelity import refused

            print(json.dumps({"target": target, "fidelity": refused(str(refusal))}))
        raise
    show(answer, as_json, export_table)


def quantize(
    network: Network = None,
    target: Target = "loihi2",
    bits: Annotated[
        list[int] | None,
        typer.Option(min=1, max=8, help="Bits of a weight; repeatable; default: the recipe's."),
    ] = None,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Train on in the chip's arithmetic; `export` takes the result.")
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of fine-tuning; default: the recipe's.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-9, help="Learning rate of fine-tuning; default: the recipe's.")
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Compare 8, 4, 2 and 1 bits, where --bits doesn't say.")
    ] = False,
    assert_whole: Annotated[
        bool, typer.Option("--check", help="Assert in every batch that all numbers are whole.")
    ] = False,
    approximate: Approximate = False,
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
    """Score a network at fewer bits, after quantisation or after fine-tuning in the chip's arithmetic.

    Example: snnkd quantize --bits 4 --finetune
    """
    from ..quantizing import TABLE_BITS
    from ..tables import quantize_table

    chosen = opened(network, run, inputs=inputs, labels=labels, timesteps=timesteps, dt=dt, seed=seed)
    answer = chosen.quantize(
        target,
        bits=bits or (TABLE_BITS if table else ()),
        finetuning=finetune,
        epochs=epochs,
        learning_rate=learning_rate,
        check=assert_whole,
        approximate=approximate,
        data_root=data_root,
    )
    show(answer, as_json, quantize_table)


def validate(
    network: Network = None,
    target: Target = "loihi2",
    samples: Annotated[int, typer.Option(help="Test samples that the target runs.")] = VALIDATION_SAMPLES,
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
    """Prove an exported network spike for spike, and score it on the test split.

    Example: snnkd validate --target loihi2 --samples 64
    """
    from ..tables import validation_table
    from ..validation import agrees, disagreement

    chosen = opened(network, run, inputs=inputs, labels=labels, timesteps=timesteps, dt=dt, seed=seed)
    answer = chosen.validate(target, samples=samples, time_limit=time_limit, data_root=data_root)
    show(answer, as_json, validation_table)
    if not agrees(answer):
        raise Refusal(disagreement(answer))


def conformance(
    network: Network = None,
    target: Target = "loihi2",
    samples: Annotated[
        int | None, typer.Option(help="Test samples that each simulator runs; default: 64, of a recipe 4.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", help="A target whose simulator is asked; repeatable; default: all.", metavar="TARGET"
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds for a network in a simulator; default: 600."),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", help="Take a recipe's untrained student in place of a run; repeatable."),
    ] = None,
    recipes: Annotated[
        bool, typer.Option("--recipes", help="Take those of all shipped recipes whose data is there.")
    ] = False,
    large: Annotated[
        bool, typer.Option("--large", help="With --recipes: large students too, which take hours.")
    ] = False,
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
    """Run a network in the simulator of every target that has one, and compare every spike.

    Simulators that read NIR take the float and the exported network, any other target what it quantises.
    A recipe's student has random weights: no run is needed, and its spikes mean nothing.

    Example: snnkd conformance --samples 64

    Example: snnkd conformance --recipes
    """
    from ..conformance import RECIPE_SAMPLES, TIME_LIMIT, conformance_of_recipes, unexplained
    from ..tables import conformance_table, recipes_table

    options = {
        "target": target,
        "data_root": data_root,
        "only": only or (),
        "time_limit": time_limit or TIME_LIMIT,
    }
    if recipe or recipes:
        if network or run:
            raise InputError("--recipe and --recipes take the place of a run; leave one of them out")
        if recipe and recipes:
            raise InputError("--recipes takes all shipped recipes; leave --recipe out")
        answer = conformance_of_recipes(
            recipe or (), samples=RECIPE_SAMPLES if samples is None else samples, large=large, **options
        )
        show(answer, as_json, recipes_table)
    else:
        chosen = opened(network, run, inputs=inputs, labels=labels, timesteps=timesteps, dt=dt, seed=seed)
        answer = chosen.conformance(samples=VALIDATION_SAMPLES if samples is None else samples, **options)
        show(answer, as_json, conformance_table)
    if differing := unexplained(answer):
        raise Refusal("; ".join(differing))


def check(
    file: Annotated[Path | None, typer.Argument(help="A NIR file.", metavar="FILE.nir")] = None,
    model: Annotated[str | None, typer.Option(help="A recipe or model, its student untrained.")] = None,
    target: Target = "loihi2",
    bits: Annotated[
        int | None, typer.Option(min=1, max=8, help="Bits of a weight; default: the recipe's, or 8.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A key of the recipe, as student.options.width=0.5."),
    ] = None,
    dt: Dt = None,
    approximate: Approximate = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say whether a network fits a target and what it takes there; exit 1 with every limit that it breaks.

    Example: snnkd check --model resnet --set student.options.variant=resnet19 --set dataset=cifar10
    """
    from ..checking import check_network
    from ..tables import check_table

    answer = check_network(file, model, target, dt, approximate, overrides or (), bits)
    show(answer, as_json, check_table)
    if answer["problems"]:
        raise Refusal(f"{answer['network']} doesn't fit {target}: {'; '.join(answer['problems'])}")
