"""A plugin: what a user may add to a simulation, each in a few lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from neurosim.base import Count, Portion, register
from neurosim.schedules import Clock, Schedule, Start, Unit, UnitKind


class CoinClock(Clock):
    """Waits for the first head: a geometric number of ticks."""

    def __init__(self, at: Start, probability: float, next_wake: Any, end: int) -> None:
        super().__init__(next_wake, end)
        self.random, self.probability = at.random, probability

    def reschedule(self, tick: int, due: Any) -> Any:
        return tick + self.random.geometric(self.probability, len(due))


@register("coin")
@dataclass(frozen=True)
class Coin(Schedule):
    """Every unit tosses a coin at every tick, and wakes with this probability. All wake first."""

    probability: Annotated[Portion, Field(description="of a wake, at each tick")] = 0.3
    ticks: Annotated[Count, Field(description="of an inference")] = 20
    unit: Unit | UnitKind = "neuron"
    tick: float = 1.0

    def start(self, at: Start) -> Clock:
        first = np.full(at.layout.total, at.tick + 1)
        return CoinClock(at, self.probability, first, at.tick + self.ticks)

    def restore(self, at: Start, state: dict[str, Any]) -> Clock:
        return CoinClock(at, self.probability, state["next"].numpy().copy(), state["end"])
