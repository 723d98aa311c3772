"""A plugin: the units wake whose inputs have changed most since they last woke."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

import neurosim as ns
from neurosim.base import NEVER
from neurosim.families import Count, Fraction
from neurosim.schedules import Clock, Schedule, Start, Unit, UnitKind


class MostChangedClock(Clock):
    """Decides before each tick, by a measure that it declares."""

    wants: ClassVar[tuple[str, ...]] = ("input_change",)

    def __init__(self, next_wake: Any, end: int, share: float) -> None:
        super().__init__(next_wake, end)
        self.share = share

    def reschedule(self, tick: int, due: Any) -> Any:
        return np.full(len(due), NEVER)

    def decide(self, tick: int, measured: Any) -> None:
        change = measured["input_change"]
        most = np.argsort(-change, kind="stable")[: ceil(self.share * len(change))]
        self.next[:] = NEVER
        self.next[most] = tick


@ns.register("most_changed")
@dataclass(frozen=True)
class MostChanged(Schedule):
    """Wakes a share of all units in each tick: those whose inputs have changed most."""

    share: Annotated[Fraction, Field(description="of the units that wake in a tick")] = 0.1
    ticks: Annotated[Count, Field(description="of an inference")] = 20
    unit: UnitKind | Unit = "neuron"
    tick: float = 1.0

    def start(self, at: Start) -> Clock:
        return MostChangedClock(np.full(at.layout.total, NEVER), at.tick + self.ticks, self.share)

    def restore(self, at: Start, state: dict[str, Any]) -> Clock:
        return MostChangedClock(state["next"].numpy().copy(), state["end"], self.share)
