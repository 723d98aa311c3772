"""One process per population does exactly what one process per unit does, bit for bit."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import product

import pytest
import torch
from cases import FEEDBACK, NETWORKS, RULES, SCHEDULES, UNITS, Case, Setup, differing

STARTS = [("zero", None), ("feedforward", 2), ("carry", None), ("carry", 3)]
CASES = [
    Case(network, schedule, unit, init, learn_every=learn_every)
    for network in NETWORKS
    for schedule in SCHEDULES
    for unit in UNITS
    for init, learn_every in STARTS
]

# Every rule under every schedule; networks, units and starts take turns.
OF_RULES = [
    Case(list(NETWORKS)[turn % 3], schedule, list(UNITS)[turn % 6], init, rule, learn_every)
    for turn, (rule, schedule) in enumerate(product(RULES, SCHEDULES))
    for init, learn_every in [STARTS[turn % 4] if rule != "prediction" else STARTS[1]]
]
OF_FEEDBACK = [
    Case(network, schedule, list(UNITS)[turn % 6], init, learn_every=learn_every)
    for network in FEEDBACK
    for turn, schedule in enumerate(SCHEDULES)
    for init, learn_every in STARTS[1::2]
]

# The stride has no factor in common with the numbers of choices.
EFFECTS = [replace(case, effects=True) for case in CASES[::7]]


def compare(one: Setup, other: Setup, inferences: int) -> None:
    for number in range(inferences):
        found, expected = one.infer(number), other.infer(number)
        assert not differing(found.plus, expected.plus)
        assert not differing(found.minus, expected.minus)
        assert torch.equal(found.prediction, expected.prediction)
        assert found.trace.state_dict() == expected.trace.state_dict()
        assert asdict(found.counts) == asdict(expected.counts)
        assert (found.ticks, found.time) == (expected.ticks, expected.time)
        assert found.wakes > 0
        gradients = one.simulation.gradients()
        assert not differing(gradients, other.simulation.gradients())
    parameters = one.simulation.model.state_dict()
    assert not differing(parameters, other.simulation.model.state_dict())


@pytest.mark.parametrize("case", [*CASES, *OF_RULES, *OF_FEEDBACK, *EFFECTS], ids=str)
def test_processes(case: Case) -> None:
    setups = (case.build(processes=mode) for mode in ("population", "neuron"))
    compare(*setups, inferences=2 if case.init == "carry" else 1)


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
