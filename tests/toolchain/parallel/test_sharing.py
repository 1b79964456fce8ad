"""A batch in shares gives the losses of the whole: in parts one after another, and by several processes."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import snnkd
from snnkd import InputError
from snnkd.toolchain.checkpoint import load_tensors
from snnkd.toolchain.fitting import _Meter
from snnkd.toolchain.parallel.processes import together
from snnkd.toolchain.parallel.share import shares
from snnkd.toolchain.parallel.worker import Request

SMALL = [
    "student.options.widths=[6, 8]",
    "teacher.options={widths=[6, 8], strides=[1, 2]}",
    "student.learning_rate=0.01",
    "data.train_samples=133",
]
DRAWING = ["method=samd+nld+bkd", "student.epochs=1", "teacher.epochs=1"]
"""Of its losses, two draw random numbers for each sample."""


@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 9))
def test_shares_hold_every_sample_once_and_processes_take_as_many_steps(total, size, parts):
    found = [list(shares(total, rank, size, parts)) for rank in range(size)]
    assert len({len(own) for own in found}) == 1
    assert sum(share.weight for own in found for share in own) == pytest.approx(1)
    if total < size:
        assert all(share.is_whole for own in found for share in own)
        return
    ends = [(share.start, share.stop) for own in found for share in own]
    assert ends[0][0] == 0
    assert ends[-1][1] == total
    assert all(stop == start for (_, stop), (start, _) in pairwise(ends))
    assert all(share.count >= 1 for own in found for share in own)
    assert len(found[0]) == min(parts, total // size)


def test_a_share_of_frames_is_cut_along_the_batch():
    labels = torch.arange(6)
    frames = labels.float().expand(3, 6).reshape(3, 6, 1, 1, 1)
    _, share = shares(6, 0, 1, 2)
    for images in (frames, frames[0]):
        chosen, own = share.of(images, labels)
        assert own.tolist() == [3, 4, 5]
        assert chosen.flatten().tolist() == own.tolist() * (3 if images.dim() == 5 else 1)


def rows(run):
    """Losses, gradients and accuracies of each epoch."""
    return [
        {key: value for key, value in row.items() if key not in ("role", "epoch", "seconds")}
        for row in run.metrics()
    ]


def close(ours, theirs, tolerance=1e-5):
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        assert own.keys() == other.keys()
        for key, value in own.items():
            assert value == pytest.approx(other[key], rel=tolerance, abs=1e-9), key


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return snnkd.train("digits", [*SMALL, *DRAWING], tmp_path_factory.mktemp("whole") / "run")


def test_two_processes_have_the_losses_of_one(whole, tmp_path):
    """The last batch of 133 samples holds 5: shares differ in size too."""
    shared = snnkd.train("digits", [*SMALL, *DRAWING, "devices=2"], tmp_path / "run")
    close(rows(shared), rows(whole))
    ours, _ = load_tensors(shared.student_file)
    theirs, _ = load_tensors(whole.student_file)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-4)
    assert shared.recipe.devices == 2
    listed = {path.name for path in shared.folder.rglob("*") if path.is_file()}
    assert listed == {path.name for path in whole.folder.rglob("*") if path.is_file()}
    assert not children_of(os.getpid(), "parallel.worker")


def test_parts_one_after_another_have_the_losses_of_the_whole_without_batchnorm(tmp_path):
    plain = [
        *SMALL,
        *DRAWING,
        "student.options={widths=[6, 8], normalization='none'}",
        "teacher.options={widths=[6, 8], strides=[1, 2], normalization='none'}",
    ]
    whole = snnkd.train("digits", plain, tmp_path / "whole")
    parts = snnkd.train(
        "digits", [*plain, "student.accumulate=3", "teacher.accumulate=2"], tmp_path / "parts"
    )
    close(rows(parts), rows(whole))
    assert rows(whole)[-1]["terms"]["nld"] > 0


def test_batchnorm_normalises_each_part_by_itself(whole, tmp_path):
    """The negative control: with BatchNorm the losses of parts are others."""
    parts = snnkd.train("digits", [*SMALL, *DRAWING, "student.accumulate=2"], tmp_path / "parts")
    (teacher, student), (whole_teacher, whole_student) = rows(parts), rows(whole)
    assert teacher == whole_teacher
    assert abs(student["loss"] / whole_student["loss"] - 1) > 1e-4


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        (["method=samd", "methods.samd.variant=released", "devices=2"], "scales by all samples of a batch"),
        (
            ["method=kd+samd", "methods.samd.variant=released", "student.accumulate=2"],
            "scales by all samples",
        ),
        (["method=ce", "student.gradient=rate", "devices=2"], "gradient 'rate' normalises"),
        (["method=ce", "devices=0"], "devices"),
        (["method=ce", "student.accumulate=0"], "student.accumulate"),
    ],
)
def test_what_cannot_be_shared(tmp_path, settings, fragment):
    with pytest.raises(InputError) as caught:
        snnkd.train("digits", [*SMALL, *settings], tmp_path / "run")
    assert fragment in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_more_devices_than_there_are_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    from snnkd.toolchain.parallel.processes import require_devices

    require_devices(2)
    with pytest.raises(InputError, match="devices is 3, and there are 2 GPUs"):
        require_devices(3)


def children_of(pid, what):
    """The child processes whose command holds `what`."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if what in command:
                found.append(int(child))
    return found


def told(*lines, status):
    """A command that prints these lines on stderr and ends with that status."""
    script = f"import sys; sys.stderr.write({chr(10).join(lines)!r}); sys.exit({status})"
    return [sys.executable, "-c", script]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (told("CUDA", "no room there", status=2), "ended with status 2, its last line: no room there;"),
        (told("failed: no such data set", "bye", status=1), "failed: no such data set;"),
        (told(status=3), "ended with status 3;"),
        (["sh", "-c", "kill -9 $$"], r"was ended by signal 9 \(Killed\);"),
        (told("all is well", status=0), "ended before it began;"),
    ],
)
def test_a_process_that_ends_before_it_meets_the_others_is_one_line(tmp_path, monkeypatch, command, reason):
    """At once; a third process, which would wait for it, is ended."""
    sleeping = [sys.executable, "-c", "import time; time.sleep(600) # waits for the others"]
    monkeypatch.setattr(Request, "command", lambda own: command if own.rank == 1 else sleeping)
    threads, started = torch.get_num_threads(), time.monotonic()
    with pytest.raises(InputError, match=reason) as caught, together(3, Request(str(tmp_path))):
        pytest.fail("the training begins without it")
    assert time.monotonic() - started < 300  # it takes a second, and took half an hour
    assert "\n" not in str(caught.value)
    assert "--resume" in str(caught.value)
    assert not children_of(os.getpid(), "waits for the others")
    assert torch.get_num_threads() == threads


def test_a_process_that_ends_while_the_others_wait_for_it_is_one_line(tmp_path):
    """It meets the leading process and finds no run."""
    expected = pytest.raises(InputError, match=r"shared the training failed: .*recipe")
    with expected as caught, together(2, Request(str(tmp_path))) as team:
        team.wait()
    assert "\n" not in str(caught.value)
    assert not children_of(os.getpid(), "parallel.worker")


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_a_gradient_has_one_norm_however_a_batch_is_shared(total, size, parts):
    """Also of a batch of fewer samples than processes, all of which look at all of it."""
    features = torch.linspace(-1, 2, 3 * total, dtype=torch.float64).view(total, 3).requires_grad_()

    def term(samples):
        return (features[samples] ** 3).sum(1).mean()

    (gradient,) = torch.autograd.grad(term(slice(None)), features)
    squares = 0.0
    for rank in range(size):
        meter = _Meter()
        for share in shares(total, rank, size, parts):
            meter.add_norms(0, {"term": term(slice(share.start, share.stop))}, features, share)
        squares += meter.squares["term"][0]
    assert math.sqrt(squares) == pytest.approx(float(gradient.norm()), rel=1e-12)


LONG = [*SMALL, "method=samd+nld", "student.epochs=12", "teacher.epochs=2", "devices=2"]


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "snnkd.toolchain.cli", "train", *arguments, "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begin(folder, name):
    settings = [part for setting in LONG for part in ("--set", setting)]
    process = start(folder, "digits", "--run", name, *settings)
    metrics = folder / "runs" / name / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("student") >= 3)
    (worker,) = children_of(process.pid, "parallel.worker")
    return process, worker


def wait_for(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen in time"
        time.sleep(0.02)


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_resuming_gives_the_same_weights(tmp_path):
    whole = start(tmp_path, "digits", "--run", "whole", *[p for s in LONG for p in ("--set", s)])
    assert whole.wait(400) == 0, whole.stderr.read()

    leader, worker = begin(tmp_path, "leader-killed")
    leader.kill()
    leader.communicate()
    wait_for(lambda: is_gone(worker), 20)

    leader, worker = begin(tmp_path, "worker-killed")
    os.kill(worker, signal.SIGKILL)
    _, err = leader.communicate(timeout=60)
    assert leader.returncode == 2
    (line,) = [line for line in err.splitlines() if line.startswith("snnkd: ")]
    assert "signal 9" in line
    assert "--resume" in line
    assert "Traceback" not in err

    leader, worker = begin(tmp_path, "interrupted")
    leader.send_signal(signal.SIGINT)
    leader.communicate(timeout=60)
    assert leader.returncode == 130
    assert is_gone(worker)

    weights = (tmp_path / "runs" / "whole" / "student.safetensors").read_bytes()
    for name in ("leader-killed", "worker-killed", "interrupted"):
        resumed = start(tmp_path, "--resume", "--run", name)
        out, err = resumed.communicate(timeout=400)
        assert resumed.returncode == 0, err
        assert (tmp_path / json.loads(out)["run"] / "student.safetensors").read_bytes() == weights
