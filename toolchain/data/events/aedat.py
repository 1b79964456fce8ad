"""AEDAT 2 and 3, jAER's and cAER's recordings, through tonic's reader of their headers and packets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .package import require


def addresses(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Address and time (µs) of every event in a file, int64 both.

    Raises:
        OSError, ValueError: it isn't such a file.
    """
    reader = require("tonic.io")
    try:
        version, start, *_ = reader.read_aedat_header_from_file(str(path))
    except UnboundLocalError:
        raise ValueError("no AEDAT header") from None
    events = reader.get_aer_events_from_file(str(path), version, start)
    return events["address"].astype(np.int64), events["timeStamp"].astype(np.int64)
