"""Skipping what has not changed, and computing only what wakes, never change a result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import (
    FEEDBACK,
    NETWORKS,
    RULES,
    SCHEDULES,
    Case,
    Setup,
    differing,
    every_effect,
    make_model,
    phased_cases,
    states,
)

UNITS_OF = {"mlp": ("neuron", "block"), "conv": ("neuron", "channel", "tile"), "skip": ("neuron",)}
UNITS_OF["feedback"] = UNITS_OF["jacobian"] = UNITS_OF["conv"]
STARTS = [("feedforward", None), ("zero", 3), ("carry", 2)]


def cases(schedules: list[str], networks: Iterable[str] = NETWORKS) -> list[Case]:
    return [
        Case(network, schedule, unit, init, rule, learn_every)
        for network in networks
        for schedule in schedules
        for unit in (*UNITS_OF[network], "population")
        for rule in RULES
        for init, learn_every in STARTS
        if init == "feedforward" or rule != "prediction"
        if all(p.feedback in RULES[rule].feedbacks for p in make_model(network).network.projections)
    ]


def thinned(found: list[Case], every: int) -> list[Case]:
    """Every n-th case; ``every`` has no factor in common with the numbers of choices."""
    return found[::every]


def in_step(one: Setup, other: Setup, number: int) -> None:
    """Runs both a tick; both have come to the end together or neither has."""
    assert one.simulation.done == other.simulation.done, number
    one.simulation.advance(1)
    other.simulation.advance(1)


CACHED = thinned(cases(list(SCHEDULES)), 13)
PARTIAL = thinned(cases([s for s in SCHEDULES if s != "lazy"]), 13)
CACHED += thinned(cases(list(SCHEDULES), FEEDBACK), 37)


def with_effects(found: list[Case]) -> list[Case]:
    return [replace(case, effects=True) for case in found]


PHASED = phased_cases(0, 2)


@pytest.mark.parametrize("case", [*CACHED, *with_effects(thinned(CACHED, 5)), *PHASED], ids=str)
def test_caching(case: Case) -> None:
    cached, plain = case.build(compute="dense"), case.build(compute="dense")
    for number in range(2 if case.init == "carry" else 1):
        cached.start(number)
        plain.simulation.caching = False
        plain.start(number)
        while not cached.simulation.done:
            in_step(cached, plain, number)
            tick = cached.simulation.tick
            assert tick == plain.simulation.tick
            assert not differing(states(cached.simulation), states(plain.simulation)), tick
        found, expected = cached.simulation.finish(), plain.simulation.finish()
        assert found.trace.state_dict() == expected.trace.state_dict()
        assert found.messages == expected.messages
        assert found.counts.synaptic_operations == expected.counts.synaptic_operations
        assert found.counts.forward <= expected.counts.forward
        gradients = cached.simulation.gradients()
        assert not differing(gradients, plain.simulation.gradients())
    parameters = cached.simulation.model.state_dict()
    assert not differing(parameters, plain.simulation.model.state_dict())


def deviation(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """The largest one, each relative to its array's largest value but at least 1."""
    assert set(found) == set(expected)
    return max(
        float((found[name] - value).abs().max() / value.abs().max().clamp(min=1.0))
        for name, value in expected.items()
    )


PHASED_PARTIAL = [case for case in PHASED if case.schedule != "lazy" and not case.effects]


@pytest.mark.parametrize(
    "case", [*PARTIAL, *with_effects(thinned(PARTIAL, 5)), *PHASED_PARTIAL], ids=str
)
def test_partial_operations(case: Case) -> None:
    """With effects, a last bit more or less must not decide on what is sent, and so on its noise:
    there a threshold is far above round-off."""
    options: dict[str, Any] = {}
    if case.effects:
        options["channels"] = every_effect(make_model(case.network).network, 1e-6)
    partial, dense = (case.build(compute=compute, **options) for compute in ("auto", "dense"))
    for number in range(2 if case.init == "carry" else 1):
        partial.start(number)
        dense.start(number)
        while not partial.simulation.done:
            in_step(partial, dense, number)
            found, expected = states(partial.simulation), states(dense.simulation)
            assert deviation(found, expected) <= 1e-12, partial.simulation.tick
        found, expected = partial.simulation.finish(), dense.simulation.finish()
        assert found.trace.wakes == expected.trace.wakes
        gradients = partial.simulation.gradients()
        assert deviation(gradients, dense.simulation.gradients()) <= 1e-12
