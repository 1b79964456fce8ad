"""What the processes of one training do together; a single process is a team too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed

from .share import Share, shares


@dataclass(frozen=True)
class Team:
    """The processes of one training, as one of them sees them.

    All of them call the methods in the same order: each waits for the others.

    Attributes:
        rank: this process; 0 leads: it alone writes files.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def fabric(self, precision: str) -> Fabric:
        """Where this process computes, and how."""
        if self.size == 1:
            return Fabric(devices=1, precision=precision)  # pyright: ignore[reportArgumentType]
        accelerator = "cuda" if self._on_gpus else "cpu"
        strategy = DDPStrategy(cluster_environment=_Processes(self))
        fabric = Fabric(
            accelerator=accelerator,
            strategy=strategy,
            devices=self.size,
            precision=precision,  # pyright: ignore[reportArgumentType]
        )
        fabric.launch()
        return fabric

    def shares(self, total: int, parts: int = 1) -> Iterator[Share]:
        """What this process looks at of a batch of `total` samples, see `share.shares`."""
        return shares(total, self.rank, self.size, parts)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self._device)
        distributed.all_reduce(total)
        return total.tolist()

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace the gradients, where there are any, by their sums over all processes."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for dtype in sorted({gradient.dtype for gradient in gradients}, key=str):
            alike = [gradient for gradient in gradients if gradient.dtype == dtype]
            flat = torch.cat([gradient.flatten() for gradient in alike])
            distributed.all_reduce(flat)
            _put_back(flat, alike)

    def agree(self, answer: bool) -> bool:
        """What the leading process answers."""
        return bool(self.sum([float(answer and self.leads)])[0])

    def wait(self) -> None:
        """Wait until all are here."""
        self.sum([0.0])

    @property
    def _on_gpus(self) -> bool:
        return distributed.get_backend() == "nccl"

    @property
    def _device(self) -> str:
        return "cuda" if self._on_gpus else "cpu"


ALONE = Team()
"""A single process."""


def _put_back(flat: Tensor, gradients: Sequence[Tensor]) -> None:
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class _Processes(ClusterEnvironment):
    """Tells lightning-fabric of processes that were started, and that met, by themselves."""

    def __init__(self, team: Team):
        super().__init__()
        self._team = team

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "localhost"

    @property
    def main_port(self) -> int:
        return 0  # nobody listens

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._team.size

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self._team.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self._team.rank

    def node_rank(self) -> int:
        return 0
