"""Plans of wakes are no larger than what fits in memory, and say which key makes them so."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import neurosim as ns
from neurosim.schedules.planned import check_plan


def simulation(schedule: ns.Schedule) -> ns.Simulation:
    layers = [{"name": "h", "dense": 5}, {"name": "output", "dense": 2}]
    network = ns.Network.from_dict({"input": 3, "layers": layers})
    return ns.Simulation(ns.Model(network, seed=0), schedule=schedule)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("sweep", {"passes": 1_250_001}, "passes is too large: .* 5,000,004 planned ticks"),
        ("sweep", {"passes": 10**12, "order": ("h", "output")}, "passes is too large: .* ticks"),
        ("parallel", {"ticks": 5_000_001}, "ticks is too large: .* 5,000,001 planned ticks"),
        ("random_order", {"updates": 10**12, "unit": "population"}, "updates is too large"),
        ("random_order", {"groups": 7, "passes": 714_286}, "passes is too large: .* ticks"),
        (
            "random_order",
            {"groups": 1, "passes": 1_428_572},
            "10,000,004 planned wakes",
        ),
    ],
)
def test_plans_have_an_end(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        simulation(ns.Schedule.of(kind, **options)).infer(torch.rand(1, 3))


def test_large_networks_have_longer_plans() -> None:
    """Each of its units wakes twenty times, up to a hundred million wakes."""
    check_plan("passes", 20, 20, 4_000_000)
    with pytest.raises(ns.ConfigurationError, match="84,000,000 planned wakes, more than 80,000,0"):
        check_plan("passes", 21, 21, 4_000_000)
    with pytest.raises(ns.ConfigurationError, match="more than 100,000,000"):
        check_plan("passes", 1, 1, 100_000_001)
