"""Batches made ahead: the same ones, the same faults, and no thread left."""

import threading
from contextlib import closing

import pytest
import torch

from snnkd.toolchain.data.ahead import ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def numbers(until, fault=None):
    generator = torch.Generator().manual_seed(1)
    for index in range(until):
        yield index, float(torch.rand((), generator=generator))
    if fault:
        raise fault


def test_it_gives_the_same_in_the_same_order():
    assert list(ahead(numbers(50))) == list(numbers(50))
    assert list(ahead(iter(()))) == [] and threads() == []


def test_it_raises_what_making_one_raises_where_it_would_have_been():
    found = []
    with pytest.raises(KeyError, match="lost"):
        for index, _ in ahead(numbers(3, KeyError("lost"))):
            found.append(index)
    assert found == [0, 1, 2] and threads() == []


def test_no_more_are_made_than_asked_for_and_a_few():
    made = []

    def watched():
        for item in range(100):
            made.append(item)
            yield item

    with closing(ahead(watched(), 2)) as items:
        assert next(items) == 0
        assert len(threads()) == 1
    assert threads() == []
    assert len(made) <= 4  # one taken, two waiting, one in hand
