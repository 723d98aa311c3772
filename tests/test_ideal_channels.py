"""Effects without strength are no effects, to the last bit; and what one channel draws does not
depend on what else is switched on.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

import pytest
import torch
from constant_messages import BATCH, TICKS, VALUE, N, constant, seen
from torch import Tensor

import neurosim as ns
from neurosim.channels.effects import Draws

NETWORK = {
    "input": [2, 6, 6],
    "layers": [
        {"name": "c1", "conv": 3, "pool": "max"},
        {"name": "h", "dense": 8},
        {"name": "out", "dense": 3},
    ],
}
RULE = ns.DualPropagation(0.3, 0.6, "lagrangian", "potential")
SCHEDULES = {
    "parallel": ns.schedules.Parallel(10),
    "poisson": ns.schedules.Poisson(unit="neuron", rate=0.6, duration=12.0),
    "lazy": ns.schedules.Lazy(8.0, ns.Unit("tile", 2)),
    "sweep": ns.schedules.Sweep("forward_backward", 3),
}


def run(channels: ns.Channels, schedule: str, **options: Any) -> tuple[ns.Simulation, Any]:
    """Two carried inferences, and everything that there is to see of them."""
    model = ns.Model(ns.Network.from_dict(NETWORK), seed=2, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 2, 6, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    simulation = ns.Simulation(
        model,
        rule=RULE,
        schedule=SCHEDULES[schedule],
        channels=channels,
        init="carry",
        nudge_after=2,
        probes=["wakes", "messages", "residual"],
        **options,
    )
    found = []
    for number in range(2):
        outcome = simulation.infer(x[number], y[number])
        states = [value.tolist() for s in (outcome.plus, outcome.minus) for value in s.values()]
        gradients = {key: value.tolist() for key, value in simulation.gradients().items()}
        found.append([states, gradients, asdict(outcome.counts), outcome.trace.state_dict()])
    return simulation, found


WITHOUT_STRENGTH = {
    "noise": ns.Channel(noise=0.0),
    "relative noise": ns.Channel(noise=ns.Noise(0.0, "relative")),
    "loss": ns.Channel(loss=0.0),
    "jitter": ns.Channel(jitter=ns.Uniform(0.0, 0.0)),
    "delay": ns.Channel(delay=1.0),
    "ordering": ns.Channel(ordering="arrival"),
    "all": ns.Channel(
        delay=0.5,
        noise=0.0,
        loss=0.0,
        jitter=ns.Uniform(0.0, 0.0),
        ordering="newest",
        refresh=None,
    ),
}
# They go by a line of their own, but a line of one tick without effects.
ONE_TICK = {
    "delays per dyad": ns.Channel(delay=ns.Uniform(0.0, 1.0)),
    "short delays per dyad": ns.Channel(delay=ns.Exponential(0.2, 0.9)),
    "jitter within the tick": ns.Channel(jitter=ns.Uniform(0.0, 1.0)),
    "both": ns.Channel(delay=ns.Uniform(0.0, 0.5), jitter=ns.Uniform(0.0, 0.5), ordering="newest"),
    "arrival": ns.Channel(jitter=ns.Exponential(0.1, 1.0), ordering="arrival"),
}


@cache
def ideal(schedule: str) -> Any:
    return run(ns.Channels(), schedule)[1]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", [*WITHOUT_STRENGTH, *ONE_TICK])
def test_zero_strength_is_ideal(name: str, schedule: str) -> None:
    """The same states, gradients, counts and traces, bit for bit. Only, a difference that has
    become zero again is sent back where messages have jitter: that is not looked for there."""
    channel = (WITHOUT_STRENGTH | ONE_TICK)[name]
    simulation, found = run(ns.Channels(channel, channel), schedule)
    expected = ideal(schedule)
    assert bool(simulation.state.lines) == (name in ONE_TICK)
    if channel.jittery:
        for one, other in zip(found, expected, strict=True):
            counts, wanted = ([e[2], *e[3]["messages"]] for e in (one, other))
            for a, b in zip(counts, wanted, strict=True):
                assert b["adjoint"] <= a["adjoint"] <= b["adjoint"] + 2
                a["adjoint"] = b["adjoint"]
    assert found == expected


def test_synapses_of_one_delay_are_ideal() -> None:
    """A delay for each synapse, all within a tick, makes one view."""
    channel = ns.Channel(delay=ns.Uniform(0.0, 1.0, per="synapse"))
    overrides: Any = {"out": {"mean": channel, "difference": channel}}
    _, found = run(ns.Channels(overrides=overrides), "poisson")
    _, expected = run(ns.Channels(), "poisson")
    assert found == expected


# ---- streams -------------------------------------------------------------------------------------

WATCHED = ns.Channel(noise=0.3, loss=0.2, jitter=ns.Uniform(0.0, 3.0), refresh=1, ordering="newest")
BUSY = ns.Channel(
    delay=ns.Uniform(0.0, 4.0),
    jitter=ns.Exponential(1.0, 3.0),
    loss=0.3,
    noise=ns.Noise(0.2, "relative"),
    quantize=ns.Quantize(6, 3.0, "stochastic"),
    refresh=2,
)


def watched(channel: ns.Channel = WATCHED, **options: Any) -> Tensor:
    """What arrives over one channel while others do what the options say."""
    others: Any = {"mean": options.pop("mean", ns.Channel())}
    others["difference"] = options.pop("difference", ns.Channel())
    channels = ns.Channels(**others, overrides={"out": {"mean": channel}})
    return seen(constant(channel, channels=channels, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"mean": BUSY},
        {"difference": BUSY},
        {"mean": BUSY, "difference": BUSY},
        {"processes": "neuron"},
        {"compute": "dense"},
        {"schedule": ns.schedules.Parallel(TICKS, unit="neuron")},
        {"schedule": ns.schedules.Parallel(TICKS, unit="block"), "processes": "neuron"},
        {"probes": ["staleness", "in_flight", "residual", "wakes"]},
        {"schedule": ns.schedules.Periodic(unit="neuron", phase="aligned", duration=TICKS)},
    ],
    ids=lambda options: ", ".join(options),
)
def test_streams_are_named(options: dict[str, Any]) -> None:
    """Noise, losses and jitter of a channel are the same, whatever else is switched on."""
    assert torch.equal(watched(**options), watched())


def noise_at(values: Tensor) -> Tensor:
    """ε of each message, by the tick at which it was sent."""
    return values - VALUE


def test_who_wakes_does_not_shift_the_noise() -> None:
    """A draw belongs to a tick and a dyad: those who send get theirs, whoever else does."""
    channel = ns.Channel(noise=0.3, refresh=1)
    everything = noise_at(watched(channel))
    schedule = ns.schedules.Poisson(unit="neuron", rate=0.5, duration=TICKS)
    some = noise_at(watched(channel, schedule=schedule))
    sent = torch.ones_like(some, dtype=torch.bool)
    sent[1:] = some[1:] != some[:-1]
    sent[0] = (some[0] - everything[0]).abs() < 0.2  # the others show the start, 0 and its noise
    assert torch.equal(some[sent], everything[sent])
    assert 0.3 < float(sent[1:].double().mean()) < 0.5  # 1 − e^(−½) = 0.39


def test_effects_of_one_channel_do_not_share_draws() -> None:
    """With losses switched on, the messages that arrive have the noise that they had without."""
    noisy = watched(ns.Channel(noise=0.3, refresh=1))
    both = watched(ns.Channel(noise=0.3, refresh=1, loss=0.4))
    same = both == noisy
    assert 0.55 < float(same.double().mean()) < 0.65
    rounded = ns.Channel(noise=0.3, refresh=1, quantize=ns.Quantize(2, VALUE, "stochastic"))
    assert torch.equal(watched(rounded), noisy)  # 1.5 is a level


def test_nothing_is_drawn_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every channel, effect and moment has a generator of its own."""
    drawn: list[tuple[Any, ...]] = []
    generator = Draws._generator

    def recorded(self: Draws, effect: str, *when: int, **block: int) -> Any:
        drawn.append((self._name, effect, *when[:2]))
        return generator(self, effect, *when, **block)

    monkeypatch.setattr(Draws, "_generator", recorded)
    run(ns.Channels(BUSY, BUSY), "parallel")
    assert len(drawn) == len(set(drawn))
    assert {effect for _, effect, *_ in drawn} == {"noise", "loss", "jitter", "rounding"}
    assert {moment[0] for _, _, *moment in drawn} == {1, 2}


def test_projections_and_kinds_have_draws_of_their_own() -> None:
    """Two projections from the same dyads, and both kinds of messages on one."""
    network = ns.Network.from_dict(
        {
            "populations": {
                "input": {"shape": [N], "role": "input"},
                "a": {"shape": [N], "activation": "identity"},
                "output": {"shape": [N], "role": "output"},
            },
            "projections": [
                {"from": "input", "to": "a"},
                {"from": "a", "to": "output", "op": "identity", "name": "one"},
                {"from": "a", "to": "output", "op": "identity", "name": "two"},
            ],
        }
    )
    model = ns.Model(network, seed=0, dtype=torch.float64)
    noisy = ns.Channel(noise=1.0)
    simulation = ns.Simulation(
        model,
        schedule=ns.schedules.Parallel(3),
        channels=ns.Channels(noisy, noisy),
        init="zero",
        nudge_after=0,
    )
    simulation.start(torch.zeros(BATCH, N, dtype=torch.float64))
    noise = [view.value.value.clone() for _, line in simulation.state.lines for view in line.views]
    simulation.finish()
    simulation.start(torch.zeros(BATCH, N, dtype=torch.float64))  # another inference
    noise += [view.value.value.clone() for _, line in simulation.state.lines for view in line.views]
    assert len(noise) == 10
    for number, one in enumerate(noise):
        for other in noise[:number]:
            # The correlation of independent normals has the standard error 1/√n.
            correlation = float((one * other).mean())
            assert abs(correlation) * one.numel() ** 0.5 < 4


def test_another_seed_is_other_noise() -> None:
    channel = ns.Channel(noise=0.3, refresh=1)
    assert not (watched(channel, seed=1) == watched(channel, seed=2)).any()
    assert torch.equal(watched(channel, seed=1), watched(channel, seed=1))
