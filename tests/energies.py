"""Networks with an energy that is written down and minimized, by code that shares nothing with the
simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurosim as ns
from neurosim.rules import Rule

Parameters = dict[str, Tensor]
# A finite difference tells nothing of a phase that has not settled: every one is run to its end.
SWEEP = ns.schedules.Sweep("forward_backward", 1000)
SETTLED = ns.Stop(1e-12, every=16)


# ---- networks and their energies -----------------------------------------------------------------


def convex(activation: str, state: Tensor) -> Tensor:
    """G, whose gradient inverts the activation."""
    if activation == "tanh":
        return 0.5 * ((1 + state) * torch.log(1 + state) + (1 - state) * torch.log(1 - state))
    return 0.5 * state * state


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "identity": lambda a: a,
    "tanh": torch.tanh,
    "hard_sigmoid": lambda a: a.clamp(0.0, 1.0),
}


@dataclass(frozen=True)
class Net:
    """A dense network as a list of (pre, post), with its energy."""

    shapes: dict[str, int]
    activations: dict[str, str]
    edges: tuple[tuple[str, str], ...]

    def network(self) -> ns.Network:
        roles = {"x": "input", "out": "output"}
        populations = {
            name: {
                "shape": [size],
                "role": roles.get(name, "hidden"),
                "activation": self.activations[name],
            }
            for name, size in self.shapes.items()
        }
        projections = [{"from": pre, "to": post} for pre, post in self.edges]
        return ns.Network.from_dict({"populations": populations, "projections": projections})

    def model(self, scale: float) -> ns.Model:
        model = ns.Model(self.network(), seed=3, dtype=torch.float64)
        generator = np.random.default_rng(8)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                draws = torch.from_numpy(generator.standard_normal(tuple(parameter.shape)))
                parameter.copy_(draws * scale if name.endswith("weight") else 0.3 * draws + 0.2)
        return model

    def potential(self, values: dict[str, Tensor], name: str, p: Parameters) -> Tensor:
        """a, from below only."""
        total = p[f"{name}.bias"]
        for pre, post in self.edges:
            if post == name:
                total = total + values[pre] @ p[f"{pre}->{post}.weight"].to(values[pre].dtype).T
        return total

    def energy(
        self, values: dict[str, Tensor], p: Parameters, weights: dict[str, float] | None = None
    ) -> Tensor:
        """Σ w [G(s) − sᵀ a] over the populations that have states here, summed over the batch."""
        total = torch.zeros((), dtype=torch.float64)
        for name, state in values.items():
            if name == "x":
                continue
            drive = state * self.potential(values, name, p)
            term = (convex(self.activations[name], state) - drive).sum()
            total = total + (1.0 if weights is None else weights[name]) * term
        return total


CHAIN = Net(
    {"x": 4, "h1": 6, "h2": 5, "out": 3},
    {"x": "identity", "h1": "tanh", "h2": "tanh", "out": "identity"},
    (("x", "h1"), ("h1", "h2"), ("h2", "out")),
)
RECTIFIED = Net(
    CHAIN.shapes,
    {"x": "identity", "h1": "hard_sigmoid", "h2": "relu", "out": "identity"},
    CHAIN.edges,
)
SKIP = Net(CHAIN.shapes, RECTIFIED.activations, (*CHAIN.edges, ("h1", "out"), ("x", "out")))
NETS = {"chain": CHAIN, "rectified": RECTIFIED, "skip": SKIP}


def data() -> tuple[Tensor, Tensor]:
    generator = np.random.default_rng(4)
    x = torch.from_numpy(generator.standard_normal((3, 4)))
    return x, torch.eye(3, dtype=torch.float64)


def settle(
    net: Net,
    p: Parameters,
    update: Callable[[dict[str, Tensor], str, Tensor], Tensor],
    start: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Block coordinate descent to the end, from zero if there is no start: state ← update(values,
    name, a)."""
    x, _ = data()
    values = start or {
        name: x if name == "x" else torch.zeros(len(x), size, dtype=x.dtype)
        for name, size in net.shapes.items()
    }
    for _ in range(2000):
        before = values
        values = dict(values)
        for name in net.shapes:
            if name != "x":
                values[name] = update(values, name, net.potential(values, name, p))
        if all(float((values[name] - before[name]).abs().max()) < 1e-11 for name in values):
            return values
    raise AssertionError("there is no least value near the start")


def feedback(net: Net, values: dict[str, Tensor], name: str, p: Parameters) -> Tensor:
    """Σ Wᵀ s of the states above."""
    total = torch.zeros_like(values[name])
    for pre, post in net.edges:
        if pre == name:
            total = total + values[post] @ p[f"{pre}->{post}.weight"].to(values[post].dtype)
    return total


def softmax(z: Tensor) -> Tensor:
    powers = torch.exp(z)
    return powers / powers.sum(1, keepdim=True)


def least(
    net: Net, readout: str, loss: str, betas: Sequence[complex], p: Parameters
) -> list[Tensor]:
    """F = E + βℓ at its minimum for every β, over the batch.

    An energy may have several minima. It is the one that descent from the free minimum (β = 0)
    comes to, which is the one that descent from zero comes to.
    """
    _, y = data()

    def slope(z: Tensor) -> Tensor:
        return (softmax(z) if loss == "cross_entropy" else z) - y

    def update(beta: complex, values: dict[str, Tensor], name: str, a: Tensor) -> Tensor:
        if name == "out":
            return a if readout == "static" else (a + beta * y) / (1 + beta)
        if readout == "static":
            # The readout is no state: below it goes −βWᵀ∇ℓ at its present potential.
            z = net.potential(values, "out", p)
            sent = values | {"out": -beta * slope(z)}
            return FUNCTIONS[net.activations[name]](a + feedback(net, sent, name, p))
        return FUNCTIONS[net.activations[name]](a + feedback(net, values, name, p))

    free = settle(net, p, partial(update, 0.0))
    found = []
    for beta in betas:
        values = settle(net, p, partial(update, beta), start=free) if beta else free
        z = net.potential(values, "out", p) if readout == "static" else values["out"]
        if loss == "cross_entropy":
            value = (torch.log(torch.exp(z).sum(1)) - (y * z).sum(1)).sum()
        else:
            value = 0.5 * ((z - y) * (z - y)).sum()
        inner = {k: v for k, v in values.items() if readout == "state" or k != "out"}
        found.append(net.energy(inner, p) + beta * value)
    return found


Slopes = dict[str, tuple[Tensor, float]]


def slopes(objective: Callable[[Parameters], float], p: Parameters) -> Slopes:
    """The derivative of an objective along a random direction of every parameter, by central
    differences."""
    generator = np.random.default_rng(6)
    found = {}
    for name, value in p.items():
        way = torch.from_numpy(generator.standard_normal(tuple(value.shape)))
        ends = [objective(p | {name: value + step * way}) for step in (1e-5, -1e-5)]
        found[name] = (way, (ends[0] - ends[1]) / 2e-5)
    return found


def agree(found: dict[str, Tensor], expected: Slopes, tolerance: float) -> None:
    assert set(found) == set(expected)
    for name, (way, slope) in expected.items():
        assert float((found[name] * way).sum()) == pytest.approx(slope, rel=tolerance), name


def infer(model: ns.Model, rule: Rule, loss: str = "squared_error", **options: Any) -> Any:
    arguments: dict[str, Any] = {"schedule": SWEEP, "stop": SETTLED, "init": "zero"} | options
    simulation = ns.Simulation(model, rule=rule, loss=loss, **arguments)
    return simulation, simulation.infer(*data())


def parameters(model: ns.Model) -> Parameters:
    return {name: p.detach().clone() for name, p in model.named_parameters()}
