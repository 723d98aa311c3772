"""What has changed in an array, and how often: asked of every array in every tick.

On the CPU numpy compares and counts, several times as fast as torch does; what is returned there
are numbers. On another device they stay tensors, so that all of a tick are read at once.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from neurosim.tensors.order import as_stored

_ROWS = 255  # as many as one byte can count


class Written:
    """What torch tells of the writes into a tensor. Two of one tensor are equal unless it was
    written in place or given other ``data`` between them; in-place writes through ``.data`` do not
    show. The memory is kept meanwhile: no other data can lie where it was.
    """

    __slots__ = ("_kept", "_writes")

    def __init__(self, tensor: Tensor) -> None:
        self._kept, self._writes = tensor.detach(), tensor._version

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Written):
            return NotImplemented
        where = self._kept.data_ptr(), other._kept.data_ptr()
        return self._writes == other._writes and where[0] == where[1]

    __hash__ = None  # type: ignore[assignment]


def unequal(new: Tensor, old: Tensor | None) -> Tensor:
    """Returns where two arrays differ; None stands for zeros."""
    if new.is_cpu:
        return torch.from_numpy(new.numpy() != (0 if old is None else old.numpy()))
    return new != (0 if old is None else old)


def count(mask: Tensor) -> Tensor | int:
    """Returns how many values are set."""
    return int(np.count_nonzero(as_stored(mask).numpy())) if mask.is_cpu else mask.count_nonzero()


def per_dyad(mask: Tensor) -> Tensor:
    """Returns of how many samples each value of (B, …) is set."""
    stored = as_stored(mask)
    flat = stored.flatten(1) if stored is mask else stored
    if not mask.is_cpu or flat.shape[-1] % 8:
        return mask.sum(0)
    # Eight bytes are added at once: none of them overflows within `_ROWS` samples.
    words = flat.reshape(-1).view(torch.int64).view(*flat.shape[:-1], -1)
    samples = 0 if stored is mask else -2
    parts = [
        words.narrow(samples, row, min(_ROWS, len(mask) - row)).sum(samples)
        for row in range(0, len(mask), _ROWS)
    ]
    total = torch.stack(parts).view(torch.uint8).sum(0)
    return total.view(mask.shape[1:]) if stored is mask else total.movedim(-1, 0)


def any_nonzero(values: Tensor) -> Tensor | bool:
    """Says if there is a value other than zero."""
    if not values.is_cpu:
        return values.any()
    array = values.numpy()
    return bool(array[:1].any()) or bool(array.any())  # the first sample tells as a rule


def summed(parts: Iterable[Tensor | None]) -> Tensor | None:
    """Returns the sum, in this order; None stands for zeros."""
    total: Tensor | None = None
    for part in parts:
        total = part if total is None else total if part is None else total + part
    return total
