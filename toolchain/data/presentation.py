"""How samples are shown to a student: all that a recipe says of it, and what one step then looks like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .encoding import Encoding
from .events.options import EventOptions


@dataclass(frozen=True)
class Presentation:
    """What a recipe asks for.

    Attributes:
        timesteps: T.
        encoding: how static images are shown; event data takes no notice.
        events: how recordings become frames; images take no notice.
    """

    timesteps: int = 1
    encoding: Encoding = field(default_factory=Encoding)
    events: EventOptions = field(default_factory=EventOptions)


class StepShape(NamedTuple):
    """One step of a sample: its shape (C, H, W), its largest value, and whether steps differ at all."""

    input_shape: tuple[int, int, int]
    input_max: int
    temporal: bool
