"""Measures of a state against closed forms, and the laws of dual propagation they must show."""

from __future__ import annotations

from itertools import pairwise
from math import acos, degrees, log, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurosim as ns
from neurosim import metrics
from neurosim.maths.losses import Loss

KINDS = {"dtype": torch.float64}


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, **KINDS)


def make(
    sizes: list[int], activation: str, scale: float = 1.0, seed: int = 0
) -> tuple[ns.Model, Tensor, Tensor]:
    """A chain with random weights and biases, and a batch of four."""
    layers: list[dict[str, Any]] = [
        {"name": f"h{i}", "dense": size, "activation": activation}
        for i, size in enumerate(sizes[1:-1], 1)
    ]
    layers.append({"name": "out", "dense": sizes[-1]})
    model = ns.Model(ns.Network.from_dict({"input": sizes[0], "layers": layers}), **KINDS)
    with torch.no_grad():
        for number, value in enumerate(model.state_dict().values()):
            fan_in = value.shape[1] if value.dim() == 2 else 4
            value.copy_(random(*value.shape, seed=seed + number) * scale / sqrt(fan_in))
    return model, random(4, sizes[0], seed=100), random(4, sizes[-1], seed=101)


def simulate(model: ns.Model, schedule: Any, init: str = "zero", **rule: Any) -> ns.Simulation:
    loss = rule.pop("loss", "squared_error")
    nudge_after = rule.pop("nudge_after", 0)
    return ns.Simulation(
        model,
        schedule=schedule,
        init=init,  # type: ignore[arg-type]
        loss=loss,
        rule=ns.DualPropagation(**rule),
        nudge_after=nudge_after,
    )


def residual(simulation: ns.Simulation) -> metrics.Residual:
    return metrics.residual(simulation.state, simulation.rule, simulation.nudge)


# ---- alignment ---------------------------------------------------------------------------------


def test_angle_and_ratio_by_hand() -> None:
    local = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([[0.0, 2.0]])}
    reference = {"a": torch.tensor([10.0, 0.0]), "b": torch.tensor([[0.0, 1.0]])}
    found = metrics.alignment(local, reference)
    assert found["a"].angle == pytest.approx(degrees(acos(0.6)))
    assert found["a"].norm_ratio == pytest.approx(0.5)
    assert found["b"] == (0.0, 2.0)
    assert found[""].angle == pytest.approx(degrees(acos(32.0 / sqrt(29.0 * 101.0))))
    assert found[""].norm_ratio == pytest.approx(sqrt(29.0 / 101.0))


def test_angles_at_their_ends() -> None:
    one, zero = {"a": torch.tensor([1.0, 1e-3], **KINDS)}, {"a": torch.zeros(2, **KINDS)}
    assert metrics.alignment(one, one)["a"].angle == pytest.approx(0.0, abs=1e-5)
    assert metrics.alignment(one, {"a": -one["a"]})["a"].angle == pytest.approx(180.0, abs=1e-5)
    assert metrics.alignment(zero, one)[""] == (90.0, 0.0)
    assert metrics.alignment(one, zero)["a"] == (90.0, float("inf"))
    assert metrics.alignment(zero, zero)["a"] == (0.0, 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_angle_of_a_gradient_with_itself(dtype: torch.dtype) -> None:
    """Round-off of the norms must not look like an angle that one would plot."""
    for seed in range(20):
        gradient = {"a": random(30, 100, seed=seed).to(dtype)}
        found = metrics.alignment(gradient, gradient)
        assert max(found["a"].angle, found[""].angle) < 1e-5  # degrees
        assert found["a"].norm_ratio == 1.0


def test_back_propagation_is_autograd() -> None:
    model, x, y = make([3, 5, 2], "tanh")
    for loss in map(Loss.of, Loss.family):
        target = torch.softmax(y, 1)
        found = metrics.back_propagation(model, loss, x, target)
        model.zero_grad()
        loss.value(model(x), target).mean().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-13, atol=1e-13)
    model.zero_grad(set_to_none=True)
    metrics.back_propagation(model, Loss.of("squared_error"), x, y)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_accuracy() -> None:
    prediction = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert metrics.accuracy(prediction, torch.tensor([1, 0, 0, 0])) == 0.75
    assert metrics.accuracy(prediction.view(4, 2, 1, 1), torch.tensor([0, 1, 0, 1])) == 0.0
    assert metrics.accuracy(prediction[:1], torch.tensor([1])) == 1.0


def test_number_of_parameters() -> None:
    assert metrics.parameters_of(make([3, 5, 2], "tanh")[0]) == 15 + 5 + 10 + 2


# ---- residual and fixed points -----------------------------------------------------------------


def test_states_too_large_to_measure_are_not_at_rest() -> None:
    """Their norm overflows; divided by it, every step would be nothing."""
    model, x, y = make([3, 5, 2], "identity")
    with torch.no_grad():
        model.get_parameter("out.weight").mul_(1e-20)
    sim = ns.Simulation(model, schedule=ns.schedules.Parallel(9), init="zero")
    sim.start(1e160 * x, y)
    sim.advance(1)
    assert metrics.residual(sim.state, sim.rule, sim.nudge).mean[""] == float("inf")


@pytest.mark.parametrize("variant", ["aro", "lagrangian", "damped"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_residual_falls_to_round_off(variant: str, alpha: float) -> None:
    """Of undamped wakes: so damping must not have moved the fixed point."""
    model, x, y = make([3, 6, 5, 2], "hard_sigmoid", scale=0.3)
    few = simulate(model, ns.schedules.Parallel(2), variant=variant, alpha=alpha, beta=0.5)
    few.infer(x, y)
    assert residual(few).mean[""] > 1e-3
    assert residual(few).difference[""] > 1e-3
    many = simulate(model, ns.schedules.Parallel(200), variant=variant, alpha=alpha, beta=0.5)
    many.infer(x, y)
    end = residual(many)
    assert set(end.mean) == set(end.difference) == {"h1", "h2", "out", ""}
    assert max(end.mean.values()) < 1e-14
    assert max(end.difference.values()) < 1e-13


def test_residual_by_hand() -> None:
    """One linear dyad per layer, after a single parallel wake from zero states."""
    model, *_ = make([1, 1, 1], "identity")
    values = {"h1.weight": 2.0, "h1.bias": 1.0, "out.weight": 3.0, "out.bias": -1.0}
    model.load_state_dict({k: torch.full_like(v, values[k]) for k, v in model.state_dict().items()})
    sim = simulate(model, ns.schedules.Parallel(1), nudge="potential", alpha=0.5, beta=0.5)
    sim.infer(torch.tensor([[1.0]], **KINDS), torch.tensor([[4.0]], **KINDS))
    # h1 = 2·1 + 1 = 3 with no difference; out sees 0: a = −1, −β(a − y) = 2.5, s̄ = −1.
    # A parallel wake: h1 = 3 ± ½·3·2.5; out a = 8, difference −0.5·4 = −2.
    found = residual(sim)
    assert found.mean["h1"] == 0.0
    assert found.mean["out"] == pytest.approx(9.0)
    assert found.mean[""] == pytest.approx(9.0 / sqrt(9.0 + 1.0))
    assert found.difference["h1"] == float("inf")  # from nothing to 7.5
    assert found.difference["out"] == pytest.approx(4.5 / 2.5)
    assert found.difference[""] == pytest.approx(sqrt(7.5**2 + 4.5**2) / 2.5)


def test_measures_change_nothing() -> None:
    model, x, y = make([3, 6, 5, 2], "tanh")
    sim = simulate(model, ns.schedules.RandomOrder("neuron", groups=3, passes=3))
    sim.start(x, y)
    sim.advance(4)
    before = {c.name: (c.plus.value.clone(), c.minus.value.clone()) for c in sim.state.cells}
    counts = sim.counts.forward, sim.counts.adjoint
    residual(sim)
    metrics.reach(sim.state)
    sim.objective()
    assert counts == (sim.counts.forward, sim.counts.adjoint)
    for cell in sim.state.cells:
        assert torch.equal(cell.plus.value, before[cell.name][0])
        assert torch.equal(cell.minus.value, before[cell.name][1])


@pytest.mark.parametrize("nudge", ["potential", "proximal"])
@pytest.mark.parametrize("variant", ["aro", "lagrangian", "damped"])
@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_the_fixed_point_of_a_linear_chain(variant: str, nudge: str, alpha: float) -> None:
    """All equations of all layers as one linear system, solved at once.

    Unknown per layer k: s⁺, s⁻. With a = W s̄ + b and Δ = Wᵀ(s⁺ − s⁻) from above:
    (1 + c±) s± = a ± w±Δ, where only an output has Δ = β(y − a) (c = 0) or βy and c± = ±w±β.
    Damping moves no fixed point.
    """
    beta, sizes = 0.2, [3, 4, 3, 2]
    model, x, y = make(sizes, "identity", scale=0.3)
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    up, down = (1 - alpha, alpha) if variant == "lagrangian" else (alpha, 1 - alpha)
    starts = np.cumsum([0, *[2 * n for n in sizes[1:]]])
    names = ["h1", "h2", "out"]

    def block(k: int, side: int) -> slice:
        n = sizes[k + 1]
        return slice(starts[k] + side * n, starts[k] + (side + 1) * n)

    matrix, right = np.eye(starts[-1]), np.zeros((starts[-1], 4))
    for k, name in enumerate(names):
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"][:, None]
        for side, sign, share in ((0, 1, up), (1, -1, down)):
            rows = block(k, side)
            last = k == len(names) - 1
            gain = 1.0  # of the basal potential
            if last and nudge == "potential":
                gain = 1.0 - sign * share * beta
            if last:
                right[rows] += sign * share * beta * y.numpy().T
                if nudge == "proximal":
                    matrix[rows, rows] *= 1.0 + sign * share * beta
            else:
                above = weights[f"{names[k + 1]}.weight"].T
                matrix[rows, block(k + 1, 0)] -= sign * share * above
                matrix[rows, block(k + 1, 1)] += sign * share * above
            right[rows] += gain * bias
            if k == 0:
                right[rows] += gain * weight @ x.numpy().T
            else:
                matrix[rows, block(k - 1, 0)] -= gain * alpha * weight
                matrix[rows, block(k - 1, 1)] -= gain * (1 - alpha) * weight
    solution = np.linalg.solve(matrix, right)
    sim = simulate(
        model,
        ns.schedules.Parallel(200),
        variant=variant,
        alpha=alpha,
        beta=beta,
        nudge=nudge,
    )
    outcome = sim.infer(x, y)
    for k, name in enumerate(names):
        for side, states in enumerate((outcome.plus, outcome.minus)):
            expected = torch.from_numpy(solution[block(k, side)].T.copy())
            torch.testing.assert_close(states[name], expected, rtol=1e-12, atol=1e-12)


# ---- reach -------------------------------------------------------------------------------------


def test_reach_goes_down_by_one_layer_per_tick() -> None:
    model, x, y = make([3, 6, 5, 4, 2], "tanh")
    sim = simulate(model, ns.schedules.Parallel(6), init="feedforward", nudge_after=2)
    names = ["h1", "h2", "h3", "out"]
    sim.start(x, y)
    assert metrics.reach(sim.state) == dict.fromkeys(names, False)
    for tick in range(1, 7):
        sim.advance(1)
        reached = names[max(0, 4 - max(0, tick - 1)) :]
        assert metrics.reach(sim.state) == {name: name in reached for name in names}


def test_reach_without_a_target() -> None:
    model, x, _ = make([3, 6, 2], "tanh")
    sim = simulate(model, ns.schedules.Parallel(5))
    sim.infer(x)
    assert not any(metrics.reach(sim.state).values())


# ---- the gradient ------------------------------------------------------------------------------


def errors(alpha: float, variant: str, nudge: str, loss: str, betas: list[float]) -> list[float]:
    """The angle to the gradient of back-propagation, by beta, on a tanh network."""
    model, x, y = make([3, 6, 5, 2], "tanh", scale=0.8)
    target = torch.softmax(2 * y, 1) if loss == "cross_entropy" else y
    reference = metrics.back_propagation(model, Loss.of(loss), x, target)
    found = []
    for beta in betas:
        sim = simulate(
            model,
            ns.schedules.Sweep("forward_backward", 40),
            init="feedforward",
            alpha=alpha,
            beta=beta,
            variant=variant,
            nudge=nudge,
            loss=loss,
        )
        sim.infer(x, target)
        assert max(residual(sim).difference.values()) < 1e-9
        found.append(metrics.alignment(sim.gradients(), reference)[""].angle)
    return found


@pytest.mark.parametrize("variant", ["aro", "lagrangian"])
@pytest.mark.parametrize(
    ("nudge", "loss"),
    [
        ("prediction", "squared_error"),
        ("potential", "squared_error"),
        ("proximal", "squared_error"),
        ("prediction", "cross_entropy"),
        ("potential", "cross_entropy"),
    ],
)
@pytest.mark.parametrize(("alpha", "order"), [(0.5, 2.0), (0.0, 1.0), (1.0, 1.0)])
def test_the_order_of_the_gradient(
    variant: str, nudge: str, loss: str, alpha: float, order: float
) -> None:
    """The error is of order β² at α = ½ and β otherwise: the slope of a log-log line."""
    betas = [0.02, 0.01, 0.005]
    found = errors(alpha, variant, nudge, loss, betas)
    for one, two in pairwise(found):
        assert log(one / two) / log(2.0) == pytest.approx(order, rel=0.1)
    assert found[-1] < 0.5  # degrees


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.7])
@pytest.mark.parametrize("nudge", ["potential", "proximal"])
def test_the_objective_has_the_local_gradient(alpha: float, nudge: str) -> None:
    """d/dW of (1/βB) Σ (s⁻ − s⁺)ᵀ a with the states held, by central differences."""
    model, x, y = make([3, 5, 4, 2], "tanh")
    sim = simulate(
        model, ns.schedules.Sweep("forward_backward", 3), alpha=alpha, nudge=nudge, beta=0.4
    )
    sim.infer(x, y)
    gradients, step = sim.gradients(), 1e-4
    assert list(gradients) == list(model.state_dict())
    assert sim.objective() == metrics.contrastive_objective(sim.state, sim.rule)
    for name, parameter in model.named_parameters():
        flat = parameter.data.view(-1)
        for i in range(0, len(flat), 3):
            values = []
            for sign in (1, -1):
                flat[i] += sign * step
                values.append(metrics.contrastive_objective(sim.state, sim.rule))
                flat[i] -= sign * step
            slope = (values[0] - values[1]) / (2 * step)  # it is linear in every parameter
            assert slope == pytest.approx(gradients[name].view(-1)[i].item(), rel=1e-8, abs=1e-9)


def test_the_prediction_is_the_output_without_its_nudge() -> None:
    """After a downward sweep the output's potential is still that of the feed-forward pass."""
    model, x, y = make([3, 5, 4, 2], "tanh")
    sim = simulate(model, ns.schedules.Sweep("backward"), init="feedforward", beta=0.5)
    outcome = sim.infer(x, y)
    torch.testing.assert_close(outcome.prediction, model(x).detach(), rtol=1e-13, atol=1e-13)
    assert not torch.allclose(outcome.plus["out"], outcome.prediction)


def test_a_residual_before_anything_is_pooled() -> None:
    """Dyads that never wake have sent a difference, which goes back to the winners among the means
    that they see, although nobody has woken."""
    layers = [{"name": "c1", "conv": 2}, {"name": "c2", "conv": 2, "pool": "max"}, {"dense": 3}]
    network = ns.Network.from_dict({"input": [1, 4, 4], "activation": "tanh", "layers": layers})
    simulation = ns.Simulation(
        ns.Model(network, seed=1, **KINDS),
        schedule=ns.schedules.Replay(((1.0, "output", None), (2.0, "c1", None), (3.0, "c2", None))),
        rule=ns.EquilibriumPropagation(),
        faults=ns.Faults(stuck=0.4, stuck_at=0.5),
        init="zero",
    )
    simulation.start(random(2, 1, 4, 4), torch.eye(3, **KINDS)[:2])
    c1, c2 = simulation.state.by_name["c1"], simulation.state.by_name["c2"]
    would = []
    for _ in range(3):
        assert c2.difference.tensor is not None
        wakes = metrics.parallel_wake(simulation.state, simulation.rule, simulation.nudge)
        would.append(wakes["c1"].plus)
        assert all(value >= 0 for value in residual(simulation).mean.values())
        (link,) = c2.incoming
        learned = link.weight_gradient(c2.difference.tensor)
        assert learned.any()
        simulation.advance(1)
    (link,) = c1.outgoing
    assert link.winners.tensor is not None
    assert torch.equal(would[1], c1.plus.value)  # it woke at tick 2
