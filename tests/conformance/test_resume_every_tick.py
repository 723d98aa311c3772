"""Every effect on, handed over through a file after every single tick, messages in flight and all:
the same bits as without. What a state forgets cannot show later than in the next tick that needs
it, because no simulation lives longer than one.
"""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from cases import (
    FEEDBACK,
    NETWORKS,
    RULES,
    SCHEDULES,
    UNITS,
    Case,
    differing,
    phased_cases,
)
from fewer import covering

import neurosim as ns
from neurosim.conformance.simulations import every_tick, handed_over

STARTS = [("carry", None), ("zero", 3), ("feedforward", None), ("carry", 2)]


def make_cases() -> list[Case]:
    """Every schedule on every network; units, starts and learning take turns. Every rule."""
    pairs = [(network, schedule) for network in NETWORKS for schedule in SCHEDULES]
    found = []
    for turn, (network, schedule) in enumerate(pairs):
        init, learn_every = STARTS[turn % len(STARTS)]
        unit = list(UNITS)[(turn + turn // len(UNITS)) % len(UNITS)]
        found.append(Case(network, schedule, unit, init, None, learn_every, effects=True))
    for turn, rule in enumerate(RULES):
        network, schedule = list(NETWORKS)[turn % 3], list(SCHEDULES)[4 + turn % 7]
        init, learn_every = ("feedforward", 2) if rule == "prediction" else STARTS[turn % 4]
        found.append(Case(network, schedule, "block", init, rule, learn_every, effects=True))
    return found


def feedback_cases() -> list[Case]:
    """Every schedule with one of the kinds of feedback, and then with the other."""
    turns = [sorted(FEEDBACK), sorted(FEEDBACK, reverse=True)]
    return [
        Case(turns[number % 2][second], schedule, "tile", "zero", None, 3, effects=True)
        for second in range(2)
        for number, schedule in enumerate(SCHEDULES)
    ]


ALL = [*make_cases(), *feedback_cases()]
ALL += [replace(case, effects=True) for case in phased_cases(1, 3)]


@pytest.mark.parametrize("case", covering(ALL, astuple, of=1), ids=str)
def test_every_tick(case: Case) -> None:
    traces = every_tick(case.build, 2 if case.init == "carry" else 1)
    assert sum(record["total"] > 0 for trace in traces for record in trace["in_flight"]) >= 4


@pytest.mark.parametrize(
    ("schedule", "init"),
    [
        pytest.param(schedule, init, marks=pytest.mark.slow if (number + turn) % 2 else ())
        for number, schedule in enumerate(SCHEDULES)
        for turn, init in enumerate(("feedforward", "carry"))
    ],
)
def test_winners_at_plus(schedule: str, init: str) -> None:
    every_tick(Case("plus", schedule, "tile", init, learn_every=3).build, 2)


@pytest.mark.parametrize("effects", [False, True])
def test_what_was_just_sent_is_in_flight(effects: bool, tmp_path: Path) -> None:
    """Also for a probe that looks only at the end, after the file."""
    case = Case("skip", "parallel", effects=effects)
    options: dict[str, Any] = {"probes": [ns.Probe("in_flight", every=100)]}
    whole = case.build(**options)
    whole.start(0)
    whole.simulation.advance(4)
    part = handed_over(whole, case.build, tmp_path / "state.safetensors", **options)
    expected = whole.simulation.finish().trace["in_flight"]
    assert part.simulation.finish().trace["in_flight"] == expected
    assert expected[0]["total"] > 0


def test_loads_over_what_is_under_way(tmp_path: Path) -> None:
    """Nothing is left of the messages that a simulation had in flight when it loads a state."""
    case = Case("skip", "parallel", "population", "zero", effects=True)
    whole, other = case.build(), case.build()
    whole.start(0)
    whole.simulation.advance(4)
    saved = whole.simulation.state_dict()
    whole.simulation.advance()
    other.infer(2)
    other.start(1)
    other.simulation.advance(7)
    other.simulation.load_state_dict(saved)
    other.simulation.advance()
    found, expected = other.simulation.finish(), whole.simulation.finish()
    assert not differing(found.plus, expected.plus)
    assert found.trace.state_dict() == expected.trace.state_dict()


def test_a_saved_state_is_a_snapshot() -> None:
    """Ticks that follow do not write into the messages of a state that was taken."""
    case = Case("conv", "parallel", "population", "zero", effects=True)
    setup = case.build()
    setup.start(0)
    setup.simulation.advance(5)
    saved, again = setup.simulation.state_dict(), setup.simulation.state_dict()
    setup.simulation.advance(4)
    assert _bits(saved["state"]["lines"]) == _bits(again["state"]["lines"])
    assert _bits(setup.simulation.state_dict()["state"]["lines"]) != _bits(again["state"]["lines"])
    setup.simulation.load_state_dict(saved)
    setup.simulation.advance(4)
    assert _bits(saved["state"]["lines"]) == _bits(again["state"]["lines"])


def _bits(tree: Any) -> Any:
    """A state tree with lists in place of tensors."""
    if isinstance(tree, dict):
        return {key: _bits(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_bits(value) for value in tree]
    return tree.tolist() if hasattr(tree, "tolist") else tree


def test_refuses_the_state_of_other_channels() -> None:
    with_effects = Case("mlp", "parallel", effects=True).build()
    with_effects.start(0)
    ideal = Case("mlp", "parallel").build()
    with pytest.raises(ns.StateError, match="other channels"):
        ideal.simulation.load_state_dict(with_effects.simulation.state_dict())
