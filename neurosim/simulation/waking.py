"""Between the schedule's units and the network's dyads: who wakes, and who hears of what."""

import numpy as np

from neurosim.dynamics import Reached, State, Woke
from neurosim.schedules import Clock, Layout
from neurosim.tensors import Ints


class UnitMap:
    """Translates between units and dyads that can wake, which dead and stuck ones never do."""

    def __init__(self, layout: Layout, state: State) -> None:
        self._layout, self._state = layout, state
        held = state.damage.held
        self._alive = layout.alive({name: dyads.alive for name, dyads in held.items()})

    def _some(self, units: Ints) -> Ints:
        return units if self._alive is None else units[self._alive[units]]

    def wake(self, units: Ints) -> tuple[int, Woke]:
        """Returns how many of these units wake, and the dyads that do by population."""
        units, layout = self._some(units), self._layout
        if len(units) == layout.total and self._alive is None:
            return len(units), [(index, None) for index in range(len(layout.populations))]
        device, woken = self._state.device, []
        for population, own in layout.split(units):
            alive = self._state.cells[population].alive
            woken.append((population, layout.selection(population, own, alive, device)))
        return len(units), woken

    def hear(self, clock: Clock, tick: int, reached: Reached) -> None:
        """Tells a clock that something reaches the units of these dyads at ``tick``."""
        if clock.listens:
            for index, marks in reached.read().items():
                alive = self._state.cells[index].alive
                clock.news(
                    tick, self._layout.units(index, marks if alive is None else marks & alive)
                )

    def all_hear(self, clock: Clock, tick: int, *, output: bool = False) -> None:
        """Tells a clock that something reaches all dyads, or all output dyads, at ``tick``."""
        index, offsets = self._state.output.index, self._layout.offsets
        ends = offsets[index : index + 2] if output else (0, self._layout.total)
        clock.news(tick, self._some(np.arange(*ends)))
