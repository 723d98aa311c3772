"""Samples that stay where they are, in a file or a data set of torch, until they are taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from neurosim.base import DataError

IN_MEMORY = 2**30  # bytes of an array that is read at once; of a larger one what is asked for
_UNPACKED, _PACKED = 2**26, 100  # bytes of which any file may be the packed form, and how tight
CHUNK, CHUNK_BYTES = 1000, 2**24  # samples, and bytes, at a time in a pass through all of them


@dataclass(frozen=True, eq=False)
class Lazy:
    """Stands for a tensor of samples (N, *row): its items are read when it is indexed.

    ``read`` is given indices (B,) and returns these samples (B, *row). ``index`` (N,) says which
    of all that ``read`` knows these are.
    """

    read: Callable[[Tensor], Tensor]
    row: tuple[int, ...]
    dtype: torch.dtype
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.row)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def __getitem__(self, which: slice | Tensor) -> Tensor:
        samples = self.read(self.index[which])
        if not (ok := finite(samples)).all():
            bad = int(self.index[which][~ok][0])
            said = "has a value that is not finite; remove or repair it"
            raise DataError(f"sample {bad} (counting from 0) {said}")
        return samples

    def part(self, which: slice | Tensor) -> Lazy:
        """Returns some of the samples, and reads none."""
        return replace(self, index=self.index[which])

    def map(self, change: Callable[[Tensor], Tensor], row: tuple[int, ...]) -> Lazy:
        """Returns the samples as ``change`` makes them when they are read, of the shape ``row``."""
        return replace(self, read=lambda which: change(self.read(which)), row=row)


Samples = Tensor | Lazy


def part(samples: Samples, which: slice | Tensor) -> Samples:
    """Returns some samples, and reads none that are not read."""
    return samples.part(which) if isinstance(samples, Lazy) else samples[which]


def chunks(samples: Samples) -> Iterator[Tensor]:
    """Yields all samples, some at a time."""
    row = math.prod(samples.shape[1:]) * samples.dtype.itemsize
    step = max(1, min(CHUNK, CHUNK_BYTES // max(row, 1)))
    for start in range(0, len(samples), step):
        yield samples[start : start + step]


def finite(samples: Tensor) -> Tensor:
    """Says of each sample (N, …) if all of its values are finite, as (N,)."""
    if not samples.is_floating_point():
        return torch.ones(len(samples), dtype=torch.bool, device=samples.device)
    return torch.isfinite(samples).flatten(1).all(dim=1)


def is_bomb(path: Path, size: int) -> bool:
    """Says if a file unpacks to far more bytes than samples do, as one made to fill memory."""
    return size > max(_UNPACKED, _PACKED * path.stat().st_size)
