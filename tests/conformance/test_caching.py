"""Skipping what has not changed, and computing only what wakes, never change a result."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import astuple, replace

import pytest
from cases import (
    FEEDBACK,
    NETWORKS,
    ROUTED,
    RULES,
    SCHEDULES,
    Case,
    distinct,
    every_effect,
    make_model,
    network_named,
    phased_cases,
)
from fewer import covering

from neurosim.conformance.simulations import Build, caching, partial

UNITS_OF = {"mlp": ("neuron", "block"), "conv": ("neuron", "channel", "tile"), "skip": ("neuron",)}
UNITS_OF["feedback"] = UNITS_OF["jacobian"] = UNITS_OF["plus"] = UNITS_OF["conv"]
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
        if all(RULES[rule].takes(p.feedback) for p in network_named(network).projections)
    ]


def thinned(found: list[Case], every: int) -> list[Case]:
    """Every n-th case; ``every`` has no factor in common with the numbers of choices."""
    return found[::every]


CACHED = thinned(cases(list(SCHEDULES)), 13)
PARTIAL = thinned(cases([s for s in SCHEDULES if s != "lazy"]), 13)
CACHED += thinned(cases(list(SCHEDULES), FEEDBACK), 37)


def with_effects(found: list[Case]) -> list[Case]:
    return [replace(case, effects=True) for case in found]


PHASED = phased_cases(0, 2)


PLUS = thinned(cases(list(SCHEDULES), ROUTED), 29)
CASES = [*CACHED, *with_effects(thinned(CACHED, 5)), *PHASED, *PLUS]


@pytest.mark.parametrize("case", covering(distinct(CASES), astuple), ids=str)
def test_caching(case: Case) -> None:
    caching(case.build, 2 if case.init == "carry" else 1)


PLUS_PARTIAL = [case for case in PLUS if case.schedule != "lazy"]
PHASED_PARTIAL = [case for case in PHASED if case.schedule != "lazy" and not case.effects]
SOME = [*PARTIAL, *with_effects(thinned(PARTIAL, 5)), *PHASED_PARTIAL, *PLUS_PARTIAL]


@pytest.mark.parametrize(
    "case",
    covering(distinct(SOME), astuple),
    ids=str,
)
def test_partial_operations(case: Case) -> None:
    """With effects, a last bit more or less must not decide on what is sent, and so on its noise:
    there a threshold is far above round-off."""
    build: Build = case.build
    if case.effects:
        network = make_model(case.network).network
        build = functools.partial(case.build, channels=every_effect(network, 1e-6))
    partial(build, 2 if case.init == "carry" else 1)
