"""neurosim against the literal simulation of `reference.py`."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from fewer import covering, randomly
from hypothesis import assume
from literal import Example, Pair, both, check, model_of, simulate
from literal_examples import (
    CONV,
    MLP,
    POOL,
    RANDOM,
    SKIP,
    SOFT,
    STANDING,
    at_plus,
    examples,
    literally_lazy,
    random_wakes,
)
from reference import Network
from reference_neurons import Rule

import neurosim as ns

# With α = 0 `lagrangian` moves s⁺ and no mean: nothing is sent where winners among s⁺ change.
MOVING = {
    "mean": (STANDING, Rule("aro", 0.2, 6.0, "prediction")),
    "plus": (at_plus(STANDING), Rule("lagrangian", 0.0, 6.0, "prediction")),
}


@randomly(60, 300, examples(), parent=RANDOM)
def test_random_networks(example: Example) -> None:
    pair = simulate(example)
    assume(not any(n.tie for n in pair.networks))
    check(pair)


@pytest.mark.parametrize("winners", ["mean", "plus"])
@randomly(30, 150, examples(), parent=RANDOM)
def test_what_published_code_does(winners: str, example: Example) -> None:
    """Weights that see f(a) (DP23), and winners among s⁺ (DP24)."""
    description = at_plus(example.description) if winners == "plus" else example.description
    example = replace(example, description=description, presynaptic="activation")
    pair = simulate(example)
    assume(not any(n.tie for n in pair.networks))
    check(pair)


@randomly(30, 150, examples(variants=["damped"], pools=False), parent=RANDOM)
def test_damped(example: Example) -> None:
    check(simulate(example))


@pytest.mark.parametrize("init", ["zero", "feedforward"])
@pytest.mark.parametrize("description", [MLP, SKIP, CONV], ids=["mlp", "skip", "conv"])
@pytest.mark.parametrize("thresholds", [(1e-9, 1e-9), (1e-3, 1e-9), (1e-2, 3e-2)])
def test_messages(description: dict[str, Any], init: str, thresholds: tuple[float, float]) -> None:
    """A threshold above round-off makes the number of messages one that does not hang on it."""
    pair = simulate(
        Example(
            description,
            Rule("aro", 0.4, 0.5, "potential"),
            "squared_error",
            init,
            batch=3,
            wakes=[random_wakes(description, 30, seed=4)],
            channels=ns.Channels(*map(ns.Channel, thresholds)),
        )
    )
    check(pair)
    counts = pair.outcome.counts
    assert counts.mean_messages == sum(n.counts["mean"] for n in pair.networks)
    assert counts.difference_messages == sum(n.counts["difference"] for n in pair.networks)
    assert counts.synaptic_operations == sum(n.counts["synaptic"] for n in pair.networks)
    assert counts.mean_messages > 20
    assert counts.difference_messages > 20


@pytest.mark.parametrize("variant", ["aro", "lagrangian"])
@pytest.mark.parametrize("unit", ["neuron", "channel", "column", "tile", "block", "population"])
def test_recorded_wakes(unit: Any, variant: Any) -> None:
    """What the probe `wakes` recorded of units of any kind, through the literal simulation."""
    rule = Rule(variant, 0.3, 0.4, "potential")
    example = Example(POOL, rule, "cross_entropy", "zero", batch=1, wakes=[])
    model = model_of(example)
    x = torch.from_numpy(np.random.default_rng(9).standard_normal((1, 2, 6, 6)))
    y = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    unit = ns.Unit(unit, {"tile": 2, "block": 7}.get(unit))
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(alpha=0.3, beta=0.4, variant=variant, nudge="potential"),
        loss="cross_entropy",
        schedule=ns.schedules.Poisson(unit=unit, rate=0.7, duration=12.0),
        init="zero",
        probes=["wakes"],
        seed=2,
    )
    outcome = simulation.infer(x, y)
    literal = Network(
        POOL, {k: v.detach().numpy() for k, v in model.state_dict().items()}, rule, "cross_entropy"
    )
    literal.start(x, y)
    literal.replay(outcome.trace.wakes)
    assert not literal.tie
    check(Pair(outcome, simulation, [literal]))


# Its thresholds keep back all that some populations have to say.
@pytest.mark.filterwarnings("ignore:in .* ticks nothing was sent")
@pytest.mark.parametrize("init", ["zero", "feedforward"])
@pytest.mark.parametrize("variant", ["aro", "damped"])
@pytest.mark.parametrize(
    "description", [MLP, SKIP, CONV, POOL, SOFT], ids=["mlp", "skip", "conv", "pool", "soft"]
)
def test_lazy(description: dict[str, Any], variant: Any, init: Any) -> None:
    """Who wakes when under the event-driven schedule; a sample's news wakes the whole batch's."""
    rule = Rule(variant, 0.8, 0.5, "potential")
    example = Example(description, rule, "squared_error", init, batch=2, wakes=[])
    example.channels = ns.Channels(ns.Channel(0.2), ns.Channel(0.1))
    check_lazy(example)


@pytest.mark.parametrize("compute", ["auto", "dense"])
def test_a_dyad_that_nobody_sees(compute: str) -> None:
    """It wakes alone, before anybody has asked for winners among s⁺: nothing goes back to it."""
    pool = {"kind": "max", "kernel": 2, "stride": 1, "winners": "plus"}
    layers = [
        {"name": "c1", "conv": 1, "kernel": 1},
        {"name": "c2", "conv": 2, "kernel": 1, "stride": 2, "pool": pool},
        {"name": "out", "dense": 2},
    ]
    order: Any = [
        ("c1", None),
        ("c2", None),
        ("out", None),
        ("c2", None),
        ("c1", [1]),
        ("c1", None),
    ]
    wakes = [(float(tick), *wake) for tick, wake in enumerate(order, 1)]
    rule = Rule("lagrangian", 1.0, 0.7, "proximal")
    description = {"input": [1, 3, 3], "layers": layers}
    example = Example(description, rule, "squared_error", "zero", 2, [wakes], compute=compute)
    check(simulate(example))


@pytest.mark.parametrize("winners", MOVING)
def test_lazy_where_winners_change(winners: str) -> None:
    description, rule = MOVING[winners]
    example = Example(description, rule, "squared_error", "feedforward", batch=2, wakes=[])
    if winners == "mean":  # which round-off would make news of
        example.channels = ns.Channels(ns.Channel(1e-9), ns.Channel(1e-9))
    check_lazy(example)


def check_lazy(example: Example) -> None:
    networks, simulation, (x, y) = both(example, ns.schedules.Lazy(unit="neuron", duration=12.0))
    outcome = simulation.infer(torch.from_numpy(x), torch.from_numpy(y))
    for literal, own, target in zip(networks, x, y, strict=True):
        literal.start(own, target, init=example.init)
    found = []
    for time, name, indices in outcome.trace.wakes:
        size = simulation.model.network[name].size
        found += [(int(time), name, i) for i in (range(size) if indices is None else indices)]
    expected = literally_lazy(networks, example.init, 12, set(found))
    assert sorted(found) == sorted(expected)
    assert len(expected) < 12 * simulation.model.network.dyads
    check(Pair(outcome, simulation, networks))


@pytest.mark.parametrize(
    ("winners", "seed", "compute"), covering(product(MOVING, range(4), ("auto", "dense")))
)
def test_winners_change_under_a_difference_that_does_not(
    winners: str, seed: int, compute: str
) -> None:
    """Nothing new is sent to c1 when winners of c2 change, but it goes back another way."""
    description, rule = MOVING[winners]
    wakes: list[tuple[float, str, list[int] | None]] = [
        (float(tick), name, None)
        for tick, name in enumerate(("out", "c2", "c1", "c2", "c1", "c2", "c1"), 1)
    ]
    generator = np.random.default_rng(seed)
    for tick in range(8, 14):
        for name, size in (("c1", 108), ("c2", 27)):
            wakes.append((tick, name, np.flatnonzero(generator.random(size) < 0.4).tolist()))
    example = Example(description, rule, "squared_error", "feedforward", 2, [wakes], seed=seed)
    example.compute = compute
    pair = simulate(example)
    assert not any(n.tie for n in pair.networks)
    check(pair)
    before = simulate(replace(example, wakes=[wakes[:3]]))
    changed = [
        network.route(now) != earlier.route(then)
        for network, earlier in zip(pair.networks, before.networks, strict=True)
        for now, then in zip(network.afferents("c2"), earlier.afferents("c2"), strict=True)
    ]
    assert sum(changed) > 5
