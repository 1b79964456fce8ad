"""Runs take turns on the GPUs that there are."""

import pytest
import torch

from snnkd.toolchain.comparing.runner import least_used, visible_gpus


@pytest.mark.parametrize(
    ("count", "named", "found"),
    [
        (0, None, ()),
        (3, None, ("0", "1", "2")),
        (2, "2,5", ("2", "5")),
        (2, " GPU-1 , GPU-2", ("GPU-1", "GPU-2")),
        (1, "1,7", ("1",)),
        (0, "", ()),
    ],
)
def test_gpus_are_named_as_the_system_names_them(monkeypatch, count, named, found):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == found


def test_runs_take_turns_and_then_whichever_is_free():
    lent = []
    for _ in range(5):
        lent.append(least_used(("0", "1", "2"), lent))
    assert lent == ["0", "1", "2", "0", "1"]
    assert least_used(("0", "1"), ["0", "1", "0"]) == "1"
    assert least_used((), ["", ""]) == ""
    assert least_used(("0", "1", "2"), ["0", "1,2"], 2) == "0,1"
    assert least_used(("0", "1", "2"), ["0,1"], 2) == "2,0"
