"""Feedback through weights of its own: against literal sums, the symmetric network, and the laws of
how forward and feedback weights come together."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import acos, degrees
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from click.testing import CliRunner
from torch import Tensor

import neurosim as ns
from neurosim.cli.main import main
from neurosim.data import digits
from neurosim.learning.checkpoint import load_state, save_state
from neurosim.learning.memory import estimate
from neurosim.maths.spectrum import loop_gain, spectral_norm
from neurosim.measures.gradients import alignment, back_propagation, feedback_alignment
from neurosim.scenario.scenario import Scenario
from tests.conformance.cases import NETWORKS, RULES, make_data

ROOT = Path(__file__).parents[1]
DP = ns.DualPropagation(alpha=0.5, beta=0.3, variant="aro", nudge="prediction")
DOWN = ns.schedules.Sweep("backward", passes=1)
CHAIN: dict[str, Any] = {
    "input": 5,
    "layers": [{"name": n, "dense": d} for n, d in (("h1", 7), ("h2", 6), ("out", 3))],
}


def build(description: dict[str, Any], **options: Any) -> ns.Model:
    network = ns.Network.from_dict(description | options)
    return ns.Model(network, seed=3, dtype=torch.float64)


def made_equal(model: ns.Model) -> ns.Model:
    """B = W."""
    with torch.no_grad():
        for projection in model.network.projections:
            feedback = model.feedback(projection.name)
            if feedback is not None:
                feedback.copy_(model.get_parameter(f"{projection.name}.weight"))
    return model


def angle(one: Tensor, other: Tensor) -> float:
    a, b = one.flatten(), other.flatten()
    return degrees(acos(float(a @ b / a.norm() / b.norm())))


# ---- where there are any ---------------------------------------------------------------------


def test_the_network_says_which_for_all_or_one() -> None:
    layers = [*CHAIN["layers"][:2], CHAIN["layers"][2] | {"feedback": "random"}]
    model = build(CHAIN | {"layers": layers, "feedback": "kolen_pollack"})
    kinds = {p.name: p.feedback for p in model.network.projections}
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
    x, y = make_data(model, 1)[0]
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
    x, y = make_data(model, 1)[0]
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
        for x, y in make_data(model, 2):
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
        for x, y in make_data(model, 3):
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
        x, y = make_data(model, 1)[0]
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
    sim.infer(*make_data(model, 1)[0])
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
    x, y = make_data(model, 1)[0]
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
    x, y = make_data(model, 1)[0]
    sim = ns.Simulation(model, rule=DP, schedule=DOWN, probes=["gradient_angle"])
    outcome = sim.infer(x, y)
    reference = back_propagation(model, sim.loss, x, y)
    assert "h2.feedback" not in reference
    assert set(outcome.trace["gradient_angle"][-1]["angle"]) == set(reference)
    assert set(alignment(sim.gradients(), reference)) == {"", *reference}


# ---- how they learn ----------------------------------------------------------------------------


def trained(
    feedback: str, optimizer: str, steps: int, **options: Any
) -> tuple[ns.Model, list[dict[str, Tensor]]]:
    """A model after some steps on digits, and the W − B of every step."""
    network = ns.Network.from_yaml(ROOT / "networks/digits_mlp.yaml").with_feedback(feedback)
    model = ns.Model(network, seed=1, dtype=torch.float64)
    cls = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
    chosen = cls(model.parameters(), **options)
    sim = ns.Simulation(model, rule=DP, loss="cross_entropy", schedule=DOWN)
    images, labels = digits().train.images.double().flatten(1), digits().train.labels
    apart = []
    for step in range(steps + 1):
        values = model.state_dict()
        apart.append({n: values[f"{n}.weight"] - values[f"{n}.feedback"] for n in ("h2", "output")})
        if step < steps:
            which = torch.arange(50 * step, 50 * step + 50) % len(images)
            sim.infer(images[which], torch.eye(10, dtype=torch.float64)[labels[which]])
            sim.learn(chosen)
    return model, apart


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_with_decay_shrinks_what_tells_them_apart(momentum: float) -> None:
    """D = W − B sees no gradient but that of the decay: v ← μv + λD, D ← D − ηv."""
    rate, decay = 0.05, 0.02
    _, apart = trained("kolen_pollack", "sgd", 60, lr=rate, momentum=momentum, weight_decay=decay)
    for name in ("h2", "output"):
        expected, speed = apart[0][name], torch.zeros(())
        for found in apart[1:]:
            speed = momentum * speed + decay * expected
            expected = expected - rate * speed
            torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-13)


def test_adamw_shrinks_what_tells_them_apart() -> None:
    """Both see one gradient history, so D ← (1 − ηλ) D."""
    rate, decay = 2e-3, 0.5
    _, apart = trained("kolen_pollack", "adamw", 60, lr=rate, weight_decay=decay)
    for name in ("h2", "output"):
        for step, found in enumerate(apart):
            expected = (1 - rate * decay) ** step * apart[0][name]
            torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-13)


OPTIMIZERS: dict[str, dict[str, float]] = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    "adamw": {"lr": 5e-3, "weight_decay": 1.0},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_angle_falls(optimizer: str) -> None:
    options = OPTIMIZERS[optimizer]
    found = {}
    for kind in ("kolen_pollack", "random"):
        model, _ = trained(kind, optimizer, 280, **options)
        values = model.state_dict()
        for name in ("h2", "output"):
            found[kind, name] = angle(values[f"{name}.weight"], values[f"{name}.feedback"])
    # Where they began: 90 degrees, give or take what chance makes of so many weights.
    for name in ("h2", "output"):
        assert found["kolen_pollack", name] < 40, found
        assert found["kolen_pollack", name] < found["random", name] - 20, found


def test_adam_with_coupled_decay_does_not_align() -> None:
    """The decay goes through the same normalization as the gradients, so it is not the same for
    both: why the documentation names SGD and AdamW."""
    options = {"lr": 2e-3, "weight_decay": 0.5}
    decoupled, _ = trained("kolen_pollack", "adamw", 150, **options)
    coupled, _ = trained("kolen_pollack", "adam", 150, **options)
    angles = [
        angle(model.state_dict()["h2.weight"], model.state_dict()["h2.feedback"])
        for model in (decoupled, coupled)
    ]
    assert angles[1] > angles[0] + 10, angles


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_random_feedback_stays(optimizer: str) -> None:
    network = ns.Network.from_yaml(ROOT / "networks/digits_mlp.yaml").with_feedback("random")
    fresh = ns.Model(network, seed=1, dtype=torch.float64).state_dict()
    model, _ = trained("random", optimizer, 3, **OPTIMIZERS[optimizer])
    for name in ("h2", "output"):
        assert torch.equal(model.state_dict()[f"{name}.feedback"], fresh[f"{name}.feedback"])
        assert not torch.equal(model.state_dict()[f"{name}.weight"], fresh[f"{name}.weight"])


# ---- measured, saved, counted ------------------------------------------------------------------


def test_the_probe_measures_the_angle_of_what_is_multiplied_by() -> None:
    layers = [*CHAIN["layers"][:2], CHAIN["layers"][2] | {"feedback": "random"}]
    model = build(CHAIN | {"layers": layers})
    x, y = make_data(model, 1)[0]
    sim = ns.Simulation(model, rule=DP, schedule=DOWN, probes=["feedback_angle"])
    record = sim.infer(x, y).trace["feedback_angle"][-1]
    p = model.state_dict()
    assert set(record["angle"]) == {"h2", "out"}  # no difference goes to the input
    assert record["angle"]["h2"] == 0.0
    expected = angle(p["out.weight"], p["out.feedback"])
    assert record["angle"]["out"] == pytest.approx(expected, abs=1e-9)
    ratio = float(p["out.feedback"].norm() / p["out.weight"].norm())
    assert record["norm_ratio"]["out"] == pytest.approx(ratio, rel=1e-12)
    whole = [
        torch.cat([p["h2.weight"].flatten(), p[f"out.{k}"].flatten()])
        for k in ("weight", "feedback")
    ]
    assert record["total_angle"] == pytest.approx(angle(*whole), abs=1e-9)


def test_mismatched_synapses_have_an_angle_too() -> None:
    model = build(CHAIN)
    for shared in (False, True):
        faults = ns.Faults(weight_noise=0.3, weight_noise_shared=shared)
        sim = ns.Simulation(model, rule=DP, schedule=DOWN, faults=faults)
        sim.infer(*make_data(model, 1)[0])
        assert (feedback_alignment(sim.state)["h2"].angle > 5) is not shared


def test_saved_in_the_middle_and_continued(tmp_path: Path) -> None:
    def fresh() -> tuple[ns.Simulation, torch.optim.Optimizer]:
        layers = [*CHAIN["layers"][:2], CHAIN["layers"][2] | {"feedback": "random"}]
        model = build(CHAIN | {"layers": layers, "feedback": "kolen_pollack"})
        schedule = ns.schedules.Parallel(9)
        sim = ns.Simulation(model, rule=DP, schedule=schedule, learn_every=2)
        options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
        return sim, torch.optim.SGD(model.parameters(), **options)

    whole, optimizer = fresh()
    x, y = make_data(whole.model, 1)[0]
    whole.start(x, y, optimizer=optimizer)
    whole.advance(5)
    tree = {
        "model": dict(whole.model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "simulation": whole.state_dict(),
    }
    save_state(tmp_path / "state", tree)
    whole.advance()
    whole.finish()
    tree = load_state(tmp_path / "state")
    part, again = fresh()
    with torch.no_grad():
        for value in part.model.state_dict().values():
            value.zero_()  # all of it comes from the file
    part.model.load_state_dict(tree["model"])
    again.load_state_dict(tree["optimizer"])
    part.load_state_dict(tree["simulation"], optimizer=again)
    part.advance()
    part.finish()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(part.model.state_dict()[name], value), name


@pytest.mark.parametrize(("kind", "learns"), [("random", 0), ("kolen_pollack", 1)])
def test_memory(kind: str, learns: int) -> None:
    plain, own = (
        estimate(ns.Simulation(build(CHAIN, feedback=f), rule=DP, schedule=DOWN), 4, "adam")
        for f in ("symmetric", kind)
    )
    size = (7 * 6 + 6 * 3) * 8
    assert own.weights - plain.weights == size
    assert own.gradients - plain.gradients == learns * size
    assert own.optimizer - plain.optimizer == learns * 2 * size


def test_a_run_says_how_the_angle_fell(tmp_path: Path) -> None:
    scenario = ROOT / "scenarios/kolen_pollack.yaml"
    short = ["training.epochs=3", "data.limit=400"]
    arguments = ["run", str(scenario), *short, "--out", str(tmp_path), "--id", "it"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "kolen_pollack" / "it"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    angles = [x["total_angle"] for x in lines if x.get("probe") == "feedback_angle"]
    assert angles[-1] < angles[0]
    assert json.loads((folder / "summary.json").read_text())["feedback_angle"] == angles[-1]
    page = (folder / "report.html").read_text()
    assert "<h3>Feedback weights</h3>" in page
    assert "angle to forward weights" in page


def test_the_scenario_says_which_for_all(tmp_path: Path) -> None:
    scenario = Scenario.load(ROOT / "scenarios/parallel.yaml", ["feedback=random"])
    assert [p.feedback for p in scenario.network.projections] == ["symmetric", "random", "random"]
    path = tmp_path / "resolved.yaml"
    path.write_text(scenario.resolved())
    assert Scenario.load(path).network == scenario.network
