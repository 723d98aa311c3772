"""Coupled learning against contrastive Hebbian learning, and signs that are drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from energies import CHAIN, SWEEP, data, infer
from torch import Tensor

import neurosim as ns


def error(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    flat = [torch.cat([g[name].flatten() for name in exact]) for g in (found, exact)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.mark.parametrize("variant", ["one_sided", "negative_one_sided", "centered"])
def test_coupled_learning_is_chl_towards_other_targets(variant: Any) -> None:
    """Towards s − η (s − y), s + η (s − y) or their difference; with η = 1 that is y."""
    model, (x, y) = CHAIN.model(0.3), data()
    free = infer(model, ns.ContrastiveHebbian(1.0))[1].prediction

    def towards(target: Tensor) -> dict[str, Tensor]:
        simulation = ns.Simulation(
            model, rule=ns.ContrastiveHebbian(1.0), schedule=SWEEP, init="zero"
        )
        simulation.infer(x, target)
        return simulation.gradients()

    eta = 0.4
    above, below = (towards(free - step * (free - y)) for step in (eta, -eta))
    expected = {
        "one_sided": {name: above[name] / eta for name in above},
        "negative_one_sided": {name: -below[name] / eta for name in above},
        "centered": {name: (above[name] - below[name]) / (2 * eta) for name in above},
    }
    found, outcome = infer(model, ns.CoupledLearning(eta=eta, variant=variant))
    assert error(found.gradients(), expected[variant]) <= 1e-9
    if variant == "one_sided":
        assert torch.allclose(outcome.plus["out"], free - eta * (free - y), atol=1e-12)
        whole = infer(model, ns.CoupledLearning(eta=1.0, variant=variant))[0].gradients()
        same = infer(model, ns.ContrastiveHebbian(1.0, free=3))[0].gradients()
        assert all(torch.equal(whole[name], same[name]) for name in same)


@pytest.mark.parametrize("make", [ns.EquilibriumPropagation, ns.CoupledLearning])
def test_a_random_sign(make: Any) -> None:
    """Each inference is positive or negative one-sided, by the seed and its number alone."""
    model, (x, y) = CHAIN.model(0.3), data()

    def gradients(variant: str, seed: int = 0, count: int = 8) -> list[Tensor]:
        simulation = ns.Simulation(
            model,
            rule=make(variant=variant),
            schedule=ns.schedules.Sweep("odd_even", 5),
            init="zero",
            seed=seed,
        )
        found = []
        for _ in range(count):
            simulation.infer(x, y)
            found.append(simulation.gradients()["x->h1.weight"])
        return found

    sides = [gradients(variant, count=1)[0] for variant in ("one_sided", "negative_one_sided")]
    drawn = {
        seed: [next(i for i, side in enumerate(sides) if torch.equal(side, g)) for g in found]
        for seed in range(5)
        for found in [gradients("random_sign", seed)]
    }
    assert 8 < sum(map(sum, drawn.values())) < 32
    assert len({tuple(signs) for signs in drawn.values()}) > 2
    again = gradients("random_sign", 3)
    assert all(torch.equal(g, sides[sign]) for g, sign in zip(again, drawn[3], strict=True))
