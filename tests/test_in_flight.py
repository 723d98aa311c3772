"""How many messages are in flight, how late what is seen is, and what that takes in memory."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from fewer import covering

import neurosim as ns
from neurosim.channels.line import DelayLine
from neurosim.channels.steady import Steady

BATCH = 4
CONV = {
    "input": [1, 6, 6],
    "layers": [
        {"name": "c1", "conv": 3, "activation": "identity"},
        {"name": "h", "dense": 7, "activation": "identity"},
        {"name": "out", "dense": 3},
    ],
}
# Means and differences go round in a loop, so that every message changes at every wake.
RULE = ns.DualPropagation(0.8, 0.4, "aro", "potential")


def make(channels: ns.Channels, schedule: ns.schedules.Schedule, **options: Any) -> ns.Simulation:
    model = ns.Model(ns.Network.from_dict(CONV), seed=0, dtype=torch.float64)
    simulation = ns.Simulation(
        model,
        rule=RULE,
        schedule=schedule,
        channels=channels,
        init="zero",
        nudge_after=0,
        **options,
    )
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, 1, 6, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(BATCH, 3, generator=generator, dtype=torch.float64)
    simulation.start(x, y)
    return simulation


def storages(lines: Sequence[DelayLine], shape: tuple[int, ...]) -> int:
    """How many different arrays of values of this shape lines hold on to, by whatever way."""
    found: set[tuple[int, int]] = set()
    seen: set[int] = set()
    left: list[Any] = list(lines)
    while left:
        item = left.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            if item.is_floating_point() and item.shape[-len(shape) :] == shape:
                size = torch.Size(shape).numel() * item.element_size()
                storage = item.untyped_storage()
                found |= {(storage.data_ptr(), part) for part in range(storage.nbytes() // size)}
        elif isinstance(item, dict | list | tuple) or type(item).__module__.startswith("neurosim"):
            left += gc.get_referents(item)
    return len(found)


UNITS = {
    "population": ns.schedules.Parallel(40),
    "channel": ns.schedules.Poisson(unit="channel", rate=0.8, duration=40.0),
    "neuron": ns.schedules.Poisson(unit="neuron", rate=0.5, duration=40.0),
}


EFFECTS: dict[str, dict[str, Any]] = {
    "none": {},
    "noise": {"noise": 0.1},
    "loss": {"loss": 0.2},
    "quantize": {"quantize": ns.Quantize(8, 4.0)},
}


@pytest.mark.parametrize(
    ("effect", "per", "latest", "schedule"),
    covering(product(EFFECTS, ("projection", "dyad"), (2, 3, 5, 9), UNITS)),
)
def test_memory_of_a_constant_delay(effect: str, per: str, latest: int, schedule: str) -> None:
    """A delay of up to D ticks keeps at most D + 1 copies of what its sender sends.

    Between two ticks what arrives at the next one is seen already. That is one copy, D − 1 more
    are on their way, and the last of them is what was sent last: D. Effects make of it one more.
    """
    delay: Any = float(latest)
    if per == "dyad":
        delay = ns.Uniform(0.0, float(latest))
    channel = ns.Channel(delay=delay, refresh=1, **EFFECTS[effect])  # sends at every wake
    simulation = make(ns.Channels(channel, channel), UNITS[schedule])
    most: dict[str, int] = {}
    for _ in range(30):
        simulation.advance(1)
        for link, line in simulation.state.lines:
            sender = link.pre if line.kind == "mean" else link.post
            copies = storages([line], (BATCH, *sender.population.shape))
            name = f"{link.name} {line.kind}"
            most[name] = max(most.get(name, 0), copies)
    assert max(most.values()) <= latest + 1, most
    if per == "projection":  # the count would notice: this much is needed
        assert max(most.values()) == latest + (1 if channel.acting else 0)


def test_memory_does_not_depend_on_the_lines() -> None:
    """Two projections with one sender and different delays share the copies of it."""
    populations = {
        "input": {"shape": [2], "role": "input"},
        "h": {"shape": [7], "activation": "identity"},
        "a": {"shape": [2]},
        "out": {"shape": [2], "role": "output"},
    }
    edges = [("input", "h"), ("h", "a"), ("h", "out"), ("a", "out")]
    network = ns.Network.from_dict(
        {
            "populations": populations,
            "projections": [{"from": pre, "to": post} for pre, post in edges],
        }
    )
    model = ns.Model(network, seed=0, dtype=torch.float64)
    late = {
        name: {"mean": ns.Channel(delay=delay, refresh=1)}
        for name, delay in (("h->a", 6.0), ("h->out", 3.0))
    }
    simulation = ns.Simulation(
        model,
        rule=RULE,
        schedule=ns.schedules.Parallel(30),
        channels=ns.Channels(overrides=late),  # type: ignore[arg-type]
        init="zero",
        nudge_after=0,
    )
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, BATCH, 2, generator=generator, dtype=torch.float64)
    simulation.start(x, y)
    simulation.advance(20)
    lines = [line for _, line in simulation.state.lines]
    assert len(lines) == 2
    assert storages(lines, (BATCH, 7)) == 6


def test_memory_of_jitter() -> None:
    """One slot for each tick within which messages arrive, and a few."""
    channel = ns.Channel(delay=2.0, jitter=ns.Uniform(0.0, 3.0), refresh=1)
    simulation = make(ns.Channels(channel, channel), UNITS["population"])
    simulation.advance(30)
    for link, line in simulation.state.lines:
        sender = link.pre if line.kind == "mean" else link.post
        if sender is not simulation.state.input:
            assert storages([line], (BATCH, *sender.population.shape)) <= 5 + 4


def test_an_ideal_channel_costs_nothing() -> None:
    """There is no line: the receivers read what the senders hold."""
    simulation = make(ns.Channels(), UNITS["population"])
    assert simulation.state.lines == []
    simulation.advance(5)
    for link in simulation.state.links:
        (view,) = link.means
        (outlet,) = link.pre.outlets["mean"]
        assert view.value is outlet.sent
        if link.differences:
            (view,) = link.differences
            assert view.value is link.post.difference
    mixed: Any = {"h": {"mean": ns.Channel(delay=3.0)}}
    simulation = make(ns.Channels(overrides=mixed), UNITS["population"])
    assert [(link.name, line.kind) for link, line in simulation.state.lines] == [("h", "mean")]


# ---- Little's law --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::neurosim.NeurosimWarning")
@pytest.mark.parametrize("tick", [1.0, 0.5])
@pytest.mark.parametrize("delay", [1.0, 3.0, 7.0])
def test_a_message_per_tick(delay: float, tick: float) -> None:
    """A message of each dyad and sample at every tick, each D ticks on its way: D of each."""
    channel = ns.Channel(delay=delay, refresh=1)
    schedule = ns.schedules.Parallel(20, tick=tick)
    simulation = make(ns.Channels(channel, channel), schedule, probes=["in_flight", "staleness"])
    simulation.advance()
    late = int(delay / tick)
    sizes = {"c1": 108, "h": 7, "out": 3}
    for record in simulation.finish().trace["in_flight"]:
        on_the_way = min(record["tick"], late) * BATCH
        assert record["mean"] == {
            "c1": 0,
            "h": on_the_way * sizes["c1"],
            "out": on_the_way * sizes["h"],
        }
        assert record["difference"] == {
            "h": on_the_way * sizes["h"],
            "out": on_the_way * sizes["out"],
        }
        both = sizes["c1"] + 2 * sizes["h"] + sizes["out"]
        assert record["total"] == on_the_way * both


@pytest.mark.parametrize("distribution", [ns.Uniform(0.0, 4.0), ns.Exponential(2.0, 4.0)], ids=str)
@pytest.mark.parametrize("how", ["delay", "jitter"])
def test_little(distribution: Any, how: str) -> None:
    """On the mean, in flight = rate × time on the way: with ``refresh`` every wake is a message.

    The time is ⌈delay⌉ ticks; its mean is that of the drawn delays, or of the law of the jitter. No
    message takes longer than the period, so that two of one dyad are never to arrive together.
    """
    channel = ns.Channel(**{how: distribution}, refresh=1)
    period = 4
    schedule = ns.schedules.Periodic(unit="neuron", period=float(period), duration=400.0)
    channels = ns.Channels(overrides={"h": {"mean": channel}})
    simulation = make(channels, schedule, probes=["in_flight"])
    simulation.advance()
    records = simulation.finish().trace["in_flight"][2 * period :]
    senders = 108 * BATCH
    found = [record["mean"]["h"] / senders for record in records]
    assert len(found) % period == 0
    average = sum(found) / len(found)
    if how == "delay":  # over whole periods it is exact
        ((_, line),) = simulation.state.lines
        assert isinstance(line, Steady)
        late = [(ticks, line.route(ticks).selection) for ticks in line.delays]
        mean = sum(ticks * selection.count for ticks, selection in late) / 108
        assert average == pytest.approx(mean / period, rel=1e-12)
    else:
        shares = (np.arange(100_000) + 0.5) / 100_000
        ticks = np.maximum(np.ceil(distribution.quantile(shares)), 1.0)
        messages = senders * len(found) / period
        error = ticks.std() / period / messages**0.5
        assert abs(average - ticks.mean() / period) < 4 * error


@pytest.mark.filterwarnings("ignore::neurosim.NeurosimWarning")
def test_lost_messages_are_not_in_flight() -> None:
    channel = ns.Channel(delay=5.0, loss=1.0)
    simulation = make(ns.Channels(channel, channel), UNITS["population"], probes=["in_flight"])
    simulation.advance()
    assert {record["total"] for record in simulation.finish().trace["in_flight"]} == {0}


# ---- whom messages reach -------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.0, 0.5])
@pytest.mark.parametrize("how", ["delay", "jitter"])
def test_lazy_wakes_those_whom_a_message_reaches(how: str, loss: float) -> None:
    """Each dyad hears of one other, which sends once, at tick 1: it wakes at tick 1, and when that
    message reaches it in any sample. Nobody else does then."""
    network = ns.Network.from_dict(
        {
            "populations": {
                "input": {"shape": [2], "role": "input"},
                "h": {"shape": [50], "activation": "identity"},
                "output": {"shape": [50], "role": "output"},
            },
            "projections": [
                {"from": "input", "to": "h"},
                {"from": "h", "to": "output", "op": "identity", "name": "straight"},
            ],
        }
    )
    channel = ns.Channel(**{how: ns.Uniform(0.0, 9.0)}, loss=loss)  # type: ignore[arg-type]
    simulation = ns.Simulation(
        ns.Model(network, seed=0, dtype=torch.float64),
        schedule=ns.schedules.Lazy(20.0, "neuron"),
        channels=ns.Channels(overrides={"straight": {"mean": channel}}),
        init="zero",
        probes=["wakes"],
    )
    (view,) = simulation.state.links[1].means
    simulation.start(torch.ones(2, 2) * torch.tensor([[1.0], [2.0]]))
    expected = [set(range(50))]
    while not simulation.done:
        before = view.value.tensor
        before = torch.zeros(2, 50, dtype=torch.float64) if before is None else before.clone()
        simulation.advance(1)
        after = before if view.value.tensor is None else view.value.tensor
        changed = (after != before).any(0)
        expected.append(set(changed.nonzero()[:, 0].tolist()))
    found: list[set[int]] = [set() for _ in expected]
    for wake in simulation.finish().trace["wakes"]:
        if wake["population"] == "output":
            indices = range(50) if wake["indices"] is None else wake["indices"]
            found[wake["tick"] - 1] |= set(indices)
    assert found == expected
    assert sum(map(len, found)) > 60
