"""Arrays that change, as a whole or in part, and what of the things made of them is out of date."""

from __future__ import annotations

from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.tensors.order import by_position
from neurosim.tensors.selection import Selection, Shape


class Slot:
    """One array that is replaced as a whole or written in part.

    Whole replacement keeps a reference, so two slots may hold one tensor; a slot makes its own copy
    before it writes in place. An empty slot stands for all zeros.
    """

    __slots__ = ("_fresh", "_own", "tensor")

    def __init__(self) -> None:
        self.tensor: Tensor | None = None
        self._own = False
        self._fresh: tuple[Selection, Tensor] | None = None

    @property
    def value(self) -> Tensor:
        assert self.tensor is not None
        return self.tensor

    def set(self, tensor: Tensor | None) -> None:
        self.tensor, self._own, self._fresh = tensor, False, None

    def put(self, selection: Selection, values: Tensor, *, taken_next: bool = False) -> None:
        """Writes the selected values, as `Selection.take` would return them. What is ``taken_next``
        is then not gathered again, which would be as dear as the writing."""
        if self.tensor is None:
            zeros = values.new_zeros(len(values), *selection.shape)
            self.tensor = by_position(zeros) if selection.whole == "positions" else zeros
            self._own = True
        elif not self._own:
            self.tensor, self._own = self.tensor.clone(), True
        selection.put(self.tensor, values)
        self._fresh = (selection, values) if taken_next else None

    def take(self, selection: Selection | None) -> Tensor | None:
        """The whole array, or the selected values; None for zeros."""
        if self.tensor is None:
            return None
        if selection is None:
            self._own = False  # the caller may keep it, so the next write in place copies
            return self.tensor
        fresh, self._fresh = self._fresh, None
        if fresh is not None and fresh[0] is selection:
            return fresh[1]
        return selection.take(self.tensor)

    def some(self, selection: Selection | None) -> Tensor:
        """The same where zeros cannot be."""
        values = self.take(selection)
        assert values is not None
        return values


class Stale:
    """Which dyads' cached potentials are out of date: all, none, or a mask by flat index."""

    __slots__ = ("mask", "shape", "size")

    def __init__(self, shape: Shape) -> None:
        self.shape, self.size = shape, prod(shape)
        self.mask: npt.NDArray[np.bool_] | bool = True

    def touch(self) -> None:
        """Everything is out of date."""
        self.mask = True

    def clear(self, selection: Selection | None) -> None:
        """The selected dyads are up to date."""
        if selection is None:
            self.mask = False
        elif self.mask is not False:
            if self.mask is True:
                self.mask = np.ones(self.size, dtype=bool)
            assert isinstance(self.mask, np.ndarray)
            self.mask[selection.dyads] = False

    def part(
        self, selection: Selection | None, device: torch.device
    ) -> Selection | Literal[False] | None:
        """What of the selection is out of date; False for nothing, None for the population."""
        if isinstance(self.mask, bool):
            return selection if self.mask else False
        if selection is None:
            stale = np.flatnonzero(self.mask)
            if len(stale) == self.size:
                return None
            return Selection(self.shape, stale, device) if len(stale) else False
        some = self.mask[selection.dyads]
        if some.all():
            return selection
        return selection.narrow(some) if some.any() else False

    def state(self) -> Tensor | bool:
        return self.mask if isinstance(self.mask, bool) else torch.from_numpy(self.mask.copy())

    def load(self, state: Tensor | bool) -> None:
        self.mask = state if isinstance(state, bool) else state.cpu().numpy().copy()
