"""A study through the real command line: crashes and kills cost nothing but the run that they hit."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

import snnkd
from snnkd import InputError
from snnkd.toolchain.checkpoint import load_tensors
from snnkd.toolchain.comparing.runner import alone_with

TINY = [
    "student.options.widths=[6, 8]",
    "teacher.options={widths=[6, 8], strides=[1, 2]}",
    "student.epochs=1",
    "teacher.epochs=1",
]

FLAKY = """
    import os
    from pathlib import Path
    from snnkd.toolchain.distillation.ce import CE

    class Flaky(CE):
        def prepare(self, student, teacher):
            tried = Path(os.environ["FLAKY"])
            with tried.with_name("gpus").open("a") as file:
                file.write(os.environ.get("CUDA_VISIBLE_DEVICES", "none") + "\\n")
            if not tried.exists():
                tried.touch()
                raise RuntimeError("the first try\\nfails")
"""
"""A method that crashes in the first process that trains it."""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two methods × two seeds, one run of them crashed; the plug-in is still there."""
    folder = tmp_path_factory.mktemp("study")
    package = folder / "plugin"
    (package / "flaky-1.0.dist-info").mkdir(parents=True)
    (package / "flaky.py").write_text(textwrap.dedent(FLAKY))
    (package / "flaky-1.0.dist-info" / "METADATA").write_text("Name: flaky\nVersion: 1.0\n")
    points = "[snnkd.methods]\nflaky = flaky:Flaky\n"
    (package / "flaky-1.0.dist-info" / "entry_points.txt").write_text(points)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(package))
        patch.setenv("PYTHONPATH", str(package))
        patch.setenv("FLAKY", str(folder / "tried"))
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        patch.setattr(torch.cuda, "device_count", lambda: 2)
        patch.chdir(folder)
        answer = snnkd.compare("digits", ["kd", "flaky"], 2, TINY, Path("runs/small"), jobs=2)
        yield folder, answer


def prints(folder):
    """What tells whether a run was repeated: content and time of what training writes."""
    names = ("student.safetensors", "teacher.safetensors", "metrics.jsonl", "train.json", "outcome.json")
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.name in names and path.parent.name != "resume"
    }


def test_a_crash_loses_one_run_and_starting_again_repeats_only_that(study):
    folder, answer = study
    status = {(row["method"], row["seed"]): row["status"] for row in answer["runs"]}
    assert sorted(status.values()) == ["failed", "finished", "finished", "finished"]
    ((method, seed),) = (run for run, found in status.items() if found == "failed")
    assert answer["failed"] == [
        {"method": "flaky", "seed": seed, "reason": "RuntimeError: the first try fails"}
    ]
    assert method == "flaky"

    small = folder / "runs" / "small"
    before = prints(small)
    again = subprocess.run(
        [sys.executable, "-m", "snnkd.toolchain.cli", "compare", "--run", "small", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
    )
    assert again.returncode == 0, again.stderr
    complete = json.loads(again.stdout)
    assert {row["status"] for row in complete["runs"]} == {"finished"}
    assert complete["failed"] == []
    after = prints(small)
    assert {path: after[path] for path in before} == before
    repeated = small / "flaky" / f"seed-{seed}"
    assert {Path(path).parent for path in after.keys() - before.keys()} == {repeated}


def test_what_a_study_says_is_what_its_runs_found(study):
    folder, answer = study
    (kd, flaky) = answer["methods"]
    assert (kd["method"], kd["finished"], kd["runs"]) == ("kd", 2, 2)
    accuracies, validations = [], []
    for row, seed in zip([row for row in answer["runs"] if row["method"] == "kd"], (0, 1), strict=True):
        run = snnkd.open_run(folder / row["run"])
        assert run.recipe.seed == seed
        _, facts = load_tensors(run.student_file)
        accuracies.append(facts["test_accuracy"])
        student = [epoch for epoch in run.metrics() if epoch["role"] == "student"]
        validations.append(student[-1]["validation_accuracy"])
        assert row["test_accuracy"] == facts["test_accuracy"]
        assert row["spike_rate"] == facts["spike_rate"] > 0
        assert row["student_seconds"] == student[-1]["seconds"] > 0
        assert -1 <= row["map_agreement"] <= 1
        assert 50 << 20 < row["peak_memory_bytes"] < 4 << 30
    assert kd["test_accuracy"] == {"mean": np.mean(accuracies), "std": np.std(accuracies, ddof=1), "n": 2}
    assert kd["validation_accuracy"]["mean"] == np.mean(validations)
    paired = [row for row in answer["runs"] if row["status"] == "finished" and row["method"] == "flaky"]
    differences = [row["test_accuracy"] - accuracies[row["seed"]] for row in paired]
    assert flaky["against"]["kd"]["test_accuracy"]["mean"] == np.mean(differences)
    assert kd["against"] == {}


def test_a_seed_s_teacher_is_trained_once_and_no_other_run_writes_one(study):
    folder, answer = study
    assert [teacher["status"] for teacher in answer["teachers"]] == ["finished", "finished"]
    for teacher in answer["teachers"]:
        seed = teacher["seed"]
        weights = (
            folder / "runs" / "small" / "teachers" / f"seed-{seed}" / "teacher.safetensors"
        ).read_bytes()
        taught = folder / "runs" / "small" / "kd" / f"seed-{seed}"
        assert (taught / "teacher.safetensors").read_bytes() == weights
        assert hashlib.sha256(weights).hexdigest() == teacher["sha256"]
        assert "teacher" not in {json.loads(line)["role"] for line in (taught / "metrics.jsonl").open()}
        assert not (folder / "runs" / "small" / "flaky" / f"seed-{seed}" / "teacher.safetensors").exists()
    assert len({teacher["sha256"] for teacher in answer["teachers"]}) == 2


def test_the_files_of_a_study(study):
    folder, answer = study
    small = folder / "runs" / "small"
    rows = list(csv.DictReader((small / "study.csv").open()))
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("kd", "0"),
        ("flaky", "0"),
        ("kd", "1"),
        ("flaky", "1"),
    ]
    assert float(rows[0]["test_accuracy"]) == answer["runs"][0]["test_accuracy"]
    page = (small / "study.html").read_text()
    assert page.count("<svg") == 4
    for fragment in (
        "Accuracy of each method against its energy",
        "Accuracy of each method against its spikes",
        "Activation maps",
        "flaky − kd",
        "<pre>",
    ):
        assert fragment in page
    assert 'src="http' not in page


def test_a_run_costs_what_its_integer_network_does_and_runs_take_turns_on_gpus(study):
    folder, answer = study
    kd = [row for row in answer["runs"] if row["method"] == "kd"]
    for row in kd:
        assert row["energy_profile"] == "loihi2"
        assert 0 < row["energy_j_low"] < row["energy_j_nominal"] < row["energy_j_high"]
        assert row["energy_lower_bound"] is True
    energy = answer["methods"][0]["energy"]
    assert energy["nominal_j"]["mean"] == np.mean([row["energy_j_nominal"] for row in kd])
    assert energy["high_j"] == np.mean([row["energy_j_high"] for row in kd])
    assert energy["reasons"] == []
    seen = {*(folder / "gpus").read_text().split()} - {"none"}  # which the process started later was given
    assert seen
    assert seen <= {"0", "1"}


def test_another_recipe_does_not_go_into_a_study(study):
    with pytest.raises(InputError, match="compares on another recipe"):
        snnkd.compare("digits", ["kd"], 1, ["student.epochs=2"], Path("runs/small"))


def test_two_comparisons_do_not_work_on_one_study(study):
    folder, _ = study
    with alone_with(folder / "runs" / "small"), pytest.raises(InputError, match="another comparison"):
        snnkd.compare(folder=Path("runs/small"))


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--method", "kdd"], ["there is no method 'kdd'; did you mean 'kd'?"]),
        (["--seeds", "0"], ["at least 1 seed, found 0"]),
        (["--jobs", "0"], ["--jobs", "0"]),
    ],
)
@pytest.mark.slow
def test_requests_that_cannot_be_served(command, tmp_path, arguments, fragments):
    done = command("compare", *arguments)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith("snnkd: ") and all(fragment in line for fragment in fragments)
    assert not (tmp_path / "runs").exists()


LONGER = [*TINY[:2], "student.epochs=24", "teacher.epochs=2"]


def start(folder, *arguments, settings=LONGER):
    settings = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "snnkd.toolchain.cli", "compare", "digits", "--run", "killed", *settings]
    return subprocess.Popen(
        [*command, "--method", "ce", "--method", "kd", "--seeds", "2", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children_of(process):
    return [
        int(pid)
        for pid in Path(f"/proc/{process.pid}/task").glob("*/children")
        for pid in pid.read_text().split()
    ]


def wait_for(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it didn't happen in time")


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
def test_killing_a_run_and_then_the_comparison_costs_no_finished_run(tmp_path):
    small = tmp_path / "runs" / "killed"
    reached = small / "kd" / "seed-0" / "metrics.jsonl"

    first = start(tmp_path)
    with suppress(ProcessLookupError):
        wait_for(lambda: reached.exists() and reached.read_text().count("\n") >= 2)
        (child,) = children_of(first)
        os.kill(child, signal.SIGKILL)
    wait_for(lambda: (small / "kd" / "seed-0" / "failure.json").exists())
    assert "signal 9" in json.loads((small / "kd" / "seed-0" / "failure.json").read_text())["reason"]

    reached = small / "ce" / "seed-1" / "metrics.jsonl"
    wait_for(lambda: reached.exists() and reached.read_text().count("\n") >= 2)
    (child,) = children_of(first)
    first.kill()
    first.communicate()
    wait_for(lambda: is_gone(child), 20)
    begun = reached.read_text().splitlines()
    before = {
        path: seen for path, seen in prints(small).items() if (Path(path).parent / "outcome.json").exists()
    }
    finished = {Path(path).parts[-3:-1] for path in before}
    assert finished == {("teachers", "seed-0"), ("teachers", "seed-1"), ("ce", "seed-0")}
    assert len(begun) < 24

    second = start(tmp_path, "--jobs", "2", "--json")
    out, err = second.communicate(timeout=400)
    assert second.returncode == 0, err
    answer = json.loads(out)
    assert {row["status"] for row in answer["runs"]} == {"finished"}
    after = prints(small)
    assert {path: after[path] for path in before} == before
    assert reached.read_text().splitlines()[: len(begun)] == begun  # resumed, not begun anew

    threads = str(answer["budget"]["threads"])
    for method in ("ce", "kd"):
        whole = subprocess.run(
            [sys.executable, "-m", "snnkd.toolchain.cli", "train", "digits", "--method", method, "--json"]
            + [part for setting in LONGER for part in ("--set", setting)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        run = Path(json.loads(whole.stdout)["run"])
        ours = small / method / "seed-0" / "student.safetensors"
        assert ours.read_bytes() == (tmp_path / run / "student.safetensors").read_bytes()
    ours, theirs = (
        [row["test_accuracy"] for row in answer["runs"] if row["method"] == m] for m in ("kd", "ce")
    )
    found = answer["methods"][1]["against"]["ce"]["test_accuracy"]
    if found["p"] is not None:
        assert found["p"] == pytest.approx(scipy.stats.ttest_rel(ours, theirs).pvalue)


@pytest.mark.slow
def test_interrupting_a_comparison_leaves_no_process_and_no_failure(tmp_path):
    small = tmp_path / "runs" / "killed"
    process = start(tmp_path, "--jobs", "2")
    wait_for(lambda: len(children_of(process)) == 2)
    children = children_of(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; run the same command again" in err
    assert all(is_gone(child) for child in children)
    assert not list(small.rglob("failure.json"))


@pytest.mark.slow
def test_a_run_over_its_time_fails_and_says_so(tmp_path):
    process = start(tmp_path, "--time-limit", "1")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "longer than 1 s" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_trials_choose_by_validation_and_are_not_repeated(tmp_path):
    small = tmp_path / "runs" / "killed"
    settings = [*TINY[:2], "student.epochs=3", "teacher.epochs=1"]
    first = start(tmp_path, "--trials", "2", settings=settings)
    wait_for(lambda: (small / "ce" / "trial" / "outcome.json").exists())
    first.kill()
    first.communicate()
    before = {
        path: seen for path, seen in prints(small).items() if (Path(path).parent / "outcome.json").exists()
    }

    out, err = (again := start(tmp_path, "--trials", "2", "--json", settings=settings)).communicate(
        timeout=400
    )
    assert again.returncode == 0, err
    answer = json.loads(out)
    middle = prints(small)
    assert {path: middle[path] for path in before} == before
    assert answer["budget"]["trials"] == 2
    assert [(row["method"], row["setting"]) for row in answer["trials"]] == [
        (method, setting) for method in ("ce", "kd") for setting in (0, 1)
    ]
    assert all(row["status"] == "finished" for row in answer["trials"])
    by_method = {m["method"]: m for m in answer["methods"]}
    for method in ("ce", "kd"):
        trials = [row for row in answer["trials"] if row["method"] == method]
        for row in trials:
            epochs = [e for e in snnkd.open_run(tmp_path / row["run"]).metrics() if e["role"] == "student"]
            assert row["validation_accuracy"] == max(epoch["validation_accuracy"] for epoch in epochs)
        (chosen,) = [row for row in trials if row["chosen"]]
        assert chosen["validation_accuracy"] == max(row["validation_accuracy"] for row in trials)
        rate = by_method[method]["settings"]["student.learning_rate"]
        for row in answer["runs"]:
            if row["method"] == method:
                recipe = snnkd.open_run(tmp_path / row["run"]).recipe
                assert recipe.student.learning_rate == rate
                assert recipe.seed == row["seed"] in (0, 1)
                assert row["settings"] == chosen["settings"]
    table = list(csv.DictReader((small / "study-trials.csv").open()))
    assert [row["validation_accuracy"] for row in table] == [
        str(row["validation_accuracy"]) for row in answer["trials"]
    ]
    page = (small / "study.html").read_text()
    assert "Settings tried" in page
    assert all(row["settings"] in page for row in answer["trials"])

    out, err = (more := start(tmp_path, "--trials", "3", "--json", settings=settings)).communicate(
        timeout=400
    )
    assert more.returncode == 0, err
    assert len(json.loads(out)["trials"]) == 6
    after = prints(small)
    assert {path: after[path] for path in middle} == middle
