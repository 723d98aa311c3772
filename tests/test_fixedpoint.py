"""The exact fixed point against linear algebra and laws, and what is said where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from settling_models import F64, chain, loop, random
from torch import Tensor

import neurosim as ns
from neurosim import metrics
from neurosim.convergence.fixedpoint import exact_copy
from neurosim.dynamics import current_mean

SIZES = [5, 7, 6, 3]


def linear_solution(
    model: ns.Model, x: Tensor, y: Tensor, rule: ns.DualPropagation
) -> tuple[list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
    """Means and differences of a linear chain with the proximal nudge, per sample.

    s± = a ± w±Δ in hidden layers; (1 + w⁺β) s⁺ = a + w⁺βy and (1 − w⁻β) s⁻ = a − w⁻βy at the
    output: one linear system in all s⁺ and s⁻.
    """
    w_plus, w_minus = rule.weights
    alpha, beta = rule.alpha, rule.beta
    names = ["h1", "h2", "out"]
    weights = [model.state_dict()[f"{n}.weight"].numpy() for n in names]
    biases = [model.state_dict()[f"{n}.bias"].numpy() for n in names]
    sizes = SIZES[1:]
    starts = np.cumsum([0, *(2 * size for size in sizes)])
    plus = [slice(starts[k], starts[k] + sizes[k]) for k in range(3)]
    minus = [slice(starts[k] + sizes[k], starts[k + 1]) for k in range(3)]
    means, differences = [], []
    for sample, target in zip(x.numpy(), y.numpy(), strict=True):
        matrix, right = np.eye(starts[-1]), np.zeros(starts[-1])
        for k in range(3):
            for rows, sign, w in ((plus[k], 1.0, w_plus), (minus[k], -1.0, w_minus)):
                right[rows] += biases[k]
                if k == 0:
                    right[rows] += weights[0] @ sample
                else:
                    matrix[rows, plus[k - 1]] -= alpha * weights[k]
                    matrix[rows, minus[k - 1]] -= (1 - alpha) * weights[k]
                if k < 2:
                    matrix[rows, plus[k + 1]] -= sign * w * weights[k + 1].T
                    matrix[rows, minus[k + 1]] += sign * w * weights[k + 1].T
                else:
                    matrix[rows, rows] += sign * w * beta * np.eye(3)
                    right[rows] += sign * w * beta * target
        solution = np.linalg.solve(matrix, right)
        means.append(
            [alpha * solution[plus[k]] + (1 - alpha) * solution[minus[k]] for k in range(3)]
        )
        differences.append([solution[plus[k]] - solution[minus[k]] for k in range(3)])
    return (
        [np.stack([m[k] for m in means]) for k in range(3)],
        [np.stack([d[k] for d in differences]) for k in range(3)],
    )


@pytest.mark.parametrize(
    ("variant", "alpha"),
    [("aro", 0.5), ("aro", 0.3), ("lagrangian", 0.3), ("lagrangian", 1.0), ("damped", 0.7)],
)
def test_a_linear_chain_against_its_linear_system(variant: Any, alpha: float) -> None:
    rule = ns.DualPropagation(alpha=alpha, beta=0.4, variant=variant, nudge="proximal")
    model, x, y = chain(scale=0.5), random(4, 5, seed=50), random(4, 3, seed=51)
    found = ns.fixed_point(model, x, y, rule=rule)
    assert found.reached
    assert found.residual <= 1e-12
    means, differences = linear_solution(model, x, y, rule)
    for k, name in enumerate(("h1", "h2", "out")):
        np.testing.assert_allclose(found.mean[name].numpy(), means[k], rtol=0, atol=1e-10)
        np.testing.assert_allclose(found.difference[name].numpy(), differences[k], atol=1e-10)
    # The gradient there, by its own formula.
    assert found.gradients is not None
    expected = -np.einsum("bi,bj->ij", differences[1], means[0]) / (rule.beta * 4)
    np.testing.assert_allclose(found.gradients["h2.weight"].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("activation", ["relu", "tanh", "hard_sigmoid"])
def test_nothing_moves_there_whatever_the_schedule(activation: str) -> None:
    model, x, y = chain(activation, 0.8), random(4, 5, seed=50), random(4, 3, seed=51)
    found = ns.fixed_point(model, x, y)
    simulation = ns.Simulation(
        model, schedule=ns.schedules.Poisson(unit="neuron", duration=200.0), init="zero"
    )
    simulation.infer(x, y)
    for cell in simulation.state.cells:
        mean = current_mean(cell, simulation.rule)
        torch.testing.assert_close(mean, found.mean[cell.name], rtol=0, atol=1e-10)


def test_without_a_target_it_is_the_prediction() -> None:
    model, x = chain("relu"), random(4, 5, seed=50)
    found = ns.fixed_point(model, x)
    torch.testing.assert_close(found.mean["out"], model(x).detach(), rtol=0, atol=1e-12)
    assert all(not difference.any() for difference in found.difference.values())
    assert found.gradients is None


def test_small_beta_gives_back_propagation() -> None:
    model, x, y = chain("tanh"), random(4, 5, seed=50), random(4, 3, seed=51)
    found = ns.fixed_point(model, x, y, rule=ns.DualPropagation(beta=1e-3))
    assert found.gradients is not None
    exact = metrics.back_propagation(
        model, ns.Simulation(model, schedule=ns.schedules.Parallel()).loss, x, y
    )
    assert metrics.alignment(found.gradients, exact)[""].angle < 1e-3


def test_the_model_is_left_alone_and_float32_is_made_exact() -> None:
    model = ns.Model(chain("tanh").network, seed=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = random(4, 5, seed=50), random(4, 3, seed=51)
    found = ns.fixed_point(model, x.float(), y.float())
    assert found.residual <= 1e-12
    assert {value.dtype for value in found.mean.values()} == {F64}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    copy = exact_copy(model)
    assert copy.dtype == F64
    assert all(torch.equal(v, copy.state_dict()[n].float()) for n, v in before.items())


# ---- where there is none -----------------------------------------------------------------------


def nothing(found: ns.FixedPoint) -> str:
    """A failed search leaves nothing to measure against; what it says."""
    assert not found.reached
    assert (found.mean, found.difference, found.gradients) == ({}, {}, None)
    assert found.problem is not None
    return found.problem


def test_too_few_sweeps() -> None:
    x, y = random(4, 5, seed=50), random(4, 3, seed=51)
    found = ns.fixed_point(chain("tanh"), x, y, sweeps=3)
    assert "3 sweeps leave a residual of" in nothing(found)
    assert found.sweeps == 3
    assert found.residual > 1e-12


def test_one_that_overflows() -> None:
    """Not even where ‖s‖ overflows before s does: infinity is not within infinity."""
    x, y = random(4, 5, seed=50), random(4, 3, seed=51)
    problem = nothing(ns.fixed_point(chain("relu", 6.0), x, y))
    assert "parallel: the states overflow in sweep" in problem
    assert "forward: the states overflow in sweep" in problem


def test_one_that_oscillates() -> None:
    x, y = random(3, 4, seed=50), random(3, 2, seed=51)
    rule = ns.DualPropagation(beta=0.1)
    problem = nothing(ns.fixed_point(loop(1.5), x, y, rule=rule))
    assert "parallel: after 1000 sweeps the residual stays at" in problem
    assert "forward: after 1000 sweeps" in problem
    assert ns.fixed_point(loop(0.4), x, y, rule=ns.DualPropagation(beta=0.1)).reached


def test_one_population_after_the_other_finds_what_all_at_once_do_not() -> None:
    """Two dyads that push each other down, strongly: in step they jump together for ever."""
    model = loop(1.0)
    with torch.no_grad():
        model.state_dict()["up.weight"].copy_(-1.5 * torch.eye(4))
        model.state_dict()["back.weight"].copy_(-1.5 * torch.eye(4))
        model.state_dict()["in.weight"].zero_()
        for name, value in model.state_dict().items():
            if name.endswith(("a.bias", "b.bias")):
                value.fill_(0.3)
    x, y = random(3, 4, seed=50), torch.zeros(3, 2, dtype=F64)
    found = ns.fixed_point(model, x, y, rule=ns.DualPropagation(beta=0.01), sweeps=300)
    assert found.order == "forward"
    assert found.reached


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sweeps": 0}, "sweeps is 0"),
        ({"residual": 0.0}, "residual is 0.0"),
        ({"loss": "cross_entropy", "rule": ns.DualPropagation(nudge="proximal")}, "proximal"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=said):
        ns.fixed_point(chain(), random(1, 5), random(1, 3), **options)
