"""A SimPy environment for simulations in which very many events fall on few moments."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import Any

import simpy
from simpy.core import EmptySchedule, Infinity

_Moment = tuple[float, Any]  # time and priority


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
        self,
        event: simpy.Event,
        priority: Any = simpy.events.NORMAL,
        delay: float = 0,
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
