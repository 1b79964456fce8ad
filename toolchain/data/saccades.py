"""Images seen by an event camera that makes N-MNIST's three saccades, simulated by eventcv.

N-MNIST (Orchard et al., 2015) moved a camera before a screen that showed MNIST. Here the image moves over a
sensor that is 6 pixels larger each way, (+3.5, +7), (+3.5, −7) and (−7, 0) pixels (x to the right, y
downward: the recordings' own sign of y isn't published, so it is our choice) in 105 ms each, at constant
speed, sampled bilinearly at 1 kHz. Black is shown as grey 140 of 255: screens aren't black, and an image's
empty parts would drown in the noise of dark pixels.

The pixels are eventcv's, which follow v2e (Hu et al., CVPRW 2021): light, linear below and logarithmic above,
through a low-pass filter; an event wherever its logarithm has moved by a threshold, which differs from pixel
to pixel; leak and shot noise. The constants, `Camera`, are chosen so that a digit gives about as many events
as N-MNIST's; they aren't fitted to a sensor. No figure from such a set is one for the real N-MNIST.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass, field
from functools import cache

import numpy as np

FORMAT = 1
"""Changes whenever the same settings and the same eventcv give other events: with the camera's way (`LEGS`,
`LEG_MILLISECONDS`, `MARGIN`), with `FRAMES_PER_SECOND`, `render`, `look` and `pack`, and with how images and
their seeds are chosen.
"""

LEGS = ((3.5, 7.0), (3.5, -7.0), (-7.0, 0.0))
"""How far the image moves in each saccade, (x, y) in pixels; in all, nowhere."""

LEG_MILLISECONDS = 105
MARGIN = 3
"""Pixels of the sensor around the image on each side, where it stands in the middle of its way."""

FRAMES_PER_SECOND = 1000
DURATION_US = len(LEGS) * LEG_MILLISECONDS * 1000
"""Microseconds that an image is looked at."""

PLACE_BITS, TIME_BITS = 6, 19
SENSOR_MAX = 1 << PLACE_BITS
"""The largest side of a sensor, in pixels, whose events can be packed."""


@dataclass(frozen=True)
class Camera:
    """The simulated sensor, in eventcv's terms.

    Attributes:
        threshold: change of the logarithm of light that makes an event, of either polarity.
        threshold_spread: its standard deviation between pixels.
        shot_noise_hz, leak_hz: events per second of a dark pixel, and of any pixel, that nothing caused.
        refractory_us: dead time after an event, in microseconds.
        cutoff_hz: bandwidth of a white pixel.
        black: the grey, of 255, that the darkest value of an image is shown as.
    """

    threshold: float = 0.3
    threshold_spread: float = 0.03
    shot_noise_hz: float = 1.0
    leak_hz: float = 0.1
    refractory_us: int = 100
    cutoff_hz: float = 200.0
    black: int = 140


@dataclass(frozen=True)
class Simulation:
    """The settings of a simulated set: with them, `FORMAT` and eventcv's version decide its events.

    Attributes:
        images: the data set that is looked at.
        train, validation, test: how many of its images of each split, every class by its share; all that
            there are, if there are fewer.
        seed: of noise and thresholds, from which each image has its own.
    """

    images: str
    train: int = 10_000
    validation: int = 1_000
    test: int = 2_000
    seed: int = 0
    camera: Camera = field(default_factory=Camera)

    @property
    def key(self) -> str:
        """A short name for all that decides the events: these settings, `FORMAT`, and eventcv's version."""
        deciding = {"format": FORMAT, "eventcv": eventcv_version(), "settings": asdict(self)}
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:12]

    def image_seed(self, split: str, index: int) -> int:
        """The seed of one image, by its place in its split of the data set that is looked at."""
        text = f"{self.seed}/{self.images}/{split}/{index}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def eventcv_version() -> str:
    """Of the installed one; "" where there is none."""
    try:
        return importlib.metadata.version("eventcv")
    except importlib.metadata.PackageNotFoundError:
        return ""


def trajectory() -> np.ndarray:
    """Where the image's left upper pixel lies at every frame, (315 + 1, 2): x and y on the sensor."""
    corners = np.cumsum([(0.0, 0.0), *LEGS], axis=0)
    corners += MARGIN - (corners.min(0) + corners.max(0)) / 2
    frames = np.arange(len(LEGS) * LEG_MILLISECONDS + 1) / LEG_MILLISECONDS
    return np.stack([np.interp(frames, np.arange(len(corners)), axis) for axis in corners.T], axis=1)


def sensor_of(image_shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the sensor that looks at images of that height and width."""
    return image_shape[0] + 2 * MARGIN, image_shape[1] + 2 * MARGIN


def render(image: np.ndarray, input_max: int, black: int) -> np.ndarray:
    """The film that the sensor sees, float64 (316, H + 6, W + 6) from 0 to 1 in sRGB's grey.

    Args:
        image: integers (H, W) from 0 to `input_max`.
        black: the grey, of 255, of a pixel of 0 and of all that lies beside the image.
    """
    rows, columns = _sampling(*image.shape)
    ink = (255 - black) / 255 * (image / input_max)
    return np.ascontiguousarray(black / 255 + rows @ ink @ columns.swapaxes(1, 2))


@cache
def _sampling(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear interpolation at every frame as matrices: (316, H + 6, H) for rows, (316, W + 6, W)."""
    x, y = trajectory().T

    def matrices(start: np.ndarray, side: int) -> np.ndarray:
        seen = np.arange(side + 2 * MARGIN)[:, None] - np.arange(side)
        return np.maximum(0.0, 1.0 - np.abs(seen - start[:, None, None]))

    return matrices(y, height), matrices(x, width)


def look(image: np.ndarray, input_max: int, camera: Camera, seed: int) -> np.ndarray:
    """The events of one image in the order of time, packed uint32 (events,): see `pack`.

    Args:
        image: integers (H, W) from 0 to `input_max`.
        seed: decides noise and thresholds; the number of processors doesn't.
    """
    import eventcv  # an optional package

    film = render(image, input_max, camera.black)
    events = eventcv.simulate(
        film,
        fps=FRAMES_PER_SECOND,
        pos_thres=camera.threshold,
        neg_thres=camera.threshold,
        sigma_thres=camera.threshold_spread,
        refractory_us=camera.refractory_us,
        cutoff_hz=camera.cutoff_hz,
        leak_rate_hz=camera.leak_hz,
        shot_noise_rate_hz=camera.shot_noise_hz,
        seed=seed,
    ).numpy()
    return pack(*events.astype(np.int64).T)


def pack(x: np.ndarray, y: np.ndarray, t: np.ndarray, polarity: np.ndarray) -> np.ndarray:
    """Events in 32 bits each: from the highest 19 of time in µs, 6 of y, 6 of x, 1 of polarity (brighter).

    Args:
        x, y, t, polarity: integers (events,).

    Raises:
        ValueError: one doesn't fit.
    """
    for values, bits in ((x, PLACE_BITS), (y, PLACE_BITS), (t, TIME_BITS), (polarity, 1)):
        if values.size and not 0 <= values.min() <= values.max() < 1 << bits:
            raise ValueError(f"{values.min()} to {values.max()} don't fit into {bits} bits")
    packed = ((t << PLACE_BITS | y) << PLACE_BITS | x) << 1 | polarity
    return packed.astype(np.uint32)


def unpack(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, y, t in µs and polarity of packed events, each uint32 (events,)."""
    place = np.uint32(SENSOR_MAX - 1)
    x, y = packed >> 1 & place, packed >> (1 + PLACE_BITS) & place
    return x, y, packed >> (1 + 2 * PLACE_BITS), packed & np.uint32(1)
