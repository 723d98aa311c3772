"""Weights that somebody writes between two calls, and what may not be learned from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_simulations import random

import neurosim as ns
from neurosim.dynamics.plasticity import ContrastiveHebbianPlasticity
from neurosim.rules import EquilibriumPropagation
from neurosim.schedules import Parallel, Sweep

ONE_HOT = torch.eye(2, dtype=torch.float64)[[0, 1, 0, 1]]


def built(pool: str = "max", **options: Any) -> ns.Simulation:
    layers: list[Any] = [{"conv": 3}, {"conv": 3, "pool": pool}, {"dense": 2}]
    network = ns.Network.from_dict({"input": [1, 6, 6], "activation": "relu", "layers": layers})
    rule = ns.DualPropagation(beta=0.5, nudge="potential")
    model = ns.Model(network, seed=1, dtype=torch.float64)
    how: dict[str, Any] = {"schedule": Sweep("forward", 4), "init": "zero", "rule": rule}
    return ns.Simulation(model, **how | options)


def write(model: ns.Model) -> None:
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.3 * random(*parameter.shape, seed=number))


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize("pool", ["max", "softmax"])
def test_gradients_of_weights_that_were_written(pool: str, replayed: bool) -> None:
    """They are the same whether anybody has looked in between."""
    found = []
    for looks in (False, True):
        simulation = built(pool)
        for _ in range(4 if replayed else 1):
            simulation.infer(random(4, 1, 6, 6), ONE_HOT)
        write(simulation.model)
        if looks:
            simulation.state_dict()
        found.append(simulation.gradients())
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name


def test_a_stream_that_learns_from_weights_that_were_written() -> None:
    """The next update is the same from a saved state."""
    learned = []
    for saves in (False, True):
        options: Any = {"plasticity": ContrastiveHebbianPlasticity(every=1)}
        simulation = built(**options)
        optimizer = torch.optim.SGD(simulation.model.parameters(), lr=0.05)
        stream = simulation.stream(optimizer=optimizer)
        stream.push(random(4, 1, 6, 6))
        stream.target(ONE_HOT)
        stream.advance(5)
        write(simulation.model)
        if saves:
            state, weights = stream.state(), simulation.model.state_dict()
            simulation = built(**options)
            simulation.model.load_state_dict(weights)
            optimizer = torch.optim.SGD(simulation.model.parameters(), lr=0.05)
            stream = ns.Stream.from_state(simulation, state, optimizer=optimizer)
        stream.push(random(4, 1, 6, 6, seed=9))
        stream.advance(1)
        learned.append(simulation.model.state_dict())
    for name, weight in learned[0].items():
        assert torch.equal(weight, learned[1][name]), name


def test_nothing_is_learned_from_a_tick_that_has_failed() -> None:
    simulation = built()
    with torch.no_grad():
        for parameter in simulation.model.parameters():
            parameter.mul_(1e200)
    before = {k: v.clone() for k, v in simulation.model.state_dict().items()}
    with pytest.raises(ns.DivergenceError):
        simulation.infer(random(4, 1, 6, 6), ONE_HOT)
    optimizer = torch.optim.SGD(simulation.model.parameters(), lr=0.05)
    for learn in (simulation.gradients, lambda: simulation.learn(optimizer)):
        with pytest.raises(ns.StateError, match="a tick failed; call start first"):
            learn()
    assert all(torch.equal(before[k], v) for k, v in simulation.model.state_dict().items())


def test_the_angle_where_a_population_follows_from_the_input_alone() -> None:
    """No parameter and no other state moves it."""
    layers: list[Any] = [{"name": "p", "pool": "avg"}, {"name": "output", "dense": 3}]
    network = ns.Network.from_dict({"input": [1, 4, 4], "layers": layers})
    for dtype in (torch.float32, torch.float64):
        simulation = ns.Simulation(
            ns.Model(network, dtype=dtype),
            rule=EquilibriumPropagation(readout="static"),
            schedule=Parallel(4),
            init="zero",
            probes=["gradient_angle"],
        )
        x = torch.ones(2, 1, 4, 4, dtype=dtype)
        trace = simulation.infer(x, torch.eye(3, dtype=dtype)[:2]).trace
        assert trace["gradient_angle"]
        assert not simulation.state.input.plus.value.requires_grad
