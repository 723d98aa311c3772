"""What an inference costs, in operations of projections.

The number of forward and adjoint operations is predicted by a model of a chain that knows of every
message only whether it is news to its receiver. It holds for values in general position: what is
computed anew from news is news, unless the mathematics says that it cannot be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import neurosim as ns

Counts = tuple[int, int, int]


def chain(depth: int, width: int = 8, activation: str = "tanh") -> ns.Model:
    layers = [{"name": f"h{k}", "dense": width} for k in range(1, depth)]
    layers.append({"name": "out", "dense": 4})
    description = {"input": 6, "activation": activation, "layers": layers}
    # Weights of more than unit gain: what news there is does not die out in the last bits.
    model = ns.Model(ns.Network.from_dict(description), dtype=torch.float64)
    generator = np.random.default_rng(depth)
    with torch.no_grad():
        for parameter in model.parameters():
            draws = torch.from_numpy(generator.standard_normal(tuple(parameter.shape)))
            scale = 1.5 / parameter.shape[1] ** 0.5 if parameter.dim() == 2 else 0.3
            parameter.copy_(draws * scale)
    return model


def data(batch: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(1)
    x = torch.from_numpy(generator.standard_normal((batch, 6)))
    return x, torch.eye(4, dtype=torch.float64)[generator.integers(0, 4, batch)]


def run(model: ns.Model, rule: ns.DualPropagation, **options: Any) -> Counts:
    """Forward, adjoint and weight-gradient operations of an inference with its gradients."""
    options = {"schedule": ns.schedules.Sweep("backward", 1), "loss": "cross_entropy"} | options
    simulation = ns.Simulation(model, rule=rule, **options)
    outcome = simulation.infer(*data())
    assert outcome.counts.weight_gradient == 0
    simulation.gradients()
    counts = simulation.counts
    return counts.forward, counts.adjoint, counts.weight_gradient


# ---- the prediction ------------------------------------------------------------------------------


@dataclass
class Layer:
    """A layer of a chain. ``basal_news`` and ``apical_news``: something has reached it."""

    basal_news: bool
    apical_news: bool = False
    nudge_news: bool = False
    difference: bool = False  # whether it has one


@dataclass
class Chain:
    """Counts the operations of a chain of layers 1…L with one ``rule``."""

    depth: int
    rule: ns.DualPropagation
    feedforward: bool = True
    forward: int = 0
    adjoint: int = 0
    layers: list[Layer] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A feed-forward start computes every layer once. With a zero start only the input and what
        # a layer has not computed yet are news.
        self.layers = [Layer(basal_news=not self.feedforward) for _ in range(self.depth)]
        self.layers[-1].nudge_news = True
        self.forward = self.depth if self.feedforward else 0

    @property
    def mean_follows_the_difference(self) -> bool:
        """Whether a change of the difference changes the mean.

        For DP⊤ with α = 0 the mean is s⁻ = f(a), and with α = 1 it is s⁺ = f(a).
        """
        return not (self.rule.variant == "lagrangian" and self.rule.alpha in (0.0, 1.0))

    def wake(self, k: int) -> None:
        """Layer k, counted from 0."""
        layer, last = self.layers[k], k == self.depth - 1
        basal, apical = layer.basal_news, layer.apical_news
        nudge = layer.nudge_news
        self.forward += basal
        self.adjoint += apical
        layer.basal_news = layer.apical_news = layer.nudge_news = False
        mean = basal or (self.mean_follows_the_difference and (apical or nudge))
        if last:
            # A prediction is frozen; elsewhere the gradient follows the potential.
            difference = nudge or (basal and self.rule.nudge != "prediction")
            layer.difference = True
        else:
            layer.difference |= apical
            difference = apical or (basal and layer.difference)
        if mean and not last:
            self.layers[k + 1].basal_news = True
        if difference and k > 0:
            self.layers[k - 1].apical_news = True


def predicted(depth: int, rule: ns.DualPropagation, order: list[int], init: str) -> tuple[int, int]:
    model = Chain(depth, rule, feedforward=init == "feedforward")
    for k in order:
        model.wake(k)
    return model.forward, model.adjoint


def order_of(order: str, depth: int, passes: int) -> list[int]:
    up = list(range(depth))
    if order == "forward_backward":  # after a feed-forward start
        path = up[::-1]
        for _ in range(passes - 1):
            path += up[1:] + up[:-1][::-1]
        return path
    return (up if order == "forward" else up[::-1]) * passes


# ---- the plain step is back-propagation ----------------------------------------------------------


@pytest.mark.parametrize("unit", ["population", "neuron"])
@pytest.mark.parametrize("nudge", ["potential", "prediction", "proximal"])
@pytest.mark.parametrize("variant", ["aro", "lagrangian"])
@pytest.mark.parametrize("depth", [1, 2, 5, 16])
def test_the_plain_step_costs_what_back_propagation_does(
    depth: int, variant: Any, nudge: Any, unit: Any
) -> None:
    rule = ns.DualPropagation(alpha=0.5, variant=variant, nudge=nudge)
    loss = "squared_error" if nudge == "proximal" else "cross_entropy"
    schedule = ns.schedules.Sweep("backward", 1, unit=unit)
    counts = run(chain(depth), rule, loss=loss, schedule=schedule)
    assert counts == (depth, depth - 1, depth)


def test_the_plain_step_of_a_convolutional_network() -> None:
    layers = [
        {"name": "c1", "conv": 4, "pool": "max"},
        {"name": "c2", "conv": 5},
        {"name": "c3", "conv": 5, "pool": "max"},
        {"name": "h", "dense": 7},
        {"name": "out", "dense": 3},
    ]
    network = ns.Network.from_dict({"input": [2, 8, 8], "layers": layers})
    simulation = ns.Simulation(
        ns.Model(network), schedule=ns.schedules.Sweep("backward", 1), loss="cross_entropy"
    )
    generator = torch.Generator().manual_seed(0)
    target = torch.eye(3)[[0, 2, 1]]
    simulation.infer(torch.randn(3, 2, 8, 8, generator=generator), target)
    simulation.gradients()
    counts = simulation.counts
    assert (counts.forward, counts.adjoint, counts.weight_gradient) == (5, 4, 5)


def test_no_target_no_adjoint() -> None:
    simulation = ns.Simulation(chain(4), schedule=ns.schedules.Sweep("forward_backward", 5))
    outcome = simulation.infer(data()[0])
    assert (outcome.counts.forward, outcome.counts.adjoint) == (4, 0)
    assert outcome.messages == 0
    assert all(not gradient.any() for gradient in simulation.gradients().values())
    assert simulation.counts.weight_gradient == 0


# ---- iterated sweeps -----------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_sixteen_sweeps_of_sixteen_layers(alpha: float, activation: str) -> None:
    """At the ends of α a mean never changes and a difference is final once it has been reached."""
    rule = ns.DualPropagation(alpha=alpha, beta=0.1, variant="lagrangian", nudge="prediction")
    counts = run(chain(16, activation=activation), rule, schedule=ns.schedules.Sweep("forward", 16))
    assert counts == (16, 15, 16)


RULES = [
    ns.DualPropagation(alpha=alpha, beta=0.5, variant=variant, nudge=nudge)
    for variant in ("aro", "lagrangian")
    for nudge in ("prediction", "potential")
    for alpha in (0.0, 0.3, 0.5, 1.0)
]


def name_of(rule: ns.DualPropagation) -> str:
    return f"{rule.variant}-{rule.nudge}-{rule.alpha}"


@pytest.mark.parametrize("rule", RULES, ids=name_of)
@pytest.mark.parametrize("order", ["forward", "backward", "forward_backward"])
def test_iterated_sweeps(order: Any, rule: ns.DualPropagation) -> None:
    depth, passes = 6, 5
    schedule = ns.schedules.Sweep(order, passes)
    forward, adjoint, weight_gradient = run(chain(depth), rule, schedule=schedule)
    path = order_of(order, depth, passes)
    assert (forward, adjoint) == predicted(depth, rule, path, "feedforward")
    reached = passes >= depth or order != "forward"
    assert weight_gradient == (depth if reached else passes)


@pytest.mark.parametrize("rule", [r for r in RULES if r.nudge != "prediction"], ids=name_of)
def test_sweeps_from_zero(rule: ns.DualPropagation) -> None:
    depth, passes = 5, 7
    schedule = ns.schedules.Sweep("forward", passes)
    forward, adjoint, weight_gradient = run(chain(depth), rule, schedule=schedule, init="zero")
    assert (forward, adjoint) == predicted(depth, rule, order_of("forward", depth, passes), "zero")
    assert weight_gradient == depth


@pytest.mark.parametrize(
    ("alpha", "nudge", "cost"),
    [
        (0.3, "prediction", (136, 106)),
        (0.5, "prediction", (136, 106)),
        (0.5, "potential", (136, 120)),
        (0.0, "prediction", (16, 15)),
        (1.0, "prediction", (16, 15)),
    ],
)
def test_what_iterated_sweeps_cost(alpha: float, nudge: Any, cost: tuple[int, int]) -> None:
    """16 sweeps of 16 layers are 512 operations where nobody looks at what has changed."""
    rule = ns.DualPropagation(alpha=alpha, beta=0.5, variant="lagrangian", nudge=nudge)
    assert predicted(16, rule, order_of("forward", 16, 16), "feedforward") == cost
    assert run(chain(16), rule, schedule=ns.schedules.Sweep("forward", 16)) == (*cost, 16)
