"""Which neurons a synapse path connects, as linear maps on event counts: exact, no synapse unrolled.

A path's mask has a 1 where a weight isn't zero. Counts sent forward through the mask give the events that
arrive at each target; marks sent backward give the marked targets that each source feeds. All in float64,
whose integers are exact to 2^53.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from ...export.graph import Synapse


def fan_out(synapse: Synapse) -> Tensor:
    """How many synapses each source neuron has, int64 (*source_shape): none over the border, none of zero."""
    everywhere = torch.ones(1, *synapse.shape, dtype=torch.float64)
    return reached(synapse, everywhere)[0].long()


def arriving(synapse: Synapse, counts: Tensor) -> Tensor:
    """The events that arrive at each target, float64 (N, *shape), of source events (N, *source_shape)."""
    mask, counts = _mask(synapse), counts.double()
    if synapse.kind == "conv":
        return F.conv2d(counts, mask, None, synapse.stride, synapse.padding, synapse.dilation, synapse.groups)
    if synapse.kind == "dense":
        return (counts.flatten(1) @ mask.T).unflatten(1, synapse.shape)
    return counts * mask


def reached(synapse: Synapse, marks: Tensor) -> Tensor:
    """The marked targets that each source neuron feeds, float64 (N, *source_shape), for marks (N, *shape)."""
    mask, marks = _mask(synapse), marks.double()
    if synapse.kind == "conv":
        shape = (len(marks), *synapse.source_shape)
        geometry: Any = (synapse.stride, synapse.padding, synapse.dilation, synapse.groups)
        return conv2d_input(shape, mask, marks, *geometry)
    if synapse.kind == "dense":
        return (marks.flatten(1) @ mask).unflatten(1, synapse.source_shape)
    return marks * mask


def _mask(synapse: Synapse) -> Tensor:
    return torch.from_numpy(synapse.weight != 0).double()
