"""Checks of data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from neurosim.conformance.checks import Named, require, same
from neurosim.data import Dataset, DataSource


def of_data(source: DataSource) -> Named:
    """Yields the checks of a data set; labels and shapes are checked as it is made."""
    yield "reads the same images twice", partial(_reads, source)


def _reads(source: DataSource) -> None:
    one, other = source.read(Path()), source.read(Path())
    require(isinstance(one, Dataset), f"read returns {one!r}", "Return a neurosim.data.Dataset")
    for name in ("train", "test"):
        found, again = getattr(one, name), getattr(other, name)
        read, then = ((split.take(slice(100)), split.labels) for split in (found, again))
        same(read, then, f"the {name} split differs", "Draw from a generator with a fixed seed")
        require(bool(read[0].isfinite().all()), "an image is not finite", "Repair it, or leave it")


FAMILIES: Mapping[str, Callable[[Any], Named]] = {"data": of_data}
