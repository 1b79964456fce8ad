"""What a study says of runs whose files are there: made by hand here, so that the numbers are known."""

import io
import json

import pytest
from rich.console import Console

from snnkd.toolchain.comparing.cells import facts_of_pricing
from snnkd.toolchain.comparing.pictures import accuracy_against_spikes, difference_intervals
from snnkd.toolchain.comparing.plan import Plan
from snnkd.toolchain.comparing.rows import KEYS, write_rows
from snnkd.toolchain.comparing.search import Search
from snnkd.toolchain.comparing.statistics import paired_difference
from snnkd.toolchain.comparing.summary import summary
from snnkd.toolchain.tables import comparison_table
from snnkd.toolchain.tables.comparing import energy_text

PROFILE = "loihi2"
SOFT = "kd:student.gradient=dsr"
HARD = f"{SOFT}, hard reset"


def finish(cell, accuracy, agreement, epochs):
    """Leave what a run's process leaves behind."""
    cell.run.folder.mkdir(parents=True)
    student = {"test_accuracy": accuracy, "spike_rate": 0.1, "parameters": 9, "timesteps": 4}
    found = {"recipe": "digits", "student": student, "teacher": {"test_accuracy": 0.9}}
    cell.run.summary_file.write_text(json.dumps(found))
    row = {"role": "student", "validation_accuracy": accuracy / 2, "seconds": 1.0}
    lines = [json.dumps({**row, "epoch": epoch}) for epoch in range(1, epochs + 1)]
    cell.run.metrics_file.write_text("\n".join(lines))
    cell.run.student_file.write_bytes(cell.name.encode())
    cell.outcome_file.write_text(json.dumps({"threads": 1, "map_agreement": agreement}))
    energy = {"energy_j": {"low": 5e-7, "nominal": 1e-6, "high": 2e-6}, "lower_bound": False}
    about = {"profile": PROFILE, **facts_of_pricing(cell.run, PROFILE)}
    cell.priced_file.write_text(json.dumps(about | energy))


ACCURACIES = {"ce": (0.5, 0.6), "kd": (0.7, 0.7), SOFT: (0.4, 0.6), HARD: (0.6, 0.7)}
AGREEMENTS = {"ce": (0.1, 0.2), "kd": (0.4, 0.3), SOFT: (None, None), HARD: (0.5, None)}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study whose runs have all ended, and these."""
    plan = Plan.of({"name": "digits"}, "mine", ["ce", "kd", SOFT], 2, 1, to_hard_reset=True)
    search = Search(plan, tmp_path_factory.mktemp("study"))
    cells = search.runs()
    for cell in cells:
        name = cell.contender.name
        found = ACCURACIES[name][cell.seed], AGREEMENTS[name][cell.seed]
        finish(cell, *found, 8 if cell.contender.hardens else 30)
    return search, cells


@pytest.fixture(scope="module")
def answer(study):
    return summary(*study, PROFILE)


def printed(answer):
    text = io.StringIO()
    Console(width=400, file=text).print(comparison_table(answer))
    return text.getvalue()


def test_differences_are_of_accuracies_and_of_maps_where_both_have_some(answer):
    against = {method["method"]: method["against"] for method in answer["methods"]}
    assert list(against) == ["ce", "kd", SOFT, HARD]
    assert {name: list(found) for name, found in against.items()} == {
        "ce": [],
        "kd": ["ce"],
        SOFT: ["ce", "kd"],
        HARD: ["ce", "kd", SOFT],
    }
    for name, reference in (("kd", "ce"), (HARD, "kd"), (HARD, SOFT)):
        expected = paired_difference(ACCURACIES[name], ACCURACIES[reference])
        found = against[name][reference]["test_accuracy"]
        assert all(found[key] == getattr(expected, key) for key in ("mean", "std", "n", "low", "high", "p"))
    maps = against["kd"]["ce"]["map_agreement"]
    expected = paired_difference(AGREEMENTS["kd"], AGREEMENTS["ce"])
    assert (maps["mean"], maps["low"], maps["high"]) == (expected.mean, expected.low, expected.high)
    assert against[HARD]["ce"]["map_agreement"]["n"] == 1  # seed 0 alone
    assert against[SOFT]["ce"]["map_agreement"] is None

    text = printed(answer)
    assert f"{maps['mean']:+.4f} [{maps['low']:+.4f}, {maps['high']:+.4f}]" in text
    assert f"{HARD} − {SOFT}" in text
    assert len(difference_intervals(answer).axes[0].get_yticks()) == 6


def test_the_notes_say_what_more_some_had(answer):
    text = printed(answer)
    assert f"{HARD} goes on from the students of {SOFT}: it had 8 more epochs than the others" in text
    assert "on it favour methods with more to choose from. Judge by the test split." in text


def test_a_run_that_could_not_be_priced_says_why_and_counts_as_failed(study, tmp_path):
    search, cells = study
    (cell,) = (cell for cell in cells if cell.name == "kd, seed 1")
    assert cell.is_done(PROFILE)
    cell.priced_file.unlink()
    cell.fail("kd/seed-1/student.nir can't be read")
    assert cell.status == "finished" and not cell.is_done(PROFILE)

    answer = summary(search, cells, PROFILE)
    (row,) = (row for row in answer["runs"] if (row["method"], row["seed"]) == ("kd", 1))
    assert (row["energy_profile"], row["energy_j_nominal"]) == (PROFILE, None)
    assert row["energy_reason"] == "kd/seed-1/student.nir can't be read"
    assert (row["status"], row["test_accuracy"]) == ("finished", 0.7)
    energy = answer["methods"][1]["energy"]
    assert (energy["nominal_j"]["n"], energy["runs"]) == (1, 2)
    reason = "no energy: kd/seed-1/student.nir can't be read"
    assert answer["failed"] == [{"method": "kd", "seed": 1, "reason": reason}]
    text = printed(answer)
    assert f"failed: kd, seed 1: {reason}" in text
    assert f"{energy_text(energy | {'runs': 1})}, 1 of 2 runs" in text
    assert f"No energy on {PROFILE} of kd (1 of 2 runs): kd/seed-1/student.nir can't be read." in text
    write_rows(tmp_path / "study.csv", answer["runs"], KEYS)

    assert summary(search, cells, "")["failed"] == []  # nobody asks for a price
    cell.priced_file.write_text(json.dumps({"profile": PROFILE, **facts_of_pricing(cell.run, PROFILE)}))
    assert summary(search, cells, PROFILE)["failed"] == []


def test_a_silent_student_is_in_the_picture_too(answer):
    silent = answer | {"runs": [row | {"spike_rate": 0.0} for row in answer["runs"]]}
    axes = accuracy_against_spikes(silent).axes[0]
    points = [xy for line in axes.lines if line.get_alpha() == 0.3 for xy in line.get_xydata().tolist()]
    assert sorted(points) == sorted([0.0, accuracy] for pair in ACCURACIES.values() for accuracy in pair)
