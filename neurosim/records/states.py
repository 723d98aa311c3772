"""Reads the states of single dyads that a run has recorded into a file."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.base import DataError, plain

LARGE_HEADER = 1 << 26  # bytes: a name for every column


def read_states(path: Path) -> npt.NDArray[Any]:
    """Returns the rows of a file that `StatesFile` wrote, in memory only as far as they are looked
    at. Raises DataError where there is none, or it is damaged."""
    try:
        return np.lib.format.open_memmap(plain(path), mode="r", max_header_size=LARGE_HEADER)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
