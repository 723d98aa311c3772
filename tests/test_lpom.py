"""Lifted proximal operator machines, against the objective that they are said to minimize."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosim as ns
from neurosim.conformance.simulations import batches_of
from neurosim.convergence.fixedpoint import fixed_point
from neurosim.measures.gradients import alignment, back_propagation

SKIP: dict[str, Any] = {
    "populations": {
        "input": {"shape": [4], "role": "input"},
        "h1": {"shape": [6]},
        "h2": {"shape": [6], "activation": "hard_sigmoid"},
        "output": {"shape": [3], "role": "output"},
    },
    "projections": [
        {"from": "input", "to": "h1"},
        {"from": "h1", "to": "h2"},
        {"from": "h1", "to": "h2", "op": "identity", "name": "residual"},
        {"from": "h2", "to": "output"},
        {"from": "h1", "to": "output"},
    ],
}
NETWORKS: dict[str, dict[str, Any]] = {
    "dense": {
        "input": 5,
        "layers": [{"name": n, "dense": d} for n, d in (("h1", 7), ("h2", 6), ("out", 3))],
    },
    "conv": {
        "input": [2, 6, 6],
        "layers": [
            {"name": "c1", "conv": 3},
            # A minimum may lie where two values of a window tie, and there winners never settle:
            # so no max-pooling here.
            {"name": "c2", "conv": 4, "pool": "avg"},
            {"name": "out", "dense": 3},
        ],
    },
    "skip": SKIP,
}


def build(name: str, activation: str = "relu", gain: float = 1.0) -> ns.Model:
    description = NETWORKS[name]
    if "layers" in description:
        description = description | {"activation": activation}
    model = ns.Model(ns.Network.from_dict(description), seed=3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith(".bias"):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator).double())
            else:
                parameter.mul_(gain)
    return model


# ---- the objective, written by itself ----------------------------------------------------------


def conjugate(activation: str, potential: Tensor) -> Tensor:
    """G*, the integral of the activation from 0."""
    a = potential
    match activation:
        case "relu":
            return 0.5 * a.clamp(min=0).square()
        case "identity":
            return 0.5 * a.square()
        case "hard_sigmoid":
            return torch.where(a > 1, a - 0.5, 0.5 * a.clamp(min=0).square())
    raise AssertionError(activation)


RANGE = {"relu": (0.0, None), "identity": (None, None), "hard_sigmoid": (0.0, 1.0)}
States = dict[str, Tensor]


def energy(model: ns.Model, x: Tensor, y: Tensor, states: States, beta: float) -> Tensor:
    """E of the batch: β½‖s_L − y‖² + Σ [½‖s_k‖² − s_kᵀa_k + G*(a_k)]."""
    network = model.network
    values = {network.input.name: x} | states
    total = 0.5 * beta * (states[network.output.name] - y).square().sum()
    for population in network.dyadic:
        carrier = model.bias_carrier(population)
        potential: Tensor = torch.zeros(())
        for projection in network.incoming(population.name):
            weight = model.parameter(projection.name, "weight")
            bias = model.parameter(population.name, "bias") if projection is carrier else None
            part, _ = projection.operator.basal(values[projection.pre], weight, bias, None)
            potential = potential + part
        state = states[population.name]
        total = total + 0.5 * state.square().sum() - (state * potential).sum()
        total = total + conjugate(str(population.activation), potential).sum()
    return total


def minimize(model: ns.Model, x: Tensor, y: Tensor, beta: float) -> States:
    """Projected gradient descent, with no idea of layers: all states at once, in small steps."""
    names = [p.name for p in model.network.dyadic]
    ranges = [RANGE[str(p.activation)] for p in model.network.dyadic]
    values = {model.network.input.name: x}
    states = [torch.full((len(x), *p.shape), 0.1, dtype=x.dtype) for p in model.network.dyadic]
    assert values
    step = 0.1
    for _ in range(40_000):
        states = [s.detach().requires_grad_() for s in states]
        value = energy(model, x, y, dict(zip(names, states, strict=True)), beta)
        gradients = torch.autograd.grad(value, states)
        moved = 0.0
        with torch.no_grad():
            fresh = []
            for state, gradient, (low, high) in zip(states, gradients, ranges, strict=True):
                new = state - step * gradient
                new = new if low is None else new.clamp(low, high)
                moved = max(moved, float((new - state).abs().max()))
                fresh.append(new)
        states = fresh
        if moved < 1e-15:
            break
    return {name: state.detach() for name, state in zip(names, states, strict=True)}


CASES = [
    ("dense", "relu", 0.6),
    ("dense", "hard_sigmoid", 0.6),
    ("dense", "identity", 0.4),
    ("conv", "relu", 0.6),
    ("skip", "relu", 0.5),
]


@pytest.mark.parametrize(
    ("network", "activation", "gain", "beta"),
    [
        pytest.param(*case, beta, marks=pytest.mark.slow if (number + turn) % 2 else ())
        for number, case in enumerate(CASES)
        for turn, beta in enumerate((0.3, 2.0))
    ],
)
def test_the_fixed_point_is_the_minimum(
    network: str, activation: str, gain: float, beta: float
) -> None:
    model = build(network, activation, gain)
    x, y = batches_of(model, 1)[0]
    found = fixed_point(model, x, y, rule=ns.LPOM(beta=beta))
    assert found.reached, found.problem
    expected = minimize(model, x, y, beta)
    for name, state in expected.items():
        torch.testing.assert_close(found.mean[name], state, rtol=0, atol=1e-10)


# The skip network has both of the activations that have a corner.
@pytest.mark.parametrize(
    ("network", "activation", "gain"),
    [*CASES[::3], *(pytest.param(*CASES[i], marks=pytest.mark.slow) for i in (1, 2, 4))],
)
def test_the_gradient_is_that_of_the_minimum(network: str, activation: str, gain: float) -> None:
    """Finite differences of min_s E / (βB) by single weights, the states settling anew."""
    beta, step = 0.7, 1e-4
    model = build(network, activation, gain)
    x, y = batches_of(model, 1)[0]
    rule = ns.LPOM(beta=beta)
    gradients = fixed_point(model, x, y, rule=rule).gradients
    assert gradients is not None

    def least() -> float:
        settled = fixed_point(model, x, y, rule=rule)
        assert settled.reached, settled.problem
        with torch.no_grad():
            return float(energy(model, x, y, settled.mean, beta)) / (beta * len(x))

    for name, parameter in model.named_parameters():
        flat = parameter.data.view(-1)
        for index in {0, len(flat) // 2, len(flat) - 1}:
            middle = float(flat[index])
            flat[index] = middle + step
            above = least()
            flat[index] = middle - step
            below = least()
            flat[index] = middle
            expected = (above - below) / (2 * step)
            assert float(gradients[name].view(-1)[index]) == pytest.approx(
                expected, rel=1e-5, abs=1e-8
            ), (name, index)


@pytest.mark.parametrize("order", ["forward", "backward", "forward_backward"])
@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_no_wake_of_a_population_raises_the_objective(order: Any, gain: float) -> None:
    """What the damping is for: with large weights the undamped map would overshoot."""
    model = build("dense", "relu", gain)
    x, y = batches_of(model, 1)[0]
    beta = 0.5
    schedule = ns.schedules.Sweep(order, 40)
    sim = ns.Simulation(model, rule=ns.LPOM(beta=beta), schedule=schedule)
    sim.start(x, y)
    values = []
    while not sim.done:
        with torch.no_grad():
            states = {cell.name: cell.plus.value for cell in sim.state.cells}
            values.append(float(energy(model, x, y, states, beta)))
        sim.advance(1)
    sim.finish()
    assert values[-1] < values[0]
    rises = [after - before for before, after in pairwise(values)]
    assert max(rises) <= 1e-12 * abs(values[0])


def test_a_wake_against_the_formula() -> None:
    """Hidden and output dyads, after ticks of all at once from the feed-forward pass."""
    model = build("dense")
    x, y = batches_of(model, 1)[0]
    beta = 0.8
    sim = ns.Simulation(
        model, rule=ns.LPOM(beta=beta), schedule=ns.schedules.Parallel(3), nudge_after=0
    )
    outcome = sim.infer(x, y)
    p = model.state_dict()
    weights = [p[f"{n}.weight"] for n in ("h1", "h2", "out")]
    biases = [p[f"{n}.bias"] for n in ("h1", "h2", "out")]
    damping = [float(torch.linalg.matrix_norm(w, 2)) ** 2 for w in weights[1:]]
    states = [x]
    for weight, bias in zip(weights, biases, strict=True):
        a = states[-1] @ weight.T + bias
        states.append(a if len(states) == 3 else a.clamp(min=0))
    errors = [torch.zeros_like(s) for s in states[1:]]
    for _ in range(3):
        a = [s @ w.T + b for s, w, b in zip(states[:3], weights, biases, strict=True)]
        new = [
            (
                (a[k] + errors[k + 1] @ weights[k + 1] + damping[k] * states[k + 1])
                / (1 + damping[k])
            ).clamp(min=0)
            for k in (0, 1)
        ]
        new.append((a[2] + beta * y) / (1 + beta))
        predicted = [a[0].clamp(min=0), a[1].clamp(min=0), a[2]]
        errors = [s - f for s, f in zip(new, predicted, strict=True)]
        states = [x, *new]
    for name, state, error in zip(("h1", "h2", "out"), states[1:], errors, strict=True):
        torch.testing.assert_close(outcome.plus[name], state, rtol=0, atol=1e-13)
        difference = outcome.plus[name] - outcome.minus[name]
        torch.testing.assert_close(difference, error, rtol=0, atol=1e-13)
    found = sim.gradients()
    expected = -errors[1].T @ states[1] / (beta * len(x))
    torch.testing.assert_close(found["h2.weight"], expected, rtol=0, atol=1e-13)


def test_small_beta_comes_to_back_propagation() -> None:
    """To the first order in β, where no kink is crossed."""
    model = build("dense", "identity", 0.5)
    x, y = batches_of(model, 1)[0]
    expected = back_propagation(
        model, ns.Simulation(model, schedule=ns.schedules.Parallel(1)).loss, x, y
    )
    angles, off = [], []
    for beta in (1e-2, 1e-3):
        gradients = fixed_point(model, x, y, rule=ns.LPOM(beta=beta)).gradients
        assert gradients is not None
        angles.append(alignment(gradients, expected)[""].angle)
        off.append(max(float((gradients[n] - e).norm()) for n, e in expected.items()))
    assert angles[1] < 0.1
    assert off[0] / off[1] == pytest.approx(10, rel=0.1)


def test_small_beta_keeps_its_output_in_float32() -> None:
    """s_L − a_L without the cancellation of two almost equal states."""
    model = build("dense").float()
    x, y = batches_of(model, 1)[0]
    beta = 1e-6
    sim = ns.Simulation(model, rule=ns.LPOM(beta=beta), schedule=ns.schedules.Sweep("backward", 1))
    sim.infer(x, y)
    found = sim.state.output.difference.value / beta
    torch.testing.assert_close(found, y - model(x), rtol=1e-5, atol=1e-6)


def test_refused() -> None:
    model = build("dense")
    schedule = ns.schedules.Parallel(4)
    with pytest.raises(ns.ConfigurationError, match="closed form of squared_error, not of cross"):
        ns.Simulation(model, rule=ns.LPOM(), loss="cross_entropy", schedule=schedule)
    with pytest.raises(ns.ConfigurationError, match="beta is 0"):
        ns.LPOM(beta=0.0)
    own = ns.Model(model.network.with_feedback("random"), dtype=torch.float64)
    with pytest.raises(
        ns.ConfigurationError,
        match="LPOM needs the feedback 'symmetric', but that of the projection 'h2' is 'random'",
    ):
        ns.Simulation(own, rule=ns.LPOM(), schedule=schedule)
