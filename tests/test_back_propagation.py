"""Back-propagation by messages: autograd's gradient, whoever wakes when."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from fewer import covering
from torch import Tensor

import neurosim as ns
from neurosim.conformance.simulations import batches_of
from neurosim.maths.losses import Loss
from neurosim.measures.gradients import back_propagation
from tests.conformance.cases import NETWORKS, make_model

ROOT = Path(__file__).parents[1]
RULE = ns.BackPropagation()
SOFT = {"kind": "softmax", "gain": 3.0, "kernel": 3, "stride": 2, "padding": 1}
RESIDUAL: dict[str, Any] = {
    "populations": {
        "input": {"shape": [2, 6, 6], "role": "input"},
        "stem": {"shape": [4, 6, 6]},
        "a": {"shape": [4, 6, 6], "activation": "tanh"},
        "b": {"shape": [4, 3, 3], "activation": "hard_sigmoid"},
        "pooled": {"shape": [4, 1, 1], "activation": "identity"},
        "output": {"shape": [3], "role": "output"},
    },
    "projections": [
        {"from": "input", "to": "stem", "op": "conv"},
        {"from": "stem", "to": "a", "op": "conv"},
        {"from": "stem", "to": "a", "op": "identity", "name": "shortcut"},
        {"from": "a", "to": "b", "op": "conv", "pool": "max"},
        {"from": "stem", "to": "b", "op": "pool", "pool": "avg", "name": "short"},
        {"from": "stem", "to": "b", "op": "pool", "pool": "softmax", "name": "soft"},
        {"from": "a", "to": "b", "op": "conv", "pool": SOFT, "name": "softer"},
        {"from": "b", "to": "pooled", "op": "pool", "pool": {"kind": "avg", "kernel": 3}},
        {"from": "pooled", "to": "output", "op": "dense"},
        {"from": "stem", "to": "output", "op": "dense"},
    ],
}
DESCRIPTIONS = {**NETWORKS, "residual": RESIDUAL}


def model_of(name: str) -> ns.Model:
    if name in NETWORKS:
        return make_model(name)
    return ns.Model(ns.Network.from_dict(DESCRIPTIONS[name]), seed=3, dtype=torch.float64)


def off(sim: ns.Simulation, x: Tensor, y: Tensor) -> float:
    """The largest deviation from autograd, relative to the largest gradient of the parameter. What
    a mismatched synapse multiplies by is no part of its weight, nor of the local gradient."""
    damage = sim.state.damage
    expected = back_propagation(sim.model, sim.loss, x, y, damage)
    for name, factor in damage.forward_factors.items():
        expected[f"{name}.weight"] /= factor
    found = sim.gradients()
    assert set(found) == set(expected)
    return max(
        float((found[name] - value).abs().max() / value.abs().max())
        for name, value in expected.items()
    )


# ---- in order ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", Loss.family)
@pytest.mark.parametrize("network", DESCRIPTIONS)
def test_one_sweep_down_is_autograd(network: str, loss: str) -> None:
    model = model_of(network)
    sim = ns.Simulation(model, rule=RULE, loss=loss, schedule=ns.schedules.Sweep("backward", 1))
    for x, y in batches_of(model, 2, 5):
        outcome = sim.infer(x, y)
        assert off(sim, x, y) <= 1e-12
        torch.testing.assert_close(outcome.prediction, model(x), rtol=0, atol=0)


def test_it_costs_what_a_step_of_back_propagation_costs() -> None:
    model = make_model("mlp")
    x, y = batches_of(model, 1, 4)[0]
    sim = ns.Simulation(model, rule=RULE, schedule=ns.schedules.Sweep("backward", 1))
    outcome = sim.infer(x, y)
    sim.gradients()
    counts = sim.counts
    assert (counts.forward, counts.adjoint, counts.weight_gradient) == (3, 2, 3)
    # The pass up is the start: operations, but neither wakes nor messages.
    assert outcome.wakes == 7 + 6 + 3
    assert counts.mean_messages == 0
    assert 0 < counts.difference_messages <= 4 * (3 + 6)


def test_faults_are_differentiated_too() -> None:
    for name in ("mlp", "conv"):
        model = make_model(name)
        x, y = batches_of(model, 1, 4)[0]
        sim = ns.Simulation(
            model,
            rule=RULE,
            loss="cross_entropy",
            schedule=ns.schedules.Sweep("backward", 1),
            faults=ns.Faults(
                dead=0.2, stuck=0.2, stuck_at=0.5, weight_noise=0.1, weight_noise_shared=True
            ),
        )
        sim.infer(x, y)
        assert off(sim, x, y) <= 1e-12


def test_kinks_are_taken_as_autograd_takes_them() -> None:
    """Potentials of exactly 0 and 1: relu has no slope at 0, the clipped ramp has at both ends."""
    network = ns.Network.from_dict(
        {
            "input": 4,
            "layers": [
                {"dense": 4, "activation": "hard_sigmoid", "name": "ramp"},
                {"dense": 4, "activation": "relu", "name": "rectified"},
                {"dense": 4, "name": "out"},
            ],
        }
    )
    model = ns.Model(network, dtype=torch.float64)
    with torch.no_grad():
        for name in ("ramp", "rectified", "out"):
            model.get_parameter(f"{name}.weight").copy_(torch.eye(4))
        model.get_parameter("rectified.bias").copy_(torch.tensor([1.0, 0.0, 0.0, -0.25]))
    x = torch.tensor([[0.0, 1.0, 0.5, 0.25]], dtype=torch.float64)
    sim = ns.Simulation(model, rule=RULE, schedule=ns.schedules.Sweep("backward", 1))
    y = torch.full((1, 4), 2.5, dtype=torch.float64)
    sim.infer(x, y)
    assert off(sim, x, y) == 0.0
    assert (sim.gradients()["ramp.bias"] != 0).tolist() == [True, True, True, False]


# ---- in any order ------------------------------------------------------------------------------

LATE = ns.Channel(delay=ns.Uniform(0.0, 3.0), jitter=ns.Uniform(0.0, 1.0))
ORDERS: dict[str, dict[str, Any]] = {
    "parallel": {"schedule": ns.schedules.Parallel(14)},
    "random order": {"schedule": ns.schedules.RandomOrder(unit="neuron", groups=3, passes=25)},
    "populations": {"schedule": ns.schedules.RandomOrder(unit="population", updates=150)},
    "poisson": {"schedule": ns.schedules.Poisson(unit="block", rate=1.0, duration=80.0)},
    "periodic": {"schedule": ns.schedules.Periodic(unit="tile", spread=0.1, duration=40.0)},
    "lazy": {"schedule": ns.schedules.Lazy(unit="neuron", duration=60.0)},
    "odd-even": {"schedule": ns.schedules.Sweep("odd_even", 14)},
    "late": {
        "schedule": ns.schedules.Poisson(unit="block", rate=1.0, duration=150.0),
        "channels": ns.Channels(LATE, LATE),
    },
}


@pytest.mark.parametrize(
    ("network", "order", "init"),
    covering(product(DESCRIPTIONS, ORDERS, ("zero", "feedforward", "carry"))),
)
def test_any_order_comes_to_autograd(network: str, order: str, init: Any) -> None:
    """Influence has no cycles, so once every message is through the result is exact."""
    model = model_of(network)
    sim = ns.Simulation(
        model, rule=RULE, loss="cross_entropy", init=init, nudge_after=0, **ORDERS[order]
    )
    for x, y in batches_of(model, 2 if init == "carry" else 1):
        sim.infer(x, y)
        assert off(sim, x, y) <= 1e-12


def test_a_cycle_comes_to_recurrent_back_propagation() -> None:
    """The gradient at the fixed point of a recurrent network, by autograd through its settling."""
    network = ns.Network.from_dict(
        {
            "populations": {
                "input": {"shape": [4], "role": "input"},
                "h": {"shape": [6], "activation": "tanh"},
                "output": {"shape": [3], "role": "output"},
            },
            "projections": [
                {"from": "input", "to": "h"},
                {"from": "h", "to": "h", "name": "again"},
                {"from": "h", "to": "output"},
            ],
        }
    )
    model = ns.Model(network, seed=2, dtype=torch.float64)
    with torch.no_grad():
        model.get_parameter("again.weight").mul_(0.4)
    x, y = batches_of(model, 1)[0]
    sim = ns.Simulation(
        model, rule=RULE, schedule=ns.schedules.Parallel(400), init="zero", nudge_after=0
    )
    sim.infer(x, y)
    p = dict(model.named_parameters())
    state = torch.zeros(len(x), 6, dtype=torch.float64)
    for _ in range(300):
        drive = x @ p["input->h.weight"].T + state @ p["again.weight"].T + p["h.bias"]
        state = torch.tanh(drive)
    prediction = state @ p["h->output.weight"].T + p["output.bias"]
    value = Loss.of("squared_error").mean(prediction, y)
    expected = dict(zip(p, torch.autograd.grad(value, list(p.values())), strict=True))
    found = sim.gradients()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-12)


# ---- learning ----------------------------------------------------------------------------------


def test_training_is_torchs_own() -> None:
    """The weights after some steps are those that autograd and the same optimizer come to."""
    one, other = make_model("conv"), make_model("conv")
    mine, its = (torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (one, other))
    sim = ns.Simulation(
        one, rule=RULE, loss="cross_entropy", schedule=ns.schedules.Sweep("backward", 1)
    )
    for x, y in batches_of(one, 8):
        sim.infer(x, y)
        sim.learn(mine)
        its.zero_grad()
        Loss.of("cross_entropy").mean(other(x), y).backward()
        its.step()
    for name, parameter in other.named_parameters():
        torch.testing.assert_close(one.get_parameter(name), parameter, rtol=0, atol=1e-12)


def test_random_feedback_is_feedback_alignment() -> None:
    network = ns.Network.from_dict(NETWORKS["mlp"]).with_feedback("random")
    model = ns.Model(network, seed=3, dtype=torch.float64)
    x, y = batches_of(model, 1)[0]
    sim = ns.Simulation(model, rule=RULE, schedule=ns.schedules.Sweep("backward", 1))
    sim.infer(x, y)
    p = model.state_dict()
    a1 = x @ p["h1.weight"].T + p["h1.bias"]
    a2 = a1.clamp(min=0) @ p["h2.weight"].T + p["h2.bias"]
    error = a2.clamp(min=0) @ p["out.weight"].T + p["out.bias"] - y
    d2 = error @ p["out.feedback"] * (a2 > 0)
    d1 = d2 @ p["h2.feedback"] * (a1 > 0)
    torch.testing.assert_close(sim.gradients()["h1.weight"], d1.T @ x / len(x), rtol=0, atol=1e-14)


def test_without_a_target_nothing_comes_back() -> None:
    model = make_model("mlp")
    x, _ = batches_of(model, 1)[0]
    sim = ns.Simulation(model, rule=RULE, schedule=ns.schedules.Parallel(5))
    outcome = sim.infer(x)
    assert outcome.counts.difference_messages == 0
    assert all(not gradient.any() for gradient in sim.gradients().values())


def test_errors_that_overflow_are_found() -> None:
    """The one state of every neuron stays finite; what it sends back does not."""
    network = ns.Network.from_dict(NETWORKS["mlp"]).with_feedback("random")
    model = ns.Model(network, seed=3)
    with torch.no_grad():
        for name in ("h2", "out"):
            feedback = model.feedback(name)
            assert feedback is not None
            feedback.mul_(1e25)
    x, y = batches_of(model, 1)[0]
    for unit in ("population", "neuron"):
        schedule = ns.schedules.RandomOrder(
            unit=ns.Unit(unit),
            **({"updates": 40} if unit == "population" else {"groups": 2, "passes": 8}),
        )
        sim = ns.Simulation(model, rule=RULE, schedule=schedule)
        with pytest.raises(ns.DivergenceError) as caught:
            sim.infer(x, y)
        assert caught.value.population == "h1"
