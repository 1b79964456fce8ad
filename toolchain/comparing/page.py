"""A study's page: one HTML file that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import tomli_w

from ... import __version__
from ...export.files import write_text
from ..report.svg import to_svg
from ..tables.comparing import (
    difference_text,
    differences,
    energy_text,
    failed_name,
    mean_text,
    memory_text,
    number,
    spread_text,
)
from .cells import Cell
from .pictures import (
    accuracy_against_energy,
    accuracy_against_spikes,
    difference_intervals,
    maps_side_by_side,
)
from .plan import Plan

TEMPLATE = "study.html.j2"


def write_page(study: Path, plan: Plan, cells: Sequence[Cell], answer: dict[str, Any]) -> None:
    """Write `<study>/study.html`.

    Raises:
        InputError: it can't be written.
    """
    figures = {
        "scatter": (accuracy_against_spikes(answer), "Accuracy of each method against its spikes"),
        "energy_figure": (accuracy_against_energy(answer), "Accuracy of each method against its energy"),
        "differences_figure": (difference_intervals(answer), "Paired differences between methods"),
        "maps": (maps_side_by_side(cells), "Activation maps of the teacher and of each method's student"),
    }
    recipe = plan.teacher_recipe(plan.seeds[0]).model_dump(mode="json", exclude={"method", "seed"})
    drawn = {name: to_svg(figure, name, label) for name, (figure, label) in figures.items() if figure}
    content = _template().render(
        version=__version__,
        name=study.name,
        answer=answer,
        differences=list(differences(answer)),
        recipe=tomli_w.dumps(recipe),
        **{**dict.fromkeys(figures), **drawn},
    )
    write_text(study / "study.html", content)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("snnkd.toolchain.comparing", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "spread": spread_text,
        "mean": mean_text,
        "memory": memory_text,
        "energy": energy_text,
        "failed_name": failed_name,
        "difference": difference_text,
        "number": number,
    }
    return environment.get_template(TEMPLATE)
