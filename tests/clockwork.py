"""Driving the clock of a schedule by hand, for the tests of schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import neurosim as ns
from neurosim.base.random import stream
from neurosim.schedules import Clock, Schedule, Start
from neurosim.schedules.units import Layout, Unit

Wakes = list[list[int]]


def chain(*sizes: int) -> ns.Network:
    """Dense layers "a", "b", … of these sizes; the last is the output."""
    layers = [{"name": chr(ord("a") + i), "dense": size} for i, size in enumerate(sizes)]
    return ns.Network.from_dict({"input": 2, "layers": layers})


def graph(names: Sequence[str], *edges: tuple[str, str]) -> ns.Network:
    """Populations of two dyads between "input" and "output", declared in this order."""
    populations: dict[str, Any] = {name: {"shape": 2} for name in names}
    populations["input"]["role"] = "input"
    populations["output"]["role"] = "output"
    projections = [{"from": a, "to": b} for a, b in edges]
    return ns.Network.from_dict({"populations": populations, "projections": projections})


def starting(
    schedule: Schedule,
    network: ns.Network,
    *,
    tick: int = 0,
    feedforward: bool = False,
    seed: int = 0,
    previous: Clock | None = None,
    random: np.random.Generator | None = None,
) -> Start:
    """What the simulation hands to `Schedule.start`."""
    layout = Layout(network, Unit.of(schedule.unit))
    generator = stream(seed, "schedule") if random is None else random
    return Start(layout, tick, feedforward, generator, previous)


def run(clock: Clock, after: int, to: int | None = None) -> Wakes:
    """The units that wake at each tick after ``after``, up to the clock's end."""
    woken = []
    for tick in range(after + 1, (clock.end if to is None else to) + 1):
        assert int(clock.next.min()) >= tick, "a wake was passed over"
        due = clock.advance(tick)
        assert due.dtype == np.int64
        assert due.tolist() == sorted(set(due.tolist()))
        woken.append(due.tolist())
    return woken


def wakes(schedule: Schedule, network: ns.Network, **start: Any) -> Wakes:
    """The whole of one inference."""
    at = starting(schedule, network, **start)
    return run(schedule.start(at), at.tick)


def named(schedule: Schedule, network: ns.Network, **start: Any) -> list[str]:
    """The names of the populations that wake at each tick, joined; a unit is a population."""
    names = starting(schedule, network).layout.names
    return ["".join(names[unit] for unit in units) for units in wakes(schedule, network, **start)]


def chi_square(counts: Any, expected: Any) -> float:
    counts = np.asarray(counts, dtype=float)
    expected = np.broadcast_to(np.asarray(expected, dtype=float), counts.shape)
    return float(((counts - expected) ** 2 / expected).sum())
