"""One process per population does exactly what one process per unit does, bit for bit."""

from __future__ import annotations

from dataclasses import asdict, astuple, replace
from functools import partial
from inspect import isabstract
from itertools import product
from typing import Any, get_args

import pytest
from cases import (
    FEEDBACK,
    NETWORKS,
    PHASED,
    ROUTED,
    RULES,
    SCHEDULES,
    UNITS,
    Case,
    differing,
    distinct,
    phased_cases,
)
from fewer import covering

import neurosim as ns
from neurosim.conformance.simulations import both_modes
from neurosim.rules import Rule
from neurosim.rules.dual_propagation import DampingName, NudgeName, Variant

STARTS = [("zero", None), ("feedforward", 2), ("carry", None), ("carry", 3)]
# Populations that wake as a whole do the same in every unit: there units take turns.
WHOLE = ("forward", "backward", "forward_backward", "odd_even", "even_odd", "parallel")
CASES = [
    Case(network, schedule, unit, init, learn_every=learn_every)
    for turn, (network, schedule) in enumerate(product(NETWORKS, SCHEDULES))
    for number, unit in enumerate(UNITS)
    for start, (init, learn_every) in enumerate(STARTS)
    if schedule not in WHOLE or number == (turn + start) % len(UNITS)
]

# Every rule under every schedule; networks, units and starts take turns.
OF_RULES = [
    Case(list(NETWORKS)[turn % 3], schedule, list(UNITS)[turn % 6], init, rule, learn_every)
    for turn, (rule, schedule) in enumerate(product(RULES, SCHEDULES))
    for init, learn_every in [STARTS[turn % 4] if rule != "prediction" else STARTS[1]]
]
OF_FEEDBACK = [
    Case(network, schedule, list(UNITS)[turn % 6], init, learn_every=learn_every)
    for network in (*FEEDBACK, *ROUTED)
    for turn, schedule in enumerate(SCHEDULES)
    for init, learn_every in STARTS[1::2]
]

# The stride has no factor in common with the numbers of choices.
EFFECTS = [replace(case, effects=True) for case in CASES[::5]]
ALL = distinct([*CASES, *OF_RULES, *OF_FEEDBACK, *EFFECTS, *phased_cases(0, 1)])


@pytest.mark.parametrize("case", covering(ALL, astuple), ids=str)
def test_processes(case: Case) -> None:
    both_modes(case.build, 2 if case.init == "carry" else 1)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_processes_in_steps(schedule: str) -> None:
    """However the ticks are cut into calls of `advance`."""
    case = Case("conv", schedule, "tile", "carry", learn_every=4)
    whole, steps = case.build(processes="population"), case.build(processes="neuron")
    for number in range(2):
        expected = whole.infer(number)
        steps.start(number)
        for ticks in (1, 0, 3, 2, 100):
            steps.simulation.advance(ticks)
        found = steps.simulation.finish()
        assert not differing(found.plus, expected.plus)
        assert not differing(found.minus, expected.minus)
        assert found.trace.wakes == expected.trace.wakes
        assert asdict(found.counts) == asdict(expected.counts)


def test_every_rule_is_among_them() -> None:
    tested = [*RULES.values(), *(phased.rule for phased in PHASED.values())]
    assert {type(rule) for rule in tested} == {
        found
        for found in (getattr(ns, name) for name in ns.__all__)
        if isinstance(found, type) and issubclass(found, Rule) and not isabstract(found)
    }


@pytest.mark.parametrize("nudge", get_args(NudgeName))
@pytest.mark.parametrize("variant", [*get_args(Variant), *get_args(DampingName)])
@pytest.mark.parametrize("schedule", ["poisson", "lazy"])
def test_every_variant_with_every_nudge(schedule: str, variant: str, nudge: Any) -> None:
    """`strong` and `published` are the two dampings of `damped`."""
    damping = {"variant": "damped", "damping": variant}
    options: Any = damping if variant in get_args(DampingName) else {"variant": variant}
    rule = ns.DualPropagation(alpha=0.7, beta=0.5, nudge=nudge, **options)
    case = Case("conv", schedule, "tile", "feedforward", learn_every=3)
    both_modes(partial(case.build, rule=rule, loss="squared_error"))
