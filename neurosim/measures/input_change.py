"""How much the inputs of dyads have changed since they last woke: a schedule may ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.dynamics import State
from neurosim.rules import Nudge, Rule, Woken
from neurosim.schedules import Layout
from neurosim.tensors import Selection, Slot


class InputChange:
    """Measures ‖inputs now − inputs at the last wake‖ of every dyad, over the samples of a batch.

    The inputs are the basal and the apical potential that the dyad would find if it woke now, the
    latter with the force of an active nudge. Of a dyad that has not woken since `reset` the inputs
    at its last wake are zero. `note` has to be told who wakes in each tick, before any state
    changes. A call costs a forward and an adjoint operation for each projection of the populations
    that it is about: nothing of this is done for those who do not ask.
    """

    def __init__(self, state: State, rule: Rule, nudge: Nudge) -> None:
        self._state, self._rule, self._nudge = state, rule, nudge
        self._seen = [(Slot(), Slot()) for _ in state.cells]  # basal, apical: (B, *shape)

    def reset(self) -> None:
        """Forgets all wakes, where an inference starts without carrying states."""
        for slots in self._seen:
            for slot in slots:
                slot.set(None)

    @torch.no_grad()
    def note(self, woken: Sequence[tuple[int, Selection | None]]) -> None:
        """Takes note of what these dyads (by cell index; None for all) see as they wake now.

        After a feed-forward start all of them have.
        """
        for index, selection in woken:
            for slot, values in zip(self._seen[index], self._inputs(index), strict=True):
                if selection is None:
                    slot.set(values)
                elif values is not None or slot.tensor is not None:
                    values = torch.zeros_like(slot.value) if values is None else values
                    slot.put(selection, selection.take(values))

    @torch.no_grad()
    def by_dyad(self) -> list[Tensor]:
        """Returns the change of each dyad, of its population's shape; 0 where it never wakes."""
        return [
            self._squares(index).sqrt().view(cell.population.shape)
            for index, cell in enumerate(self._state.cells)
        ]

    @torch.no_grad()
    def by_unit(self, layout: Layout) -> npt.NDArray[np.float64]:
        """Returns the norm of the changes of each unit's dyads, by the number of the unit."""
        squares = [self._squares(index).cpu().numpy() for index in range(len(self._seen))]
        return np.sqrt(layout.totals(squares))

    def _squares(self, index: int) -> Tensor:
        """Σ over the batch and both potentials of |change|², flat over the population."""
        cell = self._state.cells[index]
        total = cell.plus.value.new_zeros(cell.population.size).real.double()
        for slot, now in zip(self._seen[index], self._inputs(index), strict=True):
            seen = slot.tensor
            change = now if seen is None else -seen if now is None else now - seen
            if change is not None:
                total += change.flatten(1).abs().double().square().sum(0)
        if cell.alive is not None:
            total *= torch.from_numpy(cell.alive).to(total.device)
        return total

    def _inputs(self, index: int) -> tuple[Tensor, Tensor | None]:
        """The basal and apical potentials of a population (B, *shape), None for zeros."""
        cell, nudge = self._state.cells[index], self._nudge
        basal = [link.forward(None)[0] for link in cell.incoming]
        apical = [part for link in cell.outgoing if (part := link.adjoint(None)) is not None]
        total = sum(basal[1:], basal[0])
        acts = nudge.active and cell is self._state.output
        woken = Woken(
            cell.population.activation,
            total,
            sum(apical[1:], apical[0]) if apical else None,
            force=self._rule.force(nudge, total) if acts else None,
        )
        return total, woken.pull

    def state_dict(self, copied: Any) -> list[list[Tensor | None]]:
        """Returns what was seen. ``copied`` copies each array once."""
        return [[copied(slot.tensor) for slot in slots] for slots in self._seen]

    def load_state_dict(self, saved: list[list[Tensor | None]], load: Any) -> None:
        """Restores what `state_dict` returned."""
        for slots, tensors in zip(self._seen, saved, strict=True):
            for slot, tensor in zip(slots, tensors, strict=True):
                slot.set(load(tensor))
