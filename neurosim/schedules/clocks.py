"""Schedules in which every unit has a clock of its own in simulated time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurosim.base import LAST_TICK, ConfigurationError, duration_ticks, unknown
from neurosim.families import BelowOne, NotNegative, Positive, register
from neurosim.schedules.base import Clock, Schedule, Start, Tick, check_all_wake
from neurosim.schedules.units import Unit, UnitKind
from neurosim.tensors import Ints, as_array, as_tensors

Phase = Literal["random", "aligned"]
Floats = npt.NDArray[np.float64]
HARDLY_EVER = 1e-3  # expected wakes of a whole population below which it counts as never


class PoissonClock(Clock):
    """Exponential waiting times. ``scale`` is the mean waiting time in ticks, one or per unit."""

    def __init__(
        self, at: Start, scale: float | Floats, end: int, next_wake: Ints | None = None
    ) -> None:
        self.random, self.scale = at.random, scale
        if next_wake is None:
            next_wake = at.tick + self._waits(at.layout.total, scale)
        super().__init__(next_wake, end)

    def _waits(self, count: int, scale: float | Floats) -> Ints:
        # Wakes in ((n−1)·tick, n·tick] commit at tick n, several of them once. A Poisson process
        # has no memory, so waiting anew from n·tick has the same law as going on from the last.
        waits = np.ceil(self.random.standard_exponential(count) * scale)
        return np.clip(waits, 1.0, LAST_TICK).astype(np.int64)

    def reschedule(self, tick: int, due: Ints) -> Ints:
        scale = self.scale[due] if isinstance(self.scale, np.ndarray) else self.scale
        return tick + self._waits(len(due), scale)


@register("poisson")
@dataclass(frozen=True)
class Poisson(Schedule):
    """Every unit wakes by its own exponential clock.

    ``rate`` is in wakes per unit of simulated time, one for all or one per population by name;
    ``duration`` is in simulated time. Raises ConfigurationError for values that are not positive,
    an unknown population, or a population without a rate.
    """

    unit: UnitKind | Unit = "neuron"
    rate: Annotated[
        Positive | Mapping[str, Positive], Field(description="wakes per unit of simulated time")
    ] = 1.0
    duration: Annotated[Positive, Field(description="simulated time of an inference")] = 16.0
    tick: Tick = 1.0

    def _scale(self, at: Start) -> float | Floats:
        if not isinstance(self.rate, Mapping):
            return 1.0 / (self.rate * self.tick)
        for name in self.rate:
            if name not in at.layout.names:
                said = unknown("population", name, at.layout.names)
                raise ConfigurationError(said, ("rate", name))
        missing = [name for name in at.layout.names if name not in self.rate]
        if missing:
            raise ConfigurationError(
                f"the schedule never wakes the population {missing[0]!r}: rate does not name it",
                "rate",
            )
        rates = np.array([self.rate[name] for name in at.layout.names])
        scale: Floats = 1.0 / (rates * self.tick)
        return scale[at.layout.population_of]

    def start(self, at: Start) -> Clock:
        end = at.tick + duration_ticks(self.duration, self.tick)
        scale = self._scale(at)
        waits = np.broadcast_to(scale, at.layout.total)
        for index, name in enumerate(at.layout.names):
            own = waits[at.layout.offsets[index] : at.layout.offsets[index + 1]]
            expected = float((end - at.tick) * (1.0 / own).sum())
            if expected < HARDLY_EVER:
                raise ConfigurationError(
                    f"the schedule never wakes the population {name!r}: {expected:.1e} wakes of it "
                    f"are expected within duration {self.duration:g}",
                    "rate",
                )
        kept = None if at.previous is None else at.previous.next
        return PoissonClock(at, scale, end, kept)

    def restore(self, at: Start, state: dict[str, Any]) -> Clock:
        return PoissonClock(at, self._scale(at), int(state["end"]), as_array(state["next"]))


class PeriodicClock(Clock):
    """Wakes at phase + k·period + a bounded uniform jitter, in simulated time."""

    def __init__(
        self, random: np.random.Generator, tick: float, jitter: float, start: int, **arrays: Any
    ) -> None:
        self.random, self.tick, self.jitter, self.origin = random, tick, jitter, start
        self.period: Floats = arrays["period"]
        self.phase: Floats = arrays["phase"]
        self.count: Ints = arrays["count"]
        super().__init__(arrays["next"], arrays["end"])

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

    def state_dict(self) -> dict[str, Any]:
        arrays = as_tensors(period=self.period, phase=self.phase, count=self.count)
        return super().state_dict() | arrays | {"origin": self.origin}


@register("periodic")
@dataclass(frozen=True)
class Periodic(Schedule):
    """Every unit has its own period, phase and jitter: globally asynchronous, locally synchronous.

    A unit's period is drawn once, uniformly from ``period``·[1−spread, 1+spread]; its phase is
    drawn from (0, period] or, ``aligned``, equals the period; each wake is moved by up to
    ±``jitter``. All in simulated time. Raises ConfigurationError for values out of range, or where
    a population's first wake lies beyond ``duration``.
    """

    unit: UnitKind | Unit = "neuron"
    period: Positive = 1.0
    spread: BelowOne = 0.0
    jitter: NotNegative = 0.0
    phase: Phase = "random"
    duration: Annotated[Positive, Field(description="simulated time of an inference")] = 16.0
    tick: Tick = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        shortest = self.period * (1.0 - self.spread)
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
        total = at.layout.total
        low, high = self.period * (1 - self.spread), self.period * (1 + self.spread)
        period = at.random.uniform(low, high, total) if self.spread else np.full(total, self.period)
        drawn = self.phase == "random"
        phase = period * (1.0 - at.random.random(total)) if drawn else period.copy()
        count = np.zeros(total, dtype=np.int64)
        arrays = {"period": period, "phase": phase, "count": count, "next": np.empty_like(count)}
        clock = PeriodicClock(at.random, self.tick, self.jitter, at.tick, end=end, **arrays)
        clock.next[:] = clock.ticks_of(np.arange(total))
        why = f"its first wake comes after duration {self.duration:g}"
        check_all_wake(at.layout, clock.next <= end, why)
        return clock

    def restore(self, at: Start, state: dict[str, Any]) -> Clock:
        arrays = {name: as_array(state[name]) for name in ("period", "phase", "count", "next")}
        origin, end = int(state["origin"]), int(state["end"])
        return PeriodicClock(at.random, self.tick, self.jitter, origin, end=end, **arrays)
