"""Schedules whose wakes are all known when an inference starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from neurosim.base import NEVER, ConfigurationError, ticks_of, unknown
from neurosim.families import Count, register
from neurosim.schedules.base import Clock, Schedule, Start, Tick, check_all_wake
from neurosim.schedules.units import Layout, Unit, UnitChoice
from neurosim.tensors import Ints

Order = Literal["forward", "backward", "forward_backward", "odd_even", "even_odd"]
Together = Annotated[tuple[str, ...], Field(min_length=1)]
Steps = Annotated[tuple[str | Together, ...], Field(min_length=1)]
UPDATE = "update"  # the step of an order at which weights are updated
ReplayWake = tuple[float, str, Sequence[int] | None]
# The plan of one inference is kept in memory. A tick of a population takes far longer than its
# place in the plan, so nobody waits for the end of more.
MAX_TICKS = 5 * 10**6
# Of units that many wakes, or passes over all units of a large network, up to that most.
ENOUGH_WAKES, ENOUGH_PASSES, MAX_WAKES = 10**7, 20, 10**8


def check_plan(option: str, ticks: int, passes: int = 0, units: int = 0) -> None:
    """Raises ConfigurationError for a plan of more ticks, or wakes of units in so many passes, than
    fit in memory."""
    enough = max(ENOUGH_WAKES, ENOUGH_PASSES * units)
    limits = {"ticks": (ticks, MAX_TICKS), "wakes": (passes * units, min(MAX_WAKES, enough))}
    for what, (planned, most) in limits.items():
        if planned > most:
            said = f"one inference would have {planned:,} planned {what}, more than {most:,}"
            raise ConfigurationError(f"{option} is too large: {said}", option)


class PlannedClock(Clock):
    """A plan of wakes. The units of a row (all of a population, say) wake together: ``row_of`` is
    the row of each unit, ascending.

    It is made of pairs: row ``rows[i]`` wakes at ``ticks[i]``, ascending within each row. They are
    kept by tick, each with the next wake of its row, ``later[i]``. ``place`` is that of the first
    still to come, ``sizes`` are the units of each row.
    """

    saved: ClassVar[tuple[str, ...]] = (*Clock.saved, "sizes", "rows", "ticks", "later", "place")
    sizes: Ints
    rows: Ints
    ticks: Ints
    later: Ints
    place: int

    def __init__(self, row_of: Ints, rows: Ints, ticks: Ints, end: int) -> None:
        total = row_of[-1] + 1
        order = np.lexsort((rows, ticks))
        self.rows, self.ticks = rows[order], ticks[order]
        self.later = _later(self.rows, self.ticks)
        self.sizes, self.place = np.bincount(row_of, minlength=total), 0
        first = np.full(total, NEVER)
        first[self.rows[::-1]] = self.ticks[::-1]
        super().__init__(first[row_of], end)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        sizes = self.sizes
        super().load_state_dict(state)
        coming = self.rows[self.place :]
        if (
            not np.array_equal(sizes, self.sizes)
            or not np.isin(coming, np.arange(len(sizes))).all()
        ):
            raise ValueError("its rows are not those of the schedule")
        first = np.full(len(sizes), NEVER)
        first[coming[::-1]] = self.ticks[self.place :][::-1]
        known = np.array_equal(first.repeat(sizes), self.next)
        if not known or not np.array_equal(self.later, _later(self.rows, self.ticks)):
            raise ValueError("its plan and the next wakes do not fit each other")

    def reschedule(self, tick: int, due: Ints) -> Ints:
        first, self.place = self.place, int(self.ticks.searchsorted(tick, "right"))
        later = self.later[first : self.place]
        if len(later) == len(due):
            return later
        return later.repeat(self.sizes[self.rows[first : self.place]])


def _later(rows: Ints, ticks: Ints) -> Ints:
    """Returns the next tick of the row of each pair, `NEVER` for none. Ticks are ascending."""
    by_row = np.argsort(rows, kind="stable")
    last = np.diff(rows[by_row], append=-1) != 0
    found = np.empty_like(ticks)
    found[by_row] = np.where(last, NEVER, np.roll(ticks[by_row], -1))
    return found


@register("sweep")
@dataclass(frozen=True)
class Sweep(Schedule):
    """One population per tick, in an ``order`` that is run through ``passes`` times.

    ``forward``: 1…L. ``backward``: L…1. ``forward_backward``: that many downward sweeps with
    upward sweeps between them, where turning populations wake once; an upward sweep comes first
    unless the start is feed-forward. ``odd_even``, ``even_odd``: half of the populations per tick,
    by the parity of their level. Populations are taken in topological order (in declaration order
    where there is a cycle).

    An ``order`` can also be a list of steps: a population, several that wake in one tick, or
    ``update``, at which weights are updated by what the states are then (MS-DP of DP23), and not at
    the end of the inference.
    """

    repeats: ClassVar[bool] = True

    order: Annotated[
        Order | Steps,
        Field(
            description="who wakes after whom; or a list of populations, lists of them, and update"
        ),
    ] = "forward_backward"
    passes: Annotated[Count, Field(description="how often the order is gone through")] = 1
    unit: UnitChoice = "population"
    tick: Tick = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = () if isinstance(self.order, str) else self.order
        for number, (before, step) in enumerate(pairwise((UPDATE, *steps))):
            if step == before == UPDATE:
                said = f"nothing wakes before the update at place {number} (counting from 0)"
                raise ConfigurationError(f"{said} of the order", ("order", number))
        check_plan("passes", self.passes * len(steps))

    @property
    def update_ticks(self) -> tuple[int, ...]:
        if isinstance(self.order, str):
            return ()
        ticks = np.cumsum([step != UPDATE for step in self.order * self.passes])
        marks = [step == UPDATE for step in self.order * self.passes]
        return tuple(ticks[marks].tolist())

    def start(self, at: Start) -> Clock:
        length = len(at.layout.populations) if isinstance(self.order, str) else len(self.order)
        check_plan("passes", self.passes * 2 * length)
        sequence = self.sequence(at.layout, at.feedforward)
        rows = np.array([population for woken in sequence for population in woken])
        ticks = at.tick + np.repeat(np.arange(len(sequence)) + 1, [len(w) for w in sequence])
        return PlannedClock(at.layout.population_of, rows, ticks, at.tick + len(sequence))

    def sequence(self, layout: Layout, feedforward: bool) -> list[list[int]]:
        """Population indices per tick."""
        up = [[population] for population in range(len(layout.populations))]
        down = up[::-1]
        if not isinstance(self.order, str):
            return self._named(layout) * self.passes
        match self.order:
            case "forward":
                return up * self.passes
            case "backward":
                return down * self.passes
            case "forward_backward":
                turns = ([] if feedforward else [up]) + ([down, up] * self.passes)[:-1]
                path = [woken for turn in turns for woken in turn]
                return [w for i, w in enumerate(path) if i == 0 or path[i - 1] != w]
            case _:
                levels = [layout.network.levels[name] for name in layout.names]
                halves = [[p for [p] in up if levels[p] % 2 == odd] for odd in (1, 0)]
                return (halves if self.order == "odd_even" else halves[::-1]) * self.passes

    def _named(self, layout: Layout) -> list[list[int]]:
        """The populations of each step but the updates."""
        places = {name: number for number, name in enumerate(layout.names)}
        found = []
        for number, step in enumerate(self.order):
            names = (step,) if isinstance(step, str) else step
            known = (*layout.names, UPDATE) if isinstance(step, str) else layout.names
            for name in names:
                if name not in known:
                    said = unknown("population", name, known)
                    said = "the input never wakes" if name == layout.network.input.name else said
                    raise ConfigurationError(said, ("order", number))
            if step != UPDATE:
                found.append(sorted({places[name] for name in names}))
        awake = np.isin(layout.population_of, [place for woken in found for place in woken])
        check_all_wake(layout, awake, "the order does not name it", "order")
        return found


@register("parallel")
@dataclass(frozen=True)
class Parallel(Schedule):
    """Every dyad at every tick (P-DP). By default the target acts from the tick at which the
    feed-forward prediction can have reached the output: the longest input-output path."""

    repeats: ClassVar[bool] = True

    ticks: Annotated[Count, Field(description="ticks of an inference")] = 16
    unit: UnitChoice = "population"
    tick: Tick = 1.0

    def start(self, at: Start) -> Clock:
        check_plan("ticks", self.ticks)
        ticks = at.tick + 1 + np.arange(self.ticks)
        row_of = np.zeros(at.layout.total, dtype=np.int64)
        return PlannedClock(row_of, np.zeros_like(ticks), ticks, at.tick + self.ticks)

    def nudge_after(self, depth: int | None) -> int:
        if depth is None:
            raise ConfigurationError(
                "the network has a cycle, so the parallel schedule cannot tell when the prediction "
                "has reached the output: give nudge_after"
            )
        return depth


@register("random_order")
@dataclass(frozen=True)
class RandomOrder(Schedule):
    """Units in random order.

    ``unit: population`` with ``updates``: at each tick one population, drawn uniformly with
    replacement (R-DP-100 of DP23 is 100 updates). Other units with ``groups`` and ``passes``: in
    each pass a random permutation of all units of the network, cut into ``groups`` ticks.
    """

    unit: UnitChoice = "neuron"
    updates: Annotated[
        Count | None,
        Field(description="wakes of random populations, one per tick, with replacement"),
    ] = None
    groups: Annotated[
        Count | None,
        Field(description="ticks that a pass takes: so many groups of units, one after the other"),
    ] = None
    passes: Annotated[
        Count | None, Field(description="how often every unit wakes, in random permutations")
    ] = None
    tick: Tick = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = Unit.of(self.unit).kind
        wanted = ("updates",) if kind == "population" else ("groups", "passes")
        for name in ("updates", "groups", "passes"):
            if (getattr(self, name) is None) == (name in wanted):
                verb, at_fault = ("needs", "") if name in wanted else ("does not take", name)
                raise ConfigurationError(
                    f"random_order with unit {kind!r} {verb} {name!r}", at_fault
                )

    def start(self, at: Start) -> Clock:
        layout, populations = at.layout, len(at.layout.populations)
        if self.updates is not None:
            check_plan("updates", self.updates)
            if self.updates < populations:
                raise ConfigurationError(
                    f"updates is {self.updates}, but there are {populations} populations: the "
                    "schedule never wakes one of them",
                    "updates",
                )
            drawn = at.random.integers(0, populations, self.updates)
            ticks = at.tick + 1 + np.arange(self.updates)
            return PlannedClock(layout.population_of, drawn, ticks, at.tick + self.updates)
        assert self.groups is not None
        assert self.passes is not None
        if self.groups > layout.total:
            raise ConfigurationError(
                f"groups is {self.groups}, but the network has only {layout.total} units to cut "
                "into groups",
                "groups",
            )
        check_plan("passes", self.groups * self.passes, self.passes, layout.total)
        units = np.arange(layout.total)
        ticks = np.empty((layout.total, self.passes), dtype=np.int64)
        for number in range(self.passes):
            first = at.tick + 1 + number * self.groups
            order = at.random.permutation(layout.total)
            ticks[order, number] = first + units * self.groups // layout.total
        end = at.tick + self.groups * self.passes
        return PlannedClock(units, np.repeat(units, self.passes), ticks.reshape(-1), end)


@register("replay")
@dataclass(frozen=True)
class Replay(Schedule):
    """An explicit list of wakes ``(time, population, flat indices or None for all)``.

    It is what the `wakes` probe of any other run records. Wakes in ((n−1)·tick, n·tick] commit at
    tick n. Raises ConfigurationError for a time ≤ 0, an unknown population or index, or a
    population that never wakes.
    """

    repeats: ClassVar[bool] = True

    wakes: Annotated[
        tuple[ReplayWake, ...],
        Field(description="[time, population, indices or null for all of it], in order of time"),
    ] = ()
    tick: Tick = 1.0

    def __post_init__(self) -> None:
        given = self.wakes
        try:
            plain = tuple((t, p, None if i is None else [int(n) for n in i]) for t, p, i in given)
        except (TypeError, ValueError):
            said = f"wakes is {given!r}; it must be a list of [time, population, indices or null]"
            raise ConfigurationError(said, "wakes") from None
        object.__setattr__(self, "wakes", plain)
        super().__post_init__()

    @property
    def unit(self) -> Unit:  # type: ignore[override]
        return Unit("neuron")

    def start(self, at: Start) -> Clock:
        layout = at.layout
        woken = [self._woken(layout, number) for number in range(len(self.wakes))]
        units = np.concatenate([np.empty(0, dtype=np.int64), *(u for u, _ in woken)])
        ticks = np.repeat([t for _, t in woken], [len(u) for u, _ in woken]).astype(np.int64)
        order = np.lexsort((ticks, units))  # by unit, then by tick, each once
        rows, ticks = units[order], at.tick + ticks[order]
        first = np.append(True, (np.diff(rows) != 0) | (np.diff(ticks) != 0))[: len(rows)]
        rows, ticks = rows[first], ticks[first]
        counts = np.bincount(rows, minlength=layout.total)
        check_all_wake(layout, counts > 0, "the replay does not name it", "wakes")
        end = at.tick + max(tick for _, tick in woken)
        return PlannedClock(np.arange(layout.total), rows, ticks, end)

    def _woken(self, layout: Layout, number: int) -> tuple[Ints, int]:
        """Returns the units of a wake, and its tick from the start on."""
        time, name, indices = self.wakes[number]
        where = f"wake {number} of the replay, ({time}, {name!r}, …)"
        latest = MAX_WAKES * self.tick
        if not 0 < time < latest:
            part, said = 0, f"{where}: the time must be greater than 0, below {latest:g}"
        elif name == layout.network.input.name:
            part, said = 1, f"{where}: the input never wakes"
        elif name not in layout.names:
            said = unknown("population", name, layout.names)
            part, said = 1, f"{said} (wake {number} of the replay)"
        else:
            population = layout.names.index(name)
            size = layout.populations[population].size
            listed = range(size) if indices is None else indices
            if all(0 <= dyad < size for dyad in listed):
                dyads = np.array(listed, dtype=np.int64) + layout.offsets[population]
                return dyads, max(1, ticks_of(time, self.tick))
            part, said = 2, f"{where}: an index lies outside 0…{size - 1}"
        raise ConfigurationError(said, ("wakes", number, part))
