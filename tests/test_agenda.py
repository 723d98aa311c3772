"""`Agenda` against SimPy's own environment: the same events at the same times in the same order."""

from collections.abc import Iterator
from typing import Any

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from neurosim.simulation.engine import Agenda

# Ticks, and times that are none; few, so that many events meet.
DELAYS = st.sampled_from([0, 0, 1, 2, 3, 0.5, 1.25])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["sleep", "closing", "wait", "succeed", "interrupt", "start"]),
        DELAYS,
        st.integers(0, 7),
    ),
    max_size=6,
)


class Trace:
    """Random processes that sleep, wait for and interrupt each other; what they did, and when."""

    def __init__(self, env: simpy.Environment, scripts: list[Any]) -> None:
        self.env, self.seen = env, list[Any]()
        self.bells = [env.event() for _ in range(3)]
        self.started = [env.process(self.process(i, script)) for i, script in enumerate(scripts)]

    def process(self, name: int, script: list[Any]) -> Iterator[Any]:
        env = self.env
        for number, (kind, delay, other) in enumerate(script):
            self.seen.append((env.now, env.peek(), name, number, kind))
            try:
                if kind == "sleep":
                    yield env.timeout(delay)
                elif kind == "closing":
                    event = env.event()
                    event._ok, event._value = True, None
                    env.schedule(event, 2, delay)
                    yield event
                elif kind == "wait":
                    yield self.bells[other % 3] | env.timeout(delay)
                elif kind == "succeed":
                    if not self.bells[other % 3].triggered:
                        self.bells[other % 3].succeed()
                elif kind == "interrupt":
                    target = self.started[other % len(self.started)]
                    if target.is_alive and target is not env.active_process:
                        target.interrupt(name)
                else:
                    yield env.process(self.process(name + 100, [("sleep", delay, 0)]))
            except simpy.Interrupt as interrupt:
                self.seen.append((env.now, name, "interrupted", interrupt.cause))


@given(st.lists(STEPS, min_size=1, max_size=8), DELAYS, st.sampled_from([None, 1, 2.5]))
def test_events_come_in_the_order_of_simpy(
    scripts: list[Any], start: float, until: float | None
) -> None:
    traces = [Trace(env(start), scripts) for env in (simpy.Environment, Agenda)]
    for trace in traces:
        if until is not None:
            trace.env.run(until=start + until)
            trace.seen.append(trace.env.now)
        trace.env.run()
        trace.seen.append((trace.env.now, trace.env.peek()))
    assert traces[0].seen == traces[1].seen


@pytest.mark.parametrize("make", [simpy.Environment, Agenda])
def test_an_event_that_fails_ends_the_run(make: type[simpy.Environment]) -> None:
    def failing(env: simpy.Environment) -> Iterator[Any]:
        yield env.timeout(1)
        raise ValueError("no")

    env = make()
    env.process(failing(env))
    with pytest.raises(ValueError, match="no"):
        env.run()
    assert env.now == 1


def test_a_run_until_an_event_goes_on_afterwards() -> None:
    for env in (simpy.Environment(), Agenda()):
        seen: list[Any] = []
        event = env.timeout(2, "value")

        def waiting(
            env: simpy.Environment, event: simpy.Event, seen: list[Any], name: int
        ) -> Iterator[Any]:
            yield event
            seen.append((env.now, name))

        for name in range(2):
            env.process(waiting(env, event, seen, name))
        assert env.run(until=event) == "value"
        env.run()
        assert seen == [(2, 0), (2, 1)]


def test_an_empty_agenda_says_so() -> None:
    with pytest.raises(simpy.core.EmptySchedule):
        Agenda().step()
    assert Agenda().peek() == simpy.core.Infinity
