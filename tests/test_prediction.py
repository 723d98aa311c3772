"""What is called a prediction knows no target, and is of before any update."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_simulations import DOUBLE, NETWORK, SCHEDULES, X, Y, build
from small_trainings import make

import neurosim as ns

PHASED: dict[str, ns.Rule] = {
    "ep": ns.EquilibriumPropagation(0.3, free=2),
    "one-sided": ns.EquilibriumPropagation(0.3, "one_sided", free=1),
    "chl": ns.ContrastiveHebbian(0.5),
    "holomorphic": ns.HolomorphicEP(0.3, 3),
}
ALPHAS = [
    ns.DualPropagation(alpha, 0.5, variant)
    for alpha, variant in ((0.0, "aro"), (0.5, "lagrangian"), (1.0, "aro"))
]
CYCLE = ns.Network.from_dict(
    {
        "populations": {
            "input": {"shape": [3], "role": "input"},
            "h": {"shape": [4], "activation": "tanh"},
            "out": {"shape": [2], "role": "output"},
        },
        "projections": [{"from": a, "to": b} for a, b in (("input", "h"), ("h", "out"))]
        + [{"from": "h", "to": "h", "name": "lateral"}],
    }
)


@pytest.mark.parametrize("init", ["zero", "feedforward", "carry"])
@pytest.mark.parametrize("name", ["sweep", "parallel", "neurons", "lazy"])
@pytest.mark.parametrize("rule", ALPHAS, ids=lambda rule: f"{rule.alpha:g}")
def test_a_prediction_is_that_of_the_network(
    rule: ns.DualPropagation, name: str, init: str
) -> None:
    """Whatever the target, and where it was shown before and its states are carried."""
    model = ns.Model(NETWORK, **DOUBLE)
    expected = model(X).detach()
    simulation = build(SCHEDULES[name], model, init=init, rule=rule)
    outcomes = [simulation.infer(X, target) for target in (Y, Y, -Y)]
    for outcome in outcomes:
        torch.testing.assert_close(outcome.prediction, expected, rtol=1e-14, atol=1e-15)
    assert not torch.allclose(outcomes[0].nudged_prediction, outcomes[2].nudged_prediction)
    torch.testing.assert_close(simulation.predict(), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", PHASED)
def test_a_rule_with_a_free_phase_predicts_by_it(name: str) -> None:
    rule = PHASED[name]
    options: dict[str, Any] = {"rule": rule, "nudge_after": None}
    free = build(SCHEDULES["odd_even"], **options).infer(X)
    assert torch.equal(free.prediction, free.nudged_prediction)
    simulation = build(SCHEDULES["odd_even"], **options)
    outcome = simulation.infer(X, Y)
    assert torch.equal(outcome.prediction, free.prediction)
    assert not torch.equal(outcome.nudged_prediction, free.prediction)
    assert torch.equal(simulation.predict(), free.prediction)


@pytest.mark.parametrize("init", ["zero", "carry"])
@pytest.mark.parametrize("after", [0, 4])
def test_a_network_with_a_cycle_settles(init: str, after: int) -> None:
    """Until the target acts, if it waits on states that no target has touched; else in a twin."""
    model = ns.Model(CYCLE, **DOUBLE)
    simulation = build(SCHEDULES["parallel"], model, init=init, nudge_after=after)
    settled = build(SCHEDULES["parallel"], model).infer(X).prediction
    expected = [settled, settled]
    if after:
        waiting = build(SCHEDULES["parallel"], model, nudge_after=after)
        waiting.start(X)
        waiting.advance(after)
        early = waiting.finish().prediction
        assert not torch.equal(early, settled)
        expected = [early, early if init == "zero" else settled]
    found = [simulation.infer(X, target).prediction for target in (Y, -Y)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(simulation.predict(), settled)


def test_what_the_network_predicts_at_this_moment() -> None:
    """In the middle of an inference: at the present weights, without a trace in what goes on."""
    sims = [build(SCHEDULES["poisson"], ns.Model(CYCLE, **DOUBLE)) for _ in range(2)]
    for sim in sims:
        sim.start(X, Y)
        sim.advance(3)
    first = sims[0].predict()
    assert torch.equal(first, sims[0].predict(X))
    for sim in sims:
        with torch.no_grad():
            sim.model.parameter("h", "bias").fill_(0.5)
    second = sims[0].predict()
    assert not torch.equal(first, second)
    for sim in sims:
        sim.advance()
    outcomes = [sim.finish() for sim in sims]
    assert torch.equal(outcomes[0].plus["h"], outcomes[1].plus["h"])
    assert torch.equal(sims[0].twin().infer(X).prediction, second)
    with pytest.raises(ns.StateError, match="there is no input yet: call infer or start first"):
        build(SCHEDULES["poisson"]).predict()


@pytest.mark.parametrize("init", ["zero", "feedforward", "carry"])
@pytest.mark.parametrize("learn_every", [None, 2])
def test_the_loss_of_a_training_is_that_before_its_steps(
    init: str, learn_every: int | None
) -> None:
    plan = ns.TrainingPlan(2, batch_size=20, loss_every=1)
    trainer, beside = (
        make(plan, init=init, learn_every=learn_every, loss="cross_entropy") for _ in range(2)
    )
    means = []
    for event in trainer.events():
        if isinstance(event, ns.StepEvent):
            (x, labels), simulation = beside.batches.next(), trainer.simulation
            target = torch.nn.functional.one_hot(labels, 10).double()
            prediction = beside.model(x).detach()  # its weights are those before this step
            right = float((prediction.argmax(1) == labels).double().mean())
            wanted = float(simulation.loss.mean(prediction, target)), right
            assert (event.loss, event.accuracy) == pytest.approx(wanted, rel=1e-12)
            means.append(wanted)
            beside.model.load_state_dict(trainer.model.state_dict())
        elif isinstance(event, ns.EpochEvent):
            mean = torch.tensor(means).mean(0).tolist()
            assert [event.train_loss, event.train_accuracy] == pytest.approx(mean, rel=1e-6)
            means.clear()
