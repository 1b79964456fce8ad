"""A row of its own for each soft-reset student, fine-tuned into one with a hard reset."""

import json
import shutil
import threading
from pathlib import Path

import pytest

import snnkd
from snnkd import InputError
from snnkd.toolchain.comparing.plan import Plan
from snnkd.toolchain.comparing.runner import Ways, _attempt, _first_ready
from snnkd.toolchain.comparing.search import Search
from snnkd.toolchain.hardening import hard_reset_recipe
from snnkd.toolchain.run import Run
from snnkd.toolchain.training import to_hard_reset

SOFT = "ce:student.gradient=dsr"
HARD = f"{SOFT}, hard reset"


@pytest.fixture(scope="module")
def plan():
    return Plan.of({"name": "digits"}, "mine", [SOFT], 2, 1, to_hard_reset=True)


def cells_of(plan, folder):
    return {(c.contender.hardens, c.seed): c for c in Search(plan, folder).runs()}


def finish(cell):
    cell.begin(None)
    cell.run.student_file.write_bytes(b"weights")
    cell.outcome_file.write_text(json.dumps({"threads": 1}))


def test_it_goes_on_from_the_soft_run_of_its_seed_wherever_the_study_lies(plan, tmp_path):
    first = tmp_path / "first"
    cells = cells_of(plan, first)
    hard, soft = cells[True, 1], cells[False, 1]
    assert hard.after == soft
    with pytest.raises(InputError, match=f"{SOFT}, seed 1, which it goes on from, is waiting"):
        hard.begin(None)
    finish(soft)
    hard.begin(None)
    assert hard.run.recipe == hard_reset_recipe(soft.run)
    assert hard.run.recipe.student.start == str(soft.run.folder)
    assert (hard.run.recipe.student.epochs, hard.run.recipe.seed) == (8, 1)  # a fourth of 30
    hard.require_own_recipe()

    cells = cells_of(plan, first.rename(tmp_path / "second"))
    cells[True, 1].require_own_recipe()
    cells[True, 1].begin(None)
    assert cells[True, 1].run.recipe.student.start == str(cells[False, 1].run.folder)
    text = cells[True, 1].run.recipe_file.read_text()
    cells[True, 1].run.recipe_file.write_text(text.replace("epochs = 8", "epochs = 9"))
    with pytest.raises(InputError, match="holds a run of another recipe"):
        cells[True, 1].require_own_recipe()


def test_it_waits_for_the_soft_run_and_fails_where_that_did(plan, tmp_path):
    cells = cells_of(plan, tmp_path)
    hard, soft, other = cells[True, 0], cells[False, 0], cells[False, 1]
    assert _first_ready([hard, other], ahead=[soft, hard, other]) is other
    assert _first_ready([hard], ahead=[soft, hard]) is None
    assert _first_ready([hard, other], ahead=[hard, other]) is hard

    soft.run.folder.mkdir(parents=True)
    soft.fail("its process was ended by signal 9")
    hard.run.folder.mkdir(parents=True)
    _attempt(hard, None, plan, Ways(), "", threading.Event())
    assert hard.status == "failed"
    assert hard.reason() == f"{soft.name}, which it goes on from, failed: its process was ended by signal 9"


TINY = [
    "student.options.widths=[4, 4]",
    "student.epochs=5",
    "data.train_samples=200",
]


def prints(folder):
    """Content and time of what training writes."""
    names = ("student.safetensors", "metrics.jsonl", "train.json", "outcome.json", "priced.json")
    found = (path for path in folder.rglob("*") if path.name in names)
    return {path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


@pytest.mark.slow
def test_a_study_with_a_hard_reset_row_can_be_interrupted_moved_and_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Path("study")
    plain = snnkd.compare("digits", ["ce", SOFT], 1, TINY, study)
    assert [row["method"] for row in plain["runs"]] == ["ce", SOFT]
    before = prints(study)
    answer = snnkd.compare(folder=study, to_hard_reset=True, jobs=2)
    assert answer["failed"] == []
    assert {path: prints(study)[path] for path in before} == before  # nothing was repeated
    rows = {row["method"]: row for row in answer["runs"]}
    assert list(rows) == ["ce", SOFT, HARD]
    assert rows[SOFT]["energy_j_nominal"] is None and "reset" in rows[SOFT]["energy_reason"]
    assert rows[HARD]["energy_j_nominal"] > 0 and rows[HARD]["epochs"] == 2
    against = answer["methods"][2]["against"]
    for reference in ("ce", SOFT):
        found = against[reference]["test_accuracy"]["mean"]
        assert found == rows[HARD]["test_accuracy"] - rows[reference]["test_accuracy"]
    assert any("it had 2 more epochs than the others" in note for note in answer["notes"])

    hard, soft = Run(Path(rows[HARD]["run"])), Run(Path(rows[SOFT]["run"]))
    weights = hard.student_file.read_bytes()
    by_hand = to_hard_reset(soft, folder=tmp_path / "by-hand")
    assert by_hand.student_file.read_bytes() == weights

    epochs = hard.metrics()
    for path in (hard.student_file, hard.summary_file, hard.network_file, hard.folder / "outcome.json"):
        path.unlink()
    again = snnkd.compare(folder=study)
    assert [row["status"] for row in again["runs"]] == ["finished"] * 3
    assert hard.metrics() == epochs  # with their seconds: resumed, not begun anew
    assert hard.student_file.read_bytes() == weights

    before = prints(study)
    moved = Path(shutil.move(study, "moved"))
    assert snnkd.compare(folder=moved)["failed"] == []
    assert prints(moved) == before


@pytest.mark.slow
def test_a_price_that_cannot_be_found_is_said_and_tried_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Path("study")
    whole = snnkd.compare("digits", ["ce"], 2, TINY, study)
    assert whole["failed"] == []
    run = Run(Path(whole["runs"][1]["run"]))
    network = run.network_file.read_bytes()
    run.network_file.write_bytes(network[:200])
    run.folder.joinpath("priced.json").unlink()
    cut = snnkd.compare(folder=study)
    (failed,) = cut["failed"]
    assert failed["seed"] == 1 and "student.nir" in failed["reason"]
    assert cut["runs"][1]["energy_reason"] in failed["reason"]
    assert cut["methods"][0]["energy"]["nominal_j"]["n"] == 1
    assert "No energy for ce in 1 of 2 runs" in (study / "study.html").read_text()
    limited = snnkd.compare(folder=study, time_limit=0.01)
    assert "it took longer than 0.01 s" in limited["runs"][1]["energy_reason"]
    run.network_file.write_bytes(network)
    assert snnkd.compare(folder=study)["methods"] == whole["methods"]
