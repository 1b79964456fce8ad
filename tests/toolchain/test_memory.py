"""What happens to freed memory, in a process of its own, as the page faults that using it again costs."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from snnkd.toolchain.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(16 * 2**20) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_freed_memory()
print([faults() for _ in range(10)][-1])
"""
TUNED_BY = ("MALLOC_", "GLIBC_TUNABLES", "THP_MEM_ALLOC_ENABLE")


def faults(way):
    """When three blocks of 64 MiB are made and freed for the tenth time."""
    untuned = {name: value for name, value in os.environ.items() if not name.startswith(TUNED_BY)}
    command = [sys.executable, "-c", PROGRAM, way]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=untuned)
    return int(ran.stdout)


@pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()), reason="the C library isn't glibc"
)
def test_freed_memory_is_used_again_without_the_kernel():
    """Huge pages make the faults fewer, but not as few."""
    assert faults("kept") < faults("given back") / 10
