"""How recordings become frames: a recipe's `[events]` section. It imports neither torch nor tonic."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

BYTE = 255
"""The largest value that a frame can have."""

STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EventAugmentation(BaseModel):
    """Random changes to training recordings, new ones each epoch; all off by default.

    Attributes:
        drop: share of the events that are lost.
        jitter_us: standard deviation of what is added to each event's time, in µs.
        shift: largest shift of a recording along each axis, in pixels of a frame, either way.
    """

    model_config = STRICT

    drop: float = Field(default=0.0, ge=0, lt=1)
    jitter_us: NonNegativeInt = 0
    shift: NonNegativeInt = 0


class EventOptions(BaseModel):
    """How a recording becomes T frames of a recipe's `timesteps`.

    Attributes:
        frames: `time`: each of T equal spans of time; `count`: of T equal numbers of events, what is left
            over at the end dropped; `voxel`: as `time`, each event shared between the two nearest bins.
        span: what `time` and `voxel` divide: `fixed`, `duration_us` from the beginning on; `own`, what lies
            between a recording's first and last event.
        duration_us: longer recordings are cut, shorter ones end in empty frames; 0: the data set's own.
        denoise_us: an event without another at one of its four neighbours in so many µs before it is noise
            and dropped; 0: none is.
        downsample: side of the squares of pixels that are put together.
        polarities: `both`: a channel each; `merged`: one.
        max_count: largest number of events in a frame's pixel; what is above is cut. 1: frames are binary.
        voxel_unit: for `voxel`, what one event counts that lies wholly in one bin.
        augmentation: random changes to training recordings.
    """

    model_config = STRICT

    frames: Literal["time", "count", "voxel"] = "time"
    span: Literal["fixed", "own"] = "fixed"
    duration_us: NonNegativeInt = 0
    denoise_us: NonNegativeInt = 0
    downsample: PositiveInt = 1
    polarities: Literal["both", "merged"] = "both"
    max_count: int = Field(default=1, ge=1, le=BYTE)
    voxel_unit: int = Field(default=8, ge=1, le=BYTE)
    augmentation: EventAugmentation = EventAugmentation()

    @model_validator(mode="after")
    def _fits_a_byte(self) -> EventOptions:
        if self.largest > BYTE:
            raise ValueError(
                f"max_count times voxel_unit should be at most {BYTE}, found {self.max_count} times "
                f"{self.voxel_unit}"
            )
        return self

    @property
    def largest(self) -> int:
        """The largest value of a frame's pixel."""
        return self.max_count * (self.voxel_unit if self.frames == "voxel" else 1)
