"""Phases as simulated events: when they switch, what they begin with, what they cost, and what does
not go with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

import neurosim as ns
from neurosim.cli.main import main
from neurosim.learning.checkpoint import load_state, save_state
from neurosim.learning.memory import estimate
from neurosim.measures import probes as recording
from neurosim.scenario.scenario import Scenario
from tests.conformance.cases import PHASED, every_effect, make_data, make_model
from tests.shipped import ROOT

EP = ns.EquilibriumPropagation(0.3, free=2)
MLP = "mlp"


def weak_model(network: str = MLP) -> ns.Model:
    model = make_model(network)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    return model


def build(model: ns.Model | None = None, **options: Any) -> ns.Simulation:
    arguments: dict[str, Any] = {
        "rule": EP,
        "schedule": ns.schedules.Parallel(6),
        "init": "zero",
    } | options
    return ns.Simulation(model or weak_model(), **arguments)


def batch(network: str = MLP) -> tuple[Tensor, Tensor]:
    return make_data(make_model(network), 1)[0]


def now(simulation: ns.Simulation) -> dict[str, Tensor]:
    return {cell.name: cell.plus.value.clone() for cell in simulation.state.cells}


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
    simulation.start(*make_data(weak_model(), 2)[1])
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


# ---- what does not go together -------------------------------------------------------------------


def refused(match: str, network: str = MLP, **options: Any) -> None:
    with pytest.raises(ns.ConfigurationError, match=match):
        build(weak_model(network), **options)


def test_what_phases_exclude() -> None:
    refused("nudge_after is 3, but EquilibriumPropagation says itself", nudge_after=3)
    refused("after every 2 ticks does not go with EquilibriumPropagation", learn_every=2)
    noisy = ns.Channels(ns.Channel(noise=0.1), ns.Channel())
    coarse = ns.Channels(ns.Channel(), ns.Channel(quantize=ns.Quantize(4, 1.0)))
    holomorphic = ns.HolomorphicEP()
    loss = "cross_entropy"
    refused("has noise, which is", "smooth", rule=holomorphic, channels=noisy, loss=loss)
    refused("has quantize, which is", "smooth", rule=holomorphic, channels=coarse, loss=loss)


def test_what_rules_exclude() -> None:
    loss = "cross_entropy"
    refused("closed form of squared_error, not of cross_entropy", loss=loss)
    refused("descends squared_error, not cross_entropy", rule=ns.ContrastiveHebbian(), loss=loss)
    refused("'c1' has the activation 'relu', which is not", "conv", rule=ns.HolomorphicEP())
    refused("not lead from one layer to the next", "skip", rule=ns.ContrastiveHebbian())
    for rule in (
        {"beta": 0.0},
        {"beta": 1.0},
        {"variant": "both"},
        {"readout": "none"},
        {"free": 0},
    ):
        with pytest.raises(ns.ConfigurationError):
            ns.EquilibriumPropagation(**rule)
    ns.EquilibriumPropagation(1.0, "one_sided")
    ns.EquilibriumPropagation(2.0, "centered", "static")
    for rule in ({"points": 1}, {"beta": -0.1}, {"beta": 1.0, "readout": "state"}):
        with pytest.raises(ns.ConfigurationError):
            ns.HolomorphicEP(**rule)
    for discount in (0.0, 1.1):
        with pytest.raises(ns.ConfigurationError, match="discount"):
            ns.ContrastiveHebbian(discount)


def chain(*layers: dict[str, Any], **options: Any) -> ns.Model:
    return ns.Model(ns.Network.from_dict({"input": [1, 4, 4], "layers": list(layers)} | options))


def test_what_networks_exclude() -> None:
    pooled = chain({"name": "c", "conv": 2, "pool": "max"}, {"dense": 2}, activation="tanh")
    with pytest.raises(ns.ConfigurationError, match="'c' pools by maximum"):
        build(pooled, rule=ns.HolomorphicEP())
    loop = {
        "populations": {
            "x": {"shape": 2, "role": "input"},
            "h": {"shape": 3},
            "o": {"shape": 2, "role": "output"},
        },
        "projections": [
            {"from": "x", "to": "h"},
            {"from": "h", "to": "o"},
            {"from": "o", "to": "h", "name": "back"},
        ],
    }
    cyclic = ns.Model(ns.Network.from_dict(loop))
    build(cyclic)
    with pytest.raises(ns.ConfigurationError, match="projection to 'h'"):
        build(cyclic, rule=ns.EquilibriumPropagation(readout="static"))


def test_the_angle_in_a_network_with_a_cycle() -> None:
    """Its reference is autograd through an unrolled free phase, written here by hand."""
    loop = {
        "initialization": "weak_uniform",
        "populations": {
            "x": {"shape": 2, "role": "input"},
            "h": {"shape": 3, "activation": "tanh"},
            "o": {"shape": 2, "role": "output"},
        },
        "projections": [
            {"from": "x", "to": "h", "name": "in"},
            {"from": "h", "to": "o", "name": "out"},
            {"from": "o", "to": "h", "name": "back"},
        ],
    }
    model = ns.Model(ns.Network.from_dict(loop), dtype=torch.float64)
    draws = torch.Generator().manual_seed(0)
    x, y = (torch.rand(4, 2, generator=draws, dtype=torch.float64) for _ in range(2))
    simulation = build(
        model,
        rule=ns.EquilibriumPropagation(0.25),
        schedule=ns.schedules.Sweep("odd_even", 100),
        probes=[ns.Probe("gradient_angle", 10**6)],
    )
    (found,) = simulation.infer(x, y).trace["gradient_angle"]
    at = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    up, back = at["out.weight"], at["back.weight"]
    h, o = torch.zeros(4, 3, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.float64)
    for _ in range(300):
        h = torch.tanh(x @ at["in.weight"].T + at["h.bias"] + o @ back.T + o @ up)
        o = h @ up.T + at["o.bias"] + h @ back
    (0.5 * (o - y).square().sum() / 4).backward()
    exact = {name: p.grad for name, p in at.items() if p.grad is not None}
    expected = ns.metrics.alignment(simulation.gradients(), exact)
    assert expected[""].angle > 0.1
    assert found["reference"] == "settled"
    assert found["total_angle"] == pytest.approx(expected[""].angle, abs=1e-5)


def test_what_is_measured_against_one_fixed_point() -> None:
    with pytest.raises(ns.ConfigurationError, match="a fixed point in every phase"):
        ns.fixed_point(weak_model(), *batch(), rule=EP)
    simulation = build()
    with pytest.raises(ns.ConfigurationError, match="a fixed point in every phase"):
        ns.measure_convergence(simulation, *batch())
    simulation.infer(*batch())
    with pytest.raises(ns.StateError, match="contrasts the ends of its phases"):
        simulation.objective()


def test_a_saved_state_is_of_one_rule() -> None:
    simulation = build()
    simulation.infer(*batch())
    other = build(rule=ns.ContrastiveHebbian())
    with pytest.raises(ns.StateError, match="EquilibriumPropagation"):
        other.load_state_dict(simulation.state_dict())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.evaluation=feedforward", "chl predicts by its free phase; use evaluation"),
        ("study={kind: convergence}", "study: a study measures against one fixed point"),
        ("robustness={eps: 0.1}", "robustness: attacks .* but chl predicts by its free phase"),
        ("nudge_after=2", "says itself when the target acts"),
        ("plasticity.every=2", "between which the weights must not change"),
        ("loss=cross_entropy", "clamps the output to the target"),
        ("rule.discount=2", "discount"),
        ("network=../networks/digits_skip.yaml", "does not lead from one layer to the next"),
    ],
)
def test_scenarios_say_where(override: str, said: str) -> None:
    if override.startswith("network="):
        override = f"network={ROOT / 'networks/digits_skip.yaml'}"
    with pytest.raises(ns.DocumentError, match=said):
        Scenario.load(ROOT / "scenarios/chl.yaml", [override])


def test_a_run_says_what_its_angle_is_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its summary has no angle of an earlier epoch where the last one found none."""
    network = "network={input: [64], layers: [{name: output, dense: 10}]}"
    probes = "probes=[{kind: gradient_angle, every: 1000}, residual]"  # one angle per epoch
    overrides = ["data.limit=100", "training.epochs=2", network, probes]
    path = ROOT / "scenarios/equilibrium_propagation.yaml"

    def run(name: str) -> tuple[dict[str, Any], str]:
        options = ["--quiet", "--out", str(tmp_path), "--id", name, *overrides]
        result = CliRunner().invoke(main, ["run", str(path), *options])
        assert result.exit_code == 0, result.output
        folder = tmp_path / "equilibrium_propagation" / name
        summary = json.loads((folder / "summary.json").read_text())
        return summary, (folder / "report.html").read_text(encoding="utf-8")

    summary, report = run("found")
    assert "gradient_angle" in summary
    assert "Angle to the gradient of the settled network" in report
    assert "back-propagation" not in report.split("<h2>Scenario")[0]
    assert "Phases: free from 0, plus from 30, minus from 40 time units on" in report

    true_gradient, calls = recording.true_gradient, []

    def once(*arguments: Any) -> dict[str, Tensor] | None:
        calls.append(arguments)
        return true_gradient(*arguments) if len(calls) == 1 else None

    monkeypatch.setattr(recording, "true_gradient", once)
    summary, _ = run("lost")
    assert len(calls) == 2
    assert "gradient_angle" not in summary
    assert "residual_mean" in summary
