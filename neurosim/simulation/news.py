"""What an inference tells its clock: who has news, until there is none but of rounding."""

from functools import cached_property

from neurosim.dynamics import Reached, State
from neurosim.schedules import Clock
from neurosim.simulation.engine import UnitMap
from neurosim.tensors import Arrays


class News(Arrays):
    """Passes news on to the clock of an inference.

    Near a fixed point the last bits of values may go round for ever. So nobody is told where
    nothing else has changed in a tick, nor is on its way: the news would be of rounding, which
    whoever wakes later for something else sees all the same. ``stirred`` is the last tick in which,
    as far as is known, there is more than that.
    """

    plain = ("stirred",)
    stirred: int

    def __init__(self, units: UnitMap, state: State, tick: int) -> None:
        self._units, self._state, self.stirred = units, state, tick + 1

    def none(self, clock: Clock, tick: int) -> bool:
        """Says if after this tick there is none, nor on its way."""
        if not bool((clock.next > clock.end).all()):
            return False
        return all(line.last_arrival() <= tick + 1 for _, line in self._state.lines)

    def to_all(self, clock: Clock, tick: int, *, output: bool = False) -> None:
        """Tells of something that reaches all dyads, or all output dyads, at ``tick``."""
        if clock.listens:
            self.stirred = max(self.stirred, tick)
            self._units.all_hear(clock, tick, output=output)

    def tell(self, clock: Clock, tick: int, reached: Reached) -> None:
        """Tells of what comes from outside and has reached these dyads at ``tick``."""
        if clock.listens:
            self._stir(tick - 1)
            self._units.hear(clock, tick, reached.read())

    def after(self, clock: Clock, tick: int, reached: Reached) -> None:
        """Tells of what a ``tick`` sent and delivered: it reaches these dyads at the next."""
        if not clock.listens:
            return
        heard = reached.read()
        if reached.stirs:
            self._stir(tick)
        if tick < self.stirred:
            self._units.hear(clock, tick + 1, heard)

    def _stir(self, tick: int) -> None:
        """Takes note of a change in this tick, of which the last hear when messages arrive."""
        self.stirred = max(self.stirred, tick + self._latest)

    @cached_property
    def _latest(self) -> int:
        """After how many ticks a change has been heard of everywhere."""
        return max([1, *(line.longest for _, line in self._state.lines)])
