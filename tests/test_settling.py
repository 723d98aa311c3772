"""How the gradient's error falls with β, and where damping lets inference come to rest."""

from __future__ import annotations

from itertools import pairwise
from math import inf, log, nan
from typing import Any

import pytest
import torch
from settling_models import chain, random

import neurosim as ns
from neurosim import metrics
from neurosim.maths.losses import Loss
from neurosim.measures.gradients import PATIENCE, STEPS, settles

X, Y = random(4, 5, seed=50), random(4, 3, seed=51)


def error(activation: str, **rule: Any) -> float:
    """‖g − BP‖ / ‖BP‖ at the fixed point."""
    model = chain(activation)
    exact = metrics.back_propagation(model, Loss.of("squared_error"), X, Y)
    found = ns.fixed_point(model, X, Y, rule=ns.DualPropagation(**rule)).gradients
    assert found is not None
    flat = [torch.cat([g[name].flatten() for name in exact]) for g in (found, exact)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.mark.parametrize("nudge", ["prediction", "potential", "proximal"])
@pytest.mark.parametrize("variant", ["aro", "lagrangian"])
@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_order_of_the_error(variant: str, nudge: str, alpha: float) -> None:
    rule = {"variant": variant, "nudge": nudge, "alpha": alpha}
    errors = [error("tanh", beta=beta, **rule) for beta in (0.02, 0.01, 0.005)]
    for larger, smaller in pairwise(errors):
        assert log(larger / smaller, 2) == pytest.approx(2 if alpha == 0.5 else 1, rel=0.1)


@pytest.mark.parametrize(("variant", "alpha"), [("aro", 0.5), ("lagrangian", 0.0)])
def test_kinks_hide_it(variant: str, alpha: float) -> None:
    """Exact below the first kink that is crossed, of no order beyond."""
    rule = {"variant": variant, "alpha": alpha, "nudge": "prediction"}
    assert error("relu", beta=1e-3, **rule) < 1e-14
    beyond = [error("relu", beta=beta, **rule) for beta in (0.1, 0.05, 0.025)]
    for larger, smaller in pairwise(beyond):
        assert 0 < log(larger / smaller, 2) < 0.9


def rests(norm: float, hidden: int = 3, **rule: Any) -> tuple[bool, float]:
    """Whether a random ReLU network whose weights have this norm comes to rest, and its residual
    then."""
    layers = [*({"name": f"h{k}", "dense": 20} for k in range(hidden)), {"name": "o", "dense": 8}]
    model = ns.Model(ns.Network.from_dict({"input": 10, "layers": layers}), dtype=torch.float64)
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws, dtype=torch.float64))
            of = torch.linalg.matrix_norm(parameter, 2) if parameter.dim() == 2 else 1 / 0.3
            parameter.mul_((norm if parameter.dim() == 2 else 1.0) / of)
    x = torch.randn(4, 10, generator=draws, dtype=torch.float64)
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(beta=1.0, nudge="prediction", **rule),
        schedule=ns.schedules.Sweep("forward", 1600),
        stop=ns.Stop(1e-8, every=10 * (hidden + 1)),
    )
    outcome = simulation.infer(x, torch.eye(8, dtype=torch.float64)[:4])
    found = metrics.residual(simulation.state, simulation.rule, simulation.nudge)
    return outcome.stopped, max(found.mean[""], found.difference[""])


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "alpha",
    [
        pytest.param(0.0, marks=SLOW),
        0.25,
        pytest.param(0.75, marks=SLOW),
        pytest.param(1.0, marks=SLOW),
    ],
)
def test_damping_brings_to_rest_what_never_was(alpha: float) -> None:
    """At the spectral norm 3."""
    rested, residual = rests(3.0, variant="damped", alpha=alpha)
    assert rested
    assert residual <= 1e-8
    rested, residual = rests(3.0, variant="aro", alpha=alpha)
    assert not rested
    assert residual > 1e-3


@pytest.mark.parametrize(
    ("decay", "size", "expected", "steps"),
    [
        (0.5, 1.0, True, 41),
        (0.5 ** (1 / (PATIENCE - 1)), 1.0, True, 4945),
        (0.5 ** (1 / (PATIENCE + 1)), 1.0, False, PATIENCE + 1),
        (1.0, 1.0, False, PATIENCE + 1),
        (1.01, 1.0, False, PATIENCE + 1),
        (0.5, inf, False, 1),
        (0.5, nan, False, 1),
        (0.0, 0.0, True, 2),
    ],
    ids=["quick", "slow", "too slow", "cycle", "diverges", "inf", "nan", "all zero"],
)
def test_whether_an_iteration_settles(
    decay: float, size: float, expected: bool, steps: int
) -> None:
    """Steps that shrink to 1e-12 of where they lead; hopeless ones are not waited for."""
    made: list[float] = []

    def step() -> tuple[float, float]:
        made.append(decay ** len(made))
        return made[-1], size

    assert settles(step) == expected
    assert len(made) == steps <= STEPS


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_damping_of_the_published_code(alpha: float) -> None:
    """Upward sweeps as the code of DP24 has them, with D = max(0, (σ²−1)/2) whatever α is."""
    network = ns.Network.from_dict(
        {"input": 5, "layers": [{"dense": 6}, {"dense": 4}, {"dense": 3}]}
    )
    model = ns.Model(network, seed=2, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    rule = ns.DualPropagation(alpha, 0.4, "damped", nudge="prediction", damping="published_code")
    schedule = ns.schedules.Sweep("forward", 5)
    outcome = ns.Simulation(model, rule=rule, schedule=schedule).infer(X, Y)
    weights = [p.detach() for name, p in model.named_parameters() if name.endswith("weight")]
    damping = [max(0.0, (float(torch.linalg.matrix_norm(w, 2)) ** 2 - 1) / 2) for w in weights[1:]]
    assert min(damping) > 0.1
    plus = [X]
    for k, weight in enumerate(weights):
        plus.append(plus[-1] @ weight.T if k == 2 else torch.relu(plus[-1] @ weight.T))
    minus, slope = list(plus), 0.4 * (plus[-1] - Y)
    for k in [1, 2, 3] * 5:
        a = (alpha * plus[k - 1] + (1 - alpha) * minus[k - 1]) @ weights[k - 1].T
        if k == 3:
            plus[k], minus[k] = a - alpha * slope, a + (1 - alpha) * slope
            continue
        back, d = (plus[k + 1] - minus[k + 1]) @ weights[k], damping[k - 1]
        plus[k] = torch.relu((a + alpha * back + d * plus[k]) / (1 + d))
        minus[k] = torch.relu((a - (1 - alpha) * back + d * minus[k]) / (1 + d))
    for k, name in enumerate(["layer1", "layer2", "output"], 1):
        torch.testing.assert_close(outcome.plus[name], plus[k], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(outcome.minus[name], minus[k], rtol=1e-12, atol=1e-12)
