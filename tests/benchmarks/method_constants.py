"""Choose the methods' default constants on validation accuracy: settings × seeds, one teacher per seed.

    python tests/benchmarks/method_constants.py --seeds 5 --epochs 30 --set student.options.widths=[6,12]

A student as small as that leaves the methods room to differ; the shipped one is near the ceiling of `digits`.

Prints, per setting: mean and standard deviation over seeds of the best validation accuracy, the range over
epochs of SAMD's gradient norm at the tap as a multiple of cross-entropy's, and the agreement of student and
teacher maps in the first and the last epoch. The test split plays no part.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path

import torch

import snnkd

SETTINGS = {
    "ce (maps watched)": ["method=samd", "methods.samd.weight=0"],
    "kd τ=2 w=1": ["method=kd"],
    "kd τ=2 w=0.2": ["method=kd", "methods.kd.weight=0.2"],
    "samd 𝒯=0.25 w=0.5": ["method=samd", "methods.samd={temperature=0.25, weight=0.5}"],
    "samd 𝒯=1 w=2": ["method=samd", "methods.samd={temperature=1, weight=2}"],
    "samd 𝒯=1 w=5": ["method=samd", "methods.samd={temperature=1, weight=5}"],
    "nld τ=2 w=1": ["method=nld", "methods.nld.weight=1"],
    "nld τ=2 w=0.2": ["method=nld", "methods.nld.weight=0.2"],
    "samd+nld 𝒯=0.25, 0.5+0.2": ["methods={samd={temperature=0.25, weight=0.5}, nld={weight=0.2}}"],
    "samd+nld 𝒯=1, 2+0.2": ["methods={samd={temperature=1, weight=2}, nld={weight=0.2}}"],
    "samd+nld 𝒯=1, 5+0.2 (recipe)": ["methods={samd={temperature=1, weight=5}, nld={weight=0.2}}"],
    "samd+nld paper, 1+1": ['methods={samd={variant="paper"}, nld={variant="paper"}}'],
    "samd+nld released, 1+1": ['methods={samd={variant="released"}, nld={variant="released"}}'],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="a key of the recipe")
    parser.add_argument("--only", default="", help="measure the settings whose name holds this")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        for name, overrides in SETTINGS.items():
            if options.only not in name:
                continue
            runs = [
                measure(
                    options.recipe,
                    [*options.overrides, *overrides, f"student.epochs={options.epochs}"],
                    seed,
                    Path(scratch),
                )
                for seed in range(options.seeds)
            ]
            print(f"{name:30s} {summary(runs)}", flush=True)


def measure(recipe: str, overrides: list[str], seed: int, scratch: Path) -> list[dict]:
    """The student's rows of metrics, one per epoch; every setting of a seed shares its teacher."""
    folder = scratch / "run"
    teacher = scratch / f"teacher-{seed}.safetensors"
    folder.mkdir()
    if teacher.exists():
        shutil.copy(teacher, folder / "teacher.safetensors")
    run = snnkd.train(recipe, [*overrides, f"seed={seed}"], folder)
    rows = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    shutil.copy(run.teacher_file, teacher)
    shutil.rmtree(folder)
    return [row for row in rows if row["role"] == "student"]


def summary(runs: list[list[dict]]) -> str:
    best = [max(row["validation_accuracy"] for row in rows) for rows in runs]
    spread = statistics.stdev(best) if len(best) > 1 else 0.0
    text = f"validation {statistics.mean(best):.4f} ± {spread:.4f}"
    norms = [row["tap_gradient_norms"] for rows in runs for row in rows]
    ratios = [norm["samd"] / norm["ce"] for norm in norms if norm.get("samd")]
    if ratios:
        text += f"   |∇samd|/|∇ce| {min(ratios):.2f} … {max(ratios):.2f}"
    first, last = (statistics.mean(rows[index]["map_agreement"] for rows in runs) for index in (0, -1))
    return text + f"   map agreement {first:.3f} → {last:.3f}"


if __name__ == "__main__":
    main()
