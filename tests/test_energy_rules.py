"""Equilibrium propagation, its holomorphic form and contrastive Hebbian learning against energies
written down and minimized by code that shares nothing with the simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from energies import (
    CHAIN,
    FUNCTIONS,
    NETS,
    SKIP,
    SWEEP,
    Net,
    Parameters,
    agree,
    data,
    feedback,
    infer,
    least,
    parameters,
    settle,
    slopes,
)
from fewer import covering
from torch import Tensor

import neurosim as ns
from neurosim.rules import Rule
from neurosim.rules.equilibrium_propagation import roots_of_unity

# ---- gradients against finite differences --------------------------------------------------------

READOUTS = [("state", "squared_error"), ("static", "squared_error"), ("static", "cross_entropy")]


@pytest.mark.parametrize(
    ("net", "aim", "variant"),
    covering(product(NETS, READOUTS, ("centered", "one_sided", "negative_one_sided"))),
)
def test_ep_is_the_slope_of_the_energy(net: str, aim: tuple[str, str], variant: str) -> None:
    """dF*/dθ = ∂F/∂θ: the local gradient is exactly that of the difference of two F* over that of
    their β."""
    model, (readout, loss) = NETS[net].model(0.3), aim
    rule = ns.EquilibriumPropagation(0.3, variant, readout)
    simulation, _ = infer(model, rule, loss)

    def contrast(p: Parameters) -> float:
        betas = (
            0.0 if variant == "negative_one_sided" else 0.3,
            0.0 if variant == "one_sided" else -0.3,
        )
        above, below = least(NETS[net], readout, loss, betas, p)
        return float(above - below) / (betas[0] - betas[1]) / 3

    agree(simulation.gradients(), slopes(contrast, parameters(model)), 2e-7)


@pytest.mark.parametrize(
    ("readout", "loss", "points"),
    [
        pytest.param(*aim, points, marks=() if points == fast else pytest.mark.slow)
        for aim, fast in zip(READOUTS, (3, 4, 3), strict=True)
        for points in (3, 4)
    ],
)
def test_holomorphic_ep_is_the_slope_of_the_energy(readout: str, loss: str, points: int) -> None:
    """Re (1/N) Σ F*(β_j)/β_j. At two points it is centered EP: see below."""
    model = CHAIN.model(0.3)
    simulation, _ = infer(model, ns.HolomorphicEP(0.4, points, readout), loss)

    def mean(p: Parameters) -> float:
        betas = [0.4 * root for root in roots_of_unity(points)]
        values = least(CHAIN, readout, loss, betas, p)
        terms = [value / beta for value, beta in zip(values, betas, strict=True)]
        return float(torch.stack(terms).mean().real) / 3

    agree(simulation.gradients(), slopes(mean, parameters(model)), 2e-7)


@pytest.mark.parametrize("discount", [1.0, 0.3])
@pytest.mark.parametrize("net", ["chain", "rectified"])
def test_chl_is_the_slope_of_its_discounted_objective(net: str, discount: float) -> None:
    """E(clamped) − E(free), E = Σ c^(k−L) [G(s_k) − s_kᵀ a_k]."""
    model = NETS[net].model(0.3)
    simulation, _ = infer(model, ns.ContrastiveHebbian(discount))
    _, y = data()
    weights = {"h1": discount**-2, "h2": discount**-1, "out": 1.0}

    def contrast(p: Parameters) -> float:
        def update(clamped: bool, values: dict[str, Tensor], name: str, a: Tensor) -> Tensor:
            if name == "out":
                return y if clamped else a
            below = discount * feedback(NETS[net], values, name, p)
            return FUNCTIONS[NETS[net].activations[name]](a + below)

        free = settle(NETS[net], p, partial(update, False))
        clamped = settle(NETS[net], p, partial(update, True), start=free)
        energies = [NETS[net].energy(values, p, weights) for values in (clamped, free)]
        return float(energies[0] - energies[1]) / 3

    agree(simulation.gradients(), slopes(contrast, parameters(model)), 2e-7)


def test_holomorphic_ep_at_points_by_the_million() -> None:
    """Their phases alone would take a quarter of a minute, and |β|^N is far below rounding."""
    with pytest.raises(ns.ConfigurationError, match="must be at most 10000"):
        ns.HolomorphicEP(points=10**6)


@pytest.mark.parametrize(("readout", "loss"), READOUTS)
def test_holomorphic_ep_at_two_points_is_centered_ep(readout: str, loss: str) -> None:
    model = CHAIN.model(0.3)
    found, _ = infer(model, ns.HolomorphicEP(0.35, 2, readout), loss)
    expected, _ = infer(model, ns.EquilibriumPropagation(0.35, "centered", readout), loss)
    assert error(found.gradients(), expected.gradients()) <= 1e-13


HOLOMORPHIC = [
    {"kind": "sigmoid", "gain": 4.0, "center": 0.5},
    {"kind": "sigmoid"},
    {"kind": "holotanh"},
    {"kind": "holotanh", "gain": 3.0, "width": 1.0},
    {"kind": "silu"},
]


@pytest.mark.parametrize("activation", HOLOMORPHIC, ids=str)
def test_holomorphic_ep_of_other_activations(activation: Any) -> None:
    """The gradient of the loss at the free fixed point, by autograd through 300 iterations."""
    layers = [{"name": name, "dense": 5, "activation": activation} for name in ("h1", "h2")]
    network = ns.Network.from_dict({"input": 4, "layers": [*layers, {"name": "out", "dense": 3}]})
    model = ns.Model(network, seed=5, dtype=torch.float64)
    x, y = data()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    f, p = network["h1"].activation, dict(model.named_parameters())
    h1 = h2 = torch.zeros(3, 5, dtype=torch.float64)
    for _ in range(300):
        h1 = f(x @ p["h1.weight"].T + p["h1.bias"] + h2 @ p["h2.weight"])
        h2 = f(h1 @ p["h2.weight"].T + p["h2.bias"])
    logits = h2 @ p["out.weight"].T + p["out.bias"]
    loss = -(y * torch.log_softmax(logits, 1)).sum() / 3
    exact = dict(zip(p, torch.autograd.grad(loss, list(p.values())), strict=True))
    errors = [
        error(infer(model, ns.HolomorphicEP(0.3, points), "cross_entropy")[0].gradients(), exact)
        for points in (2, 4, 6)
    ]
    assert errors[0] > 8 * errors[1] > 64 * errors[2]
    assert errors[2] < 1e-4


# ---- how the error falls -------------------------------------------------------------------------


def unrolled(model: ns.Model, net: Net, loss: str) -> dict[str, Tensor]:
    """Autograd through a free phase of 120 sweeps, of a network whose readout is a state."""
    x, y = data()
    p = {name: v.detach().clone().requires_grad_() for name, v in model.named_parameters()}
    values = {"x": x} | {
        name: torch.zeros(3, size, dtype=torch.float64)
        for name, size in net.shapes.items()
        if name != "x"
    }
    for _ in range(120):
        for name in [n for n in net.shapes if n != "x"]:
            drive = net.potential(values, name, p) + feedback(net, values, name, p)
            values = values | {name: FUNCTIONS[net.activations[name]](drive)}
    assert loss == "squared_error"
    value = 0.5 * (values["out"] - y).square().sum() / 3
    return dict(zip(p, torch.autograd.grad(value, list(p.values())), strict=True))


def error(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    flat = [torch.cat([g[name].flatten() for name in exact]) for g in (found, exact)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (lambda beta: ns.EquilibriumPropagation(beta, "one_sided"), 1),
        (lambda beta: ns.EquilibriumPropagation(beta, "centered"), 2),
        (lambda beta: ns.HolomorphicEP(beta, 2, "state"), 2),
        (lambda beta: ns.HolomorphicEP(beta, 3, "state"), 3),
        (lambda beta: ns.HolomorphicEP(beta, 4, "state"), 4),
    ],
)
def test_the_order_of_the_error(make: Callable[[float], Rule], order: int) -> None:
    """Against autograd through the unrolled free phase it falls as |β|^order."""
    model = CHAIN.model(0.3)
    exact = unrolled(model, CHAIN, "squared_error")
    betas = (0.04, 0.02, 0.01) if order < 3 else (0.16, 0.08, 0.04)
    errors = [error(infer(model, make(beta))[0].gradients(), exact) for beta in betas]
    for larger, smaller in pairwise(errors):
        assert np.log2(larger / smaller) == pytest.approx(order, rel=0.1)


def test_chl_approaches_back_propagation() -> None:
    model = CHAIN.model(0.4)
    exact = ns.metrics.back_propagation(model, _squared_error(), *data())
    errors = [
        error(infer(model, ns.ContrastiveHebbian(c))[0].gradients(), exact)
        for c in (0.04, 0.02, 0.01)
    ]
    for larger, smaller in pairwise(errors):
        assert np.log2(larger / smaller) == pytest.approx(1, rel=0.1)


def _squared_error() -> Any:
    from neurosim.maths.losses import Loss

    return Loss.of("squared_error")


@pytest.mark.parametrize("net", NETS)
def test_the_probe_compares_with_the_unrolled_free_phase(net: str) -> None:
    model = NETS[net].model(0.3)
    rule = ns.EquilibriumPropagation(0.05)
    simulation, outcome = infer(model, rule, probes=[ns.Probe("gradient_angle", 100)])
    exact = unrolled(model, NETS[net], "squared_error")
    expected = ns.metrics.alignment(simulation.gradients(), exact)
    found = outcome.trace["gradient_angle"][-1]
    assert found["total_angle"] == pytest.approx(expected[""].angle, abs=1e-5)
    for name, (angle, ratio) in expected.items():
        if name:
            assert found["angle"][name] == pytest.approx(angle, abs=1e-5)
            assert found["norm_ratio"][name] == pytest.approx(ratio, abs=1e-9)
    # Back-propagation is the gradient of another network.
    other = ns.metrics.alignment(
        simulation.gradients(), ns.metrics.back_propagation(model, _squared_error(), *data())
    )
    assert other[""].angle > 10 * expected[""].angle + 1
    # Only the last phase has a gradient.
    assert outcome.trace["gradient_angle"][0]["tick"] > outcome.ticks * 3 / 5


# ---- pooling -------------------------------------------------------------------------------------


def test_ep_with_max_pooling() -> None:
    """Convolution, max-pooling, dense: the slope of an energy that autograd minimizes."""
    network = ns.Network.from_dict(
        {
            "input": [2, 4, 4],
            "activation": "relu",
            "layers": [
                {"name": "c", "conv": 3, "pool": "max"},
                {"name": "d", "conv": 2, "pool": "max"},
                {"name": "out", "dense": 3},
            ],
        }
    )
    model = ns.Model(network, seed=2, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(0.25).add_(0.3 if name.endswith("bias") else 0.0)
    x = torch.from_numpy(np.random.default_rng(3).standard_normal((2, 2, 4, 4)))
    y = torch.eye(3, dtype=torch.float64)[:2]
    rule = ns.EquilibriumPropagation(0.3)
    simulation = ns.Simulation(model, rule=rule, schedule=SWEEP, init="zero")
    simulation.infer(x, y)

    def least_of(beta: float, p: Parameters) -> float:
        c, d = torch.zeros(2, 3, 2, 2), torch.zeros(2, 2, 1, 1)
        c, d, out = c.double(), d.double(), torch.zeros(2, 3).double()

        def potentials(c: Tensor, d: Tensor) -> list[Tensor]:
            first = F.max_pool2d(F.conv2d(x, p["c.weight"], p["c.bias"], padding=1), 2)
            second = F.max_pool2d(F.conv2d(c, p["d.weight"], p["d.bias"], padding=1), 2)
            return [first, second, F.linear(d.flatten(1), p["out.weight"], p["out.bias"])]

        for _ in range(1000):
            before = c, d, out
            leaf = c.detach().requires_grad_()
            a = potentials(leaf, d)
            (down,) = torch.autograd.grad((d * a[1]).sum(), leaf)
            c = torch.relu(a[0] + down).detach()
            a = potentials(c, d)
            d = torch.relu(a[1] + (out @ p["out.weight"]).view_as(d))
            out = (potentials(c, d)[2] + beta * y) / (1 + beta)
            if (
                max(float((s - b).abs().max()) for s, b in zip((c, d, out), before, strict=True))
                < 1e-11
            ):
                break
        else:
            raise AssertionError("there is no least value near the start")
        a = potentials(c, d)
        energy = sum((0.5 * s * s - s * b).sum() for s, b in zip((c, d, out), a, strict=True))
        return float(energy + beta * 0.5 * (out - y).square().sum())

    def contrast(p: Parameters) -> float:
        return (least_of(0.3, p) - least_of(-0.3, p)) / 0.6 / 2

    assert all(gradient.abs().max() > 1e-3 for gradient in simulation.gradients().values())
    agree(simulation.gradients(), slopes(contrast, parameters(model)), 1e-5)


# ---- neuron by neuron ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [
        ns.schedules.RandomOrder("neuron", groups=3, passes=6),
        ns.schedules.Poisson("neuron", rate=0.6, duration=20.0),
        ns.schedules.Sweep("odd_even", 8),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_neuron_by_neuron(schedule: ns.schedules.Schedule) -> None:
    """One number per neuron, woken one by one as the wakes were recorded, in all three phases."""
    net, rule = SKIP, ns.EquilibriumPropagation(0.3, free=2)
    model = net.model(0.3)
    simulation, outcome = infer(model, rule, schedule=schedule, probes=["wakes"], seed=5)
    x, y = data()
    p = {name: value.numpy() for name, value in parameters(model).items()}
    lengths = [2, 1, 1]
    run = outcome.ticks // sum(lengths)
    wakes: dict[int, list[tuple[str, list[int]]]] = {}
    for record in outcome.trace["wakes"]:
        size = net.shapes[record["population"]]
        indices = list(range(size)) if record["indices"] is None else record["indices"]
        wakes.setdefault(record["tick"], []).append((record["population"], indices))
    gradients = {name: np.zeros_like(value) for name, value in p.items()}
    for sample in range(3):
        states = {name: [0.0] * size for name, size in net.shapes.items()}
        states["x"] = x[sample].tolist()
        free, tick = states, 0
        for phase, (beta, share) in enumerate([(0.0, 0.0), (0.3, 1.0), (-0.3, -1.0)]):
            states = {name: list(values) for name, values in free.items()}
            for _ in range(run * lengths[phase]):
                tick += 1
                seen = {name: list(values) for name, values in states.items()}
                for name, indices in wakes.get(tick, []):
                    for i in indices:
                        states[name][i] = _woken(net, p, seen, name, i, beta, y[sample].tolist())
            if phase == 0:
                free = states
            for pre, post in net.edges:
                product = np.outer(states[post], states[pre])
                gradients[f"{pre}->{post}.weight"] -= share * product / 0.6 / 3
            for name in ("h1", "h2", "out"):
                gradients[f"{name}.bias"] -= share * np.array(states[name]) / 0.6 / 3
        for name in ("h1", "h2", "out"):
            assert outcome.plus[name][sample].tolist() == pytest.approx(states[name], abs=1e-12)
    found = simulation.gradients()
    for name, value in gradients.items():
        assert np.allclose(found[name].numpy(), value, atol=1e-12)


def _woken(
    net: Net, p: Any, seen: dict[str, list[float]], name: str, i: int, beta: float, y: list[float]
) -> float:
    total = float(p[f"{name}.bias"][i])
    for pre, post in net.edges:
        weight = p[f"{pre}->{post}.weight"]
        if post == name:
            total += sum(float(weight[i, j]) * s for j, s in enumerate(seen[pre]))
        if pre == name:
            total += sum(float(weight[j, i]) * s for j, s in enumerate(seen[post]))
    if name == "out":
        return (total + beta * y[i]) / (1 + beta)
    if net.activations[name] == "relu":
        return max(0.0, total)
    return min(1.0, max(0.0, total))
