"""Which random changes training images undergo; a recipe's `[augmentation]` section.

Apart from `augment`, so that a recipe can be checked without importing torch.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt


class Augmentation(BaseModel):
    """Random changes to training images; all off by default.

    Attributes:
        crop_padding: pixels of zeros added around an image before a crop of its own size.
        flip: whether half of the images are mirrored left to right.
        erase_probability: share of the images in which a rectangle is set to zero.
        rotate_degrees: largest rotation about the centre, either way.
        translate: largest shift along each axis, in pixels, either way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    crop_padding: NonNegativeInt = 0
    flip: bool = False
    erase_probability: float = Field(default=0.0, ge=0, le=1)
    rotate_degrees: float = Field(default=0.0, ge=0, le=180)
    translate: NonNegativeFloat = 0.0
