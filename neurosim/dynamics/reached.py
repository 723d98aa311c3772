"""Which dyads something has reached."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.dynamics.dyads import Dyads

Marks = npt.NDArray[np.bool_]


class Reached:
    """Collects which dyads something has reached. What is known on a device is read when it is
    asked for, at once. ``wanted``: somebody asks."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._here: dict[int, Marks] = {}
        self._away: dict[int, Tensor] = {}

    def add(self, cell: Dyads, reached: Tensor) -> None:
        """Adds the marked dyads, (*shape), of a population."""
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
        """Marks by the index of a population, over its dyads by flat index."""
        if self._away:
            ends = np.cumsum([len(marks) for marks in self._away.values()])
            read = torch.cat(list(self._away.values())).cpu().numpy()
            for index, marks in zip(self._away, np.split(read, ends[:-1]), strict=True):
                self._add_here(index, marks)
            self._away.clear()
        return self._here
