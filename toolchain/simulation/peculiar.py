"""Neurons of float networks that the chip of this project's arithmetic doesn't have (`graph.Neuron`).

They reset by subtraction, spike several times in a step, or let their input decay with their current. The
integers of such networks are those of other chips (`toolchain.arithmetic`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .registers import State


@dataclass(frozen=True)
class PeculiarRegisters:
    """The neurons of one population in floating point; used as `registers.Registers`.

    Attributes:
        decay, current_decay: of v and of u.
        threshold: a number, or a tensor that broadcasts to one step; None never spikes.
        bias: what is added to v at every step, broadcastable to one step; None for nothing.
        subtracts: whether a spike takes the threshold away, v ≥ θ firing; else v > θ fires and sets v to 0.
        max_spikes: in a step.
        decays_input: whether u[t] is current_decay·(u[t−1] + x[t]).
    """

    decay: float
    current_decay: float
    threshold: Tensor | float | None
    bias: Tensor | None
    subtracts: bool
    max_spikes: int
    decays_input: bool

    def fresh(self, step: Tensor) -> State:
        """As `Registers.fresh`."""
        return State(torch.zeros_like(step), torch.zeros_like(step))

    def advance(
        self, sums: Tensor, state: State, steps: int, spikes: Tensor | None, membrane: Tensor | None
    ) -> None:
        """As `Registers.advance`; `spikes` are counts."""
        v, u, arriving = state.v, state.u, sums.unbind()
        assert u is not None
        for step in range(steps):
            received = arriving[step if len(arriving) > 1 else 0]
            if self.decays_input:
                u.add_(received).mul_(self.current_decay)
            else:
                u.mul_(self.current_decay).add_(received)
            v.mul_(self.decay).add_(u)
            if self.bias is not None:
                v.add_(self.bias)
            if membrane is not None:
                membrane[step] = v
            if self.threshold is not None:
                assert spikes is not None
                spikes[step] = self._fire(v, self.threshold)
        state.begun = True

    def _fire(self, v: Tensor, threshold: Tensor | float) -> Tensor:
        """Spikes of one step; v is reset."""
        if not self.subtracts:
            fired = (v > threshold).to(v)
            v.mul_(1 - fired)
            return fired
        fired = torch.floor(v / threshold).clamp_(0, self.max_spikes)
        v.sub_(fired * threshold)
        return fired
