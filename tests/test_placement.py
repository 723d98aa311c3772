"""Populations on several devices: the CPU, and two that are not there (`away`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from away import AWAY, FARTHER, Elsewhere, here
from torch import Tensor

import neurosim as ns
from neurosim.conformance.simulations import Setup, handed_over
from neurosim.network import groups_of
from tests.conformance.cases import SCHEDULES, Case, network_named

CPU = torch.device("cpu")
# Of each network two placements: one that is cut in two, one in which messages go to and fro.
PLACES: dict[str, list[dict[str, Any]]] = {
    "mlp": [{"input..h1": CPU, "rest": AWAY}, {"h1": AWAY, "h2": FARTHER, "rest": CPU}],
    "conv": [{"input..c1": AWAY, "rest": CPU}, {"c1": AWAY, "c2": CPU, "rest": FARTHER}],
    "skip": [{"h2": AWAY, "rest": CPU}, {"input": CPU, "h1": AWAY, "rest": FARTHER}],
    "plus": [{"c1": AWAY, "rest": CPU}, {"c2": AWAY, "p": FARTHER, "rest": CPU}],
    "feedback": [{"c1..c2": CPU, "rest": AWAY}, {"c2": AWAY, "h": FARTHER, "rest": CPU}],
    "smooth": [{"c1": AWAY, "rest": CPU}, {"p2": AWAY, "h2": FARTHER, "rest": CPU}],
}
PLACES["jacobian"] = PLACES["feedback"]


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as found:
        yield found


def told(setup: Setup) -> dict[str, Any]:
    """All that an inference has left, on the host."""
    simulation = setup.simulation
    outcome = simulation.finish()
    tensors = {"prediction": outcome.prediction} | simulation.gradients()
    tensors |= {f"{n}.+": v for n, v in outcome.plus.items()}
    tensors |= {f"{n}.-": v for n, v in outcome.minus.items()}
    tensors |= {f"{n} itself": v.detach() for n, v in simulation.model.state_dict().items()}
    numbers = asdict(outcome.counts), outcome.trace.state_dict(), outcome.ticks
    return {"numbers": numbers} | {name: here(value) for name, value in tensors.items()}


def compare(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.pop("numbers") == expected.pop("numbers")
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def run(setup: Setup, number: int) -> dict[str, Any]:
    setup.start(number)
    setup.simulation.advance()
    return told(setup)


def where(setup: Setup) -> dict[str, Tensor]:
    return {name: cell.plus.value for name, cell in setup.simulation.state.by_name.items()}


CASES = [
    Case(network, schedule, unit, init, rule, learn_every, effects)
    for network, rule in (
        ("mlp", None), ("mlp", "damped"), ("mlp", "proximal"), ("mlp", "ep"), ("mlp", "lpom"),
        ("conv", None), ("conv", "ep"), ("skip", None), ("skip", "ep_static"), ("plus", None),
        ("feedback", None), ("jacobian", None), ("smooth", "holomorphic"),
    )
    for schedule in SCHEDULES
    for unit, init in (("population", "zero"), ("neuron", "carry"), ("channel", "feedforward"))
    for effects in (False, True)
    for learn_every in ((None,) if rule in ("ep", "ep_static", "holomorphic") else (None, 3))
    if not (effects and network == "plus")
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES[::13], ids=str)
def test_the_same_bits(case: Case, elsewhere: Elsewhere) -> None:
    for devices in PLACES[case.network]:
        placed, plain = case.build(devices=devices, processes="neuron"), case.build()
        for number in range(2):
            compare(run(placed, number), run(plain, number))
        for name, value in where(placed).items():
            assert value.device == placed.simulation.state.devices[name]
    assert elsewhere.crossed > 0
