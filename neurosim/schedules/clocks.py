"""Schedules in which every unit has a clock of its own, in simulated time or of the news alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurosim.base import LAST_TICK, NEVER, ConfigurationError, duration_ticks, unknown
from neurosim.families import BelowOne, NotNegative, Positive, register
from neurosim.schedules.base import Clock, Schedule, Start, Tick, check_all_wake
from neurosim.schedules.units import UnitChoice
from neurosim.tensors import Ints

Phase = Literal["random", "aligned"]
Duration = Annotated[Positive, Field(description="simulated time of an inference")]
Floats = npt.NDArray[np.float64]
SHORTEST = 1e-9  # of a tick: `ticks_of` cannot tell shorter periods apart
HARDLY_EVER = 1e-3  # expected wakes of a whole population below which it counts as never


class PoissonClock(Clock):
    """Exponential waiting times. ``scale`` is the mean waiting time of each unit in ticks."""

    def __init__(self, at: Start, scale: Floats, end: int) -> None:
        self.random, self.scale = at.random, scale
        last = at.previous
        if isinstance(last, PoissonClock) and np.array_equal(last.scale, scale):
            super().__init__(last.next, end)
        else:
            super().__init__(at.tick + self._waits(scale), end)

    def _waits(self, scale: Floats) -> Ints:
        # Wakes in ((n−1)·tick, n·tick] commit at tick n, several of them once. A Poisson process
        # has no memory, so waiting anew from n·tick has the same law as going on from the last.
        waits = np.ceil(self.random.standard_exponential(len(scale)) * scale)
        return np.minimum(np.maximum(waits, 1.0), LAST_TICK).astype(np.int64)

    def reschedule(self, tick: int, due: Ints) -> Ints:
        return tick + self._waits(self.scale[due])


@register("poisson")
@dataclass(frozen=True)
class Poisson(Schedule):
    """Every unit wakes by its own exponential clock.

    ``rate`` is in wakes per unit of simulated time, one for all or one per population by name;
    ``duration`` is in simulated time. Raises ConfigurationError for values that are not positive,
    an unknown population, or a population without a rate.
    """

    unit: UnitChoice = "neuron"
    rate: Annotated[
        Positive | Mapping[str, Positive], Field(description="wakes per unit of simulated time")
    ] = 1.0
    duration: Duration = 16.0
    tick: Tick = 1.0

    def start(self, at: Start) -> Clock:
        layout, rates = at.layout, self.rate
        if not isinstance(rates, Mapping):
            rates = dict.fromkeys(layout.names, rates)
        for name in rates:
            if name not in layout.names:
                said = unknown("population", name, layout.names)
                raise ConfigurationError(said, ("rate", name))
        length = duration_ticks(self.duration, self.tick)
        per_tick = np.array([rates.get(name, 0.0) for name in layout.names]) * self.tick
        for name, expected in zip(layout.names, length * layout.counts * per_tick, strict=True):
            if expected < HARDLY_EVER:
                why = f"{expected:.1e} wakes of it are expected within duration {self.duration:g}"
                why = why if name in rates else "rate does not name it"
                said = f"the schedule never wakes the population {name!r}: {why}"
                raise ConfigurationError(said, "rate")
        return PoissonClock(at, (1.0 / per_tick)[layout.population_of], at.tick + length)


class PeriodicClock(Clock):
    """Wakes at phase + k·period + a bounded uniform jitter, in simulated time."""

    saved: ClassVar[tuple[str, ...]] = (*Clock.saved, "period", "phase", "count", "origin")
    period: Floats
    phase: Floats
    count: Ints
    origin: int

    def __init__(self, at: Start, tick: float, jitter: float) -> None:
        self.random, self.tick, self.jitter, self.origin = at.random, tick, jitter, at.tick

    def ticks_of(self, units: Ints) -> Ints:
        """Ticks of these units' wakes number ``count``, jitter drawn."""
        time = self.phase[units] + self.count[units] * self.period[units]
        if self.jitter:
            time = time + self.random.uniform(-self.jitter, self.jitter, len(time))
        ticks = np.clip(np.ceil(time / self.tick - 1e-9), 1.0, LAST_TICK)
        later: Ints = ticks.astype(np.int64)
        return self.origin + later

    def reschedule(self, tick: int, due: Ints) -> Ints:
        # Several wakes in one window commit once: go on to the first one after it. What is surely
        # over, jitter and all, needs no draw.
        now = (tick - self.origin) * self.tick
        over = np.floor((now - self.jitter - self.phase[due]) / self.period[due]).astype(np.int64)
        self.count[due] = np.maximum(self.count[due], over - 1)
        result = np.full(len(due), tick)
        late = np.arange(len(due))
        while len(late):
            self.count[due[late]] += 1
            result[late] = self.ticks_of(due[late])
            late = late[result[late] <= tick]
        return result


@register("periodic")
@dataclass(frozen=True)
class Periodic(Schedule):
    """Every unit has its own period, phase and jitter: globally asynchronous, locally synchronous.

    A unit's period is drawn once, uniformly from ``period``·[1−spread, 1+spread]; its phase is
    drawn from (0, period] or, ``aligned``, equals the period; each wake is moved by up to
    ±``jitter``. All in simulated time. Raises ConfigurationError for values out of range, or where
    a population's first wake lies beyond ``duration``.
    """

    unit: UnitChoice = "neuron"
    period: Annotated[Positive, Field(description="simulated time between two wakes of a unit")] = (
        1.0
    )
    spread: Annotated[
        BelowOne, Field(description="periods differ from unit to unit by up to this part of them")
    ] = 0.0
    jitter: Annotated[
        NotNegative,
        Field(description="each wake comes earlier or later by up to this, in simulated time"),
    ] = 0.0
    phase: Annotated[
        Phase, Field(description="first wakes anywhere within a period, or all after one period")
    ] = "random"
    duration: Duration = 16.0
    tick: Tick = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        shortest = self.period * (1.0 - self.spread)
        if shortest < SHORTEST * self.tick:
            raise ConfigurationError(
                f"period is {self.period:g}, and the shortest one {shortest:g}; a unit wakes once "
                f"in a tick of {self.tick:g} at most: make it at least {SHORTEST * self.tick:g}",
                "period",
            )
        if self.jitter > shortest / 2:
            raise ConfigurationError(
                f"jitter is {self.jitter}; it must be at most half of the shortest "
                f"period, {shortest / 2:g}, so that wakes keep their order",
                "jitter",
            )

    def start(self, at: Start) -> Clock:
        end = at.tick + duration_ticks(self.duration, self.tick)
        if isinstance(at.previous, PeriodicClock):
            return self.restore(at, at.previous.state_dict() | {"end": end})
        clock, total = PeriodicClock(at, self.tick, self.jitter), at.layout.total
        low, high = self.period * (1 - self.spread), self.period * (1 + self.spread)
        period = at.random.uniform(low, high, total) if self.spread else np.full(total, self.period)
        drawn = self.phase == "random"
        clock.period = period
        clock.phase = period * (1.0 - at.random.random(total)) if drawn else period.copy()
        clock.count = np.zeros(total, dtype=np.int64)
        clock.next, clock.end = clock.ticks_of(np.arange(total)), end
        why = f"its first wake comes after duration {self.duration:g}"
        check_all_wake(at.layout, clock.next <= end, why)
        return clock

    def restore(self, at: Start, state: dict[str, Any]) -> Clock:
        clock, total = PeriodicClock(at, self.tick, self.jitter), at.layout.total
        clock.load_state_dict(state)
        low, high = self.period * (1 - self.spread), self.period * (1 + self.spread)
        arrays = (clock.next, clock.count, clock.period, clock.phase)
        if any(array.shape != (total,) for array in arrays):
            raise ValueError(f"wakes of {total} units have to be there")
        within = (low <= clock.period) & (clock.period <= high) & (clock.count >= 0)
        if not (within & (clock.phase >= 0) & (clock.phase <= clock.period)).all():
            raise ValueError("its periods are not those of the schedule")
        return clock


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
    outputs under a feed-forward start; everything where states are carried from another schedule.
    Inference ends when nothing is due, or nothing but changes by rounding, or after ``duration``
    (simulated time). With a channel ``threshold`` this is send-on-delta.
    """

    duration: Annotated[Positive, Field(description="simulated time of an inference, at most")]
    unit: UnitChoice = "neuron"
    tick: Tick = 1.0

    def start(self, at: Start) -> Clock:
        end = at.tick + duration_ticks(self.duration, self.tick)
        if isinstance(at.previous, LazyClock):
            return LazyClock(at.previous.next, end)
        output = at.layout.names.index(at.layout.network.output.name)
        everything = at.previous is not None or not at.feedforward  # others know of no news
        due = np.logical_or(everything, at.layout.population_of == output)
        return LazyClock(np.where(due, at.tick + 1, NEVER), end)
