"""Energy-based rules settle on networks with max-pooling wherever the plain iteration does.

That iteration is written here with torch alone: with Φ = Σ s_kᵀ (pool(W_k s_{k−1}) + b_k), all
layers of a set take s_k ← f(∂Φ/∂s_k) together. Autograd sends what it sends back to the winners
among the present states.
"""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import neurosim as ns
from neurosim.measures.metrics import residual

TICKS = 400
GAIN = 0.5


def network_of(seed: int) -> ns.Network:
    """A few conv layers, some with overlapping windows, then dense ones."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*choices: int) -> int:
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    pools = [{"kind": "max"}, {"kind": "max", "kernel": 3, "stride": 2, "padding": 1}]
    layers = [
        {"conv": draw(2, 3, 4), "pool": pools[draw(0, 1)], "activation": "hard_sigmoid"}
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
    values = dict(model.named_parameters())
    states = [x] + [x.new_zeros(len(x), *p.shape) for p in network.dyadic]

    def energy(free: list[Tensor]) -> Tensor:
        total = x.new_zeros(())
        for (below, above), projection in zip(pairwise(free), network.projections, strict=True):
            weight, bias = (values[f"{n}.{k}"] for n, k in names(projection))
            if weight.dim() == 4:
                pool = projection.operator.pool
                made = F.conv2d(below, weight, bias, padding=1)
                made = F.max_pool2d(made, pool.kernel, pool.stride, pool.padding)
            else:
                made = F.linear(below.flatten(1), weight, bias)
            total = total + (above * made).sum()
        return total

    for _ in range(TICKS):
        before = states
        for together in sets:
            leaves = [state.detach().requires_grad_() for state in states]
            found = torch.autograd.grad(energy(leaves), leaves)
            states = [
                found[k].clamp(0, 1)
                if k in together and k < len(states) - 1
                else found[k]
                if k in together
                else state
                for k, state in enumerate(states)
            ]
    moved = max(float((new - old).abs().max()) for new, old in zip(states, before, strict=True))
    assert moved < 1e-12, "the reference does not settle: this test says nothing"
    return {p.name: s.detach() for p, s in zip(network.dyadic, states[1:], strict=True)}


def names(projection: ns.Projection) -> list[tuple[str, str]]:
    return [(projection.name, "weight"), (projection.post, "bias")]


@pytest.mark.parametrize("rule", ["equilibrium_propagation", "chl"])
@pytest.mark.parametrize("schedule", ["parallel", "odd_even"])
@pytest.mark.parametrize("seed", range(25))
def test_max_pooling_settles(seed: int, schedule: str, rule: str) -> None:
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
