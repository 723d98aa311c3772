"""The event-driven schedule: a unit wakes exactly when something has reached it."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from neurosim.base import NEVER, duration_ticks
from neurosim.families import Positive, register
from neurosim.schedules.base import Clock, Schedule, Start, Tick
from neurosim.schedules.units import Unit, UnitKind
from neurosim.tensors import Ints, as_array


class LazyClock(Clock):
    """No clock but the news."""

    def reschedule(self, tick: int, due: Ints) -> Ints:
        del tick
        return np.full(len(due), NEVER)

    def news(self, tick: int, units: Ints) -> None:
        self.next[units] = np.minimum(self.next[units], tick)

    @property
    def listens(self) -> bool:
        return True


@register("lazy")
@dataclass(frozen=True)
class Lazy(Schedule):
    """A unit wakes when a message has reached it since it last woke.

    News is a delivered message, a new target, a weight update, or, for a damped dyad, its own
    change; for any sample of the batch. Due at the start: everything under a zero start, the
    outputs under a feed-forward start. Inference ends when nothing is due, or after ``duration``
    (simulated time). With a channel ``threshold`` this is send-on-delta.
    """

    duration: Annotated[Positive, Field(description="simulated time of an inference, at most")]
    unit: UnitKind | Unit = "neuron"
    tick: Tick = 1.0

    def start(self, at: Start) -> Clock:
        end = at.tick + duration_ticks(self.duration, self.tick)
        if at.previous is not None:
            return LazyClock(at.previous.next, end)
        due = np.full(at.layout.total, NEVER)
        if at.feedforward:
            output = at.layout.names.index(at.layout.network.output.name)
            due[at.layout.offsets[output] : at.layout.offsets[output + 1]] = at.tick + 1
        else:
            due[:] = at.tick + 1
        return LazyClock(due, end)

    def restore(self, at: Start, state: dict[str, Any]) -> Clock:
        del at
        return LazyClock(as_array(state["next"]), int(state["end"]))
