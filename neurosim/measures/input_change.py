"""How much the inputs of dyads have changed since they last woke: a schedule may ask for it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.dynamics import State
from neurosim.measures.gradients import less
from neurosim.rules import Nudge, Rule
from neurosim.schedules import Layout
from neurosim.tensors import Arrays, Selection, Slot, moved, summed


class InputChange(Arrays):
    """Measures ‖inputs now − inputs at the last wake‖ of every dyad, over the samples of a batch.

    The inputs are the basal and the apical potential that the dyad would find if it woke now, the
    latter with the force of an active nudge; before its first wake they are zero. `note` has to be
    told who wakes in each tick, before any state changes. A call costs a forward and an adjoint
    operation for each projection of the populations that it is about.
    """

    def __init__(self, state: State, rule: Rule) -> None:
        self._state, self._rule = state, rule
        # What was seen: basal and apical potentials of each population, (B, *shape).
        self._seen = [
            [Slot(c.population.shape, lifetime="inference", device=c.device) for _ in range(2)]
            for c in state.cells
        ]

    def arrays(self) -> dict[str, Any]:
        return super().arrays() | {"seen": self._seen}

    @torch.no_grad()
    def note(self, woken: Sequence[tuple[int, Selection | None]], nudge: Nudge) -> None:
        """Takes note of what these dyads (by cell index; None for all) see as they wake now."""
        for index, selection in woken:
            for slot, values in zip(self._seen[index], self._inputs(index, nudge), strict=True):
                if selection is None:
                    slot.set(values)
                elif values is not None or slot.tensor is not None:
                    values = torch.zeros_like(slot.value) if values is None else values
                    slot.put(selection, selection.take(values))

    @torch.no_grad()
    def by_dyad(self, nudge: Nudge) -> list[Tensor]:
        """Returns the change of each dyad, of its population's shape; 0 where it never wakes."""
        return [
            self._squares(index, nudge).sqrt().view(cell.population.shape)
            for index, cell in enumerate(self._state.cells)
        ]

    @torch.no_grad()
    def by_unit(self, layout: Layout, nudge: Nudge) -> npt.NDArray[np.float64]:
        """Returns the norm of the changes of each unit's dyads, by the number of the unit."""
        squares = [self._squares(index, nudge).cpu().numpy() for index in range(len(self._seen))]
        return np.sqrt(layout.totals(squares))

    def _squares(self, index: int, nudge: Nudge) -> Tensor:
        """Σ over the batch and both potentials of |change|², flat over the population."""
        cell = self._state.cells[index]
        total = cell.plus.value.new_zeros(cell.population.size).real.double()
        for slot, now in zip(self._seen[index], self._inputs(index, nudge), strict=True):
            if (change := less(now, slot.tensor)) is not None:
                total += change.flatten(1).abs().double().square().sum(0)
        if cell.alive is not None:
            total *= torch.from_numpy(cell.alive).to(total.device)
        return total

    def _inputs(self, index: int, nudge: Nudge) -> tuple[Tensor, Tensor | None]:
        """The basal and apical potentials of a population (B, *shape), None for zeros."""
        cell = self._state.cells[index]
        basal = summed(link.forward(None)[0] for link in cell.incoming)
        assert basal is not None
        down = [link.adjoint(None)[0] for link in cell.outgoing]
        apical = summed(None if a is None else moved(a, cell.device) for a in down)
        if not nudge.active or cell is not self._state.output:
            return basal, apical
        force = self._rule.force(nudge, cell.activation(basal))
        return basal, summed((apical, force))


MEASURES = {"input_change": InputChange}  # what a `Clock` may want, by name
