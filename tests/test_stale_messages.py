"""Messages that arrive last though they are old, or not at all: they leave views that are wrong for
ever, until a refresh heals them. It is what the convergence theorem has to leave out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from contraction import Problem, chain, distance, make_problem, present

import neurosim as ns


class Script(ns.Uniform):
    """Jitter by a script: all messages of the n-th tick of sending are late by its n-th time."""

    def __init__(self, times: Sequence[float]) -> None:
        super().__init__(0.0, max(times))
        object.__setattr__(self, "_times", iter(times))

    def quantile(self, share: Any) -> Any:
        return np.full(share.shape, next(self._times))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("ordering", "refresh", "seen"),
    [
        ("newest", None, [0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]),
        ("fifo", None, [0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2]),
        ("arrival", None, [0, 0, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1]),
        ("arrival", 4, [0, 0, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2]),
    ],
)
def test_an_old_message_that_arrives_last(
    ordering: Any, refresh: int | None, seen: list[int]
) -> None:
    """A dyad sends 1 at tick 1, and 2 at tick 2. The first takes 5 ticks, everything else 1.

    By ``arrival`` the old message overwrites the new one at tick 6. The dyad does not change any
    more, so nothing is sent that would put it right: who listens to it is wrong for ever. With a
    ``refresh`` at every 4th wake it is sent again, at tick 4 (seen at tick 5, before the old one
    comes) and at tick 8.
    """
    network = ns.Network.from_dict(
        {"input": 1, "layers": [{"name": "h", "dense": 1, "activation": "identity"}, {"dense": 1}]}
    )
    model = ns.Model(network, seed=0, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    channel = ns.Channel(jitter=Script([5, *[1] * 20]), ordering=ordering, refresh=refresh)
    simulation = ns.Simulation(
        model,
        schedule=ns.schedules.Parallel(12),
        channels=ns.Channels(overrides={"output": {"mean": channel}}),
        init="carry",
        nudge_after=0,
    )
    link = simulation.state.links[-1]
    found = []
    simulation.start(torch.tensor([[1.0]]))
    for tick in range(1, 13):
        if tick == 2:
            simulation.finish()
            simulation.start(torch.tensor([[2.0]]))
        simulation.advance(1)
        now = link.means[0].value.tensor  # None stands for zeros
        found.append(0 if now is None else int(now))
    # What is seen after tick n is what wakes at tick n + 1 read.
    assert found == [*seen[1:], seen[-1]]
    view, outcome = link.means[0].value.value, simulation.finish()
    assert outcome.plus["h"].item() == 2.0
    assert outcome.plus["output"].item() == seen[-1] == view.item()


def linear(seed: int) -> Problem:
    """A linear chain whose influences have no loops (α = ½): finitely many messages, any weights,
    and so last messages that matter. (In a contraction the last ones differ by the last bits.)"""
    rule = ns.DualPropagation(0.5, 0.5, "aro", "potential")
    layers = [(12, "identity"), (9, "identity"), (7, "identity"), (3, "")]
    return make_problem(chain(*layers), rule, 2.0, seed)


def stale(simulation: ns.Simulation) -> int:
    """How many values are seen otherwise than they were last sent."""
    return sum(
        int((view.value.value != line.sent.value).sum())
        for _, line in simulation.state.lines
        for view in line.views
        if line.sent.tensor is not None
    )


def run_lazily(problem: Problem, channel: ns.Channel, tick: float = 1.0) -> ns.Simulation:
    simulation = ns.Simulation(
        problem.model,
        rule=problem.rule,
        schedule=ns.schedules.Lazy(1000, "neuron", tick),
        channels=ns.Channels(channel, channel),
        init="zero",
        compute="dense",
    )
    simulation.infer(problem.x, problem.target)
    return simulation


@pytest.mark.parametrize("seed", range(5))
def test_arrival_and_jitter_leave_the_past_for_ever(seed: int) -> None:
    """Everything is at rest, and wrong; with the other orderings everything is right."""
    problem = linear(seed)
    jitter = ns.Uniform(0.0, 6.0)
    for ordering in ("fifo", "newest"):
        simulation = run_lazily(problem, ns.Channel(jitter=jitter, ordering=ordering))
        assert simulation.done
        assert stale(simulation) == 0
        assert distance(present(simulation), problem.fixed_point()) <= 1e-12 * problem.scale()
    simulation = run_lazily(problem, ns.Channel(jitter=jitter, ordering="arrival"))
    assert simulation.done
    assert simulation.tick < 100
    assert stale(simulation) > 0
    assert distance(present(simulation), problem.fixed_point()) > 1e-2 * problem.scale()


def test_loss_leaves_the_past_for_ever() -> None:
    """A dyad of the first layer sends once: who missed it never hears of it."""
    problem = linear(0)
    simulation = run_lazily(problem, ns.Channel(loss=0.2))
    assert simulation.done
    assert simulation.tick < 100
    assert stale(simulation) > 0
    assert distance(present(simulation), problem.fixed_point()) > 1e-2 * problem.scale()


@pytest.mark.parametrize(
    "channel",
    [
        ns.Channel(jitter=ns.Uniform(0.0, 6.0), ordering="arrival", refresh=3),
        ns.Channel(loss=0.2, refresh=1),
        ns.Channel(jitter=ns.Uniform(0.0, 6.0), ordering="newest", loss=0.3, refresh=2),
    ],
    ids=["arrival", "loss", "newest and loss"],
)
@pytest.mark.parametrize("seed", range(3))
def test_refresh_heals(channel: ns.Channel, seed: int) -> None:
    """The six hops of this chain are healed one after the other. An old message is gone after 6
    ticks, and the next refresh, at most 3 + 6 ticks later, is right. Each refresh misses with the
    probability of a loss: in 140 ticks, 20 for a hop and 20 more at the end, once in 0.2^-20 runs
    per dyad, or 0.3^-10."""
    problem = linear(seed)
    simulation = ns.Simulation(
        problem.model,
        rule=problem.rule,
        schedule=ns.schedules.Parallel(140),
        channels=ns.Channels(channel, channel),
        init="zero",
        nudge_after=0,
    )
    simulation.infer(problem.x, problem.target)
    # Messages that changed nothing may still be in flight, but all that is seen is right.
    assert stale(simulation) == 0
    assert distance(present(simulation), problem.fixed_point()) <= 1e-12 * problem.scale()
