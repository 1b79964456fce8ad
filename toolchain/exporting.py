"""The `export` stage: quantise a run's network for a target, and write what the target runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import Refusal
from ..export.files import require_writable, write_json
from ..export.graph import Graph
from ..export.nir import to_nir, write_nir
from ..export.target import Problem, get_target
from .arithmetic import quantize_for, roundings_for
from .fidelity import fidelity
from .floats import export_floats
from .lowering import lower_student
from .progress import progress
from .run import Run
from .tuned import finetuned

CALIBRATED_ON_JUDGED = "calibrated on the samples that validate judges: a NIR file comes with no others"


def export_run(
    run: Run,
    target: str = "loihi2",
    bits: int | None = None,
    data_root: Path | None = None,
    post_training: bool = False,
    approximate: bool = False,
) -> dict[str, Any]:
    """Write `<run>/<target>/`: the integer network as NIR, the target's own files, a manifest.

    Args:
        bits: of a weight; None: as the recipe says (8 for a NIR file).
        data_root: where data sets are kept; None: the default.
        post_training: quantise anew even where a fine-tuned network of so many bits lies in the run's folder.
        approximate: round decays that the target doesn't have; otherwise they are refused.

    Returns:
        The answer of `snnkd export --json`; its `notes` say what to know besides.

    Raises:
        Refusal: the network can't be expressed on the target, with every limit that it breaks.
        InputError: the run or the target can't be used.
    """
    room = get_target(target)
    require_writable(run.export_file(target))
    if not run.from_nir:
        lower_student(run)
    graph = _float_graph(run, target)
    refuse(room.check(graph), target)
    notes: list[str] = []
    with progress(f"export to {target}", 2) as report:
        tuned = None if post_training else finetuned(run, target, _bits(run, bits))
        if tuned is None:
            samples = None if graph.is_integer else run.samples(data_root).calibration
            notes += [CALIBRATED_ON_JUDGED] if samples is not None and run.from_nir else []
            integers, ranges = quantize_for(room, graph, _bits(run, bits), samples, approximate)
        else:
            integers, ranges = tuned.graph, {layer["name"]: layer for layer in tuned.layers}
        report(1, "quantised")
        refuse(room.check(integers), target)
        run.discard_results(target)
        write_nir(run.integer_file(target), to_nir(integers))
        manifest = room.export(integers, run.target_folder(target))
        floats = export_floats(room, run, data_root)
        report(2)
    answer = {
        "run": str(run.folder),
        "target": target,
        "bits": manifest.bits,
        "finetuned": tuned is not None,
        "files": ["network.nir", *manifest.files, *floats.get("files", ())],
        "cores": manifest.cores,
        **manifest.placement,
        "layers": [{**layer, **ranges.get(layer["name"], {})} for layer in manifest.layers],
        "problems": manifest.problems,
        "notes": notes,
        "fidelity": fidelity(
            graph,
            integers,
            roundings_for(room, graph),
            run.samples().inputs if run.from_nir else None,
            room,
        ),
    }
    if floats:
        answer["float_networks"] = floats
    write_json(run.export_file(target), answer)
    return answer


def _float_graph(run: Run, target: str) -> Graph:
    """The run's float network; what no target can express is refused in the name of this one."""
    try:
        return run.float_graph()
    except Refusal as refusal:
        raise Refusal(f"the network can't be put on {target}: {refusal}") from refusal


def refuse(problems: list[Problem], target: str) -> None:
    """Raise a Refusal that names every problem, if there is one."""
    if problems:
        raise Refusal(f"the network doesn't fit {target}: {'; '.join(map(str, problems))}")


def _bits(run: Run, bits: int | None) -> int:
    """Bits of a weight: as asked, or as the recipe says, or 8."""
    if bits is not None:
        return bits
    return 8 if run.from_nir else run.recipe.quantization.bits
