"""Which dyads something has reached."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.dynamics.cells import Cell

Marks = npt.NDArray[np.bool_]


class News:
    """Which dyads something has reached, by cell index. What is known on a device is read when it
    is asked for, at once."""

    def __init__(self) -> None:
        self._here: dict[int, Marks] = {}
        self._away: dict[int, Tensor] = {}

    def add(self, cell: Cell, reached: Tensor) -> None:
        if cell.index < 0:
            return  # the input never wakes
        marks = reached.reshape(-1)
        if marks.is_cpu:
            self._add_here(cell.index, marks.numpy())
        else:
            known = self._away.get(cell.index)
            self._away[cell.index] = marks if known is None else known | marks

    def _add_here(self, index: int, marks: Marks) -> None:
        known = self._here.get(index)
        self._here[index] = marks.copy() if known is None else known | marks

    @property
    def marks(self) -> dict[int, Marks]:
        """By cell index, over the flat population."""
        if self._away:
            ends = np.cumsum([len(marks) for marks in self._away.values()])
            read = torch.cat(list(self._away.values())).cpu().numpy()
            for index, marks in zip(self._away, np.split(read, ends[:-1]), strict=True):
                self._add_here(index, marks)
            self._away.clear()
        return self._here
