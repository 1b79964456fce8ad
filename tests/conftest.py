"""Shared set-up: hypothesis draws the same examples every time, and torch keeps to two threads."""

import torch
from hypothesis import settings

settings.register_profile("snnkd", derandomize=True, deadline=None)
settings.load_profile("snnkd")
torch.set_num_threads(2)
