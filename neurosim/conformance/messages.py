"""Checks of what happens to messages on their way, and of what is recorded of a simulation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from neurosim.base import ConfigurationError, finite
from neurosim.channels import Channel, Channels, Distribution, Draws, Effect, Moment, Parcel
from neurosim.conformance import simulations
from neurosim.conformance.checks import require, same
from neurosim.conformance.running import Named
from neurosim.conformance.simulations import states
from neurosim.conformance.worlds import FLAT, simulated
from neurosim.measures import Probe
from neurosim.schedules import Lazy, Poisson, Unit

_TICKING = Poisson(unit=Unit("block", 4), rate=0.7, duration=8.0)
_LISTENING = Lazy(unit="channel", duration=10.0)


def of_effect(effect: Effect) -> Named:
    """Yields the checks of a channel effect: by itself, and in both kinds of messages."""
    yield "zeros stay zeros, if it says so", partial(_zeros, effect)
    if effect.for_complex:
        yield "complex messages", partial(_acts, effect, torch.complex128)
    channel = Channel(threshold=0.01, delay=1.5, refresh=3, effects=(effect,))
    yield from _in_simulations(Channels(channel, channel))


def of_distribution(distribution: Distribution) -> Named:
    """Yields the checks of a distribution: of its quantiles, and as delays and jitter."""
    yield "quantiles", partial(_quantiles, distribution)
    jitter = distribution if distribution.per == "dyad" else None
    late, shaken = Channel(threshold=0.01, delay=distribution), Channel(0.01, jitter=jitter)
    yield from _in_simulations(Channels(late, shaken))


def of_probe(probe: Probe) -> Named:
    """Yields the checks of a probe, of those that record within an inference."""
    if probe.per == "tick":
        build = simulated(FLAT, _TICKING, probes=[probe], init="feedforward")
        yield "records the same twice", partial(simulations.twice, build)
        yield "records what JSON can hold, and changes nothing", partial(_looks_only, probe)


def _in_simulations(channels: Channels) -> Named:
    ticking = simulated(FLAT, _TICKING, channels=channels)
    listening = simulated(FLAT, _LISTENING, init="carry", channels=channels)
    yield "the same bits twice", partial(simulations.twice, ticking)
    yield "both process modes", partial(simulations.both_modes, listening, 2)
    yield "leaving out what has not changed", partial(simulations.caching, ticking)
    yield "resumed at every tick", partial(simulations.every_tick, listening)


def _acts(effect: Effect, dtype: torch.dtype, scale: float = 1.0) -> Parcel:
    """Lets an effect act on random messages and checks that they keep their shape and dtype."""
    values = scale * torch.randn(4, 5, dtype=dtype, generator=torch.Generator().manual_seed(0))
    parcel = Parcel(Moment(1, 1), (4, 5), None, values.clone(), torch.ones(4, 5, dtype=torch.bool))
    acting = next(a for a in Channel(effects=(effect,)).acting if a.effect is effect)
    try:
        acting.act(parcel, Draws(0, "conformance"))
    except ConfigurationError as error:
        require(False, str(error), "See Effect.act")
    return parcel


def _zeros(effect: Effect) -> None:
    for seed in range(3):
        values = _acts(effect, (torch.float64, torch.float32)[seed % 2], 0.0).values
        moved = bool(values.any())
        mend = "Let moves_zero return True"
        require(effect.moves_zero() or not moved, "it makes another value of a 0", mend)


def _quantiles(distribution: Distribution) -> None:
    times = distribution.quantile(np.linspace(0.0, 1.0, 101)[:-1].reshape(10, 10))
    mend = "quantile returns times from 0 to `high`, in the shape and order of the shares"
    require(times.shape == (10, 10), f"quantile returns an array of shape {times.shape}", mend)
    inside = bool((times >= 0).all() and (times <= distribution.high).all())
    require(inside, f"a time is below 0 or above high, {distribution.high:g}", mend)
    require(bool((np.diff(times.ravel()) >= 0).all()), "a larger share has a smaller time", mend)


def _looks_only(probe: Probe) -> None:
    build = partial(simulated, FLAT, _TICKING, init="feedforward")
    watched, alone = build(probes=[probe])(), build(probes=[])()
    trace, _ = watched.infer(0).trace, alone.infer(0)
    mend = "A probe may only read what it is given"
    same(states(watched.simulation), states(alone.simulation), "a probe changes states", mend)
    records: Any = finite(trace.state_dict())
    try:
        told = json.loads(json.dumps(records))
    except (TypeError, ValueError) as error:
        require(False, f"records cannot be written: {error}", "Return numbers, text and lists")
    same(told, records, "records are read as others", "Keys are text, and lists no tuples")


FAMILIES: Mapping[str, Callable[[Any], Named]] = {
    "effect": of_effect,
    "distribution": of_distribution,
    "probe": of_probe,
}
