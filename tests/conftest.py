"""Shared set-up: hypothesis draws the same examples every time, and torch keeps to one thread.

A second thread gains a small network nothing, and where its core is busy the first waits for it at every
operation: such tests then take ten times as long. Child processes are told the same.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from hypothesis import settings

settings.register_profile("snnkd", derandomize=True, deadline=None)
settings.load_profile("snnkd")
torch.set_num_threads(1)
