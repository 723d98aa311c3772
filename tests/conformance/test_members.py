"""Every member of every family keeps what `neurosim check` asks of a plugin's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import neurosim.rules
from neurosim.channels import Exponential, Quantize, Uniform
from neurosim.channels.effects import Erasure
from neurosim.conformance import Check, attempt, checks_of
from neurosim.data import DataSource
from neurosim.data.augmentation import Crop
from neurosim.data.standardization import PerChannel
from neurosim.families.kinds import FAMILIES
from neurosim.maths import Conv2d, Pool, Pool2d
from neurosim.schedules import Lazy, Parallel, Periodic, Poisson, RandomOrder, Replay, Sweep

assert neurosim.rules  # its members are registered
# Where default values do not do, or make an inference longer than what is checked needs.
EXAMPLES: dict[str, list[Any]] = {
    "pool": [Pool2d((2, 6, 5), (2, 3, 2), Pool(kind)) for kind in ("max", "avg", "softmax")],
    "lazy": [Lazy(14.0)],
    "parallel": [Parallel(8)],
    "periodic": [Periodic(period=2.5, spread=0.3, jitter=0.5, duration=9.0)],
    "poisson": [Poisson(duration=9.0)],
    "random_order": [RandomOrder(groups=3, passes=4), RandomOrder("population", updates=12)],
    "replay": [Replay(((1.0, "h1", None), (2.0, "h2", [0, 3]), (3.5, "output", None)))],
    "conv": [
        Conv2d((2, 6, 4), (3, 6, 4)),
        Conv2d((2, 6, 4), (3, 3, 2), pool=Pool("max")),
        Conv2d((2, 6, 4), (3, 2, 1), (3, 2), (2, 1), (0, 1), Pool("avg", (1, 3))),
        Conv2d((2, 6, 5), (3, 3, 3), pool=Pool("softmax", (3, 2), (2, 2), (1, 1), gain=3.0)),
    ],
    "quantize": [Quantize(6, 3.0, "stochastic"), Quantize(4, (-1.0, 2.0))],
    "erasure": [Erasure(0.2)],
    "uniform": [Uniform(0.0, 3.0), Uniform(1.0, 2.0, per="synapse")],
    "exponential": [Exponential(0.7, 2.5)],
    "sweep": [
        Sweep(passes=3),
        Sweep(("output", ("h2", "h1"), "update", "h1", "h2", "output", "h2", "update"), passes=2),
    ],
    # Their files do not ship with the package; see test_datasets.py and test_cifar.py.
    **{name: [] for name in DataSource.family if name != "digits"},
    "aim": [],  # its package need not be installed; see test_trackers.py
    "crop": [Crop(2, padding) for padding in ("black", "zero", "edge", "reflect")],
    "channel": [PerChannel(), PerChannel((0.5, 0.2), 0.3)],
}


def parameters() -> Iterator[Any]:
    """All checks. Those of a rule on a second network of convolutions are slow."""
    for title, family in FAMILIES.items():
        for name, member in family.items():
            if member.__module__.startswith("neurosim."):
                seen = set[str]()
                for number, check in enumerate(checks_of(member, EXAMPLES.get(name))):
                    again = title == "rule" and check.name in seen
                    seen.add(check.name)
                    marks = pytest.mark.slow if again else ()
                    told = f"{title}-{name}-{check.name}-{number}"
                    yield pytest.param(check, id=told, marks=marks)


@pytest.mark.parametrize("check", list(parameters()))
def test_it_conforms(check: Check) -> None:
    failure = attempt(check)
    assert failure is None, failure
