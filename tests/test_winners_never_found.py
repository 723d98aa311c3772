"""Winners of dyads that have not woken: an adjoint of all goes to nobody in their place."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import neurosim as ns

NETWORK = ns.Network.from_dict(
    {
        "populations": {
            "input": {"shape": [1], "role": "input"},
            "h1": {"shape": [1, 1, 4], "activation": "identity"},
            "h2": {"shape": [1, 1, 2], "activation": "identity"},
            "output": {"shape": [1], "role": "output"},
        },
        "projections": [
            {"from": "input", "to": "h1"},
            {
                "from": "h1",
                "to": "h2",
                "op": "pool",
                "pool": {"kind": "max", "kernel": [1, 2], "winners": "plus"},
            },
            {"from": "h2", "to": "output"},
        ],
    }
)


@pytest.mark.parametrize("compute", ["auto", "dense"])
@pytest.mark.parametrize("last", [[0], [0, 1], [0, 2]])
def test_who_else_wakes_makes_no_difference(last: list[int], compute: Any) -> None:
    """The difference of the second window is not that of the first, whose dyad is the first."""

    def first(last: list[int] | None, compute: Any) -> float:
        times = [(1.0, "h1", None), (2.0, "h2", None), (3.0, "output", None), (4.0, "h2", None)]
        simulation = ns.Simulation(
            ns.Model(NETWORK, dtype=torch.float64, seed=1),
            rule=ns.DualPropagation(alpha=0.3),
            init="zero",
            schedule=ns.schedules.Replay((*times, (5.0, "h1", last))),
            compute=compute,
        )
        x = torch.ones(1, 1, dtype=torch.float64)
        return float(simulation.infer(x, 3 * x).plus["h1"].flatten()[0])

    assert first(last, compute) == pytest.approx(first(None, "auto"), rel=1e-12)


@pytest.mark.parametrize(("name", "unit"), [("tiles", ns.Unit("tile", 2)), ("noise", "tile")])
def test_partial_and_dense_have_the_same_gradient(name: str, unit: Any) -> None:
    """Of clocks, with dyads that send a difference before anybody below has woken."""
    network = ns.Network.from_dict(
        {"input": [1, 8, 8], "layers": [{"conv": 4}, {"pool": "max"}, {"dense": 3}]}
    )
    rule: ns.Rule = ns.DualPropagation(alpha=1.0, variant="lagrangian", nudge="potential")
    found = []
    for compute in ("auto", "dense"):
        simulation = ns.Simulation(
            ns.Model(network, dtype=torch.float64, seed=1),
            rule=rule,
            init="zero",
            schedule=ns.schedules.Poisson(unit, rate=0.3, duration=12.0),
            channels=ns.Channels(difference=ns.Channel(noise=0.1)) if name == "noise" else None,
            compute=compute,  # type: ignore[arg-type]
        )
        x = torch.rand(2, 1, 8, 8, generator=torch.manual_seed(0), dtype=torch.float64)
        simulation.infer(x, torch.eye(3, dtype=torch.float64)[:2])
        found.append(simulation.gradients())
    for key, value in found[0].items():
        torch.testing.assert_close(value, found[1][key], rtol=1e-10, atol=1e-13)
