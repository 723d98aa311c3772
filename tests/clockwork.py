"""Driving the clock of a schedule by hand, for the tests of schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import neurosim as ns
from neurosim.conformance.running import run, starting, wakes
from neurosim.schedules import Schedule

__all__ = ["Wakes", "chain", "chi_square", "graph", "named", "run", "starting", "wakes"]
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


def named(schedule: Schedule, network: ns.Network, **start: Any) -> list[str]:
    """The names of the populations that wake at each tick, joined; a unit is a population."""
    names = starting(schedule, network).layout.names
    return ["".join(names[unit] for unit in units) for units in wakes(schedule, network, **start)]


def chi_square(counts: Any, expected: Any) -> float:
    counts = np.asarray(counts, dtype=float)
    expected = np.broadcast_to(np.asarray(expected, dtype=float), counts.shape)
    return float(((counts - expected) ** 2 / expected).sum())
