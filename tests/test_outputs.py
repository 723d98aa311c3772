"""Output dyads that are not linear: against autograd and energies, one by one, and refused."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from fewer import covering
from torch import Tensor

import neurosim as ns
from neurosim import metrics
from neurosim.conformance import simulations
from neurosim.conformance.simulations import simulated

OUTPUTS = ["softmax", "hard_sigmoid", "relu", "tanh", {"kind": "sigmoid", "gain": 4.0}]
SMOOTH = ["softmax", "tanh", {"kind": "sigmoid", "gain": 4.0, "center": 0.5}]
RULES: dict[str, ns.Rule] = {
    "backprop": ns.BackPropagation(),
    "potential": ns.DualPropagation(0.3, 0.5, nudge="potential"),
    "dtp": ns.DifferenceTargetPropagation(0.4),
    "chl": ns.ContrastiveHebbian(0.6),
    "coupled": ns.CoupledLearning(eta=0.3, free=1),
}
X = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.eye(4, dtype=torch.float64)


def network(output: Any, hidden: str = "tanh") -> ns.Network:
    layers = [{"name": "h", "dense": 6}, {"name": "y", "dense": 4, "activation": output}]
    return ns.Network.from_dict({"input": 5, "activation": hidden, "layers": layers})


def simulation(output: Any, rule: ns.Rule, schedule: ns.Schedule, **options: Any) -> ns.Simulation:
    model = ns.Model(network(output), seed=4, dtype=torch.float64)
    return ns.Simulation(model, rule=rule, schedule=schedule, **options)


def error(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    flat = [torch.cat([g[name].flatten() for name in exact]) for g in (found, exact)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.mark.parametrize("output", OUTPUTS, ids=str)
def test_the_prediction_is_the_activation(output: Any) -> None:
    sim = simulation(output, ns.BackPropagation(), ns.schedules.Sweep("backward"))
    outcome = sim.infer(X, Y)
    w, b = (dict(sim.model.named_parameters())[f"y.{kind}"] for kind in ("weight", "bias"))
    a = torch.tanh(X @ dict(sim.model.named_parameters())["h.weight"].T) @ w.T + b
    known = {
        "softmax": lambda: torch.softmax(a, 1),
        "hard_sigmoid": lambda: a.clamp(0, 1),
        "relu": lambda: torch.relu(a),
        "tanh": lambda: torch.tanh(a),
    }.get(str(output), lambda: torch.sigmoid(4 * a))
    for found in (outcome.prediction, outcome.plus["y"], sim.model(X), sim.predict(X)):
        torch.testing.assert_close(found, known(), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("schedule", [ns.schedules.Sweep("backward"), ns.schedules.Parallel(6)])
@pytest.mark.parametrize("output", OUTPUTS, ids=str)
def test_back_propagation_is_autograd(output: Any, schedule: ns.Schedule) -> None:
    sim = simulation(output, ns.BackPropagation(), schedule, nudge_after=0)
    sim.infer(X, Y)
    assert error(sim.gradients(), metrics.back_propagation(sim.model, sim.loss, X, Y)) < 1e-14


@pytest.mark.parametrize("nudge", ["potential", "prediction"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("output", SMOOTH, ids=str)
def test_dual_propagation_approaches_it(output: Any, alpha: float, nudge: Any) -> None:
    """With an error of order 2 at α = ½, and 1 otherwise, as at linear outputs."""
    errors = []
    for beta in (0.02, 0.01):
        rule = ns.DualPropagation(alpha, beta, nudge=nudge)
        sim = simulation(output, rule, ns.schedules.Sweep("forward_backward", 12))
        sim.infer(X, Y)
        exact = metrics.back_propagation(sim.model, sim.loss, X, Y)
        errors.append(error(sim.gradients(), exact))
    assert 0.8 * (4 if alpha == 0.5 else 2) < errors[0] / errors[1] < 5
    assert errors[1] < 0.05


def test_chl_at_a_softmax_learns_the_cross_entropy() -> None:
    """E(y) − E(f(a)) is −Σ y log f(a): with faint feedback, its gradient by autograd."""
    errors = []
    for c in (0.02, 0.01):
        sim = simulation("softmax", ns.ContrastiveHebbian(c), ns.schedules.Sweep("odd_even", 30))
        outcome = sim.infer(X, Y)
        assert torch.equal(outcome.plus["y"], Y)
        assert torch.allclose(outcome.prediction.sum(1), torch.ones(4, dtype=torch.float64))
        logits = ns.Model(network("identity"), dtype=torch.float64)
        logits.load_state_dict(sim.model.state_dict())
        exact = metrics.back_propagation(logits, ns.Loss.of("cross_entropy"), X, Y)
        errors.append(error(sim.gradients(), exact))
    assert errors[1] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("output", ["hard_sigmoid", "relu"])
def test_a_nudged_state_has_the_least_energy(output: str) -> None:
    """½s² − s a + ½β‖s − y‖² on a grid of what the state can be."""
    rule = ns.EquilibriumPropagation(0.5, "one_sided")
    sim = simulation(output, rule, ns.schedules.Sweep("odd_even", 60), init="zero")
    outcome = sim.infer(X, Y)
    w = dict(sim.model.named_parameters())["y.weight"]
    a = (outcome.plus["h"] @ w.T).detach()
    grid = torch.linspace(0.0, 1.0 if output == "hard_sigmoid" else 4.0, 4001, dtype=torch.float64)
    s = grid[:, None, None]
    best = (0.5 * s * s - s * a + 0.25 * (s - Y) ** 2).argmin(0)
    assert float((grid[best] - outcome.plus["y"]).abs().max()) <= float(grid[1])


@pytest.mark.parametrize(
    ("name", "output", "check"),
    covering(product(RULES, ("softmax", "hard_sigmoid"), ("both_modes", "caching", "every_tick"))),
)
def test_single_neurons(name: str, output: str, check: str) -> None:
    """Woken one by one and by messages: each mode, cached or not, resumed at every tick."""
    for schedule in (
        ns.schedules.RandomOrder("neuron", groups=3, passes=2),
        ns.schedules.Lazy(unit="neuron", duration=8.0),
    ):
        learn = None if RULES[name].phases else 3
        build = simulated(network(output), schedule, RULES[name], learn, loss="squared_error")
        getattr(simulations, check)(build)


def test_single_wakes_of_a_softmax_by_hand() -> None:
    """Each takes its share of the potentials as all of them last computed theirs, 0 at first."""
    wakes = ((1.0, "h", None), (2.0, "y", [1]), (3.0, "y", [0, 3]), (4.0, "y", [1]))
    sim = simulation("softmax", ns.BackPropagation(), ns.schedules.Replay(wakes), init="zero")
    p = {name: value.detach() for name, value in sim.model.named_parameters()}
    a = torch.tanh(X @ p["h.weight"].T) @ p["y.weight"].T
    known, states = torch.zeros_like(a), torch.zeros_like(a)
    sim.start(X)
    sim.advance(1)
    for woken in ([1], [0, 3], [1]):
        sim.advance(1)
        known[:, woken] = a[:, woken]
        states[:, woken] = torch.softmax(known, 1)[:, woken]
        found = sim.state.output.plus.value
        torch.testing.assert_close(found, states, rtol=1e-13, atol=1e-14)


def test_a_softmax_of_single_neurons_comes_to_that_of_all() -> None:
    """However they wake, the states end where all of them together do."""
    rule = ns.DualPropagation(0.5, 0.5, nudge="potential")
    whole = simulation("softmax", rule, ns.schedules.Sweep("forward_backward", 60))
    expected = whole.infer(X, Y).plus
    for schedule in (
        ns.schedules.RandomOrder("neuron", groups=5, passes=80),
        ns.schedules.Poisson("neuron", duration=200.0),
        ns.schedules.Lazy(unit="neuron", duration=400.0),
    ):
        found = simulation("softmax", rule, schedule).infer(X, Y).plus
        assert torch.allclose(found["y"], expected["y"], atol=1e-10)
        assert torch.allclose(found["h"], expected["h"], atol=1e-10)


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    ("tanh", {"rule": ns.EquilibriumPropagation()}, "closed form, which the activation 'tanh'"),
    ("softmax", {"rule": ns.LPOM()}, "the output of lpom has a closed form"),
    ("sigmoid", {"rule": ns.DualPropagation(nudge="proximal")}, "'relu' there, or the nudge"),
    (
        "relu",
        {"rule": ns.EquilibriumPropagation(readout="static")},
        "the readout 'static' is linear, but the output 'y' has the activation 'relu'",
    ),
    ("softmax", {"loss": "cross_entropy"}, "applies a softmax, and the output 'y' has one already"),
]


@pytest.mark.parametrize(("output", "options", "said"), REFUSED, ids=str)
def test_what_cannot_be_nudged_is_refused(output: str, options: dict[str, Any], said: str) -> None:
    model = ns.Model(network(output))
    with pytest.raises(ns.ConfigurationError, match=said):
        ns.Simulation(model, schedule=ns.schedules.Parallel(4), **options)


def test_a_hidden_softmax_is_refused() -> None:
    with pytest.raises(ns.NetworkError, match="which only those of the output can"):
        network("identity", hidden="softmax")
