"""What does not go with phases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from phased_simulations import MLP, batch, build, weak_model
from torch import Tensor

import neurosim as ns
from neurosim.cli.main import main
from neurosim.measures import gradients
from neurosim.scenario.scenario import Scenario
from tests.shipped import ROOT

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
    said = "the closed form of squared_error, not of cross_entropy"
    refused(said, rule=ns.ContrastiveHebbian(), loss=loss)
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


def test_an_objective() -> None:
    simulation = build()
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

    true_gradient, calls = gradients.true_gradient, []

    def once(*arguments: Any) -> dict[str, Tensor] | None:
        calls.append(arguments)
        return true_gradient(*arguments) if len(calls) == 1 else None

    monkeypatch.setattr(gradients, "true_gradient", once)
    summary, _ = run("lost")
    assert len(calls) == 2
    assert "gradient_angle" not in summary
    assert "residual_mean" in summary
