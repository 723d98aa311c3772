"""Dyads that say the same all the time, and what is seen of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import neurosim as ns

N, BATCH, TICKS = 200, 5, 40

VALUE = 1.5


def constant(
    channel: ns.Channel,
    *,
    seed: int = 0,
    tick: float = 1.0,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> ns.Simulation:
    """200 dyads that all say 1.5 from tick 1 on, over this channel, to a population that listens.

    Dyads that do not change say so only with a ``refresh``.
    """
    network = ns.Network.from_dict(
        {"input": 1, "layers": [{"name": "h", "dense": N}, {"name": "out", "dense": 2}]}
    )
    model = ns.Model(network, seed=0, dtype=dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(VALUE if name == "h.bias" else 0.0)
    arguments: dict[str, Any] = {
        "schedule": ns.schedules.Parallel(TICKS, tick=tick),
        "channels": ns.Channels(overrides={"out": {"mean": channel}}),
        "init": "zero",
        "seed": seed,
    }
    return ns.Simulation(model, **(arguments | options))


def seen(simulation: ns.Simulation, ticks: int = TICKS) -> Tensor:
    """What the output sees of h after each tick, (ticks, B, N)."""
    (view,) = simulation.state.links[1].means
    simulation.start(torch.zeros(BATCH, 1))
    values = []
    for _ in range(ticks):
        simulation.advance(1)
        now = view.value.tensor  # None stands for zeros
        shape = (BATCH, N)
        values.append(
            torch.zeros(shape, dtype=simulation.model.dtype) if now is None else now.clone()
        )
    return torch.stack(values)
