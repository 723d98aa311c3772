"""Neuron faults: who is broken, and that a network with faults is what it would be by hand."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from fewer import covering
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim import metrics
from neurosim.conformance.simulations import batches_of
from tests.conformance.cases import RULES, SCHEDULES, UNITS, make_model

CHAIN = {"input": 6, "layers": [{"name": n, "dense": d} for n, d in (("h1", 40), ("h2", 30))]}
CHAIN["layers"] += [{"name": "out", "dense": 4}]  # type: ignore[operator]


def simulate(faults: ns.Faults, network: str = "mlp", seed: int = 1, **options: Any) -> Any:
    model = make_model(network)
    arguments: dict[str, Any] = {
        "rule": RULES["aro"],
        "loss": "cross_entropy",
        "schedule": ns.schedules.Parallel(8),
        "init": "zero",
        "faults": faults,
        "seed": seed,
    }
    return ns.Simulation(model, **(arguments | options)), batches_of(model, 2)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 5))
def test_how_many_are_broken(dead: float, stuck: float, seed: int) -> None:
    network = ns.Network.from_dict(CHAIN)
    if dead + stuck > 1:
        with pytest.raises(ns.ConfigurationError, match="together more than all dyads"):
            ns.Faults(dead=dead, stuck=stuck)
        return
    damage = ns.Faults(dead=dead, stuck=stuck, stuck_at=0.5).damage(network, seed)
    for name, size in (("h1", 40), ("h2", 30)):
        held = damage.held.get(name)
        if held is None:
            assert round(dead * size) == round(stuck * size) == 0
            continue
        assert held.dead == round(dead * size)
        assert abs(held.stuck - stuck * size) <= 1
        assert len(set(held.dyads.tolist())) == held.dead + held.stuck == (~held.alive).sum()
        values = held.hold(torch.ones(1, size))[0]
        assert (values == 1).sum() == held.alive.sum()
        assert (values == 0.5).sum() == held.stuck
    assert "out" not in damage.held  # hidden populations only


def test_who_is_broken_has_a_stream_of_its_own() -> None:
    network = ns.Network.from_dict(CHAIN)

    def dead(**options: Any) -> set[int]:
        held = ns.Faults(**options).damage(network, 3).held["h1"]
        return set(held.dyads[held.hold(torch.ones(1, 40))[0][held.dyads].numpy() == 0].tolist())

    assert dead(dead=0.2) < dead(dead=0.4)
    assert dead(dead=0.2) == dead(dead=0.2, stuck=0.5, stuck_at=1.0, weight_noise=0.1)
    assert dead(dead=0.2) == dead(dead=0.2, populations=["h1"])
    other = ns.Faults(dead=0.2).damage(network, 4).held["h1"]
    assert set(other.dyads.tolist()) != dead(dead=0.2)


@pytest.mark.parametrize(
    ("schedule", "unit", "init"),
    covering(
        product(SCHEDULES, ("neuron", "channel", "tile", "population"), ("zero", "feedforward"))
    ),
)
def test_broken_dyads_keep_their_states(schedule: str, unit: str, init: str) -> None:
    faults = ns.Faults(dead=0.25, stuck=0.25, stuck_at=0.7)
    for network in ("mlp", "conv"):
        outcomes = []
        for processes in ("population", "neuron"):
            network_ = make_model(network).network
            sim, data = simulate(
                faults,
                network,
                schedule=SCHEDULES[schedule](UNITS[unit], network_),
                init=init,
                processes=processes,
            )
            outcome = sim.infer(*data[0])
            for name, held in sim.state.damage.held.items():
                for states in (outcome.plus[name], outcome.minus[name]):
                    assert torch.equal(states, held.hold(states))
                alive = torch.from_numpy(held.alive)
                assert (outcome.plus[name].flatten(1)[:, alive] != 0).any()
            outcomes.append(outcome)
        assert outcomes[0].counts == outcomes[1].counts
        for name, plus in outcomes[0].plus.items():
            assert torch.equal(plus, outcomes[1].plus[name])


def test_broken_dyads_are_not_counted() -> None:
    """8 parallel ticks of 16 dyads, of which some never wake, nor do the units that they are."""
    sim, data = simulate(ns.Faults(dead=0.5), schedule=ns.schedules.Parallel(8, unit="neuron"))
    dead = sum(held.dead for held in sim.state.damage.held.values())
    assert dead == 4 + 3
    outcome = sim.infer(*data[0])
    assert outcome.wakes == outcome.unit_wakes == 8 * (16 - dead)


def by_hand(model: ns.Model, sim: Any, x: np.ndarray, y: np.ndarray, ticks: int) -> dict[str, Any]:
    """Parallel updates in numpy: DP at α = ½ with the linearized nudge of the cross-entropy."""
    beta = RULES["aro"].beta
    values = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    damage, names = sim.state.damage, ["h1", "h2", "out"]
    forward = {n: values[f"{n}.weight"] * damage.forward_factors[n].numpy() for n in names}
    back = {n: values[f"{n}.weight"] * damage.feedback_factors[n].numpy() for n in names}

    def hold(name: str, array: np.ndarray) -> np.ndarray:
        held = damage.held.get(name)
        return array if held is None else held.hold(torch.from_numpy(array)).numpy()

    plus = {n: hold(n, np.zeros((len(x), len(values[f"{n}.bias"])))) for n in names}
    minus = dict(plus)
    for _ in range(ticks):
        mean = {"in": x} | {n: (plus[n] + minus[n]) / 2 for n in names}
        difference = {n: plus[n] - minus[n] for n in names}
        for n, below, above in (("h1", "in", "h2"), ("h2", "h1", "out"), ("out", "h2", None)):
            a = mean[below] @ forward[n].T + values[f"{n}.bias"]
            if above:
                d = difference[above] @ back[above]
                new = np.maximum(a + d / 2, 0), np.maximum(a - d / 2, 0)
            else:
                p = np.exp(a) / np.exp(a).sum(1, keepdims=True)
                new = a - beta * (p - y) / 2, a + beta * (p - y) / 2
            plus[n], minus[n] = (hold(n, array) for array in new)
    return plus


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 0.4), st.floats(0, 0.4), st.floats(-1, 1), st.floats(0.01, 0.5), st.booleans())
def test_against_numpy(dead: float, stuck: float, at: float, noise: float, shared: bool) -> None:
    faults = ns.Faults(dead, stuck, at, noise, shared)
    sim, data = simulate(faults, nudge_after=0)
    x, y = data[0]
    outcome = sim.infer(x, y)
    expected = by_hand(sim.model, sim, x.numpy(), y.numpy(), 8)
    for name, plus in expected.items():
        np.testing.assert_allclose(outcome.plus[name].numpy(), plus, rtol=0, atol=1e-12)
    factors = sim.state.damage
    same = all(
        torch.equal(factors.forward_factors[n], factors.feedback_factors[n]) for n in expected
    )
    assert same == shared


def test_mismatch_is_normal() -> None:
    network = ns.Network.from_dict({"input": 200, "layers": [{"dense": 200}]})
    damage = ns.Faults(weight_noise=0.1).damage(network, 0)
    (forward,), (back,) = damage.forward_factors.values(), damage.feedback_factors.values()
    for factors in (forward, back):
        count = factors.numel()
        assert abs(float(factors.mean()) - 1) < 4 * 0.1 / count**0.5
        assert abs(float(factors.var()) / 0.01 - 1) < 4 * (2 / count) ** 0.5
    correlation = np.corrcoef(forward.flatten().numpy(), back.flatten().numpy())[0, 1]
    assert abs(correlation) < 4 / count**0.5


def test_prediction_and_gradient_are_those_of_the_broken_network() -> None:
    faults = ns.Faults(
        dead=0.2, stuck=0.2, stuck_at=0.4, weight_noise=0.2, weight_noise_shared=True
    )
    rule = ns.DualPropagation(alpha=0.5, beta=1e-6, nudge="prediction")
    sim, data = simulate(
        faults, rule=rule, schedule=ns.schedules.Sweep("backward", 1), init="feedforward"
    )
    x, y = data[0]
    outcome = sim.infer(x, y)
    prediction = sim.predict(x)
    torch.testing.assert_close(outcome.prediction, prediction, rtol=0, atol=1e-12)
    assert not torch.allclose(prediction, sim.model(x))
    reference = metrics.back_propagation(sim.model, sim.loss, x, y, sim.state.damage)
    # The local gradient does not know the mismatch that its weight acts through.
    for name, gradient in sim.gradients().items():
        factor = sim.state.damage.forward_factors.get(name.removesuffix(".weight"))
        known = gradient if factor is None else gradient * factor
        torch.testing.assert_close(known, reference[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shared", [True, False])
def test_the_damping_is_of_the_synapses_as_they_are(shared: bool) -> None:
    faults = ns.Faults(weight_noise=0.5, weight_noise_shared=shared)
    sim, data = simulate(faults, rule=ns.DualPropagation(0.2, variant="damped"))
    sim.start(*data[0])
    damage = sim.state.damage
    for cell in sim.state.cells[:-1]:
        (link,) = cell.outgoing
        assert link.weight is not None
        up, down = (
            torch.linalg.matrix_norm(multiplied(link.name, link.weight.detach()), 2)
            for multiplied in (damage.forward_weight, damage.feedback_weight)
        )
        assert cell.damping == pytest.approx(0.6 * float(up * down), rel=1e-10)


def test_the_fixed_point_of_the_broken_network_has_no_residual() -> None:
    sim, data = simulate(
        ns.Faults(dead=0.2, stuck=0.2, stuck_at=0.4, weight_noise=0.1),
        schedule=ns.schedules.Parallel(200),
        probes=["residual"],
    )
    last = sim.infer(*data[0]).trace["residual"][-1]
    assert max(last["total_mean"], last["total_difference"]) < 1e-10


def test_a_lazy_network_with_faults_comes_to_rest() -> None:
    model = make_model("mlp")
    channel = ns.Channel(threshold=1e-6)
    sim = ns.Simulation(
        model,
        rule=RULES["aro"],
        loss="cross_entropy",
        schedule=ns.schedules.Lazy(duration=1e4),
        channels=ns.Channels(channel, channel),
        faults=ns.Faults(dead=0.3, stuck=0.2, stuck_at=1.0),
        init="zero",
    )
    assert sim.infer(*batches_of(model, 1)[0]).ticks < 200


def test_without_faults_nothing_changes() -> None:
    (plain, data), (held, _) = simulate(ns.Faults()), simulate(ns.Faults(0.0, 0.0, 1.0, 0.0))
    one, other = plain.infer(*data[0]), held.infer(*data[0])
    assert one.counts == other.counts
    assert all(torch.equal(one.plus[name], other.plus[name]) for name in one.plus)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dead": -0.1}, "dead is -0.1; it must be at least 0"),
        ({"stuck": 1.5}, "stuck is 1.5; it must be at most 1"),
        ({"stuck_at": float("nan")}, "stuck_at is nan; it must be finite"),
        ({"weight_noise": -1.0}, "weight_noise is -1.0; it must be at least 0"),
    ],
)
def test_what_cannot_be(options: dict[str, float], message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        ns.Faults(**options)  # type: ignore[arg-type]


def test_unknown_populations() -> None:
    with pytest.raises(ns.ConfigurationError, match="unknown population 'h3'; did you mean"):
        simulate(ns.Faults(dead=0.1, populations=["h1", "h3"]))


def test_a_network_with_faults_converges_to_its_own_fixed_point() -> None:
    faults = ns.Faults(dead=0.2, stuck=0.2, stuck_at=0.4, weight_noise=0.1)
    sim, data = simulate(faults, schedule=ns.schedules.Parallel(200), nudge_after=0)
    found = ns.measure_convergence(sim, *data[0], tolerance=1e-8)
    assert found.verdict == "converged"
    plain, _ = simulate(ns.Faults(), schedule=ns.schedules.Parallel(200), nudge_after=0)
    expected = ns.fixed_point(plain.model, *data[0], rule=plain.rule, loss="cross_entropy")
    assert found.reference.reached
    assert not torch.allclose(found.reference.mean["h2"], expected.mean["h2"])
