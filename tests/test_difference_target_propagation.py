"""Difference target propagation: its targets and gradients written out, and what its feedback
weights learn against autograd through the loss that they are said to descend."""

from __future__ import annotations

from math import acos, degrees
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import neurosim as ns
from neurosim.base.random import stream
from neurosim.conformance.simulations import batches_of
from neurosim.learning.checkpoint import load_state, save_state
from neurosim.learning.memory import estimate
from neurosim.measures.gradients import back_propagation

DOWN = ns.schedules.Sweep("backward", passes=1)
LAYERS = [{"name": n, "dense": d} for n, d in (("h1", 7), ("h2", 6), ("out", 3))]


def build(activation: str = "tanh", feedback: str = "random", **options: Any) -> ns.Model:
    description = {"input": 5, "activation": activation, "feedback": feedback, "layers": LAYERS}
    network = ns.Network.from_dict(description | options)
    return ns.Model(network, seed=3, dtype=torch.float64)


def angle(one: Tensor, other: Tensor) -> float:
    a, b = one.flatten(), other.flatten()
    return degrees(acos(min(1.0, float(a @ b / a.norm() / b.norm()))))


# ---- targets and gradients ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "f", "slope"),
    [
        ("tanh", torch.tanh, lambda a: 1 - torch.tanh(a) ** 2),
        ("relu", lambda a: a.clamp(min=0), lambda a: (a > 0).double()),
        ("hard_sigmoid", lambda a: a.clamp(0, 1), lambda a: ((a > 0) & (a < 1)).double()),
    ],
)
def test_the_difference_correction_written_out(activation: str, f: Any, slope: Any) -> None:
    """t = s + G(t') − G(s') with G(t) = V f(t) + c for a c of any size."""
    model = build(activation)
    x, y = batches_of(model, 1, 4)[0]
    beta = 0.6
    rule = ns.DifferenceTargetPropagation(beta=beta)
    sim = ns.Simulation(model, rule=rule, loss="cross_entropy", schedule=DOWN)
    outcome = sim.infer(x, y)
    p = model.state_dict()
    a1 = x @ p["h1.weight"].T + p["h1.bias"]
    a2 = f(a1) @ p["h2.weight"].T + p["h2.bias"]
    out = f(a2) @ p["out.weight"].T + p["out.bias"]
    s1, s2 = f(a1), f(a2)
    t3 = out - beta * (torch.softmax(out, 1) - y)
    c3, c2 = torch.randn(6).double(), torch.randn(7).double()
    t2 = s2 + ((t3 @ p["out.feedback"] + c3) - (out @ p["out.feedback"] + c3))
    t1 = s1 + ((f(t2) @ p["h2.feedback"] + c2) - (f(s2) @ p["h2.feedback"] + c2))
    for name, state, target in (("h1", s1, t1), ("h2", s2, t2), ("out", out, t3)):
        torch.testing.assert_close(outcome.plus[name], state, rtol=0, atol=1e-13)
        torch.testing.assert_close(outcome.minus[name], target, rtol=0, atol=1e-13)
    scale = -1 / (beta * len(x))
    found = sim.gradients()
    expected = {
        "out.weight": scale * (t3 - out).T @ s2,
        "h2.weight": scale * (slope(a2) * (t2 - s2)).T @ s1,
        "h1.weight": scale * (slope(a1) * (t1 - s1)).T @ x,
        "h1.bias": scale * (slope(a1) * (t1 - s1)).sum(0),
    }
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12)


def test_the_gradient_is_that_of_the_distance_to_the_targets() -> None:
    """By autograd of Σ ½‖s − t‖² / (βB), targets and states below held; conv and max-pooling."""
    description = {
        "input": [2, 6, 6],
        "activation": "tanh",
        "feedback": "random",
        "layers": [
            {"name": "c1", "conv": 3},
            {"name": "c2", "conv": 4, "pool": "max"},
            {"name": "out", "dense": 3},
        ],
    }
    model = ns.Model(ns.Network.from_dict(description), seed=3, dtype=torch.float64)
    x, y = batches_of(model, 1, 4)[0]
    rule = ns.DifferenceTargetPropagation(beta=0.6)
    sim = ns.Simulation(model, rule=rule, schedule=DOWN)
    outcome = sim.infer(x, y)
    p = dict(model.named_parameters())
    s1, s2 = outcome.plus["c1"], outcome.plus["c2"]
    layers = {
        "c1": torch.tanh(F.conv2d(x, p["c1.weight"], p["c1.bias"], padding=1)),
        "c2": torch.tanh(F.max_pool2d(F.conv2d(s1, p["c2.weight"], p["c2.bias"], padding=1), 2)),
        "out": s2.flatten(1) @ p["out.weight"].T + p["out.bias"],
    }
    value = sum(
        (0.5 * (state - outcome.minus[name]).square().sum() for name, state in layers.items()),
        torch.zeros(()),
    )
    names = list(p)
    expected = torch.autograd.grad(value / (rule.beta * len(x)), [p[name] for name in names])
    found = sim.gradients()
    for name, gradient in zip(names, expected, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-12)
    # And the targets of c1: convᵀ of what was unpooled to the winners.
    pooled, winners = F.max_pool2d(
        F.conv2d(s1, p["c2.weight"], p["c2.bias"], padding=1), 2, return_indices=True
    )
    feedback = model.feedback("c2")
    assert feedback is not None

    def back(target: Tensor) -> Tensor:
        return F.conv_transpose2d(
            F.max_unpool2d(torch.tanh(target), winners, 2), feedback, padding=1
        )

    assert pooled.shape == s2.shape
    target = s1 + back(outcome.minus["c2"]) - back(s2)
    torch.testing.assert_close(outcome.minus["c1"], target.detach(), rtol=0, atol=1e-13)


def test_transposed_jacobians_give_back_propagation() -> None:
    """Exactly, where layers are linear."""
    model = build("identity", "symmetric")
    x, y = batches_of(model, 1)[0]
    sim = ns.Simulation(model, rule=ns.DifferenceTargetPropagation(beta=0.3), schedule=DOWN)
    sim.infer(x, y)
    expected = back_propagation(model, sim.loss, x, y)
    for name, value in expected.items():
        torch.testing.assert_close(sim.gradients()[name], value, rtol=0, atol=1e-13)


def test_any_order_comes_to_the_same_targets() -> None:
    model = build()
    x, y = batches_of(model, 1)[0]
    rule = ns.DifferenceTargetPropagation(beta=0.6)
    ordered = ns.Simulation(model, rule=rule, loss="cross_entropy", schedule=DOWN)
    ordered.infer(x, y)
    schedules: list[ns.schedules.Schedule] = [
        ns.schedules.Parallel(9),
        ns.schedules.Poisson(unit="neuron", rate=1.0, duration=80.0),
        ns.schedules.Lazy(unit="block", duration=40.0),
    ]
    for schedule in schedules:
        sim = ns.Simulation(
            model, rule=rule, loss="cross_entropy", schedule=schedule, init="zero", nudge_after=0
        )
        sim.infer(x, y)
        for name, value in ordered.gradients().items():
            torch.testing.assert_close(sim.gradients()[name], value, rtol=0, atol=1e-12)


# ---- local-Jacobian learning -------------------------------------------------------------------


def test_the_steps_descend_the_stated_loss() -> None:
    """By autograd through −2⟨ε, G(F(x+ε)) − G(y)⟩ + ‖G(y+η) − G(y)‖², with the noise of its named
    stream and SGD of torch; conv with max-pooling, and a projection beside the one that learns."""
    network = ns.Network.from_dict(
        {
            "populations": {
                "input": {"shape": [2, 4, 4], "role": "input"},
                "c": {"shape": [3, 4, 4], "activation": "tanh"},
                "d": {"shape": [4, 2, 2], "activation": "tanh"},
                "output": {"shape": [3], "role": "output"},
            },
            "projections": [
                {"from": "input", "to": "c", "op": "conv"},
                {"from": "c", "to": "d", "op": "conv", "pool": "max", "feedback": "local_jacobian"},
                {"from": "c", "to": "d", "op": "conv", "stride": 2, "name": "beside"},
                {"from": "d", "to": "output"},
            ],
        }
    )
    model = ns.Model(network, seed=3, dtype=torch.float64)
    x, y = batches_of(model, 1, 4)[0]
    options = ns.LocalJacobian(steps=4, std={"c->d": 0.3}, rate=0.05, momentum=0.7)
    rule = ns.DifferenceTargetPropagation(beta=0.6, jacobian=options)
    sim = ns.Simulation(model, rule=rule, schedule=DOWN, seed=9)
    sim.infer(x, y)
    state = sim.state.by_name["c"].plus.value.clone()
    p = {name: value.clone() for name, value in model.state_dict().items()}
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    wakes, sent = sim.counts.wakes, sim.counts.messages
    sim.learn(frozen)

    def potential(x: Tensor) -> tuple[Tensor, Tensor]:
        middle = F.conv2d(x, p["c->d.weight"], padding=1)
        pooled, winners = F.max_pool2d(middle, 2, return_indices=True)
        beside = F.conv2d(x, p["beside.weight"], stride=2, padding=1)
        return pooled + beside + p["d.bias"][:, None, None], winners

    a, winners = potential(state)
    level = torch.tanh(a)
    feedback = p["c->d.feedback"].clone().requires_grad_()
    optimizer = torch.optim.SGD([feedback], lr=0.05, momentum=0.7)
    noise = stream(9, "local jacobian", "c->d", str(sim.inferences), str(sim.tick))

    def back(target: Tensor, to: Tensor = winners) -> Tensor:
        unpooled = F.max_unpool2d(torch.tanh(target), to, 2)
        return F.conv_transpose2d(unpooled, feedback, padding=1)

    for _ in range(4):
        epsilon = 0.3 * torch.from_numpy(noise.standard_normal(tuple(state.shape)))
        # F of this projection: what comes beside it stays. G goes back to the winners of the pass
        # that its argument is of.
        middle = F.conv2d(state + epsilon, p["c->d.weight"], padding=1)
        pooled, noisy = F.max_pool2d(middle, 2, return_indices=True)
        assert not torch.equal(noisy, winners)
        others = a - F.max_pool2d(F.conv2d(state, p["c->d.weight"], padding=1), 2)
        moved = torch.tanh(pooled + others)
        eta = 0.3 * torch.from_numpy(noise.standard_normal(tuple(level.shape)))
        loss = -2 * (epsilon * (back(moved, noisy) - back(level))).sum()
        loss = loss + (back(level + eta) - back(level)).square().sum()
        optimizer.zero_grad()
        (loss / len(x)).backward()
        optimizer.step()
    found = model.feedback("c->d")
    assert found is not None
    assert float((found - p["c->d.feedback"]).abs().max()) > 1e-3
    torch.testing.assert_close(found, feedback.detach(), rtol=0, atol=1e-12)
    # One population sends up once, the other down twice, in each of four steps.
    assert sim.counts.wakes - wakes == 4 * (48 + 2 * 16)
    assert sim.counts.messages - sent == 4 * 4 * (48 + 2 * 16)


def test_linear_layers_learn_the_transposed_weight() -> None:
    """There the least of the loss is V = W, which noise only blurs."""
    options = ns.LocalJacobian(steps=400, std=0.5, rate=0.02, momentum=0.5)
    rule = ns.DifferenceTargetPropagation(jacobian=options)
    model = build("identity", "local_jacobian")
    sim = ns.Simulation(model, rule=rule, schedule=DOWN)
    x, y = batches_of(model, 1, 50)[0]
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    p = model.state_dict()
    before = [angle(p[f"{n}.weight"], p[f"{n}.feedback"]) for n in ("h2", "out")]
    sim.infer(x, y)
    sim.learn(frozen)
    after = [angle(p[f"{n}.weight"], p[f"{n}.feedback"]) for n in ("h2", "out")]
    assert min(before) > 60
    assert max(after) < 6, after
    for name in ("h2", "out"):
        ratio = float(p[f"{name}.feedback"].norm() / p[f"{name}.weight"].norm())
        assert ratio == pytest.approx(1.0, abs=0.1)


def test_learned_feedback_turns_the_gradient_to_back_propagation() -> None:
    """On tanh layers in which states are small: far from saturation f'(s) is f'(a)."""
    model = build("tanh", "local_jacobian")
    with torch.no_grad():
        model.get_parameter("h1.weight").mul_(0.2)
    options = ns.LocalJacobian(steps=300, std=0.2, rate=0.1, momentum=0.5)
    rule = ns.DifferenceTargetPropagation(beta=0.05, jacobian=options)
    sim = ns.Simulation(model, rule=rule, schedule=DOWN)
    x, y = batches_of(model, 1, 40)[0]
    expected = back_propagation(model, sim.loss, x, y)["h1.weight"]
    sim.infer(x, y)
    first = angle(sim.gradients()["h1.weight"], expected)
    sim.learn(torch.optim.SGD(model.parameters(), lr=0.0))
    sim.infer(x, y)
    assert first > 45
    assert angle(sim.gradients()["h1.weight"], expected) < 10


def test_faults_send_no_noise() -> None:
    model = build("tanh", "local_jacobian")
    x, y = batches_of(model, 1)[0]
    sim = ns.Simulation(
        model,
        rule=ns.DifferenceTargetPropagation(),
        schedule=DOWN,
        faults=ns.Faults(dead=0.3, stuck=0.3, stuck_at=0.5),
    )
    sim.infer(x, y)
    held = sim.state.by_name["h1"].held
    assert held is not None
    assert not sim.gradients()["h1.bias"][torch.from_numpy(held.dyads)].any()
    feedback = model.feedback("h2")
    assert feedback is not None
    before = feedback.clone()
    sim.learn(torch.optim.SGD(model.parameters(), lr=0.1))
    post = sim.state.by_name["h2"].held
    assert post is not None
    moved = (feedback - before).abs()
    assert not moved[torch.from_numpy(post.dyads)].any()
    assert moved.any()


def test_saved_between_batches_and_continued(tmp_path: Path) -> None:
    """The momentum of the feedback weights is state."""

    def fresh() -> tuple[ns.Simulation, torch.optim.Optimizer]:
        model = build("tanh", "local_jacobian")
        sim = ns.Simulation(model, rule=ns.DifferenceTargetPropagation(), schedule=DOWN)
        return sim, torch.optim.SGD(model.parameters(), lr=0.1)

    whole, optimizer = fresh()
    data = batches_of(whole.model, 4)
    for x, y in data[:2]:
        whole.infer(x, y)
        whole.learn(optimizer)
    tree = {"model": dict(whole.model.state_dict()), "simulation": whole.state_dict()}
    save_state(tmp_path / "state", tree)
    tree = load_state(tmp_path / "state")
    part, again = fresh()
    part.model.load_state_dict(tree["model"])
    part.load_state_dict(tree["simulation"])
    for sim, chosen in ((whole, optimizer), (part, again)):
        for x, y in data[2:]:
            sim.infer(x, y)
            sim.learn(chosen)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(part.model.state_dict()[name], value), name


def test_memory_of_the_momentum() -> None:
    plain, own = (
        estimate(
            ns.Simulation(
                build("tanh", kind), rule=ns.DifferenceTargetPropagation(), schedule=DOWN
            ),
            4,
            "sgd",
        )
        for kind in ("random", "local_jacobian")
    )
    assert own.weights == plain.weights
    assert own.optimizer - plain.optimizer == 2 * (7 * 6 + 6 * 3) * 8


# ---- refused -----------------------------------------------------------------------------------


def test_refused() -> None:
    options = ns.LocalJacobian()
    rule = ns.DifferenceTargetPropagation(jacobian=options)
    with pytest.raises(ns.ConfigurationError, match="no projection has any that do"):
        ns.Simulation(build(), rule=rule, schedule=DOWN)
    model = build(feedback="local_jacobian")
    for other in (ns.DualPropagation(), ns.BackPropagation(), ns.LPOM()):
        with pytest.raises(ns.ConfigurationError, match="is 'local_jacobian'; change it, or use"):
            ns.Simulation(model, rule=other, schedule=DOWN)
    for named, said in (({"h2": 3}, "not for 'out'"), ({"h2": 3, "ot": 1}, "did you mean 'out'")):
        rule = ns.DifferenceTargetPropagation(jacobian=ns.LocalJacobian(steps=named))
        with pytest.raises(ns.ConfigurationError, match=said):
            ns.Simulation(model, rule=rule, schedule=DOWN)
    for arguments in ({"std": 0.0}, {"rate": {"h2": -1.0}}, {"steps": 0}, {"momentum": 1.0}):
        with pytest.raises(ns.ConfigurationError, match=next(iter(arguments))):
            ns.LocalJacobian(**arguments)
    with pytest.raises(ns.ConfigurationError, match="beta"):
        ns.DifferenceTargetPropagation(beta=-1.0)
