"""Phases as simulated events: when they switch, what they begin with, what they cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from phased_simulations import batch, build, now, weak_model

import neurosim as ns
from neurosim.conformance.simulations import batches_of
from neurosim.learning.checkpoint import load_state, save_state
from neurosim.learning.memory import estimate
from tests.conformance.cases import PHASED, every_effect, make_model

# ---- when ----------------------------------------------------------------------------------------


def test_the_phases_of_an_inference() -> None:
    """Two runs of the schedule, then one under each nudge; wakes, messages and time go on."""
    simulation = build(probes=["messages"])
    simulation.start(*batch())
    phases, wakes, messages = [], [], []
    while not simulation.done:
        simulation.advance(1)
        phases.append(simulation.phase)
        wakes.append(simulation.counts.wakes)
        messages.append(simulation.counts.messages)
    assert phases == ["free"] * 12 + ["plus"] * 6 + ["minus"] * 6
    assert wakes == [16 * tick for tick in range(1, 25)]
    assert messages == sorted(messages)
    assert messages[11] < messages[17] < messages[23]
    assert simulation.tick == simulation.last_tick == simulation.ticks == 24
    outcome = simulation.finish()
    assert (outcome.ticks, outcome.time, outcome.wakes) == (24, 24.0, 16 * 24)
    begun = [(record["phase"], record["time"]) for record in outcome.trace["phase"]]
    assert begun == [("free", 0.0), ("plus", 12.0), ("minus", 18.0)]
    assert "phase" not in build().infer(*batch()).trace


def test_without_a_target_there_is_the_free_phase() -> None:
    x, target = batch()
    simulation = build()
    outcome = simulation.infer(x)
    assert outcome.ticks == simulation.last_tick == 12
    with pytest.raises(ns.StateError, match=r"phases free, plus, minus together.* still in 'free'"):
        simulation.gradients()
    nudged = build().infer(x, target)
    assert torch.equal(nudged.prediction, outcome.prediction)
    assert not torch.equal(nudged.plus["h1"], outcome.plus["h1"])
    assert torch.equal(nudged.plus["h1"], nudged.minus["h1"])


@pytest.mark.filterwarnings("ignore::neurosim.NeurosimWarning")
def test_restored_phases_begin_with_the_free_states() -> None:
    """β and −β from the same states: with equal nudges the two phases are the same."""

    class Twice(ns.EquilibriumPropagation):
        @property
        def phases(self) -> Any:
            free, plus, minus = super().phases
            return free, plus, type(minus)("again", plus.strength, -1.0, restored=True)

    for channels in (None, ns.Channels(ns.Channel(delay=2.0), ns.Channel(delay=3.0))):
        simulation = build(rule=Twice(0.3, free=2), channels=channels)
        simulation.start(*batch())
        simulation.advance(18)
        first = now(simulation)
        if channels is not None:
            assert sum(line.in_flight(18) for _, line in simulation.state.lines) > 0
        simulation.advance(1)
        assert any(not torch.equal(first[name], value) for name, value in now(simulation).items())
        simulation.advance()
        if channels is None:
            assert all(torch.equal(first[name], value) for name, value in now(simulation).items())
            gradients = simulation.gradients().values()
            assert max(float(gradient.abs().max()) for gradient in gradients) <= 1e-14


def test_a_stopping_condition_ends_a_phase() -> None:
    simulation = build(
        schedule=ns.schedules.Sweep("odd_even", 300), stop=ns.Stop(1e-8), probes=["residual"]
    )
    outcome = simulation.infer(*batch())
    assert outcome.stopped
    assert outcome.ticks < 4 * 600 / 4
    small = [r["tick"] for r in outcome.trace["residual"] if r["total_mean"] <= 1e-8]
    assert len(small) == 3
    assert [r["tick"] for r in outcome.trace["phase"]] == [0, *small[:2]]
    exact = build(schedule=ns.schedules.Sweep("odd_even", 300))
    exact.infer(*batch())
    for name, gradient in exact.gradients().items():
        assert torch.allclose(simulation.gradients()[name], gradient, atol=1e-6)


@pytest.mark.parametrize("init", ["zero", "feedforward"])
def test_event_driven(init: str) -> None:
    """The nudge is news, and so is what is put back: every phase comes to rest where sweeps do."""
    channel = ns.Channel(threshold=1e-9)
    simulation = build(
        schedule=ns.schedules.Lazy(duration=2000.0),
        channels=ns.Channels(channel, channel),
        init=init,
    )
    outcome = simulation.infer(*batch())
    assert outcome.ticks < 1000
    exact = build(schedule=ns.schedules.Sweep("odd_even", 300))
    expected = exact.infer(*batch())
    for name, value in expected.plus.items():
        assert torch.allclose(outcome.plus[name], value, atol=1e-6)
    for name, gradient in exact.gradients().items():
        assert torch.allclose(simulation.gradients()[name], gradient, atol=1e-5)


def test_carried_states_go_on() -> None:
    simulation = build(init="carry")
    simulation.infer(*batch())
    last = now(simulation)
    simulation.start(*batches_of(weak_model(), 2)[1])
    assert simulation.phase == "free"
    assert all(torch.equal(last[name], value) for name, value in now(simulation).items())
    outcome = simulation.finish()
    assert outcome.time == 24.0


@pytest.mark.parametrize("rule", PHASED)
def test_saved_in_every_tick_of_every_phase(rule: str, tmp_path: Any) -> None:
    phased = PHASED[rule]
    network = phased.networks[0]
    model = weak_model(network)
    options: dict[str, Any] = {
        "rule": phased.rule,
        "loss": phased.loss,
        "schedule": ns.schedules.Poisson("neuron", rate=0.5, duration=5.0),
        "probes": ["messages"],
    }
    if not phased.rule.holomorphic:
        options["channels"] = every_effect(model.network, 0.0)
    whole = build(model, **options)
    expected = whole.infer(*batch(network))
    seen = []
    part = build(model, **options)
    part.start(*batch(network))
    while not part.done:
        part.advance(1)
        seen.append(part.phase)
        save_state(tmp_path / "state.safetensors", part.state_dict())
        part = build(model, **options)
        part.load_state_dict(load_state(tmp_path / "state.safetensors"))
    assert list(dict.fromkeys(seen)) == [phase.name for phase in phased.rule.phases]
    found = part.finish()
    assert all(torch.equal(found.plus[name], value) for name, value in expected.plus.items())
    assert torch.equal(found.prediction, expected.prediction)
    assert found.counts == expected.counts
    assert found.trace["phase"] == expected.trace["phase"]
    gradients = part.gradients()
    assert all(torch.equal(gradients[name], g) for name, g in whole.gradients().items())


# ---- what it costs -------------------------------------------------------------------------------


def test_operations() -> None:
    """An iteration costs a forward and an adjoint operation per layer, less those of the constant
    input; every phase that is learnt from one weight-gradient operation per layer."""
    simulation = build(schedule=ns.schedules.Sweep("forward", 10), init="feedforward")
    simulation.infer(*batch())
    simulation.gradients()
    counts = simulation.counts
    assert counts.weight_gradient == 6
    iterations = 40
    assert counts.forward <= 2 * iterations + 3
    assert counts.adjoint <= 2 * iterations


def test_memory() -> None:
    """What phases keep, and complex numbers, are part of the estimate."""
    dual = estimate(build(rule=ns.DualPropagation(), nudge_after=0), 10, "sgd")
    ep = estimate(build(), 10, "sgd")
    assert ep.states > dual.states
    smooth = make_model("smooth")
    real = estimate(build(smooth, rule=ns.EquilibriumPropagation()), 10, "sgd")
    wide = estimate(build(smooth, rule=ns.HolomorphicEP()), 10, "sgd")
    assert wide.caches == 2 * real.caches


# ---- faults --------------------------------------------------------------------------------------


def test_stuck_neurons_send_their_state_back() -> None:
    """A dead neuron is silent, a stuck one says the same in both directions, to the end."""
    model = weak_model()
    simulation = build(
        model, faults=ns.Faults(stuck=0.5, stuck_at=0.7), schedule=ns.schedules.Sweep("forward", 40)
    )
    outcome = simulation.infer(*batch())
    held = simulation.state.damage.held["h2"].dyads.tolist()
    assert (outcome.plus["h2"][:, held] == 0.7).all()
    below = simulation.state.by_name["h1"]
    alive = torch.from_numpy(below.alive)
    (link,) = below.incoming
    (above,) = below.outgoing
    feedback = outcome.plus["h2"] @ above.weight
    potential = batch()[0] @ link.weight.T + simulation.model.parameter("h1", "bias") + feedback
    assert torch.allclose(outcome.plus["h1"][:, alive], torch.relu(potential)[:, alive], atol=1e-6)
