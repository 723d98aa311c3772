"""A small network under every schedule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import neurosim as ns
from neurosim.schedules import (
    Lazy,
    Parallel,
    Periodic,
    Poisson,
    RandomOrder,
    Schedule,
    Sweep,
)

DOUBLE = {"dtype": torch.float64}
LAYERS = [{"name": "a", "dense": 6}, {"name": "b", "dense": 5}, {"name": "out", "dense": 2}]
NETWORK = ns.Network.from_dict({"input": 3, "activation": "tanh", "layers": LAYERS})
SCHEDULES: dict[str, Schedule] = {
    "sweep": Sweep("forward_backward", 2),
    "odd_even": Sweep("odd_even", 5),
    "parallel": Parallel(9),
    "populations": RandomOrder("population", updates=9),
    "neurons": RandomOrder("neuron", groups=4, passes=3),
    "poisson": Poisson("neuron", rate=0.5, duration=9.0),
    "periodic": Periodic("neuron", period=2.5, spread=0.2, jitter=0.5, duration=9.0),
    "lazy": Lazy(duration=12.0),
}
EVERY = pytest.mark.parametrize("name", SCHEDULES)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)


X, Y = random(4, 3, seed=1), random(4, 2, seed=2)


def build(schedule: Schedule, model: ns.Model | None = None, **options: Any) -> ns.Simulation:
    options = {"init": "zero", "nudge_after": 0} | options
    return ns.Simulation(model or ns.Model(NETWORK, **DOUBLE), schedule=schedule, **options)


def same(one: ns.Outcome, two: ns.Outcome) -> bool:
    return all(
        torch.equal(one.plus[name], two.plus[name])
        and torch.equal(one.minus[name], two.minus[name])
        for name in one.plus
    ) and torch.equal(one.prediction, two.prediction)
