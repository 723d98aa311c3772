"""Every member of every family keeps what `neurosim check` asks of a plugin's."""

from __future__ import annotations

from typing import Any

import pytest

import neurosim.rules
from neurosim.base.kinds import FAMILIES
from neurosim.conformance import Check, attempt, checks_of
from neurosim.maths import Pool, Pool2d
from neurosim.schedules import Lazy, Parallel, Periodic, Poisson, RandomOrder, Replay, Sweep

assert neurosim.rules  # its members are registered
# Where default values do not do, or make an inference longer than what is checked needs.
EXAMPLES: dict[str, list[Any]] = {
    "pool": [Pool2d((2, 6, 5), (2, 3, 2), Pool(kind)) for kind in ("max", "avg")],
    "lazy": [Lazy(14.0)],
    "parallel": [Parallel(8)],
    "periodic": [Periodic(period=2.5, spread=0.3, jitter=0.5, duration=9.0)],
    "poisson": [Poisson(duration=9.0)],
    "random_order": [RandomOrder(groups=3, passes=4), RandomOrder("population", updates=12)],
    "replay": [Replay(((1.0, "h1", None), (2.0, "h2", [0, 3]), (3.5, "output", None)))],
    "sweep": [Sweep(passes=3)],
}
CHECKS = {
    f"{title}-{name}-{check.name}-{number}": check
    for title, family in FAMILIES.items()
    for name, member in family.items()
    if member.__module__.startswith("neurosim.")
    for number, check in enumerate(checks_of(member, EXAMPLES.get(name)))
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=list(CHECKS))
def test_it_conforms(check: Check) -> None:
    failure = attempt(check)
    assert failure is None, failure
