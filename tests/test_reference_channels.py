"""Channels against the literal simulation of `reference.py`: every message there is an object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
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
from neurosim.channels.distributions import Distribution
from neurosim.channels.effects import Draws, Moment
from neurosim.maths.operators.dense import Dense

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
            if kind == "difference" and projection.pre == network.input.name:
                continue  # the input is sent none
            if draw(st.integers(0, 3)):
                channel = draw(channels(projection, kind, example.tick, effects))
                overrides.setdefault(projection.name, {})[kind] = channel
    example.channels = ns.Channels(
        ns.Channel(1e-6), ns.Channel(delay=1.5 * example.tick), overrides
    )
    inferences = draw(st.sampled_from([1, 2, 3] if example.init == "carry" else [1, 1, 2]))
    example.wakes = example.wakes[:1] * inferences
    example.released = draw(st.booleans())
    return example


@settings(RANDOM, max_examples=100)
@given(delayed(effects=False))
def test_random_delays(example: Example) -> None:
    assume(play(example))


@settings(RANDOM, max_examples=100)
@given(delayed(effects=True))
def test_random_channels(example: Example) -> None:
    assume(play(example))


# ---- one effect at a time ------------------------------------------------------------------------

JITTER = ns.Uniform(0.0, 4.5)
EFFECTS: dict[str, dict[str, Any]] = {
    "delay": {"delay": 3.0},
    "delay per dyad": {"delay": ns.Uniform(0.0, 5.0)},
    "refresh": {"refresh": 3},
    "refresh and threshold": {"refresh": 2, "threshold": 0.1},
    "loss": {"loss": 0.4},
    "loss and refresh": {"loss": 0.4, "refresh": 1},
    "additive noise": {"noise": 0.2},
    "relative noise": {"noise": ns.Noise(0.2, "relative")},
    "nearest": {"quantize": ns.Quantize(4, 2.0)},
    "nearest of a pair": {"quantize": ns.Quantize(3, (-0.5, 1.5))},
    "stochastic": {"quantize": ns.Quantize(4, 2.0, "stochastic")},
    "fifo": {"jitter": JITTER},
    "newest": {"jitter": JITTER, "ordering": "newest"},
    "arrival": {"jitter": ns.Exponential(2.0, 6.0), "ordering": "arrival"},
}
SYNAPSES: dict[str, dict[str, Any]] = {
    "delay": {"delay": ns.Uniform(0.0, 5.0, "synapse")},
    "loss": {"delay": ns.Exponential(2.0, 5.0, "synapse"), "loss": 0.3},
    "fifo": {"delay": ns.Uniform(0.0, 3.0, "synapse"), "jitter": JITTER},
    "newest": {"delay": ns.Uniform(0.0, 3.0, "synapse"), "jitter": JITTER, "ordering": "newest"},
    "arrival": {"delay": ns.Uniform(0.0, 3.0, "synapse"), "jitter": JITTER, "ordering": "arrival"},
}
EVERYTHING: dict[str, Any] = {
    "refresh": 3,
    "delay": ns.Uniform(0.0, 3.0),
    "jitter": JITTER,
    "loss": 0.2,
    "noise": 0.05,
    "quantize": ns.Quantize(5, 3.0, "stochastic"),
}
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_one_effect(network: str, effect: str, kind: str) -> None:
    channels = {k: channel_of(EFFECTS[effect] if k == kind else {}) for k in KINDS}
    assert play(example_of(NETWORKS[network], ns.Channels(**channels)))


@pytest.mark.parametrize("effect", SYNAPSES)
@pytest.mark.parametrize("init", ["zero", "feedforward", "carry"])
def test_synapses(init: str, effect: str) -> None:
    """Each with its own delay, drawn or given, beside projections where dyads have one."""
    channel = channel_of(SYNAPSES[effect])
    given = torch.from_numpy(np.random.default_rng(2).integers(0, 7, (4, 5)) * 0.7)
    overrides: Any = {
        "one": {"mean": channel_of({"delay": given, "jitter": JITTER})},
        "two": {"difference": channel_of({"delay": given})},
        "h1->output": {"mean": channel_of({"delay": 2.0}), "difference": channel_of({})},
    }
    assert play(example_of(SKIP, ns.Channels(channel, channel, overrides), init))


@pytest.mark.parametrize("ordering", ["fifo", "newest", "arrival"])
@pytest.mark.parametrize("init", ["zero", "feedforward", "carry"])
@pytest.mark.parametrize("network", NETWORKS)
def test_all_effects_together(network: str, init: str, ordering: str) -> None:
    mean = channel_of(EVERYTHING | {"ordering": ordering})
    other = {"refresh": None, "noise": ns.Noise(0.3, "relative"), "quantize": None, "loss": 0.1}
    difference = channel_of(EVERYTHING | other | {"ordering": ordering})
    special = ns.Channel(0.03, 2, 4.0, quantize=ns.Quantize(6, (-2.0, 2.0)))
    last = "output" if network == "skip" else "out"
    name = f"h2->{last}" if network == "skip" else last
    overrides: Any = {name: {"mean": special, "difference": channel_of({"delay": 2.5})}}
    channels = ns.Channels(mean, difference, overrides)
    assert play(example_of(NETWORKS[network], channels, init, ticks=8))


@pytest.mark.parametrize("init", ["zero", "feedforward", "carry"])
def test_a_way_back_before_anything_has_woken(init: str) -> None:
    """Noise makes a difference of neurons that have never woken; it goes back to the winners among
    the means that they see."""
    generator = np.random.default_rng(5)
    wakes: Any = [(1.0, "c1", None), (2.0, "c1", None)]
    for tick in range(3, 9):
        some = np.flatnonzero(generator.random(12) < 0.3).tolist()
        wakes += [(tick, "c2", some), (tick + 0.5, "c1", None)]
    wakes += [(9.0, "c3", None), (9.0, "out", None), (10.0, "c1", None)]
    example = example_of(POOL, ns.Channels(channel_of({}), channel_of({"noise": 0.3})), init)
    assert play(replace(example, wakes=[wakes, wakes]))


@pytest.mark.parametrize("threshold", [1e-7, 0.3])
@pytest.mark.parametrize("delay", [2.0, ns.Uniform(0.0, 4.0)], ids=["alike", "unlike"])
def test_differences_that_vanish(delay: Any, threshold: float) -> None:
    """Without its target a network carries on, and its differences become zero."""
    channel = ns.Channel(threshold, delay=delay)
    example = example_of(SKIP, ns.Channels(difference=channel, mean=ns.Channel(1e-7)), "carry")
    assert play(replace(example, wakes=example.wakes * 2, released=True))


@pytest.mark.parametrize(
    "description", [MLP, SKIP, CONV, POOL], ids=["mlp", "skip", "conv", "pool"]
)
@pytest.mark.parametrize("ordering", ["fifo", "newest", "arrival"])
def test_lazy(description: dict[str, Any], ordering: Any) -> None:
    """A neuron wakes when a message arrives, however late; not for one that is discarded."""
    mean = ns.Channel(0.2, delay=ns.Uniform(0.0, 4.0), jitter=JITTER, ordering=ordering)
    difference = ns.Channel(0.1, delay=1.5, loss=0.2, noise=0.05)
    example = example_of(description, ns.Channels(mean, difference))
    networks, simulation, (x, y) = both(example, ns.schedules.Lazy(unit="neuron", duration=25.0))
    outcome = simulation.infer(torch.from_numpy(x), torch.from_numpy(y))
    for literal, own, target in zip(networks, x, y, strict=True):
        literal.start(own, target)
    expected = literally_lazy(networks, "zero", 25)
    found = []
    for time, name, indices in outcome.trace.wakes:
        size = simulation.model.network[name].size
        found += [(int(time), name, i) for i in (range(size) if indices is None else indices)]
    assert sorted(found) == sorted(expected)
    assert not any(n.edge for n in networks)
    check(Pair(outcome, simulation, networks))
    check_counts(outcome, networks)


# ---- by hand -------------------------------------------------------------------------------------


class Listed(Distribution):
    """Jitter of one sender that was written down: a time for each share that will be drawn."""

    per = "dyad"

    def __init__(self, times: dict[float, float]) -> None:
        self.times, self.high = times, max(times.values())

    def quantile(self, share: np.ndarray) -> np.ndarray:
        return np.vectorize(self.times.__getitem__, otypes=[np.float64])(share)


ONE = {
    "input": 1,
    "activation": "identity",
    "layers": [{"name": n, "dense": 1, "bias": False} for n in ("h", "out")],
}


@pytest.mark.parametrize("tick", [1.0, 0.1])
@pytest.mark.parametrize(
    ("late", "ordering", "views"),
    [
        # Sent are 1, 2 and 3 at ticks 1, 2 and 3. What is seen at ticks 2, 3, …:
        ((5, 1, 1), "fifo", [0, 0, 0, 0, 3, 3]),
        ((5, 1, 1), "newest", [0, 2, 3, 3, 3, 3]),
        ((5, 1, 1), "arrival", [0, 2, 3, 3, 1, 1]),
        ((3, 2, 1), "fifo", [0, 0, 3, 3, 3, 3]),
        ((3, 2, 1), "newest", [0, 0, 3, 3, 3, 3]),
        ((3, 2, 1), "arrival", [0, 0, 3, 3, 3, 3]),
        ((1, 4, 1), "fifo", [1, 1, 1, 1, 3, 3]),
        ((1, 4, 1), "newest", [1, 1, 3, 3, 3, 3]),
        ((1, 4, 1), "arrival", [1, 1, 3, 3, 2, 2]),
        ((3, 4, 1), "fifo", [0, 0, 1, 1, 3, 3]),
        ((3, 4, 1), "newest", [0, 0, 3, 3, 3, 3]),
        ((3, 4, 1), "arrival", [0, 0, 3, 3, 2, 2]),
        ((1, 1, 1), "fifo", [1, 2, 3, 3, 3, 3]),
        ((0.2, 3.5, 3), "fifo", [1, 1, 1, 1, 3, 3]),
    ],
)
def test_orderings(late: tuple[float, ...], ordering: Any, views: list[float], tick: float) -> None:
    """A tick per inference, so that an input can come with each."""
    draws = Draws(0, "channels", "out", "mean")
    shares = [float(draws.uniform("jitter", Moment(k, k), (1, 1))) for k in range(1, 7)]
    times = [tick * time for time in (*late, 0, 0, 0)]
    listed = Listed(dict(zip(shares, times, strict=True)))
    channel = ns.Channel(jitter=listed, ordering=ordering)
    seen, literally_seen = views_of(ns.Channels(overrides={"out": {"mean": channel}}), tick)
    assert [out for _, out in seen] == views
    assert literally_seen == seen


def views_of(
    channels: ns.Channels, tick: float, inputs: Sequence[float] = (1, 2, 3, 3, 3, 3)
) -> tuple[list[tuple[float, ...]], ...]:
    """What h and out see after each inference of one tick, with weights of 1; by both."""
    wakes = [(tick, "h", None), (tick, "out", None)]
    rule = Rule("aro", 0.5, 1.0, "potential")
    example = Example(ONE, rule, "squared_error", "carry", 1, [], tick=tick, channels=channels)
    (literal,), simulation, _ = both(example, ns.schedules.Replay(wakes, tick=tick))
    with torch.no_grad():
        for parameter in simulation.model.parameters():
            parameter.fill_(1.0)
    for pathway in literal.pathways:
        pathway.branches[0][0][0].strength = 1.0
    seen, literally_seen = [], []
    for value in inputs:
        simulation.infer(torch.tensor([[value]], dtype=torch.float64))
        views = [link.means[0].value.tensor for link in simulation.state.links]
        seen.append(tuple(0.0 if view is None else view.item() for view in views))
        literal.start([value], None, init="carry")
        literal.replay(wakes, tick)
        ends = [literal.neurons[name][0].afferents[name] for name in ("h", "out")]
        literally_seen.append(tuple(end.sees[0] for end in ends))
    return seen, literally_seen


def test_nearest_levels() -> None:
    """Ties go to the even level, and what is out of range to the last one; a start is no
    exception."""
    coarse, pair = ns.Quantize(4, 7.0), ns.Quantize(2, (1.0, 2.5))
    overrides: Any = {"h": {"mean": ns.Channel(quantize=coarse)}}
    overrides["out"] = {"mean": ns.Channel(quantize=pair)}
    inputs = (0.5, 1.5, 2.5, -0.5, -1.5, 3.2, 9.0, -7.4)
    for views in views_of(ns.Channels(overrides=overrides), 1.0, inputs):
        assert [h for h, _ in views] == [0.0, 2.0, 2.0, 0.0, -2.0, 3.0, 7.0, -7.0]
        assert [out for _, out in views] == [1.0, 2.0, 2.0, 1.0, 1.0, 2.5, 2.5, 1.0]


@pytest.mark.parametrize(("refresh", "sent"), [(None, 1), (1, 6), (2, 4), (4, 2), (9, 1)])
def test_refresh_of_what_was_lost(refresh: int | None, sent: int) -> None:
    """What was lost counts as sent; a refresh says it again, at every n-th wake of a dyad."""
    wakes: Any = [(float(tick), "h", None) for tick in (1, 2, 4, 5, 6, 9)]
    wakes.append((9.0, "out", None))
    channel = ns.Channel(refresh=refresh, loss=1.0)
    example = example_of(ONE, ns.Channels(overrides={"out": {"mean": channel}}))
    example.wakes = [wakes]
    assert play(example)
    _, simulation, (x, _) = both(example, ns.schedules.Replay(wakes))
    assert simulation.infer(torch.from_numpy(x)).counts.mean_messages == sent * len(x)
    assert not simulation.state.links[1].means[0].value.value.any()


@pytest.mark.parametrize("tick", [0.1, 0.5, 0.7, 1.0, 3.0])
def test_whole_numbers_of_ticks(tick: float) -> None:
    """0.1 + 0.2 is three times 0.1, whatever floating-point numbers say."""
    count = 24
    description = {
        "input": 2,
        "activation": "identity",
        "layers": [{"name": "h", "dense": count}, {"name": "out", "dense": 2}],
    }
    wakes: Any = [(tick, "h", None)] + [(tick * n, "out", None) for n in range(1, count + 3)]
    for times in ([tick * n for n in range(count)], np.cumsum([0.0] + [tick] * (count - 1))):
        channels = ns.Channels(overrides={"out": {"mean": ns.Channel(delay=list(times))}})
        example = replace(example_of(description, channels), wakes=[wakes], tick=tick)
        assert play(example)
        example = replace(example, probes=("in_flight",))
        _, simulation, (x, _) = both(example, ns.schedules.Replay(wakes, tick=tick))
        flight = simulation.infer(torch.from_numpy(x)).trace["in_flight"]
        # Sent at tick 1; a delay of 0 takes a tick, as one of 1 does.
        on_way = [record["mean"]["out"] // len(x) for record in flight]
        assert on_way == [count, *range(count - 2, -1, -1), 0, 0]
