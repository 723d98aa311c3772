"""Schedules: when each unit wakes."""

from neurosim.families import gather
from neurosim.schedules.base import Clock, Schedule, Start
from neurosim.schedules.clocks import Lazy, Periodic, Phase, Poisson
from neurosim.schedules.planned import Order, Parallel, PlannedClock, RandomOrder, Replay, Sweep
from neurosim.schedules.units import Layout, Unit, UnitKind

gather(__name__)
