"""Whatever a saved state holds, it is refused in words or gone on with: no error of Python's own.

A checksum finds what was damaged by chance. These states are wrong on purpose, value by value.
"""

from __future__ import annotations

from typing import Any

import pytest
from cases import SCHEDULES, Case, phased_cases
from forged import leaves, place, replaced, wrong

from neurosim.base import NeurosimError
from neurosim.conformance.simulations import Setup

UNITS = {"mlp": "neuron", "skip": "population", "conv": "tile"}
CASES = [
    Case(network, schedule, unit, init, None, learn, effects=effects)
    for network, unit in UNITS.items()
    for schedule in SCHEDULES
    for init, learn, effects in (("carry", 2, True), ("zero", None, False))
]
FEW = [case for turn, case in enumerate(CASES) if turn % 9 == 0]
FEW += phased_cases(0, 40)[:3]


def gone_on_with(case: Case, state: Any) -> None:
    """Loads a state, and runs the inference to its end."""
    setup = case.build()
    setup.simulation.load_state_dict(state, optimizer=setup.optimizer)
    setup.simulation.advance()
    setup.simulation.finish()
    setup.simulation.state_dict()


def under_way(case: Case) -> Setup:
    setup = case.build()
    setup.start(0)
    setup.simulation.advance(4)
    return setup


@pytest.mark.slow
@pytest.mark.parametrize(("turn", "case"), list(enumerate(FEW)), ids=str)
def test_no_value_ends_in_an_error_of_python(turn: int, case: Case) -> None:
    """Every place meets every fifth of what is wrong; the cases take turns."""
    state = under_way(case).simulation.state_dict()
    gone_on_with(case, state)  # as it is
    tried, found = dict[str, int](), list[str]()
    for path, value in leaves(state):
        others = list(wrong(value))
        seen = tried.setdefault(place(path), 0)
        tried[place(path)] += 1
        if seen > 2:  # the like of it
            continue
        for other in others[(turn + seen) % 5 :: 5]:
            try:
                gone_on_with(case, replaced(state, path, other))
            except NeurosimError:
                pass
            except Exception as error:
                found.append(f"{'.'.join(map(str, path))} = {other!r:.40}: {error!r:.80}")
    assert found == []
    assert len(tried) > 50
