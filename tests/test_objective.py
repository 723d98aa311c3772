"""L_α: stationary at the fixed point, and its derivative by the weights is the local gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from settling_models import chain, random

import neurosim as ns
from neurosim.maths.activations import Activation
from neurosim.measures import alpha_objective


def settled(activation: str, **rule: Any) -> ns.Simulation:
    """A simulation at its fixed point."""
    simulation = ns.Simulation(
        chain(activation, 0.6),
        rule=ns.DualPropagation(**rule),
        schedule=ns.schedules.Parallel(ticks=400),
        nudge_after=0,
    )
    simulation.infer(random(4, 5, seed=50), random(4, 3, seed=51))
    return simulation


def objective(simulation: ns.Simulation) -> float:
    value = alpha_objective(simulation.state, simulation.rule, simulation.nudge)
    assert value is not None
    return value


CASES = [
    ("tanh", {"alpha": 0.5, "beta": 0.3, "nudge": "proximal"}),
    ("tanh", {"alpha": 0.5, "beta": 0.3, "nudge": "prediction"}),
    ("relu", {"alpha": 0.5, "beta": 0.3, "nudge": "proximal"}),
    ("identity", {"alpha": 0.7, "beta": 0.2, "nudge": "proximal"}),
    ("tanh", {"alpha": 0.3, "beta": 0.2, "nudge": "prediction"}),
]


@pytest.mark.parametrize(("activation", "rule"), CASES)
def test_the_fixed_point_is_a_stationary_point(activation: str, rule: dict[str, Any]) -> None:
    """A step h along any state changes L_α by h² times something, not by h times something."""
    simulation = settled(activation, **rule)
    here = objective(simulation)
    for cell in simulation.state.cells:
        for slot in (cell.plus, cell.minus):
            before, step = slot.value, random(*slot.value.shape, seed=9)
            if activation == "relu" and cell is not simulation.state.output:
                step = step * (before > 0)  # G is infinite below zero
            changes = []
            for h in (1e-3, 1e-4):
                slot.set(before + h * step)
                up = objective(simulation)
                slot.set(before - h * step)
                changes.append(abs(up - objective(simulation)) / (2 * h))
            slot.set(before)
            assert changes[1] < 1e-6, (cell.name, changes)
    assert objective(simulation) == here


@pytest.mark.parametrize(("activation", "rule"), CASES)
def test_its_derivative_is_the_local_gradient(activation: str, rule: dict[str, Any]) -> None:
    simulation = settled(activation, **rule)
    gradients, h = simulation.gradients(), 1e-6
    for name, weight in simulation.model.state_dict().items():
        flat = weight.view(-1)
        for index in (0, len(flat) - 1):
            before, values = float(flat[index]), []
            for step in (h, -h):
                flat[index] = before + step
                values.append(objective(simulation))
            flat[index] = before
            slope = (values[0] - values[1]) / (2 * h)
            assert slope == pytest.approx(float(gradients[name].view(-1)[index]), abs=1e-7), name


@pytest.mark.parametrize("activation", ["relu", "identity", "hard_sigmoid", "tanh"])
def test_the_gradient_of_g_inverts_the_activation(activation: Any) -> None:
    potential = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    state = torch.tanh(potential) if activation == "tanh" else potential
    state = state.clone().requires_grad_()
    (slope,) = torch.autograd.grad(Activation.of(activation).inverse_primitive(state).sum(), state)
    torch.testing.assert_close(slope, potential, rtol=1e-12, atol=1e-12)
    edge = torch.tensor([1.0, -1.0] if activation == "tanh" else [1.0, 0.0], dtype=torch.float64)
    assert Activation.of(activation).inverse_primitive(edge).isfinite().all()


def test_where_it_is_not_the_objective() -> None:
    for alpha, there in ((0.5, True), (0.25, False)):
        simulation = settled("tanh", alpha=alpha, beta=0.2, variant="lagrangian")
        value = alpha_objective(simulation.state, simulation.rule, simulation.nudge)
        assert (value is not None) == there


def test_without_a_target_only_the_energies_count() -> None:
    simulation = settled("tanh")
    simulation.infer(random(4, 5, seed=50))
    assert objective(simulation) == 0.0
