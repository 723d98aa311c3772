"""Schedules whose wakes are all known when an inference starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from neurosim.base import NEVER, ConfigurationError, ticks_of, unknown
from neurosim.families import Count, register
from neurosim.schedules.base import Clock, Schedule, Start, Tick, check_all_wake
from neurosim.schedules.units import Layout, Unit, UnitKind
from neurosim.tensors import Ints, as_array, as_tensors

Order = Literal["forward", "backward", "forward_backward", "odd_even", "even_odd"]


MAX_WAKES = 10**8  # the plan of one inference is kept in memory


def check_plan(option: str, wakes: int) -> None:
    """Raises ConfigurationError for a plan of more wakes than fit in memory."""
    if wakes > MAX_WAKES:
        raise ConfigurationError(
            f"{option} is too large: one inference would have {wakes:,} planned wakes, more than "
            f"{MAX_WAKES:,}",
            option,
        )


class PlannedClock(Clock):
    """Rows of wake ticks, each shared by the units of one row (all units of a population, say).

    ``ticks`` holds the rows one after the other, each ascending; row r is
    ``ticks[edges[r]:edges[r + 1]]``. ``row_of`` is the row of each unit, ``place`` the position of
    each row's next wake in ``ticks``.
    """

    def __init__(self, row_of: Ints, edges: Ints, ticks: Ints, end: int) -> None:
        self.row_of, self.edges, self.ticks = row_of, edges, ticks
        self.place = edges[:-1].copy()
        super().__init__(self._next_of_rows()[row_of], end)

    def _next_of_rows(self) -> Ints:
        padded = np.append(self.ticks, NEVER)
        return np.where(self.place < self.edges[1:], padded[self.place], NEVER)

    def reschedule(self, tick: int, due: Ints) -> Ints:
        del tick
        if len(self.place) == 1:  # everything together, as in every tick of `Parallel`
            self.place += 1
            later = self.ticks.item(self.place.item()) if self.place < len(self.ticks) else NEVER
            return np.full(len(due), later)
        rows = self.row_of[due]
        woken = rows[:1] if len(rows) == 1 else np.unique(rows)
        place = self.place[woken] + 1
        self.place[woken] = place
        ends = self.edges[woken + 1]
        following = np.where(place < ends, self.ticks[np.minimum(place, ends - 1)], NEVER)
        return following[np.searchsorted(woken, rows)]

    def state_dict(self) -> dict[str, Any]:
        rows = as_tensors(row_of=self.row_of, edges=self.edges, ticks=self.ticks, place=self.place)
        return super().state_dict() | rows

    @classmethod
    def restored(cls, state: dict[str, Any]) -> PlannedClock:
        row_of, edges, ticks = (as_array(state[key]) for key in ("row_of", "edges", "ticks"))
        clock = cls(row_of, edges, ticks, int(state["end"]))
        clock.place = as_array(state["place"])
        clock.next[:] = as_array(state["next"])
        return clock


def planned(row_of: Ints, rows: Sequence[Iterable[int]], end: int) -> PlannedClock:
    """A clock from one list of ticks per row."""
    lists = [np.fromiter(row, dtype=np.int64) for row in rows]
    edges = np.concatenate([[0], np.cumsum([len(row) for row in lists])]).astype(np.int64)
    ticks = np.concatenate(lists) if lists else np.empty(0, dtype=np.int64)
    return PlannedClock(row_of, edges, ticks, end)


class Planned(Schedule):
    """A schedule with a `PlannedClock`."""

    def restore(self, at: Start, state: dict[str, Any]) -> Clock:
        del at
        return PlannedClock.restored(state)


@register("sweep")
@dataclass(frozen=True)
class Sweep(Planned):
    """One population per tick, in an ``order`` that is run through ``passes`` times.

    ``forward``: 1…L. ``backward``: L…1. ``forward_backward``: that many downward sweeps with
    upward sweeps between them, where turning populations wake once; an upward sweep comes first
    unless the start is feed-forward. ``odd_even``, ``even_odd``: half of the populations per tick,
    by the parity of their level. Populations are taken in topological order (in declaration order
    where there is a cycle).
    """

    order: Order = "forward_backward"
    passes: Count = 1
    unit: UnitKind | Unit = "population"
    tick: Tick = 1.0

    def start(self, at: Start) -> Clock:
        check_plan("passes", self.passes * 2 * len(at.layout.populations))
        sequence = self.sequence(at.layout, at.feedforward)
        rows: list[list[int]] = [[] for _ in at.layout.populations]
        for offset, woken in enumerate(sequence, 1):
            for population in woken:
                rows[population].append(at.tick + offset)
        return planned(at.layout.population_of, rows, at.tick + len(sequence))

    def sequence(self, layout: Layout, feedforward: bool) -> list[list[int]]:
        """Population indices per tick."""
        up = list(range(len(layout.populations)))
        down = up[::-1]
        match self.order:
            case "forward":
                return [[p] for p in up] * self.passes
            case "backward":
                return [[p] for p in down] * self.passes
            case "forward_backward":
                turns = ([] if feedforward else [up]) + [down, up] * self.passes
                turns = turns[: 2 * self.passes - (1 if feedforward else 0)]
                path = [p for turn in turns for p in turn]
                return [[p] for i, p in enumerate(path) if i == 0 or path[i - 1] != p]
            case _:
                levels = layout.network.levels
                odd = [p for p in up if levels[layout.names[p]] % 2 == 1]
                even = [p for p in up if levels[layout.names[p]] % 2 == 0]
                halves = [odd, even] if self.order == "odd_even" else [even, odd]
                return halves * self.passes


@register("parallel")
@dataclass(frozen=True)
class Parallel(Planned):
    """Every dyad at every tick (P-DP). By default the target acts from the tick at which the
    feed-forward prediction can have reached the output: the longest input-output path."""

    ticks: Count = 16
    unit: UnitKind | Unit = "population"
    tick: Tick = 1.0

    def start(self, at: Start) -> Clock:
        check_plan("ticks", self.ticks)
        end = at.tick + self.ticks
        rows = [range(at.tick + 1, end + 1)]
        return planned(np.zeros(at.layout.total, dtype=np.int64), rows, end)

    def nudge_after(self, depth: int | None) -> int:
        if depth is None:
            raise ConfigurationError(
                "the network has a cycle, so the parallel schedule cannot tell when the prediction "
                "has reached the output: give nudge_after"
            )
        return depth


@register("random_order")
@dataclass(frozen=True)
class RandomOrder(Planned):
    """Units in random order.

    ``unit: population`` with ``updates``: at each tick one population, drawn uniformly with
    replacement (R-DP-100 of DP23 is 100 updates). Other units with ``groups`` and ``passes``: in
    each pass a random permutation of all units of the network, cut into ``groups`` ticks.
    """

    unit: UnitKind | Unit = "neuron"
    updates: Count | None = None
    groups: Count | None = None
    passes: Count | None = None
    tick: Tick = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        by_population = Unit.of(self.unit).kind == "population"
        wanted = ("updates",) if by_population else ("groups", "passes")
        for name in ("updates", "groups", "passes"):
            value = getattr(self, name)
            if (value is None) == (name in wanted):
                kind = Unit.of(self.unit).kind
                verb = "needs" if name in wanted else "does not take"
                at_fault = () if name in wanted else name
                raise ConfigurationError(
                    f"random_order with unit {kind!r} {verb} {name!r}", at_fault
                )

    def start(self, at: Start) -> Clock:
        layout = at.layout
        if self.updates is not None:
            check_plan("updates", self.updates)
            if self.updates < len(layout.populations):
                raise ConfigurationError(
                    f"updates is {self.updates}, but there are {len(layout.populations)} "
                    "populations: the schedule never wakes one of them",
                    "updates",
                )
            drawn = at.random.integers(0, len(layout.populations), self.updates)
            rows = [
                (at.tick + 1 + np.flatnonzero(drawn == p)).tolist()
                for p in range(len(layout.populations))
            ]
            return planned(layout.population_of, rows, at.tick + self.updates)
        assert self.groups is not None
        assert self.passes is not None
        if self.groups > layout.total:
            raise ConfigurationError(
                f"groups is {self.groups}, but the network has only {layout.total} units to cut "
                "into groups",
                "groups",
            )
        check_plan("passes", layout.total * self.passes)
        ticks = np.empty((layout.total, self.passes), dtype=np.int64)
        group = np.arange(layout.total) * self.groups // layout.total
        for number in range(self.passes):
            order = at.random.permutation(layout.total)
            ticks[order, number] = at.tick + 1 + number * self.groups + group
        edges = np.arange(layout.total + 1, dtype=np.int64) * self.passes
        row_of = np.arange(layout.total, dtype=np.int64)
        end = at.tick + self.groups * self.passes
        return PlannedClock(row_of, edges, ticks.reshape(-1), end)


ReplayWake = tuple[float, str, Sequence[int] | None]


@register("replay")
@dataclass(frozen=True)
class Replay(Planned):
    """An explicit list of wakes ``(time, population, flat indices or None for all)``.

    It is what the `wakes` probe of any other run records. Wakes in ((n−1)·tick, n·tick] commit at
    tick n. Raises ConfigurationError for a time ≤ 0, an unknown population or index, or a
    population that never wakes.
    """

    wakes: tuple[ReplayWake, ...] = ()
    tick: Tick = 1.0

    def __post_init__(self) -> None:
        plain = ((t, p, None if i is None else [int(n) for n in i]) for t, p, i in self.wakes)
        object.__setattr__(self, "wakes", tuple(plain))
        super().__post_init__()

    @property
    def unit(self) -> Unit:  # type: ignore[override]
        return Unit("neuron")

    def start(self, at: Start) -> Clock:
        layout = at.layout
        wakes: list[tuple[Ints, int]] = []
        last = 0
        for number, (time, name, indices) in enumerate(self.wakes):
            where = f"wake {number} of the replay, ({time}, {name!r}, …)"
            at_fault = ("wakes", number)
            if not 0 < time < MAX_WAKES * self.tick:
                limit = f"{MAX_WAKES * self.tick:g}"
                raise ConfigurationError(
                    f"{where}: the time must be greater than 0, below {limit}", (*at_fault, 0)
                )
            if name == layout.network.input.name:
                raise ConfigurationError(f"{where}: the input never wakes", (*at_fault, 1))
            if name not in layout.names:
                said = unknown("population", name, layout.names)
                raise ConfigurationError(f"{said} (wake {number} of the replay)", (*at_fault, 1))
            population = layout.names.index(name)
            size = layout.populations[population].size
            listed = range(size) if indices is None else indices
            if len(listed) and not 0 <= min(listed) <= max(listed) < size:
                raise ConfigurationError(
                    f"{where}: an index lies outside 0…{size - 1}", (*at_fault, 2)
                )
            dyads = np.asarray(listed, dtype=np.int64)
            tick = max(1, ticks_of(time, self.tick))
            last = max(last, tick)
            wakes.append((dyads + layout.offsets[population], tick))
        units = np.concatenate([w for w, _ in wakes]) if wakes else np.empty(0, dtype=np.int64)
        ticks = np.repeat([t for _, t in wakes], [len(w) for w, _ in wakes]).astype(np.int64)
        pairs = np.unique(np.stack([units, ticks + at.tick]), axis=1)  # by unit, then by tick
        counts = np.bincount(pairs[0], minlength=layout.total)
        check_all_wake(layout, counts > 0, "the replay does not name it", "wakes")
        edges = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        row_of = np.arange(layout.total, dtype=np.int64)
        return PlannedClock(row_of, edges, pairs[1], at.tick + last)
