"""BatchNorm over whole batches is torch's own BatchNorm: values, running statistics and gradients."""

import copy

import pytest
import torch
from torch import distributed, nn

from snnkd.toolchain.parallel.normalization import WholeBatchNorm

EXACT = {"rtol": 1e-11, "atol": 1e-12}


@pytest.fixture
def group(tmp_path):
    """A process group of one process, whose sums are its own."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def outcome(network, signal, steps=3):
    """Outputs and gradients of some passes, and what the network holds after them."""
    found = []
    for _ in range(steps):
        signal = signal.detach().requires_grad_()
        result = network(signal)
        (result * torch.linspace(-1, 2, result.numel(), dtype=result.dtype).view_as(result)).sum().backward()
        found += [result.detach(), signal.grad]
        signal = signal.detach() * 1.5 - 0.25
    return found + [p.grad for p in network.parameters()] + list(network.state_dict().values())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm2d(3, dtype=torch.float64), (5, 3, 4, 2)),
        (nn.BatchNorm2d(3, affine=False, dtype=torch.float64), (5, 3, 4, 2)),
        (nn.BatchNorm2d(3, momentum=None, eps=0.1, dtype=torch.float64), (5, 3, 4, 2)),
        (nn.BatchNorm2d(3, track_running_stats=False, dtype=torch.float64), (2, 3, 4, 2)),
        (nn.BatchNorm1d(4, dtype=torch.float64), (6, 4)),
        (nn.BatchNorm1d(4, dtype=torch.float64), (6, 4, 3)),
    ],
)
def test_it_is_torch_s_own(group, layer, shape):
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 1
    own, ours = copy.deepcopy(layer), copy.deepcopy(layer)
    expected = outcome(own, signal)
    with WholeBatchNorm(nn.Sequential(ours), 2):
        found = outcome(ours, signal)
    for ours_now, expected_now in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_now, expected_now, **EXACT)


def test_it_is_gone_after_the_block_and_in_evaluation(group):
    network = nn.Sequential(nn.BatchNorm2d(2))
    shared = WholeBatchNorm(network, 2)
    signal = torch.randn(4, 2, 3, 3)
    with shared:
        network.eval()
        torch.testing.assert_close(network(signal), nn.BatchNorm2d(2).eval()(signal))
        assert network.state_dict().keys() == nn.Sequential(nn.BatchNorm2d(2)).state_dict().keys()
    assert "forward" not in vars(network[0])


def test_a_single_process_keeps_torch_s_own_layers():
    network = nn.Sequential(nn.BatchNorm2d(2))
    with WholeBatchNorm(network, 1):
        assert "forward" not in vars(network[0])
