"""When the target has reached a population: not before its error can have come there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import neurosim as ns

NETWORK = {
    "input": 5,
    "layers": [{"name": n, "dense": d} for n, d in (("h1", 8), ("h2", 7), ("out", 3))],
}
HURT: dict[str, dict[str, Any]] = {
    "ideal": {},
    "noise": {"noise": 1e-3},
    "coarse": {"quantize": ns.Quantize(6, (-1.0, 1.3))},  # 0 is no level of it
}
LATE: dict[str, tuple[dict[str, Any], int]] = {
    "at once": ({}, 1),
    "constant": ({"delay": 4.0}, 4),
    "dyads": ({"delay": [6.0, 4.0, 5.0]}, 4),  # out: the first of them is enough
    "jitter": ({"delay": 4.0, "jitter": ns.Uniform(0.5, 0.9)}, 5),
}


@pytest.mark.parametrize("init", ["zero", "carry"])
@pytest.mark.parametrize("late", list(LATE))
@pytest.mark.parametrize("hurt", list(HURT))
def test_the_first_error(hurt: str, late: str, init: Any) -> None:
    """The target acts from tick 10; a hop down takes the delay. Before that, noise is no error."""
    options, hop = LATE[late]
    channel = ns.Channel(**HURT[hurt], **options)
    overrides: Any = {}
    if late == "dyads":  # into h2; the others are constant
        overrides = {"out": {"difference": channel}}
        channel = ns.Channel(delay=4.0, **HURT[hurt])
    sim = ns.Simulation(
        ns.Model(ns.Network.from_dict(NETWORK), seed=1, dtype=torch.float64),
        rule=ns.DualPropagation(nudge="potential"),
        schedule=ns.schedules.Parallel(40),
        channels=ns.Channels(difference=channel, overrides=overrides),
        nudge_after=10,
        init=init,
        probes=["reach"],
        stop=ns.Stop(0.9),
    )
    generator = torch.Generator().manual_seed(0)
    for number in range(2 if init == "carry" else 1):
        x = torch.randn(4, 5, generator=generator, dtype=torch.float64)
        outcome = sim.infer(x, torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]])
        began = outcome.trace["reach"][0]["tick"] - 1
        first = {
            name: next(r["tick"] for r in outcome.trace["reach"] if r["reached"][name]) - began
            for name in ("out", "h2", "h1")
        }
        assert first == {"out": 10, "h2": 10 + hop, "h1": 10 + 2 * hop}, number
        assert outcome.ticks >= 10 + 2 * hop  # a stop waits for it too


@pytest.mark.parametrize("hurt", list(HURT))
def test_without_a_target_nothing_is_reached(hurt: str) -> None:
    sim = ns.Simulation(
        ns.Model(ns.Network.from_dict(NETWORK), seed=1),
        schedule=ns.schedules.Parallel(5),
        channels=ns.Channels(difference=ns.Channel(**HURT[hurt])),
        probes=["reach"],
    )
    records = sim.infer(torch.rand(2, 5)).trace["reach"]
    assert not any(any(record["reached"].values()) for record in records)


@pytest.mark.filterwarnings("ignore::neurosim.NeurosimWarning")
def test_a_lost_error_has_not_arrived() -> None:
    """All messages from the output are lost; what h2 hears is noise."""
    sim = ns.Simulation(
        ns.Model(ns.Network.from_dict(NETWORK), seed=1),
        schedule=ns.schedules.Parallel(12),
        channels=ns.Channels(
            difference=ns.Channel(noise=0.1),
            overrides={"out": {"difference": ns.Channel(loss=1.0)}},
        ),
        probes=["reach"],
    )
    last = sim.infer(torch.rand(2, 5), torch.eye(3)[[0, 1]]).trace["reach"][-1]["reached"]
    assert last == {"h1": False, "h2": False, "out": True}
