"""Effects as a family: a user's own, what documents say of channels, and the order of all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import pytest
import torch
from pydantic import Field, ValidationError
from torch import Tensor

import neurosim as ns
from neurosim.channels import Draws, Effect, Parcel
from neurosim.conformance import attempt, checks_of
from neurosim.families import Fraction, NotNegative, build, described, model_of, register

BATCH, N = 3, 50


@pytest.fixture(name="burst")
def _burst() -> Iterator[type[Effect]]:
    @register("burst")
    @dataclass(frozen=True)
    class Burst(Effect):
        """Multiplies a message by 1 + std·ε with a probability."""

        for_complex: ClassVar[bool] = True
        probability: Fraction
        std: Annotated[NotNegative, Field(description="in units of the message")] = 1.0

        def act(self, parcel: Parcel, draws: Draws) -> None:
            struck = parcel.uniform(draws, "struck") < self.probability
            parcel.values *= 1.0 + self.std * parcel.normal(draws, "size") * struck

        def moves_zero(self) -> bool:
            return False

    yield Burst
    Effect.family.remove("burst")


def simulation(channel: ns.Channel, **options: Any) -> ns.Simulation:
    """50 dyads that say 1 in every tick, to one that listens over this channel."""
    layers = [{"name": "h", "dense": N}, {"name": "out", "dense": 1}]
    network = ns.Network.from_dict({"input": 1, "activation": "tanh", "layers": layers})
    model = ns.Model(network, seed=0, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(20.0 if name == "h.bias" else 0.0)  # tanh is 1
    arguments: dict[str, Any] = {
        "schedule": ns.schedules.Parallel(30),
        "channels": ns.Channels(overrides={"out": {"mean": channel}}),
        "init": "zero",
    }
    return ns.Simulation(model, **(arguments | options))


def seen(channel: ns.Channel, ticks: int = 30, **options: Any) -> Tensor:
    """What the output sees after each tick, (ticks, B, N)."""
    made = simulation(channel, **options)
    (view,) = made.state.links[1].means
    made.start(torch.zeros(BATCH, 1, dtype=torch.float64))
    values = []
    for _ in range(ticks):
        made.advance(1)
        values.append(view.value.value.clone())
    return torch.stack(values)


def test_a_burst_acts_as_it_says(burst: Any) -> None:
    values = seen(ns.Channel(effects=[burst(0.2, 0.5)], refresh=1))
    struck = values != 1.0
    n = values.numel()
    assert abs(float(struck.double().mean()) - 0.2) < 4 * (0.2 * 0.8 / n) ** 0.5
    sizes = (values[struck] - 1.0) / 0.5
    assert abs(float(sizes.square().mean()) - 1.0) < 4 * (2 / len(sizes)) ** 0.5


def test_what_was_sent_stays_as_it_was(burst: Any) -> None:
    """An effect that writes in place does not reach the sender, or another channel of it."""
    made = simulation(ns.Channel(effects=(burst(1.0),), refresh=1))
    made.start(torch.zeros(BATCH, 1, dtype=torch.float64))
    made.advance(5)
    (outlet,) = made.state.by_name["h"].outlets["mean"]
    assert (outlet.sent.value == 1.0).all()


def test_effects_of_one_name_draw_apart_and_others_change_no_draw(burst: Any) -> None:
    one = ns.Channel(effects=(burst(0.3),), refresh=1)
    both = ns.Channel(effects=(burst(0.3), burst(0.3)), refresh=1)
    first, twice = seen(one), seen(both)
    factor = twice / first
    assert ((factor != 1.0) != (first != 1.0)).any()  # the second strikes others
    rounded = ns.Channel(effects=(ns.Quantize(9, (0.0, 8.0)), burst(0.3)), refresh=1)
    struck = seen(rounded) != seen(rounded)[0, 0].mode().values
    assert torch.equal(struck, first != 1.0)
    assert torch.equal(first, seen(one))
    assert not torch.equal(first, seen(one, seed=1))


def test_effects_act_after_the_noise_and_before_the_loss() -> None:
    """Levels are those of the last one that rounds, whatever noise there was before."""
    rounds = ns.Quantize(1, (0.0, 2.0))
    values = seen(ns.Channel(noise=0.7, effects=(rounds,), refresh=1))
    assert values.unique().tolist() == [0.0, 2.0]
    lossy = ns.Channel(noise=0.7, effects=(rounds,), loss=0.5, refresh=1)
    assert [acting.effect.name for acting in lossy.acting] == ["noise", "quantize", "erasure"]
    same = seen(lossy)[1:] == seen(lossy)[:-1]
    assert float(same.double().mean()) > 0.7


def test_the_draws_of_noise_and_loss_are_their_own() -> None:
    """An erasure among the effects is the loss of a channel, but for its draws."""
    noisy = ns.Channel(noise=0.1, refresh=1)
    other = ns.Channel(noise=0.1, effects=(ns.Noise(0.0),), refresh=1)
    assert torch.equal(seen(noisy), seen(other))


def test_an_effect_keeps_shape_and_dtype() -> None:
    @dataclass(frozen=True)
    class Narrow(Effect):
        kind: ClassVar[str] = "narrow"

        def act(self, parcel: Parcel, draws: Draws) -> None:
            parcel.values = parcel.values.float()

    made = simulation(ns.Channel(effects=(Narrow(),)))
    with pytest.raises(ns.ConfigurationError, match=r"'narrow' must keep the shape .*float64, but"):
        made.infer(torch.zeros(BATCH, 1, dtype=torch.float64))


def test_complex_messages_need_an_effect_that_is_defined_for_them(burst: Any) -> None:
    rule = ns.HolomorphicEP()
    simulation(ns.Channel(effects=(burst(0.5),)), rule=rule)
    with pytest.raises(ns.ConfigurationError, match="has quantize, which is defined for real"):
        simulation(ns.Channel(effects=(ns.Quantize(4, 1.0),)), rule=rule)


# ---- what a check says ---------------------------------------------------------------------------


def failed(effect: Effect) -> set[str]:
    return {check.name for check in checks_of(type(effect), [effect]) if attempt(check)}


def test_a_burst_conforms(burst: Any) -> None:
    assert not failed(burst(0.3, 0.5))


def test_effects_that_do_not_conform() -> None:
    calls = []

    @dataclass(frozen=True)
    class Tired(Effect):
        """Remembers how often it acted, where nobody saves it."""

        kind: ClassVar[str] = "tired"

        def act(self, parcel: Parcel, draws: Draws) -> None:
            calls.append(1)
            parcel.values = parcel.values * (1.0 + 1.0 / len(calls))

    @dataclass(frozen=True)
    class Shifting(Effect):
        kind: ClassVar[str] = "shifting"

        def act(self, parcel: Parcel, draws: Draws) -> None:
            parcel.values = parcel.values + 1.0

        def moves_zero(self) -> bool:
            return False

    assert "the same bits twice" in failed(Tired())
    assert "zeros stay zeros, if it says so" in failed(Shifting())


# ---- documents -----------------------------------------------------------------------------------

DOCUMENTS: list[tuple[dict[str, Any], ns.Channels]] = [
    ({}, ns.Channels()),
    (
        {"mean": {"delay": 2, "noise": 0.01, "quantize": {"bits": 8, "range": 1}}},
        ns.Channels(ns.Channel(delay=2.0, noise=0.01, quantize=ns.Quantize(8, 1.0))),
    ),
    (
        {"mean": {"noise": {"std": 0.5}}, "difference": {"noise": {"kind": "relative", "std": 1}}},
        ns.Channels(ns.Channel(noise=0.5), ns.Channel(noise=ns.Noise(1.0, "relative"))),
    ),
    (
        {"difference": {"delay": {"kind": "uniform", "low": 0, "high": 5, "per": "synapse"}}},
        ns.Channels(difference=ns.Channel(delay=ns.Uniform(0.0, 5.0, "synapse"))),
    ),
    (
        {"mean": {"jitter": {"kind": "exponential", "scale": 0.5, "high": 3}, "refresh": 8}},
        ns.Channels(ns.Channel(jitter=ns.Exponential(0.5, 3.0), refresh=8)),
    ),
    (
        {"mean": {"delay": [[1, 2], [3, 4]], "ordering": "newest", "loss": 0.05}},
        ns.Channels(ns.Channel(delay=[[1, 2], [3, 4]], ordering="newest", loss=0.05)),
    ),
    (
        {"overrides": {"a->b": {"mean": {"threshold": 1e-3}, "difference": None}}},
        ns.Channels(overrides={"a->b": {"mean": ns.Channel(threshold=1e-3), "difference": None}}),
    ),
    (
        {"mean": {"effects": [{"kind": "quantize", "bits": 2, "range": [0, 1]}]}},
        ns.Channels(ns.Channel(effects=(ns.Quantize(2, (0.0, 1.0)),))),
    ),
]


def made(said: Any) -> ns.Channels:
    found: ns.Channels = build(model_of(ns.Channels).model_validate_json(json.dumps(said)))
    return found


@pytest.mark.parametrize(("said", "channels"), DOCUMENTS, ids=str)
def test_documents(said: Any, channels: ns.Channels) -> None:
    assert made(said) == channels
    assert made(described(channels)) == channels


def test_an_own_effect_in_a_document(burst: Any) -> None:
    said = {"mean": {"effects": [{"kind": "burst", "probability": 0.1}]}}
    assert made(said) == ns.Channels(ns.Channel(effects=(burst(0.1),)))
    assert made(described(made(said))) == made(said)


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({"mean": {"effects": [{"kind": "burst", "probability": 0.1}]}}, ("mean", "effects", 0)),
        ({"mean": {"loss": 1.5}}, ("mean", "loss")),
        ({"mean": {"refresh": 0}}, ("mean", "refresh")),
        ({"overrides": {"a": {"means": {}}}}, ("overrides", "a", "means")),
        ({"mean": {"noise": {"kind": "pink", "std": 1}}}, ("mean", "noise")),
    ],
    ids=str,
)
def test_documents_that_cannot_be(said: Any, place: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        made(said)
    assert all(error["loc"][: len(place)] == place for error in caught.value.errors())
