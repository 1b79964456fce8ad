"""Tables of networks on a target: what was exported, whether it fits, where it lies."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table

from .layout import Answer, new_table, share


def export_table(answer: Answer) -> RenderableType:
    """What was written, and each layer's range proof."""
    how = ", fine-tuned" if answer["finetuned"] else ""
    bits = f"{answer['bits']} bit{'s' * (answer['bits'] != 1)}"
    title = f"Exported to {answer['target']}: {bits}{how}"
    if answer["cores"] is not None:
        title += f", {cores_and_chips(answer)}"
    table = new_table(title, "layer", "shape", "cores", "range", "accumulator", "membrane", "scale k")
    for layer in answer["layers"]:
        scales = (layer.get("scale_min"), layer.get("scale_max"))
        table.add_row(
            layer["name"],
            "×".join(map(str, layer.get("shape", []))),
            str(layer.get("cores", "")),
            layer.get("range", ""),
            share(layer.get("accumulator_share")),
            share(layer.get("membrane_share")),
            "" if None in scales else " … ".join(f"{scale:,}" for scale in scales),
        )
    files = f"files in {answer['run']}/{answer['target']}: {', '.join(answer['files'])}"
    return Group(table, *_placed(answer), *_fidelity(answer["fidelity"]), *answer["notes"], files)


def check_table(answer: Answer) -> RenderableType:
    """Every limit that is broken, or that none is, and what the network takes."""
    if not answer["problems"]:
        verdict = f"{answer['network']} fits {answer['target']} with {answer['bits']}-bit weights"
        return Group(verdict, *_placed(answer.get("placement", {})))
    table = new_table(f"{answer['network']} doesn't fit {answer['target']}", "problem")
    for problem in answer["problems"]:
        table.add_row(problem)
    return table


def placement_table(placed: Answer) -> Table:
    """What each population takes of its cores: the fullest one's share of each resource, where it is known.

    Args:
        placed: with `cores`, `chips`, `utilisation` and `core_map` (`export.placement.Placement.summary`).
    """
    known = [resource for resource, shares in placed["utilisation"].items() if shares]
    table = new_table(cores_and_chips(placed), "population", "shape", "neurons", "synapses", "cores", *known)
    for entry in placed["core_map"]:
        shape = entry["shape"] if entry["shape"][1:] != [1, 1] else entry["shape"][:1]
        table.add_row(
            entry["name"],
            "×".join(map(str, shape)),
            f"{entry['neurons']:,}",
            f"{entry['synapses']:,}",
            f"{entry['cores']:,}",
            *(share(entry["utilisation"][resource]["max"]) for resource in known),
        )
    totals = (f"{sum(entry[key] for entry in placed['core_map']):,}" for key in ("neurons", "synapses"))
    shares = (share(placed["utilisation"][resource]["max"]) for resource in known)
    table.add_row("all", "", *totals, f"{placed['cores']:,}", *shares)
    return table


def _placed(answer: Answer) -> Iterator[RenderableType]:
    """Where the network lies, of a target that has cores."""
    if "core_map" in answer:
        yield placement_table(answer)


def _fidelity(fidelity: Answer) -> Iterator[str]:
    """Whether the network is the file's or was rounded, and what that changed."""
    rounded = fidelity["roundings"]
    decays = f"decays rounded: {len(rounded)}" if rounded else "the target has all of its decays"
    yield f"neurons: {fidelity['outcome']} ({decays})"
    for rounding in rounded:
        yield f"  {rounding['layer']}: {rounding['what']} {rounding['from']:.10g} → {rounding['to']:.10g}"
    if fidelity["changed_spikes"] is not None:
        changed = f"{fidelity['changed_spikes']:.2%}"
        yield f"spikes that differ from the float network's, rounded weights included: {changed}"


def cores_and_chips(placed: Answer) -> str:
    """How many cores and chips."""
    cores = f"{placed['cores']:,} core{'s' * (placed['cores'] != 1)}"
    if "chips" not in placed:
        return cores
    return f"{cores} on {placed['chips']:,} chip{'s' * (placed['chips'] != 1)}"
