"""What an inference tells its clock: who has news, until there is none but of rounding."""

from neurosim.dynamics import Reached, State
from neurosim.schedules import Clock
from neurosim.simulation.engine import UnitMap
from neurosim.tensors import Arrays


class News(Arrays):
    """Passes news on to the clock of an inference.

    Near a fixed point the last bits of values may go round for ever. So news is dropped where
    nothing else has changed in a tick, nor is on its way: what it tells of is rounding, and whoever
    wakes later for something else sees it all the same. ``stirred`` is the last tick in which, as
    far as is known, there is more than that; ``sent`` says if messages may still make it later.
    """

    plain = ("stirred", "sent")

    def __init__(self, units: UnitMap, state: State, tick: int) -> None:
        self._units, self._state = units, state
        self.stirred, self.sent = tick + 1, True

    def none(self, clock: Clock, tick: int) -> bool:
        """Says if after this tick there is none, nor on its way."""
        if not bool((clock.next > clock.end).all()):
            return False
        return all(line.last_arrival() <= tick + 1 for _, line in self._state.lines)

    def to_all(self, clock: Clock, tick: int, *, output: bool = False) -> None:
        """Tells of something that reaches all dyads, or all output dyads, at ``tick``."""
        self.stirred = max(self.stirred, tick)
        if clock.listens:
            self._units.all_hear(clock, tick, output=output)

    def tell(self, clock: Clock, tick: int, reached: Reached) -> None:
        """Tells of what comes from outside and has reached these dyads at ``tick``."""
        self.stirred, self.sent = max(self.stirred, tick), True
        self._units.hear(clock, tick, reached)

    def after(self, clock: Clock, tick: int, reached: Reached) -> None:
        """Tells of what a ``tick`` sent and delivered: it reaches these dyads at the next."""
        if not clock.listens:
            return
        self._units.hear(clock, tick + 1, reached)
        if reached.stirs:
            self.stirred, self.sent = max(self.stirred, tick + 1), True
        elif self.sent:
            arrivals = (line.last_arrival() for _, line in self._state.lines)
            self.stirred, self.sent = max(self.stirred, *arrivals, 0), False
        if tick >= self.stirred:
            clock.forget()
