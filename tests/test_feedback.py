"""Feedback through weights of its own: which projections have it, and what it does, against literal
sums and the symmetric network."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from feedback_models import CHAIN, DOWN, DP, angle, build, made_equal
from torch import Tensor

import neurosim as ns
from neurosim.conformance.simulations import batches_of
from neurosim.maths.spectrum import loop_gain, spectral_norm
from neurosim.measures.gradients import alignment, back_propagation
from tests.conformance.cases import NETWORKS, RULES

# ---- where there are any ---------------------------------------------------------------------


def test_the_network_says_which_for_all_or_one() -> None:
    layers = [*CHAIN["layers"][:2], CHAIN["layers"][2] | {"feedback": "random"}]
    model = build(CHAIN | {"layers": layers, "feedback": "kolen_pollack"})
    kinds = {p.name: p.feedback.kind for p in model.network.projections}
    assert kinds == {"h1": "symmetric", "h2": "kolen_pollack", "out": "random"}
    weights = {"h1.weight", "h2.weight", "out.weight", "h1.bias", "h2.bias", "out.bias"}
    assert set(model.state_dict()) == weights | {"h2.feedback", "out.feedback"}
    # What never learns is no parameter: an optimizer cannot decay it.
    assert {name for name, _ in model.named_parameters()} == weights | {"h2.feedback"}
    assert model.feedback("h1") is None
    found = model.feedback("out")
    assert found is not None
    assert found.shape == (3, 6)
    assert model.network.with_feedback("symmetric").parameter_shapes().keys() == weights


def test_feedback_weights_have_a_stream_of_their_own() -> None:
    plain, own = build(CHAIN), build(CHAIN, feedback="random")
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, own.state_dict()[name]), name
    forward, back = own.state_dict()["h2.weight"], own.state_dict()["h2.feedback"]
    assert 60 < angle(forward, back) < 120
    # Glorot-uniform, as the weight itself.
    bound = (6 / (7 + 6)) ** 0.5
    assert 0.8 * bound < float(back.abs().max()) <= bound
    again = build(CHAIN, feedback="kolen_pollack").state_dict()["h2.feedback"]
    assert torch.equal(again, back)


@pytest.mark.parametrize(
    ("description", "said"),
    [
        (
            CHAIN | {"layers": [CHAIN["layers"][0] | {"feedback": "random"}, *CHAIN["layers"][1:]]},
            "no difference is sent to the input, so its feedback cannot be random",
        ),
        (
            {
                "input": [1, 4, 4],
                "layers": [
                    {"conv": 2},
                    {"pool": "max", "feedback": "kolen_pollack"},
                    {"dense": 2},
                ],
            },
            "has no weight, so it can have no kolen_pollack feedback weight",
        ),
        (CHAIN | {"feedback": "kolen"}, "feedback"),
    ],
)
def test_refused(description: dict[str, Any], said: str) -> None:
    with pytest.raises(ns.NetworkError, match=said):
        ns.Network.from_dict(description)


# ---- what they do ------------------------------------------------------------------------------


def literal_chain(model: ns.Model, x: Tensor, y: Tensor, beta: float) -> dict[str, Tensor]:
    """One downward sweep at α = ½ with the nudge at the prediction, written out."""
    p = model.state_dict()
    a1 = x @ p["h1.weight"].T + p["h1.bias"]
    s1 = a1.clamp(min=0)
    a2 = s1 @ p["h2.weight"].T + p["h2.bias"]
    s2 = a2.clamp(min=0)
    d3 = -beta * (s2 @ p["out.weight"].T + p["out.bias"] - y)
    up2 = d3 @ p["out.feedback"]
    plus2, minus2 = (a2 + up2 / 2).clamp(min=0), (a2 - up2 / 2).clamp(min=0)
    up1 = (plus2 - minus2) @ p["h2.feedback"]
    plus1, minus1 = (a1 + up1 / 2).clamp(min=0), (a1 - up1 / 2).clamp(min=0)
    scale = -1 / (beta * len(x))
    out = scale * d3.T @ ((plus2 + minus2) / 2)
    h2 = scale * (plus2 - minus2).T @ ((plus1 + minus1) / 2)
    return {
        "out.weight": out,
        "out.feedback": out,
        "h2.weight": h2,
        "h2.feedback": h2,
        "h1.weight": scale * (plus1 - minus1).T @ x,
        "out.bias": scale * d3.sum(0),
        "h2.bias": scale * (plus2 - minus2).sum(0),
        "h1.bias": scale * (plus1 - minus1).sum(0),
    }


def test_dense_gradients_against_literal_sums() -> None:
    model = build(CHAIN, feedback="kolen_pollack")
    x, y = batches_of(model, 1)[0]
    sim = ns.Simulation(model, rule=DP, schedule=DOWN)
    sim.infer(x, y)
    expected, found = literal_chain(model, x, y, DP.beta), sim.gradients()
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-14)
    assert found["h2.feedback"] is not found["h2.weight"]  # clipped in place, one stays whole


def test_convolution_and_pooling_against_literal_sums() -> None:
    description = {
        "input": [2, 6, 6],
        "layers": [
            {"name": "c1", "conv": 3},
            {"name": "c2", "conv": 4, "pool": "max"},
            {"name": "out", "dense": 3},
        ],
    }
    model = build(description, feedback="random")
    x, y = batches_of(model, 1)[0]
    sim = ns.Simulation(model, rule=DP, schedule=DOWN)
    sim.infer(x, y)
    p, beta = model.state_dict(), DP.beta
    a1 = F.conv2d(x, p["c1.weight"], p["c1.bias"], padding=1)
    middle = F.conv2d(a1.clamp(min=0), p["c2.weight"], p["c2.bias"], padding=1)
    a2, winners = F.max_pool2d(middle, 2, return_indices=True)
    prediction = a2.clamp(min=0).flatten(1) @ p["out.weight"].T + p["out.bias"]
    d3 = -beta * (prediction - y)
    up2 = (d3 @ p["out.feedback"]).view(a2.shape)
    d2 = (a2 + up2 / 2).clamp(min=0) - (a2 - up2 / 2).clamp(min=0)
    d2 = F.max_unpool2d(d2, winners, 2)
    up1 = F.conv_transpose2d(d2, p["c2.feedback"], padding=1)
    plus1, minus1 = (a1 + up1 / 2).clamp(min=0), (a1 - up1 / 2).clamp(min=0)
    expected = torch.nn.grad.conv2d_weight(x, p["c1.weight"].shape, plus1 - minus1, padding=1)
    found = sim.gradients()
    torch.testing.assert_close(found["c1.weight"], -expected / (beta * len(x)), rtol=0, atol=1e-13)
    assert set(found) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("feedback", ["random", "kolen_pollack"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rule", ["aro", "damped"])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_equal_weights_are_symmetric_bit_for_bit(
    feedback: str, network: str, rule: str, noise: float
) -> None:
    outcomes = []
    for kind in ("symmetric", feedback):
        model = made_equal(build(NETWORKS[network], feedback=kind))
        sim = ns.Simulation(
            model,
            rule=RULES[rule],
            loss="cross_entropy",
            schedule=ns.schedules.RandomOrder(unit="block", groups=3, passes=4),
            faults=ns.Faults(weight_noise=noise),
            init="zero",
        )
        for x, y in batches_of(model, 2):
            outcome = sim.infer(x, y)
        outcomes.append((outcome, sim.gradients()))
    (expected, symmetric), (found, separate) = outcomes
    for name, state in expected.plus.items():
        assert torch.equal(found.plus[name], state), name
        assert torch.equal(found.minus[name], expected.minus[name]), name
    for name, gradient in symmetric.items():
        assert torch.equal(separate[name], gradient), name
    assert asdict(found.counts) == asdict(expected.counts)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_rounded_copies_are_of_the_feedback_weight(noise: float) -> None:
    """In bfloat16: equal weights are symmetric bit for bit, also after both have learned, and other
    ones are other ones."""
    gradients = []
    for kind in ("symmetric", "kolen_pollack", "other"):
        model = build(CHAIN, feedback="kolen_pollack" if kind == "other" else kind).float()
        if kind != "other":
            made_equal(model)
        sim = ns.Simulation(
            model,
            rule=DP,
            schedule=DOWN,
            precision="bf16-mixed",
            faults=ns.Faults(weight_noise=noise),
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, weight_decay=0.1)
        for x, y in batches_of(model, 3):
            sim.infer(x, y)
            sim.learn(optimizer)
        gradients.append(sim.gradients())
    symmetric, equal, other = gradients
    for name, gradient in symmetric.items():
        assert torch.equal(equal[name], gradient), name
    assert not torch.equal(other["h1.weight"], symmetric["h1.weight"])


def test_random_feedback_changes_the_gradient_but_not_that_of_the_output() -> None:
    gradients = []
    for kind in ("symmetric", "random"):
        model = build(CHAIN, feedback=kind)
        x, y = batches_of(model, 1)[0]
        sim = ns.Simulation(model, rule=DP, schedule=DOWN)
        sim.infer(x, y)
        gradients.append(sim.gradients())
    one, other = gradients
    assert torch.equal(one["out.bias"], other["out.bias"])
    assert angle(one["h1.weight"], other["h1.weight"]) > 20


def test_damping_takes_the_gain_of_the_round_trip() -> None:
    model = build(CHAIN, feedback="random")
    sim = ns.Simulation(
        model, rule=ns.DualPropagation(alpha=0.8, beta=0.4, variant="damped"), schedule=DOWN
    )
    sim.infer(*batches_of(model, 1)[0])
    p = model.state_dict()
    for cell, above in (("h1", "h2"), ("h2", "out")):
        norms = [
            float(torch.linalg.matrix_norm(p[f"{above}.{kind}"], 2))
            for kind in ("weight", "feedback")
        ]
        expected = abs(1 - 2 * 0.8) * norms[0] * norms[1]
        assert sim.state.by_name[cell].damping == pytest.approx(expected, rel=1e-12)
    operator = model.network.projection("h2").operator
    weight = p["h2.weight"]
    assert loop_gain(operator, weight, None) == spectral_norm(operator, weight) ** 2


def test_a_new_feedback_weight_is_noticed() -> None:
    """Also in the middle of an inference: cached potentials made with the old one are stale."""
    model = build(CHAIN, feedback="random")
    x, y = batches_of(model, 1)[0]
    schedule = ns.schedules.Parallel(12)
    rule = ns.BackPropagation()  # is at rest to the last bit, so nothing else makes them stale
    late, fresh = (ns.Simulation(model, rule=rule, schedule=schedule, nudge_after=0) for _ in "ab")
    late.start(x, y)
    late.advance(6)
    with torch.no_grad():
        feedback = model.feedback("h2")
        assert feedback is not None
        feedback.neg_()
    late.advance()
    late.finish()
    fresh.infer(x, y)
    gradients = late.gradients()
    for name, gradient in fresh.gradients().items():
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-14)


def test_back_propagation_leaves_feedback_weights_out() -> None:
    model = build(CHAIN, feedback="kolen_pollack")
    x, y = batches_of(model, 1)[0]
    sim = ns.Simulation(model, rule=DP, schedule=DOWN, probes=["gradient_angle"])
    outcome = sim.infer(x, y)
    reference = back_propagation(model, sim.loss, x, y)
    assert "h2.feedback" not in reference
    assert set(outcome.trace["gradient_angle"][-1]["angle"]) == set(reference)
    assert set(alignment(sim.gradients(), reference)) == {"", *reference}
