"""The equations that the fixed points of dual propagation solve, written out: the conditions for a
saddle point of L_α, and the two equations of DP⊤."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from fewer import covering
from torch import Tensor

import neurosim as ns
from neurosim.conformance.simulations import states
from tests.conformance.cases import NETWORKS, SCHEDULES, UNITS, differing, make_model

TOLERANCE = 1e-10
BETA = 0.4
RANGE = {
    "identity": (-torch.inf, torch.inf),
    "relu": (0.0, torch.inf),
    "hard_sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
}
LAYERS: dict[str, list[dict[str, Any]]] = {
    "dense": [{"name": "h1", "dense": 9}, {"name": "h2", "dense": 8}, {"name": "out", "dense": 3}],
    "conv": [
        {"name": "h1", "conv": 3, "pool": "max"},
        {"name": "h2", "conv": 4},
        {"name": "out", "dense": 3},
    ],
}
NAMES = ["h1", "h2", "out"]


class Settled:
    """A network at the fixed point of a rule, and what the equations speak of."""

    def __init__(self, layers: str, activation: str, **rule: Any) -> None:
        description = {"input": [2, 4, 4], "activation": activation, "layers": LAYERS[layers]}
        model = ns.Model(ns.Network.from_dict(description), seed=4, dtype=torch.float64)
        draws = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draws).double())
                else:
                    parameter.mul_(0.7)
        self.x = torch.randn(6, 2, 4, 4, generator=draws).double()
        self.y = torch.eye(3, dtype=torch.float64).repeat(2, 1)
        self.p = {name: p.detach() for name, p in model.named_parameters()}
        self.activations = dict(zip(NAMES, (activation, activation, "identity"), strict=True))
        self.rule = ns.DualPropagation(beta=BETA, **rule)
        simulation = ns.Simulation(
            model,
            rule=self.rule,
            schedule=ns.schedules.Sweep("forward", 2000),
            stop=ns.Stop(1e-12, every=9),
        )
        outcome = simulation.infer(self.x, self.y)
        # The residual of `stop` knows no damping, which moves the fixed points of tanh.
        assert outcome.stopped or (rule.get("variant"), activation) == ("damped", "tanh")
        self.plus, self.minus = outcome.plus, outcome.minus
        self.prediction = model(self.x).detach()

    def potentials(self, plus: dict[str, Tensor], minus: dict[str, Tensor]) -> dict[str, Tensor]:
        """a_k of the means below, by torch's own functions."""
        found, below = {}, self.x
        for name in NAMES:
            weight, bias = self.p[f"{name}.weight"], self.p[f"{name}.bias"]
            if weight.dim() == 2:
                found[name] = F.linear(below.flatten(1), weight, bias)
            else:
                found[name] = F.conv2d(below, weight, bias, padding=1)
                if name == "h1":
                    found[name] = F.max_pool2d(found[name], 2)
            below = self.rule.alpha * plus[name] + (1 - self.rule.alpha) * minus[name]
        return found

    def loss(self, output: Tensor, potential: Tensor) -> Tensor:
        """ℓ, or gᵀs with g of the nudge held."""
        if self.rule.nudge == "proximal":
            return 0.5 * (output - self.y).square().sum()
        at = self.prediction if self.rule.nudge == "prediction" else potential.detach()
        return ((at - self.y) * output).sum()

    def slopes(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """∂L_α/∂s⁺ and ∂L_α/∂s⁻, by autograd."""
        plus = {name: s.clone().requires_grad_() for name, s in self.plus.items()}
        minus = {name: s.clone().requires_grad_() for name, s in self.minus.items()}
        a, alpha = self.potentials(plus, minus), self.rule.alpha
        value = alpha * self.loss(plus["out"], a["out"])
        value = value + (1 - alpha) * self.loss(minus["out"], a["out"])
        for name in NAMES:
            g, up, down = convex(self.activations[name]), plus[name], minus[name]
            value = value + (g(up) - g(down) + ((down - up) * a[name]).sum()) / BETA
        found = torch.autograd.grad(value, [*plus.values(), *minus.values()])
        half = len(plus)
        return dict(zip(plus, found[:half], strict=True)), dict(
            zip(minus, found[half:], strict=True)
        )


def convex(activation: str) -> Callable[[Tensor], Tensor]:
    """G: ½s² where f can get to, whose gradient is the potential; for tanh that is artanh."""
    if activation != "tanh":
        return lambda s: 0.5 * s.square().sum()
    return lambda s: (s * torch.atanh(s) + 0.5 * torch.log1p(-s * s)).sum()


def violation(activation: str, state: Tensor, slope: Tensor) -> float:
    """By how much a state within the range of f is not a minimum along a slope: inside, the slope
    must be zero; at the lower end it may rise, at the upper end fall."""
    low, high = RANGE[activation]
    wrong = torch.where(state <= low, slope.clamp(max=0), slope)
    wrong = torch.where(state >= high, slope.clamp(min=0), wrong)
    return float(wrong.abs().max())


NUDGES = ["prediction", "potential", "proximal"]
CASES = [
    (variant, layers, activation, nudge, alpha)
    for variant, alphas in (("aro", (0.3, 0.5, 0.8)), ("damped", (0.0, 0.3, 0.8, 1.0)))
    for layers, activation in (
        ("dense", "relu"),
        ("dense", "hard_sigmoid"),
        ("conv", "relu"),
        ("dense", "tanh"),
    )
    if (variant, activation) != ("damped", "tanh")
    for nudge, alpha in zip(NUDGES * 2, alphas, strict=False)
]


@pytest.mark.parametrize(("variant", "layers", "activation", "nudge", "alpha"), CASES)
def test_the_fixed_point_is_a_saddle_point(
    variant: str, layers: str, activation: str, nudge: str, alpha: float
) -> None:
    """A minimum in s⁺ and a maximum in s⁻, at the ends of what f can reach as well."""
    settled = Settled(layers, activation, variant=variant, nudge=nudge, alpha=alpha)
    up, down = settled.slopes()
    for name in NAMES:
        kind = settled.activations[name]
        assert violation(kind, settled.plus[name], up[name]) <= TOLERANCE, name
        assert violation(kind, settled.minus[name], -down[name]) <= TOLERANCE, name
    differences = [(settled.plus[n] - settled.minus[n]).abs().max() for n in NAMES]
    assert min(differences) > 1e-3  # the nudge has come down
    if activation == "relu":  # and the one-sided conditions have something to say
        for state, slope in ((settled.plus, up), (settled.minus, down)):
            assert any((slope[n][state[n] == 0].abs() > 0.1).any() for n in ("h1", "h2"))


@pytest.mark.parametrize(
    ("variant", "activation", "alpha"),
    [("lagrangian", "relu", 0.3), ("lagrangian", "tanh", 0.8), ("damped", "tanh", 0.3)],
)
def test_where_it_is_none(variant: str, activation: str, alpha: float) -> None:
    """L_α is not the objective of DP⊤; and damping moves the fixed points of tanh."""
    settled = Settled("dense", activation, variant=variant, nudge="prediction", alpha=alpha)
    up, _ = settled.slopes()
    off = max(violation(activation, settled.plus[n], up[n]) for n in ("h1", "h2"))
    assert off > 1e-2


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("nudge", NUDGES)
@pytest.mark.parametrize(
    ("layers", "activation"), [("dense", "relu"), ("dense", "tanh"), ("conv", "relu")]
)
def test_the_two_equations_of_the_lagrangian(
    layers: str, activation: str, nudge: str, alpha: float
) -> None:
    """α∇G(s⁺) + (1−α)∇G(s⁻) = a and ∇G(s⁺) − ∇G(s⁻) = Δ; at a kink of f with some subgradient."""
    settled = Settled(layers, activation, variant="lagrangian", nudge=nudge, alpha=alpha)
    plus, minus = settled.plus, settled.minus
    means = {name: (alpha * plus[name] + (1 - alpha) * minus[name]) for name in NAMES}
    means = {name: mean.requires_grad_() for name, mean in means.items()}
    a = settled.potentials(means, means)
    sent = {name: plus[name] - minus[name] for name in NAMES}
    total = sum((sent[name] * a[name]).sum() for name in NAMES)
    assert isinstance(total, Tensor)
    apical = torch.autograd.grad(total, [means["h1"], means["h2"]])  # Wᵀ(s⁺ − s⁻) from above
    equations = [(name, a[name].detach(), d) for name, d in zip(NAMES, apical, strict=False)]
    if nudge != "proximal":  # which pulls each state by another force
        at = settled.prediction if nudge == "prediction" else a["out"].detach()
        equations.append(("out", a["out"].detach(), -BETA * (at - settled.y)))
    for name, basal, difference in equations:
        kind = settled.activations[name]
        # What solves the two equations …
        gradients = basal + (1 - alpha) * difference, basal - alpha * difference
        for state, gradient in zip((plus[name], minus[name]), gradients, strict=True):
            # … is ∇G of the states.
            inverse = torch.atanh(state) if kind == "tanh" else state
            assert violation(kind, state, inverse - gradient) <= TOLERANCE, name


@pytest.mark.parametrize(
    ("network", "schedule", "nudge"),
    covering(product(NETWORKS, ("forward", "parallel", "random_order", "poisson", "lazy"), NUDGES)),
)
def test_in_the_middle_the_variants_are_one(network: str, schedule: str, nudge: Any) -> None:
    """At α = ½, bit for bit: `aro`, `lagrangian` and `damped`, which has no damping there."""
    model = make_model(network)
    draws = torch.Generator().manual_seed(2)
    x = torch.randn(3, *model.network.input.shape, generator=draws).double()
    y = torch.eye(3, dtype=torch.float64)
    simulations = [
        ns.Simulation(
            model,
            rule=ns.DualPropagation(0.5, 0.6, variant, nudge),
            schedule=SCHEDULES[schedule](UNITS["block"], model.network),
            probes=["wakes", "residual"],
            seed=1,
        )
        for variant in ("aro", "lagrangian", "damped")
    ]
    for simulation in simulations:
        simulation.start(x, y)
    first, *others = simulations
    while not first.done:
        for simulation in simulations:
            simulation.advance(1)
        assert all(not differing(states(s), states(first)) for s in others), first.tick
    expected = first.finish()
    for simulation in others:
        found = simulation.finish()
        assert found.trace.state_dict() == expected.trace.state_dict()
        assert found.counts == expected.counts
        assert not differing(simulation.gradients(), first.gradients())
