"""Channels: which one a projection gets, and what is refused."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from math import inf, nan
from typing import Any

import numpy as np
import pytest
import torch

import neurosim as ns
from neurosim.channels.steady import Steady

A, B, C = (ns.Channel(threshold=t) for t in (0.1, 0.2, 0.3))


def network() -> ns.Network:
    """Two parallel projections, and one with its default name."""
    populations = {
        "input": {"shape": 2, "role": "input"},
        "h": {"shape": 2},
        "output": {"shape": 2, "role": "output"},
    }
    edges = [
        {"from": "input", "to": "h", "name": "first"},
        {"from": "h", "to": "output", "name": "left"},
        {"from": "h", "to": "output", "name": "right"},
        {"from": "input", "to": "output"},
    ]
    return ns.Network.from_dict({"populations": populations, "projections": edges})


def test_ideal_by_default() -> None:
    assert ns.Channel() == ns.Channel(threshold=0.0, delay=0.0)
    channels = ns.Channels().resolve(network(), 1.0)
    names = ["first", "left", "right", "input->output"]
    assert list(channels) == [(name, kind) for name in names for kind in ("mean", "difference")]
    assert set(channels.values()) == {ns.Channel()}


def test_one_channel_per_kind() -> None:
    channels = ns.Channels(mean=A, difference=B).resolve(network(), 1.0)
    assert all(channel == (A if kind == "mean" else B) for (_, kind), channel in channels.items())


def test_overrides() -> None:
    overrides: dict[str, Any] = {"left": {"mean": C}, "right": {"difference": C, "mean": B}}
    channels = ns.Channels(A, B, overrides).resolve(network(), 1.0)
    assert channels == {
        ("first", "mean"): A,
        ("first", "difference"): B,
        ("left", "mean"): C,
        ("left", "difference"): B,
        ("right", "mean"): B,
        ("right", "difference"): C,
        ("input->output", "mean"): A,
        ("input->output", "difference"): B,
    }


def test_aliases() -> None:
    channels = ns.Channels(overrides={"input->h": {"mean": C}}).resolve(network(), 1.0)
    assert channels["first", "mean"] == C
    assert ("input->h", "mean") not in channels
    chain = ns.Network.from_dict({"input": 2, "layers": [{"name": "h", "dense": 2}, {"dense": 2}]})
    channels = ns.Channels(overrides={"h->output": {"mean": C}}).resolve(chain, 1.0)
    assert channels["output", "mean"] == C
    assert channels["h", "mean"] == ns.Channel()


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"lift": {"mean": A}}, ns.NetworkError, "unknown projection 'lift'; did you mean 'left'"),
        (
            {"h->output": {"mean": A}},
            ns.NetworkError,
            "'h->output' is ambiguous: .*'left', 'right'",
        ),
        (
            {"left": {"means": A}},
            ns.ConfigurationError,
            "'left' is 'means'; it must be one",
        ),
        (
            {"left": {"difference": ns.Channel(delay=[1.5, 0.0, 1.0])}},
            ns.ConfigurationError,
            r"difference channel of projection 'left': delay is a tensor of shape \[3\]; it must "
            r"be \[2\] \(one per sending dyad\) or \[2, 2\] \(one per synapse\)",
        ),
    ],
)
def test_overrides_that_cannot_be(overrides: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ns.Channels(overrides=overrides).resolve(network(), 1.0)


@pytest.mark.parametrize(
    ("delay", "tick", "ideal"),
    [(0.0, 1.0, True), (1.0, 1.0, True), (1.01, 1.0, False), (0.3, 0.1, False), (0.1, 0.1, True)],
)
def test_delays_of_one_tick_are_ideal(delay: float, tick: float, ideal: bool) -> None:
    assert ns.Channel(delay=delay).is_ideal(tick) == ideal


@pytest.mark.parametrize("key", ["threshold", "delay"])
@pytest.mark.parametrize("value", [-1.0, -1e-300, inf, nan])
def test_values_that_cannot_be(key: str, value: float) -> None:
    with pytest.raises(ns.ConfigurationError, match=f"{key} is .*; it must be (at least 0|finite)"):
        ns.Channel(**{key: value})


def test_channels_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        A.threshold = 0.5  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        ns.Channels().mean = A  # type: ignore[misc]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_delays_as_a_tensor(dtype: torch.dtype) -> None:
    channel = ns.Channel(delay=torch.tensor([[0, 2], [1, 3]], dtype=dtype))
    assert channel == ns.Channel(delay=[[0, 2], [1, 3]])
    assert not channel.is_ideal(1.0)


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.int64(2), torch.tensor(2.0)])
def test_numbers_of_any_kind(number: Any) -> None:
    for name in ("threshold", "delay", "noise"):
        assert ns.Channel(**{name: number}) == ns.Channel(**{name: 2.0})
    assert ns.Channel(noise=number) == ns.Channel(noise=ns.Noise(2.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "0.1"}, "noise is '0.1'; it must be a number"),
        ({"noise": {"std": 0.1}}, "noise is {'std': 0.1}; it must be"),
        ({"noise": True}, "noise is True; it must be a number"),
        ({"quantize": {"bits": 4, "range": 1.0}}, "quantize is {'bits': 4"),
        ({"jitter": 1.0}, "jitter is 1.0; it must be a Distribution"),
        ({"loss": None}, "loss is None; it must be a number"),
        ({"threshold": "1"}, "threshold is '1'; it must be a number"),
        ({"delay": None}, "delay must be a number, a distribution"),
        ({"delay": True}, "delay must be a number, a distribution"),
        ({"delay": ["1", "2"]}, "delay must be a number, a distribution"),
        ({"delay": torch.tensor([True])}, "delay must be a number, a distribution"),
        ({"delay": torch.tensor([1j])}, "delay must be a number, a distribution"),
        ({"delay": {"kind": "uniform"}}, "delay must be a number, a distribution"),
    ],
    ids=str,
)
def test_what_is_no_channel(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        ns.Channel(**options)


def test_ranges_have_two_ends() -> None:
    with pytest.raises(
        ns.ConfigurationError, match=r"range is \(1, 2, 3\); it can have at most 2 item"
    ):
        ns.Quantize(4, (1, 2, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"left": A}, "overrides of 'left' is Channel.*dictionary"),
        ({"left": {"mean": 2.0}}, "overrides of 'left' is 2.0; it must be a Channel"),
        (
            {"first": {"difference": A}},
            "'first' comes from the input, which is sent no differences",
        ),
    ],
)
def test_overrides_that_say_nothing(override: Any, message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        ns.Channels(overrides=override).resolve(network(), 1.0)


def test_rings_have_an_end() -> None:
    channel = ns.Channel(delay=500.0, jitter=ns.Uniform(0.0, 501.0))
    with pytest.raises(ns.ConfigurationError, match="takes up to 1001, which is more than 1,000"):
        ns.Channels(mean=channel).resolve(network(), 1.0)
    ns.Channels(mean=channel).resolve(network(), 2.0)


@pytest.mark.parametrize("given", [False, True])
def test_synapses_have_so_many_views(given: bool) -> None:
    wide = ns.Network.from_dict({"input": 40, "layers": [{"name": "out", "dense": 50}]})
    late: Any = ns.Uniform(1.0, 1001.0, per="synapse")
    if given:
        late = np.arange(2000.0).reshape(50, 40) % 1001 + 1
    channels = ns.Channels(overrides={"out": {"mean": ns.Channel(delay=late)}})
    with pytest.raises(ns.ConfigurationError, match="be late by 1,001 different numbers of ticks"):
        channels.resolve(wide, 1.0)
    channels.resolve(wide, 1.1)
    prompt = ns.Channel(delay=ns.Uniform(0.0, 1000.0, per="synapse"))  # 0 is one tick
    ns.Channels(overrides={"out": {"mean": prompt}}).resolve(wide, 1.0)
    few = ns.Network.from_dict({"input": 3, "layers": [{"name": "out", "dense": 4}]})
    spread = ns.Channel(delay=ns.Uniform(0.0, 1e6, per="synapse"))
    ns.Channels(overrides={"out": {"mean": spread}}).resolve(few, 1.0)  # 12 synapses, 12 views


def test_each_dyad_has_one_route() -> None:
    wide = ns.Network.from_dict({"input": 300, "layers": [{"name": "out", "dense": 2}]})
    times = np.random.default_rng(0).uniform(0.0, 200.0, 300)
    channels, schedule = ns.Channels(mean=ns.Channel(delay=times)), ns.schedules.Parallel(ticks=300)
    simulation = ns.Simulation(ns.Model(wide, seed=0), schedule=schedule, channels=channels)
    ((_, line),) = simulation.state.lines
    assert isinstance(line, Steady)
    found = np.zeros(300)
    for ticks in range(202):
        if (route := line.route(ticks)) is not None:
            assert route.selection is not None
            assert not found[route.selection.dyads].any()
            found[route.selection.dyads] = ticks
    assert np.array_equal(found, np.maximum(1, np.ceil(times)))


def test_the_round_trip_counts_the_hops_of_the_longest_way() -> None:
    layers = [{"name": "a", "dense": 3}, {"name": "b", "dense": 3}, {"name": "out", "dense": 2}]
    chain = ns.Network.from_dict({"input": 3, "layers": layers})
    for delay in (0.0, 1.0, 4.0):
        one = ns.Channel(delay=delay)
        found = ns.Channels(mean=one, difference=one).round_trip(chain, 1.0)
        assert found == 1 + 5 * max(1, delay)
    slow = {"b": {"mean": ns.Channel(delay=9.0)}, "out": {"difference": ns.Channel(delay=3.0)}}
    assert ns.Channels(overrides=slow).round_trip(chain, 0.5) == 1 + (1 + 18 + 1) + (6 + 1)
