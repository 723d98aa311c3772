"""The simulated processes: every unit of dyads sleeps until its next wake (SimPy).

Time is counted in whole ticks. In each tick the units whose time has come put themselves on the
tick's list; one coordinator event of lower priority then runs the tick. Two ways to run the units,
with identical traces: one process per unit (``neuron``: the definition), or one per population that
holds its units' clocks as arrays (``population``). The schedule's `Clock` owns the next wakes in
both, so processes hold nothing that cannot be rebuilt from data.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from heapq import heappop, heappush
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import simpy
from simpy.core import EmptySchedule, Infinity

from neurosim.base import NEVER
from neurosim.dynamics import Reached, State, Woke
from neurosim.schedules import Clock, Layout
from neurosim.tensors import Ints

Processes = Literal["population", "neuron"]
_CLOSING: Any = 2  # after SimPy's URGENT (0) and NORMAL (1): all wakes of a tick come first
_Process = Generator[simpy.Event, Any, None]
_Moment = tuple[float, Any]  # time and priority


@contextmanager
def _without_collection() -> Iterator[None]:
    """Starting a process per dyad leaves no garbage, but collections would walk them all often."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Agenda(simpy.Environment):
    """Processes events in the order of SimPy's own environment: by time, then by priority, then as
    they were scheduled.

    That one keeps all events in a heap, where an event among N takes log N comparisons and as many
    accesses to memory. Here each pair of time and priority has a queue, and only these pairs are in
    a heap: in simulations whose time is whole ticks an event costs the same however many there are.
    """

    def __init__(self, initial_time: float = 0) -> None:
        super().__init__(initial_time)
        self._moments: list[_Moment] = []  # a heap of the keys of `_events`
        self._events: dict[_Moment, deque[simpy.Event]] = {}

    def schedule(
        self, event: simpy.Event, priority: Any = simpy.events.NORMAL, delay: float = 0
    ) -> None:
        """Schedules an event with this priority (lower ones come first) after a delay."""
        moment = self._now + delay, priority
        events = self._events.get(moment)
        if events is None:
            self._events[moment] = deque((event,))
            heappush(self._moments, moment)
        else:
            events.append(event)

    def peek(self) -> float:
        """The time of the next event; infinity if there is none."""
        return self._moments[0][0] if self._moments else Infinity

    def step(self) -> None:
        """Processes the next event. Raises EmptySchedule if there is none."""
        if not self._moments:
            raise EmptySchedule
        moment = self._moments[0]
        events = self._events[moment]
        event = events.popleft()
        if not events:
            heappop(self._moments)
            del self._events[moment]
        self._queue.append((moment[0], moment[1], 0, event))  # SimPy's own, which holds no other
        super().step()


class _Sleep(simpy.Event):
    """What a process waits for again and again: a timeout that is not made anew for every wake."""

    def __init__(self, env: simpy.Environment) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None

    def over(self, delay: int, priority: Any = simpy.events.NORMAL) -> _Sleep:
        """It ends after so many ticks; it must have ended since the last call."""
        self.callbacks = []
        self.env.schedule(self, priority, delay)
        return self


class Engine:
    """Runs the processes of one inference from tick ``now`` on.

    ``offsets`` are the unit numbers at which populations begin. ``on_tick(tick, units)`` is called
    once per tick with the ascending numbers of the woken units; it may report news to the clock.
    """

    def __init__(
        self,
        clock: Clock,
        offsets: Ints,
        now: int,
        processes: Processes,
        on_tick: Callable[[int, Ints], None],
    ) -> None:
        self.clock, self._on_tick = clock, on_tick
        self._env = env = Agenda(now)
        self.completed = self._began = now  # the last tick that was completed, and the first
        self._per_unit = processes == "neuron"
        # The unit numbers at which processes begin.
        self._edges = np.arange(offsets[-1] + 1) if self._per_unit else offsets
        # A memoryview reads one tick of the array as a plain int, faster than numpy does.
        self._ticks = clock.next.data
        self._due: Ints = np.empty(0, dtype=np.int64)  # the units due in this tick
        self._woken: list[int] = []  # the processes that have woken in it
        self._asleep: dict[int, simpy.Event] = {}  # those that wait for news
        # News may bring a wake forward, and a timeout cannot be moved: then units sleep on events
        # of their own until the tick before.
        self._listens = clock.listens or bool(clock.wants)
        self._failure: Exception | None = None
        with _without_collection():
            if self._per_unit:
                for unit in range(clock.next.size):
                    env.process(self._process(unit, None))
            else:
                for number, (low, high) in enumerate(pairwise(offsets)):
                    env.process(self._process(number, clock.next[low:high].min))
        env.process(self._coordinator())

    def close(self) -> None:
        """Lets go of whoever runs it. Processes refer to each other in circles, so they live on
        until somebody collects garbage, and must not keep an inference that is over."""
        self._on_tick = lambda tick, units: None

    def run_until(self, tick: int, stop: Callable[[], bool]) -> None:
        """Completes ticks up to ``tick``, or until ``stop()`` is true at the end of one."""
        step = self._env.step
        while self.completed < tick and not stop():
            target = self.completed + 1
            # In the first tick all processes start.
            with _without_collection() if self.completed == self._began else nullcontext():
                while self.completed < target:  # the coordinator's event is always scheduled
                    step()
            if self._failure is not None:
                raise self._failure

    def _process(self, number: int, earliest: Callable[[], Any] | None) -> _Process:
        """The process of a unit, or of a population whose ``earliest`` wake is asked for."""
        env, woken, listens = self._env, self._woken, self._listens
        sleep, wake = _Sleep(env).over, woken.append
        ticks, now = self._ticks, self.completed
        while True:
            tick = ticks[number] if earliest is None else int(earliest())
            while tick == NEVER or (listens and tick > now + 1):
                self._asleep[number] = env.event()
                yield self._asleep[number]
                tick = ticks[number] if earliest is None else int(earliest())
                now = int(env.now)
            yield sleep(tick - now)
            now = tick
            if not woken:  # the clock sets the next wakes of all units that are due
                self._due = self.clock.advance(tick)
            wake(number)

    def _coordinator(self) -> _Process:
        env = self._env
        closing = _Sleep(env).over
        while True:
            yield closing(1, _CLOSING)
            units, tick = self._units(), int(env.now)
            try:
                self._on_tick(tick, units)
            except Exception as error:  # SimPy would raise a copy without its attributes
                self._failure = error
            self.completed = tick
            if self._listens and self._asleep:
                self.alarm(tick)

    def _units(self) -> Ints:
        """The units of the processes that have woken in this tick, ascending."""
        if self._per_unit:
            units = np.sort(np.array(self._woken, dtype=np.int64))
        elif len(self._woken) == len(self._edges) - 1:
            units = self._due
        else:
            cuts = self._due.searchsorted(self._edges).tolist()
            parts = [self._due[cuts[p] : cuts[p + 1]] for p in sorted(self._woken)]
            units = np.concatenate(parts) if parts else self._due[:0]
        self._woken.clear()
        return units

    def alarm(self, tick: int) -> None:
        """Wakes the processes of units that are due in the next tick, by news."""
        due = np.flatnonzero(self.clock.next == tick + 1)
        for sleeper in np.unique(self._edges.searchsorted(due, "right") - 1).tolist():
            event = self._asleep.pop(sleeper, None)
            if event is not None:
                event.succeed()


class UnitMap:
    """Translates between units and dyads that can wake, which dead and stuck ones never do."""

    def __init__(self, layout: Layout, state: State) -> None:
        self._layout, self._state = layout, state
        held = state.damage.held
        self._alive = layout.alive({name: dyads.alive for name, dyads in held.items()})

    def _some(self, units: Ints) -> Ints:
        return units if self._alive is None else units[self._alive[units]]

    def wake(self, units: Ints) -> tuple[int, Woke]:
        """Returns how many of these units wake, and the dyads that do by population."""
        units, layout = self._some(units), self._layout
        if len(units) == layout.total and self._alive is None:
            return len(units), [(index, None) for index in range(len(layout.populations))]
        device, woken = self._state.device, []
        for population, own in layout.split(units):
            alive = self._state.cells[population].alive
            woken.append((population, layout.selection(population, own, alive, device)))
        return len(units), woken

    def hear(self, clock: Clock, tick: int, reached: Reached) -> None:
        """Tells a clock that something reaches the units of these dyads at ``tick``."""
        if clock.listens:
            for index, marks in reached.read().items():
                alive = self._state.cells[index].alive
                clock.news(
                    tick, self._layout.units(index, marks if alive is None else marks & alive)
                )

    def all_hear(self, clock: Clock, tick: int, *, output: bool = False) -> None:
        """Tells a clock that something reaches all dyads, or all output dyads, at ``tick``."""
        index, offsets = self._state.output.index, self._layout.offsets
        ends = offsets[index : index + 2] if output else (0, self._layout.total)
        clock.news(tick, self._some(np.arange(*ends)))
