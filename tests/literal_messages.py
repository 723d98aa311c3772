"""What is compared of messages between neurosim and the literal simulation of `reference.py`."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np
import pytest
import torch
from literal import TOLERANCE, Example, Pair, both, check, data
from literal_examples import CONV, MLP, POOL, SKIP, random_wakes
from reference import Network
from reference_neurons import Rule

import neurosim as ns

KINDS = ("mean", "difference")


# ---- the same inferences by both, and all that is compared ---------------------------------------


def play(example: Example) -> bool:
    """Compares every inference. False, and nothing more, once something hung on round-off."""
    example = replace(example, probes=("wakes", "in_flight", "staleness"))
    schedule = ns.schedules.Replay(example.wakes[0], tick=example.tick)
    networks, simulation, _ = both(example, schedule)
    for number, wakes in enumerate(example.wakes):
        x, y = data(example, simulation.model.network, number)
        targeted = example.targeted and not (example.released and number % 2)
        watched = []
        for literal, own, wanted in zip(networks, x, y, strict=True):
            target = wanted if targeted else None
            literal.start(own, target, init=example.init, nudge_after=example.nudge_after)
            watched.append(watch(literal, wakes, example.tick))
        if any(n.tie or n.edge or is_large(n) for n in networks):
            return False
        outcome = simulation.infer(torch.from_numpy(x), torch.from_numpy(y) if targeted else None)
        check(Pair(outcome, simulation, networks))
        check_counts(outcome, networks)
        check_trace(outcome, watched, example)
    return True


def is_large(literal: Network) -> bool:
    """Whether it grows without bound: the round-off of its states then hides their difference."""
    return max(abs(n.plus) + abs(n.minus) for n in literal.dyads) > 1e3


def watch(
    literal: Network, wakes: list[tuple[float, str, list[int] | None]], tick: float
) -> list[dict[str, Any]]:
    """Replays; what is on its way after every tick, and how far what is seen lies behind."""
    seen: list[dict[str, Any]] = []

    def look() -> None:
        waiting = literal.waiting()
        literal.deliver()  # nothing happens until the next tick
        names = [n for n, place in literal.places.items() if place.role != "input"]
        behind = {kind: {n: literal.behind(n, kind) for n in names} for kind in KINDS}
        seen.append({"waiting": waiting, "behind": behind})

    literal.replay(wakes, tick, look)
    return seen


def check_counts(outcome: ns.Outcome, networks: list[Network]) -> None:
    counts = outcome.counts
    assert counts.mean_messages == sum(n.counts["mean"] for n in networks)
    assert counts.difference_messages == sum(n.counts["difference"] for n in networks)
    assert counts.synaptic_operations == sum(n.counts["synaptic"] for n in networks)


def check_trace(outcome: ns.Outcome, watched: list[list[dict[str, Any]]], example: Example) -> None:
    """The probes `in_flight` and `staleness`, tick by tick."""
    records = zip(outcome.trace["in_flight"], outcome.trace["staleness"], strict=True)
    for tick, (flight, late) in enumerate(records):
        literal = [seen[tick] for seen in watched]
        total = 0
        for kind in KINDS:
            for name, count in flight[kind].items():
                expected = sum(one["waiting"].get((kind, name), 0) for one in literal)
                assert count == expected, (tick, kind, name)
                total += expected
            for name, lag in late[f"{kind}_lag"].items():
                behind = [item for one in literal for item in one["behind"][kind][name]]
                mean = sum(ticks for ticks, _, _ in behind) / len(behind)
                if isnan(mean):
                    continue  # a convolution leaves out some of its senders
                assert lag == pytest.approx(mean * example.tick, rel=TOLERANCE), (kind, name)
                wrong, size = (np.sqrt(sum(item[i] for item in behind)) for i in (1, 2))
                error = late[f"{kind}_error"][name]
                if size > 1e-3:  # else a quotient of round-off
                    assert error == pytest.approx(wrong / size, rel=1e-9, abs=1e-9), (kind, name)
        assert flight["total"] == total


NETWORKS = {"mlp": MLP, "skip": SKIP, "conv": CONV, "pool": POOL}


def example_of(
    description: dict[str, Any], channels: ns.Channels, init: Any = "zero", ticks: int = 16
) -> Example:
    wakes = random_wakes(description, ticks, seed=7)
    rule = Rule("aro", 0.4, 0.5, "potential")
    return Example(
        description, rule, "squared_error", init, 2, [wakes, wakes], seed=3, channels=channels
    )


def channel_of(options: dict[str, Any]) -> ns.Channel:
    """A threshold above round-off makes the messages ones that do not hang on it."""
    return ns.Channel(**{"threshold": 1e-7} | options)
