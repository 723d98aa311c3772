"""Energy-based rules settle on networks with pooling wherever the plain iteration does.

That iteration is written here with torch alone: with Φ = Σ s_kᵀ (pool(W_k s_{k−1}) + b_k), all
layers of a set take s_k ← f(∂Φ/∂s_k) together. Autograd sends what it sends back to the winners
among the present states, or along the slopes that a softmax has there.
"""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from random_operators import torch_pool
from torch import Tensor
from two_winners import contest

import neurosim as ns
from neurosim.measures.metrics import residual

TICKS = 400
GAIN = 0.4  # at which the reference settles on all of the networks
SOFT = 100


def network_of(seed: int) -> ns.Network:
    """A few conv layers, some with overlapping windows, then dense ones. From `SOFT` on they pool
    by softmax."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*choices: int) -> int:
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    pools = [{}, {"kernel": 3, "stride": 2, "padding": 1}]
    kind = {"kind": "max"} if seed < SOFT else {"kind": "softmax", "gain": 2.0}
    layers = [
        {"conv": draw(2, 3, 4), "pool": kind | pools[draw(0, 1)], "activation": "hard_sigmoid"}
        for _ in range(draw(1, 2))
    ]
    layers += [{"dense": draw(4, 6), "activation": "hard_sigmoid"}] * draw(0, 1)
    return ns.Network.from_dict({"input": [2, 8, 8], "layers": [*layers, {"dense": 3}]})


def model_of(network: ns.Network, seed: int) -> ns.Model:
    """Weights with which the reference settles on all of them."""
    model = ns.Model(network, seed=seed, dtype=torch.float64)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.mul_(GAIN) if name.endswith("weight") else value.fill_(0.1)
    return model


def settled(model: ns.Model, x: Tensor, sets: list[list[int]]) -> dict[str, Tensor]:
    """Iterates until nothing moves. ``sets`` are the layers that move together, in their order."""
    network = model.network
    states = [x] + [x.new_zeros(len(x), *p.shape) for p in network.dyadic]

    for _ in range(TICKS):
        before = states
        for together in sets:
            states = step(model, states, together)
    moved = max(float((new - old).abs().max()) for new, old in zip(states, before, strict=True))
    assert moved < 1e-12, "the reference does not settle: this test says nothing"
    return {p.name: s for p, s in zip(network.dyadic, states[1:], strict=True)}


def step(model: ns.Model, states: list[Tensor], together: list[int]) -> list[Tensor]:
    """Moves the layers of these numbers to f(∂Φ/∂s), all from the same states."""
    network, values = model.network, dict(model.named_parameters())

    def energy(free: list[Tensor]) -> Tensor:
        total = states[0].new_zeros(())
        for (below, above), projection in zip(pairwise(free), network.projections, strict=True):
            weight, bias = (values[f"{n}.{k}"] for n, k in names(projection))
            if weight.dim() == 4:
                pool = projection.operator.pool
                made = F.conv2d(below, weight, bias, padding=1)
                made = torch_pool(pool, made)
            else:
                made = F.linear(below.flatten(1), weight, bias)
            total = total + (above * made).sum()
        return total

    leaves = [state.detach().requires_grad_() for state in states]
    found = [value.detach() for value in torch.autograd.grad(energy(leaves), leaves)]
    last = len(states) - 1
    return [
        state if k not in together else found[k] if k == last else found[k].clamp(0, 1)
        for k, state in enumerate(states)
    ]


def names(projection: ns.Projection) -> list[tuple[str, str]]:
    return [(projection.name, "weight"), (projection.post, "bias")]


@pytest.mark.parametrize("rule", ["equilibrium_propagation", "chl"])
@pytest.mark.parametrize("schedule", ["parallel", "odd_even"])
@pytest.mark.parametrize(
    "seed",
    [pytest.param(n, marks=pytest.mark.slow if 1 < n < SOFT else ()) for n in (*range(50), SOFT)],
)
def test_pooling_settles(seed: int, schedule: str, rule: str) -> None:
    network = network_of(seed)
    model = model_of(network, seed)
    x = torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    depth = len(network.dyadic)
    every = list(range(1, depth + 1))
    sets = [every] if schedule == "parallel" else [every[::2], every[1::2]]
    simulation = ns.Simulation(
        model,
        rule=ns.EquilibriumPropagation(free=1) if rule[0] == "e" else ns.ContrastiveHebbian(1.0, 1),
        loss="squared_error",
        schedule=ns.schedules.Parallel(ticks=TICKS)
        if schedule == "parallel"
        else ns.schedules.Sweep("odd_even", TICKS),
        init="zero",
    )
    outcome = simulation.infer(x)
    expected = settled(model, x, sets)
    for name, state in expected.items():
        assert (outcome.plus[name] - state).abs().max() < 1e-11, name
    found = residual(simulation.state, simulation.rule, simulation.nudge)
    assert max(found.mean.values()) < 1e-10


SCHEDULES = {
    "random_order": ns.schedules.RandomOrder(unit="neuron", groups=4, passes=1000),
    "poisson": ns.schedules.Poisson(unit="tile", rate=0.7, duration=3000.0),
    "lazy": ns.schedules.Lazy(unit="neuron", duration=1000.0),
}


@pytest.mark.parametrize(
    "rule",
    [
        ns.EquilibriumPropagation(free=1),
        pytest.param(ns.ContrastiveHebbian(1.0, 1), marks=pytest.mark.slow),
    ],
    ids=["ep", "chl"],
)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("seed", [*range(4), SOFT])
def test_any_order_settles(seed: int, schedule: str, rule: ns.Rule) -> None:
    """At a state that the plain iteration does not move. Without a threshold lazy units would go on
    telling each other of last bits."""
    model = model_of(network_of(seed), seed)
    x = torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    heard = ns.Channel(1e-13 if schedule == "lazy" else 0.0)
    simulation = ns.Simulation(
        model,
        rule=rule,
        loss="squared_error",
        schedule=SCHEDULES[schedule],
        channels=ns.Channels(heard, heard),
        init="zero",
        stop=None if schedule == "lazy" else ns.Stop(1e-12, every=100),
    )
    outcome = simulation.infer(x)
    assert outcome.time < 1000.0, "it never came to rest"
    states = [x, *(outcome.plus[p.name] for p in model.network.dyadic)]
    moved = step(model, states, list(range(1, len(states))))
    assert (
        max(float((new - old).abs().max()) for new, old in zip(moved, states, strict=True)) < 1e-10
    )
    found = residual(simulation.state, simulation.rule, simulation.nudge)
    assert max(found.mean.values()) < 1e-10


def test_holomorphic_gradients_through_softmax_pooling() -> None:
    """The gradient of the loss at the free fixed point, by autograd through 40 iterations."""
    pool = {"kind": "softmax", "gain": 2.0, "padding": 1}
    layers = [{"name": f"c{n}", "conv": 2, "pool": pool} for n in (1, 2)]
    network = ns.Network.from_dict(
        {
            "input": [2, 4, 4],
            "activation": "tanh",
            "layers": [*layers, {"name": "p", "pool": "softmax"}, {"name": "out", "dense": 3}],
        }
    )
    model = model_of(network, 3)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 2, 4, 4, generator=generator, dtype=torch.float64)
    y, p = torch.eye(3, dtype=torch.float64)[:2], dict(model.named_parameters())

    def pooled(states: list[Tensor]) -> list[Tensor]:
        c1 = torch_pool(network.projections[0].operator.pool, conv(x, "c1"))
        c2 = torch_pool(network.projections[1].operator.pool, conv(states[0], "c2"))
        return [c1, c2, torch_pool(network.projections[2].operator.pool, states[1])]

    def conv(values: Tensor, name: str) -> Tensor:
        return F.conv2d(values, p[f"{name}.weight"], p[f"{name}.bias"], padding=1)

    states = [x.new_zeros(2, *population.shape) for population in network.dyadic[:3]]
    for _ in range(40):
        states = [s.requires_grad_() if s.is_leaf else s for s in states]
        up = pooled(states)
        back = torch.autograd.grad(up[1:], states[:2], states[1:], create_graph=True)
        states = [(up[0] + back[0]).tanh(), (up[1] + back[1]).tanh(), up[2]]
    logits = F.linear(states[2].flatten(1), p["out.weight"], p["out.bias"])
    exact = torch.autograd.grad(F.cross_entropy(logits, y), list(p.values()))
    simulation = ns.Simulation(
        model,
        rule=ns.HolomorphicEP(0.03, 4, free=1),
        loss="cross_entropy",
        schedule=ns.schedules.Parallel(ticks=40),
        init="zero",
    )
    simulation.infer(x, y)
    found = simulation.gradients()
    for name, gradient in zip(p, exact, strict=True):
        assert (found[name] - gradient).norm() < 1e-6 * gradient.norm(), name


# ---- the verdict ---------------------------------------------------------------------------------


def test_a_synchronous_order_that_oscillates() -> None:
    """With weights five times as large all layers at once come back every second tick."""
    model, y = model_of(network_of(1), 1), torch.eye(3, dtype=torch.float64)[:2]
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.mul_(5.0 if name.endswith("weight") else 1.0)
    x = torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def simulation(ticks: int) -> ns.Simulation:
        rule = ns.DualPropagation(alpha=0.5, beta=0.5, nudge="potential")
        schedule = ns.schedules.Parallel(ticks=ticks)
        return ns.Simulation(
            model, rule=rule, loss="cross_entropy", schedule=schedule, init="zero", nudge_after=0
        )

    first = model.network.dyadic[0].name
    after = [simulation(ticks).infer(x, y).plus[first] for ticks in (120, 121, 122)]
    assert (after[0] - after[2]).abs().max() < 1e-9
    assert (after[0] - after[1]).abs().max() > 1e-2
    found = ns.measure_convergence(simulation(120), x, y, every=20, tolerance=1e-6, sweeps=40)
    assert (found.verdict, found.reason) == ("oscillates", "the states come back every 2 ticks")
    assert not found.reference.reached


def test_several_fixed_points() -> None:
    """Which dyad is above the kink depends on which has won before."""
    model, won, neither, y = contest(1.0)
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(alpha=0.5, beta=0.5, nudge="potential"),
        schedule=ns.schedules.Parallel(ticks=100),
        init="carry",
        nudge_after=0,
    )
    verdicts = []
    for before in won:
        simulation.infer(before, y)
        found = ns.measure_convergence(simulation, neither, y, tolerance=1e-6)
        verdicts.append(found.verdict)
        active = simulation.state.by_name["h"].plus.value.flatten() > 0
        assert active.tolist() == (before.flatten() > 0).tolist()
    assert verdicts == ["converged", "several_fixed_points"]
    assert found.reason.startswith("the states rest at another fixed point")
