"""Channels against the literal simulation of `reference.py`, and both against views by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from literal import Example, both
from literal_messages import example_of, play
from reference_neurons import Rule

import neurosim as ns
from neurosim.channels.distributions import Distribution
from neurosim.channels.effects import Draws, Moment

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


@pytest.mark.filterwarnings("ignore::neurosim.NeurosimWarning")
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
