"""Event data sets that are simulated from image sets: `mnist-saccades`, `fashion-mnist-saccades`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .datasets import DATASETS, Samples, Source, Splits, hold_out
from .events.recordings import Sensor
from .events.source import EventSource, Part
from .fetch import Progress, Remote, ensure_files
from .presentation import Presentation, StepShape
from .saccade_files import Simulated, read_recording, simulated
from .saccades import DURATION_US, Simulation, sensor_of


@dataclass(frozen=True)
class SimulatedEvents:
    """A `datasets.DataSource` of what an event camera sees of an image set; see `saccades`.

    The images lie where their own data set has them, beside this one's folder; they are fetched and looked at
    the first time. A set with other settings is one more of these, registered through `snnkd.datasets`.

    Attributes:
        simulation: the images, how many, the camera, the seed.
    """

    simulation: Simulation

    @property
    def name(self) -> str:
        return f"{self.simulation.images}-saccades"

    @property
    def description(self) -> str:
        sizes = self.simulation
        count = sizes.train + sizes.validation + sizes.test
        return (
            f"{count:,} images of {sizes.images} before a simulated event camera that makes N-MNIST's three "
            "saccades; minutes to simulate"
        )

    @property
    def duration_us(self) -> int:
        """How long a recording is."""
        return DURATION_US

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._images.class_names

    @property
    def remote(self) -> Remote | None:
        return None

    def step(self, shown: Presentation) -> StepShape:
        return self._events({}).step(shown)

    def splits(self, folder: Path, split_seed: int, shown: Presentation, progress: Progress) -> Splits:
        parts = self.recordings(folder, progress)
        return self._events(parts).splits(folder, split_seed, shown, progress)

    def recordings(self, folder: Path, progress: Progress) -> dict[str, Simulated]:
        """What the camera saw of each split's images, simulated the first time.

        Raises:
            InputError: the images can't be had, or as `saccade_files.simulated`.
        """
        source = self._images

        def read() -> Splits:
            images = folder.parent / source.name
            if source.remote:
                ensure_files(source.name, source.remote, images, progress)
            return source.read(images, 0)

        return simulated(self.simulation, read, source.input_max, folder, progress)

    def made(self, folder: Path, progress: Progress) -> list[Path]:
        """The file of all recordings, simulated if it isn't there.

        Raises:
            InputError: as `recordings`.
        """
        return sorted({part.path for part in self.recordings(folder, progress).values()})

    @property
    def _images(self) -> Source:
        return DATASETS.load(self.simulation.images)

    def _events(self, parts: dict[str, Simulated]) -> EventSource:
        """The recordings as an event data set, training and validation put together."""
        _, rows, columns = self._images.input_shape
        height, width = sensor_of((rows, columns))

        def find(_folder: Path) -> dict[str, Part]:
            joined = {"train": [parts["train"], parts["validation"]], "test": [parts["test"]]}
            return {name: _part(each) for name, each in joined.items()}

        def divide(samples: dict[str, Samples], seed: int) -> Splits:
            held = len(parts["validation"].labels)
            return Splits(*hold_out(samples["train"], held, seed), samples["test"])

        return EventSource(
            name=self.name,
            description=self.description,
            sensor=Sensor(width, height),
            duration_us=DURATION_US,
            class_names=self.class_names,
            find=find,
            read=read_recording,
            divide=divide,
        )


def _part(parts: list[Simulated]) -> Part:
    recordings = [recording for part in parts for recording in part.recordings]
    labels = np.concatenate([part.labels for part in parts])
    return Part(recordings, labels, sorted({part.path for part in parts}))


MNIST = SimulatedEvents(Simulation("mnist"))
FASHION_MNIST = SimulatedEvents(Simulation("fashion-mnist"))
