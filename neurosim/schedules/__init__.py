"""Schedules: when each unit wakes."""

from neurosim.schedules.base import Clock, Schedule, Start
from neurosim.schedules.clocks import Periodic, Phase, Poisson
from neurosim.schedules.lazy import Lazy
from neurosim.schedules.planned import Order, Parallel, Planned, RandomOrder, Replay, Sweep, planned
from neurosim.schedules.units import Layout, Unit, UnitKind
