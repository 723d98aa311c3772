"""One process per population does exactly what one process per unit does, bit for bit."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from cases import NETWORKS, SCHEDULES, UNITS, Case, Setup, differing, phased_cases

STARTS = [("zero", None), ("feedforward", 2), ("carry", None), ("carry", 3)]
CASES = [
    Case(network, schedule, unit, init, learn_every=learn_every)
    for network in NETWORKS
    for schedule in SCHEDULES
    for unit in UNITS
    for init, learn_every in STARTS
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


@pytest.mark.parametrize("case", [*CASES, *EFFECTS, *phased_cases(0, 1)], ids=str)
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
