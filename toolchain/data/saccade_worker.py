"""Part of a simulated event set, in a process of its own: `python -m …data.saccade_worker REQUEST`.

REQUEST is a JSON object: see `Request`. Prints how many more images are done, a number on a line of its own.
It holds the events of one shard at a time, and ends with the process that started it.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TELL_EVERY = 10
"""Images between two lines."""

ONE_THREAD = {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""eventcv and NumPy would each take every core, in every worker."""

IMAGES = "images.npz"


@dataclass(frozen=True)
class Request:
    """What the process shall do.

    Attributes:
        parent: the process whose end ends this one.
        folder: where the images and their seeds lie, and where shards go.
        shards: which it is to make.
        shard_size: images in a shard.
        input_max: the images' largest value.
        camera: the settings of `saccades.Camera`.
    """

    parent: int
    folder: str
    shards: list[int]
    shard_size: int
    input_max: int
    camera: dict[str, Any]

    def command(self) -> list[str]:
        """What starts the process."""
        return [sys.executable, "-m", "snnkd.toolchain.data.saccade_worker", json.dumps(asdict(self))]


def shard_file(folder: Path, shard: int) -> Path:
    """Where a shard lies: `events`, packed, one image's after the other, and at which `ends` each."""
    return folder / f"{shard:05d}.npz"


def main() -> None:
    """Do what the first argument asks for."""
    os.environ |= ONE_THREAD
    import numpy as np

    from ...export.files import atomic_path
    from ..children import end_with
    from .saccades import Camera, look

    request = Request(**json.loads(sys.argv[1]))
    end_with(request.parent)
    folder, camera = Path(request.folder), Camera(**request.camera)
    with np.load(folder / IMAGES, allow_pickle=False) as file:
        images, seeds = file["images"], file["seeds"]
    for shard in request.shards:
        begin = shard * request.shard_size
        seen, untold = [], 0
        for image, seed in zip(
            images[begin : begin + request.shard_size],
            seeds[begin : begin + request.shard_size].tolist(),
            strict=True,
        ):
            seen.append(look(image, request.input_max, camera, seed))
            untold += 1
            if untold == TELL_EVERY or len(seen) == len(images[begin : begin + request.shard_size]):
                print(untold, flush=True)
                untold = 0
        with atomic_path(shard_file(folder, shard)) as temporary:
            np.savez(temporary, events=np.concatenate(seen), ends=np.cumsum([len(events) for events in seen]))


if __name__ == "__main__":
    main()
