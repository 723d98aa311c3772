"""Schedules: when each unit wakes. One file per family, all behind `Schedule`."""

from neurosim.schedules.base import Clock, Schedule, Start
from neurosim.schedules.clocks import Periodic, Poisson
from neurosim.schedules.lazy import Lazy
from neurosim.schedules.planned import Parallel, RandomOrder, Replay, Sweep

__all__ = [
    "Clock",
    "Lazy",
    "Parallel",
    "Periodic",
    "Poisson",
    "RandomOrder",
    "Replay",
    "Schedule",
    "Start",
    "Sweep",
]
