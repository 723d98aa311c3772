# A schedule of my own, named on the command line.
cat > mine.py <<END
from dataclasses import dataclass

import numpy as np

import neurosim as ns
from neurosim.families import Count
from neurosim.schedules import Clock, Unit, UnitKind


class TurnClock(Clock):
    def __init__(self, next_wake, end, period):
        super().__init__(next_wake, end)
        self.period = period

    def reschedule(self, tick, due):
        return np.full(len(due), tick + self.period)


@ns.register("turns")
@dataclass(frozen=True)
class Turns(ns.Schedule):
    """Units take turns."""

    period: Count = 4
    ticks: Count = 12
    unit: UnitKind | Unit = "neuron"
    tick: float = 1.0

    def start(self, at):
        turns = at.tick + 1 + np.arange(at.layout.total) % self.period
        return TurnClock(turns, at.tick + self.ticks, self.period)
END
neurosim run parallel --plugin mine.py "schedule={kind: turns, period: 3}" \
    training.epochs=1 data.limit=50 --id first
grep "kind: turns" runs/parallel/first/scenario.yaml
