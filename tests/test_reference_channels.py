"""Channels against the literal simulation of `reference.py`, in which every message is an object."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from reference import Network, Rule
from test_reference import (
    CONV,
    MLP,
    POOL,
    RANDOM,
    SKIP,
    TOLERANCE,
    Example,
    Pair,
    both,
    check,
    data,
    examples,
    literally_lazy,
    random_wakes,
)

import neurosim as ns
from neurosim.distributions import Distribution
from neurosim.draws import Draws, Moment
from neurosim.operators import Dense

KINDS = ("mean", "difference")


# ---- the same inferences by both, and all that is compared ---------------------------------------


def play(example: Example) -> bool:
    """Compares every inference. False, and nothing more, once something hung on round-off."""
    example = replace(example, probes=("wakes", "in_flight", "staleness"))
    schedule = ns.schedules.Replay(example.wakes[0], tick=example.tick)
    networks, simulation, _ = both(example, schedule)
    for number, wakes in enumerate(example.wakes):
        x, y = data(example, simulation.model.network, number)
        target = torch.from_numpy(y) if example.targeted else None
        watched = []
        for literal, own, wanted in zip(networks, x, y, strict=True):
            target_of = wanted if example.targeted else None
            literal.start(own, target_of, init=example.init, nudge_after=example.nudge_after)
            watched.append(watch(literal, wakes, example.tick))
        if any(n.tie or n.edge for n in networks):
            return False
        outcome = simulation.infer(torch.from_numpy(x), target)
        check(Pair(outcome, simulation, networks))
        check_counts(outcome, networks)
        check_trace(outcome, watched, example)
    return True


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
            for name, lag in late["lag"][kind].items():
                behind = [item for one in literal for item in one["behind"][kind][name]]
                mean = sum(ticks for ticks, _, _ in behind) / len(behind)
                if isnan(mean):
                    continue  # a convolution leaves out some of its senders
                assert lag == pytest.approx(mean * example.tick, rel=TOLERANCE), (kind, name)
                wrong, size = (np.sqrt(sum(item[i] for item in behind)) for i in (1, 2))
                error = late["error"][kind][name]
                if size > 1e-3:  # else a quotient of round-off
                    assert error == pytest.approx(wrong / size, rel=1e-9, abs=1e-9), (kind, name)
        assert flight["total"] == total


# ---- random channels -----------------------------------------------------------------------------


@st.composite
def delays(draw: st.DrawFn, projection: Any, kind: str, tick: float) -> Any:
    operator = projection.operator
    sender = operator.pre if kind == "mean" else operator.post
    weight = operator.weight_shape if isinstance(operator, Dense) else None
    choice = draw(st.sampled_from(["number", "uniform", "given", "exponential", "synapses"]))
    high = tick * draw(st.sampled_from([0.0, 1.0, 2.0, 3.7, 6.0]))
    per = "synapse" if weight is not None and draw(st.booleans()) else "dyad"
    if choice == "number":
        return high
    if choice == "uniform":
        return ns.Uniform(high / 3, high, per)
    if choice == "exponential":
        return ns.Exponential(tick, high + tick, per)
    generator = np.random.default_rng(draw(st.integers(0, 2**20)))
    shape = sender if choice == "given" or weight is None else weight
    return torch.from_numpy(generator.integers(0, 6, shape) * tick)


@st.composite
def channels(draw: st.DrawFn, projection: Any, kind: str, tick: float, effects: bool) -> ns.Channel:
    options: dict[str, Any] = {"delay": draw(delays(projection, kind, tick))}
    options["threshold"] = draw(st.sampled_from([1e-6, 0.0, 1e-6, 0.05]))
    if not effects:
        return ns.Channel(**options)
    options["refresh"] = draw(st.sampled_from([None, None, 1, 2, 3]))
    options["loss"] = draw(st.sampled_from([0.0, 0.0, 0.3, 0.7, 1.0]))
    options["ordering"] = draw(st.sampled_from(["fifo", "newest", "arrival"]))
    jitters = [None, ns.Uniform(0.0, 4.5 * tick), ns.Exponential(tick, 5.0 * tick)]
    options["jitter"] = draw(st.sampled_from(jitters))
    noises = [None, None, ns.Noise(0.1), ns.Noise(0.2, "relative")]
    options["noise"] = draw(st.sampled_from(noises))
    if draw(st.booleans()):
        spans = [1.0, 3.0, (-1.0, 2.0), (0.5, 1.5)]
        bits, span = draw(st.sampled_from([2, 3, 8])), draw(st.sampled_from(spans))
        rounding = draw(st.sampled_from(["nearest", "stochastic"]))
        options["quantize"] = ns.Quantize(bits, span, rounding)
    return ns.Channel(**options)


@st.composite
def delayed(draw: st.DrawFn, *, effects: bool) -> Example:
    damped = draw(st.integers(0, 4)) == 0
    variants = ["damped"] if damped else ["aro", "lagrangian"]
    example = draw(examples(variants, pools=not damped, ticks=(1.0, 0.5, 0.1)))
    network = ns.Network.from_dict(example.description)
    overrides: dict[str, Any] = {}
    for projection in network.projections:
        for kind in KINDS:
            if draw(st.integers(0, 3)):
                channel = draw(channels(projection, kind, example.tick, effects))
                overrides.setdefault(projection.name, {})[kind] = channel
    example.channels = ns.Channels(
        ns.Channel(1e-6), ns.Channel(delay=1.5 * example.tick), overrides
    )
    inferences = draw(st.sampled_from([1, 2, 3] if example.init == "carry" else [1, 1, 2]))
    example.wakes = example.wakes[:1] * inferences
    return example


@settings(RANDOM, max_examples=100, phases=[Phase.generate])
@given(delayed(effects=False))
def test_random_delays(example: Example) -> None:
    assume(play(example))


@settings(RANDOM, max_examples=100, phases=[Phase.generate])
@given(delayed(effects=True))
def test_random_channels(example: Example) -> None:
    assume(play(example))
