"""The verbs that tell what there is: report, list, doctor, data fetch."""

from __future__ import annotations

from typing import Annotated

import typer

from ... import InputError
from .answers import opened, show
from .options import (
    DataRoot,
    Json,
    Network,
    RunOption,
    Verbose,
)


def report(
    network: Network = None, run: RunOption = None, as_json: Json = False, verbose: Verbose = False
) -> None:
    """Write one self-contained HTML page about a run.

    Example: snnkd report
    """
    path = opened(network, run).report()
    show({"report": str(path)}, as_json, lambda answer: f"report: {answer['report']}")


def list_known(
    kind: Annotated[str, typer.Argument(help="methods, models, datasets, recipes, targets or profiles.")],
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List what snnkd knows by name.

    Example: snnkd list recipes
    """
    from ..catalogue import catalogue
    from ..tables import catalogue_table

    show(catalogue(kind), as_json, catalogue_table)


def doctor(
    install: Annotated[
        str | None,
        typer.Option("--install", help="Install what is missing: lava, sinabs.", metavar="lava|sinabs"),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say what is installed, and mend it.

    Example: snnkd doctor --install lava
    """
    from dataclasses import asdict

    from ..doctor import diagnose, install_lava, install_sinabs
    from ..tables import doctor_table

    installers = {"lava": install_lava, "sinabs": install_sinabs}
    if install is not None:
        if install not in installers:
            raise InputError(f"can't install {install!r}; there are: {', '.join(installers)}")
        installers[install]()
    show({"checks": [asdict(check) for check in diagnose()]}, as_json, doctor_table)


def data_fetch(
    name: Annotated[str, typer.Argument(help="A data set (see `snnkd list datasets`).")],
    data_root: DataRoot = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Fetch a data set, verify its checksums and store it.

    Example: snnkd data fetch mnist
    """
    from ..data.datasets import fetch_dataset
    from ..progress import progress

    with progress(f"data set {name}", 1) as advance:
        files = fetch_dataset(name, data_root, lambda done, total, what: advance(done / max(1, total), what))
    answer = {"dataset": name, "files": [str(file) for file in files]}
    show(answer, as_json, lambda _: "\n".join(answer["files"]) or f"{name} needs no files")
