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


LAGRANGIAN = {"rule": ns.DualPropagation(alpha=1.0, variant="lagrangian")}
PHASES = {
    "rule": ns.EquilibriumPropagation(0.25),
    "faults": ns.Faults(stuck=0.3, stuck_at=1.0, populations=["layer2"]),
}
NOISE = {"channels": ns.Channels(difference=ns.Channel(noise=1.0))}


@pytest.mark.parametrize("unit", [ns.Unit("tile", 2), "neuron"], ids=str)
@pytest.mark.parametrize(
    ("winners", "duration", "options"),
    [("plus", 12.0, LAGRANGIAN), ("mean", 3.0, PHASES), ("mean", 3.0, NOISE)],
    ids=["plus", "phases", "noise"],
)
def test_clocks_have_the_gradient_that_whole_wakes_have(
    winners: str, duration: float, options: dict[str, Any], unit: Any
) -> None:
    """With dyads that send a difference before anybody below has woken: what is computed for some
    alone, or of all, or where all winners were there from the start."""
    pool = {"kind": "max", "winners": winners}
    network = ns.Network.from_dict(
        {"input": [1, 8, 8], "layers": [{"conv": 4}, {"pool": pool}, {"dense": 3}]}
    )
    x = torch.rand(2, 1, 8, 8, generator=torch.manual_seed(0), dtype=torch.float64)

    def gradients(compute: Any, *, whole: bool = False) -> dict[str, torch.Tensor]:
        simulation = ns.Simulation(
            ns.Model(network, dtype=torch.float64, seed=1),
            init="zero",
            schedule=ns.schedules.Poisson(unit, rate=0.3, duration=duration),
            compute=compute,
            **options,
        )
        simulation.start(x, torch.eye(3, dtype=torch.float64)[:2])
        if whole:
            for link in simulation.state.links:
                if link.pools:
                    link.winners.set(link.winners_among(torch.zeros_like(link.pre.plus.value)))
        simulation.advance()
        simulation.finish()
        return simulation.gradients()

    expected = gradients("auto", whole=True)
    for compute in ("auto", "dense"):
        for key, value in gradients(compute).items():
            torch.testing.assert_close(value, expected[key], rtol=1e-10, atol=1e-13)
