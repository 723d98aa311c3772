"""Checks of what happens to messages on their way, and of what is recorded of a simulation."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurosim.channels import Channel, Channels, Distribution, Draws, Effect, Moment, Parcel
from neurosim.conformance import simulations
from neurosim.conformance.checks import Named, require, same
from neurosim.conformance.maths import selections
from neurosim.conformance.simulations import TWICE, Build
from neurosim.conformance.worlds import CONVOLUTIONAL, FLAT, simulated
from neurosim.measures import Probe
from neurosim.network import Network
from neurosim.schedules import Lazy, Poisson
from neurosim.tensors import Selection

_SHAPE = (2, 6, 4)
_TICKING = Poisson(unit="neuron", rate=0.7, duration=8.0)
_DRAWS = "Draw by Parcel.uniform and Parcel.normal, which draw for the whole population"


def of_effect(effect: Effect) -> Named:
    """Yields the checks of an effect: on single messages, then in a simulation."""
    dtypes = [torch.float32, torch.float64, *([torch.complex128] if effect.for_complex else [])]
    for dtype in dtypes:
        name = f"the same for some dyads as among all, in {str(dtype).removeprefix('torch.')}"
        yield name, partial(_alike, effect, dtype)
    yield "zeros stay zeros, if it says so", partial(_zeros, effect)
    channel = Channel(threshold=0.01, refresh=2, delay=1.5, effects=(effect,))
    yield from _in_simulations(CONVOLUTIONAL, Channels(channel, channel))


def _in_simulations(network: Network, channels: Channels) -> Named:
    ticking = simulated(network, _TICKING, learn_every=3, channels=channels)
    listening = simulated(FLAT, Lazy(10.0, unit="channel"), init="carry", channels=channels)
    yield "the same bits twice", partial(simulations.twice, ticking)
    yield "both process modes", partial(simulations.both_modes, listening, 2)
    yield "leaving out what has not changed", partial(simulations.caching, ticking)
    yield "resumed at every tick", partial(simulations.every_tick, listening)


def _acted(effect: Effect, values: Tensor, selection: Selection | None = None) -> Parcel:
    """Lets an effect act on messages of all or some dyads; these keep their shape and dtype."""
    some = values.clone() if selection is None else selection.take(values)
    sent = torch.ones_like(some, dtype=torch.bool)
    parcel = Parcel(Moment(1, 5), values.shape, selection, some, sent)
    effect.act(parcel, Draws(0, "check"))
    kept = parcel.values.shape == parcel.sent.shape == sent.shape
    kept &= parcel.values.dtype == values.dtype and parcel.sent.dtype == torch.bool
    require(kept, "it changes the shape or dtype of values or sent", "Keep both as they are")
    return parcel


def _alike(effect: Effect, dtype: torch.dtype) -> None:
    values = torch.from_numpy(np.random.default_rng(0).standard_normal((3, *_SHAPE))).to(dtype)
    whole, again = _acted(effect, values), _acted(effect, values)
    same(again.values, whole.values, "the same message becomes another one", TWICE)
    for selection in selections(_SHAPE):
        part, what = (
            _acted(effect, values, selection),
            f"some {selection.whole or 'neurons'} get other values",
        )
        same(part.values, selection.take(whole.values), what, _DRAWS)
        same(part.sent, selection.take(whole.sent), f"{what} of sent", _DRAWS)


def _zeros(effect: Effect) -> None:
    moved = bool(_acted(effect, torch.zeros(3, *_SHAPE)).values.any())
    require(effect.moves_zero() or not moved, "0 becomes another value", "Leave moves_zero out")


def of_distribution(distribution: Distribution) -> Named:
    """Yields the checks of a distribution, first of its quantiles."""
    yield "quantiles rise from at least 0 to at most high", partial(_quantiles, distribution)
    jitter = distribution if distribution.per == "dyad" else None
    late, shaken = Channel(0.01, delay=distribution), Channel(0.01, jitter=jitter)
    yield from _in_simulations(FLAT, Channels(late, shaken))


def _quantiles(distribution: Distribution) -> None:
    times = distribution.quantile(np.linspace(0.0, 1.0, 1001)[:-1])
    rising = times.shape == (1000,) and bool((np.diff(times, prepend=0.0) >= 0.0).all())
    mend = "quantile maps shares to times, which `high` bounds"
    require(rising and times[-1] <= distribution.high, "they do not", mend)


def of_probe(probe: Probe) -> Named:
    """Yields the checks of a probe; training itself records those that are not per tick."""
    if probe.per == "tick":
        build = simulated(FLAT, _TICKING, probes=[probe], init="feedforward")
        yield "its records can be written", partial(_recorded, build, probe)
        yield "measuring changes nothing", partial(_unseen, build)
        yield "both process modes", partial(simulations.both_modes, build)
        yield "resumed at every tick", partial(simulations.every_tick, build)


def _recorded(build: Build, probe: Probe) -> None:
    records = build().infer(0).trace[probe.kind]
    require(bool(records), "it records nothing", "Return a record from measure")
    mend = "Record numbers, text, lists and mappings with text for keys"
    try:
        again = json.loads(json.dumps(records))
    except (TypeError, ValueError) as error:
        again = error
    same(again, records, f"a record is not what is read again ({again})"[:200], mend)


def _unseen(build: Build) -> None:
    seen, plain = build().infer(0), build(probes=[]).infer(0)
    for name in ("plus", "minus", "counts", "ticks"):
        found, expected = getattr(seen, name), getattr(plain, name)
        same(found, expected, f"with the probe, {name} is another", "Read the state, never write")


FAMILIES: Mapping[str, Callable[[Any], Named]] = {
    "distribution": of_distribution,
    "effect": of_effect,
    "probe": of_probe,
}
