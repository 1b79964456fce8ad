"""How a network is watched while it runs."""

import pytest
import torch
from torch import nn

from snnkd.models.neurons import SpikingNeuron
from snnkd.toolchain.networks import spike_rates


class Emits(SpikingNeuron):
    def forward(self, current):
        return current


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("height", [1.0, 0.3, 2.0])
def test_every_neuron_step_with_a_spike_is_counted(dtype, height):
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": Emits(), "b": Emits()})
    shown = {
        "a": [height * (torch.rand(3, 5, 7, 40, 41) < 0.2).to(dtype) for _ in range(2)],
        "b": [height * (torch.rand(3, 2, 9) < 0.7).to(dtype)],
    }
    with spike_rates(model) as rates:
        for name, batches in shown.items():
            for spikes in batches:
                model[name](spikes)
    counts = {name: sum(int((s != 0).sum()) for s in batches) for name, batches in shown.items()}
    sizes = {name: sum(s.numel() for s in batches) for name, batches in shown.items()}
    assert rates.by_layer() == {name: counts[name] / sizes[name] for name in shown}
    assert rates.mean() == sum(counts.values()) / sum(sizes.values())
    model["a"](shown["a"][0])
    assert rates.neuron_steps == sizes
