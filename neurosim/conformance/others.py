"""Checks of data sets, of what channels do to messages, and of probes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosim.channels import Channel, Channels, Distribution, Draws, Effect, Moment, Parcel
from neurosim.conformance import simulations
from neurosim.conformance.checks import Named, require, same
from neurosim.conformance.maths import selections
from neurosim.conformance.simulations import TWICE, Build
from neurosim.conformance.worlds import CONVOLUTIONAL, FLAT, simulated
from neurosim.data import Dataset, DataSource
from neurosim.measures import Probe
from neurosim.schedules import Poisson
from neurosim.tensors import Selection

_SHAPE = (2, 6, 4)
_SCHEDULE = Poisson(unit="neuron", rate=0.7, duration=8.0)
_DRAWS = "Draw by Parcel.uniform and Parcel.normal, which draw for the whole population"


def of_data(source: DataSource) -> Named:
    """Yields the checks of a data set; labels and shapes are checked as it is made."""
    yield "reads the same images twice", partial(_reads, source)


def _reads(source: DataSource) -> None:
    one, other = source.read(Path()), source.read(Path())
    require(isinstance(one, Dataset), f"read returns {one!r}", "Return a neurosim.data.Dataset")
    for name in ("train", "test"):
        found, again = getattr(one, name), getattr(other, name)
        read, then = ((split.take(slice(100)), split.labels) for split in (found, again))
        same(read, then, f"the {name} split differs", "Draw from a generator with a fixed seed")
        require(bool(read[0].isfinite().all()), "an image is not finite", "Repair it, or leave it")


def of_effect(effect: Effect) -> Named:
    """Yields the checks of an effect: on single messages, then in a simulation."""
    dtypes = [torch.float32, torch.float64, *([torch.complex128] if effect.for_complex else [])]
    for dtype in dtypes:
        name = f"the same for some dyads as among all, in {str(dtype).removeprefix('torch.')}"
        yield name, partial(_alike, effect, dtype)
    channel = Channel(threshold=0.01, refresh=2, delay=1.5, effects=(effect,))
    build = simulated(CONVOLUTIONAL, _SCHEDULE, learn_every=3, channels=Channels(channel, channel))
    yield "both process modes", partial(simulations.both_modes, build)
    yield "resumed at every tick", partial(simulations.every_tick, build)


def _alike(effect: Effect, dtype: torch.dtype) -> None:
    drawn = torch.from_numpy(np.random.default_rng(0).standard_normal((3, *_SHAPE))).to(dtype)

    def acted(selection: Selection | None, values: torch.Tensor = drawn) -> Parcel:
        some = values.clone() if selection is None else selection.take(values)
        sent = torch.ones_like(some, dtype=torch.bool)
        parcel = Parcel(Moment(1, 5), values.shape, selection, some, sent)
        effect.act(parcel, Draws(0, "check"))
        kept = parcel.values.shape == parcel.sent.shape == some.shape
        kept &= parcel.values.dtype == dtype and parcel.sent.dtype == torch.bool
        require(kept, "it changes the shape or dtype of values or sent", "Keep both as they are")
        return parcel

    whole, again = acted(None), acted(None)
    same(again.values, whole.values, "the same message becomes another one", TWICE)
    for selection in selections(_SHAPE):
        part, what = acted(selection), f"some {selection.whole or 'neurons'} get other values"
        same(part.values, selection.take(whole.values), what, _DRAWS)
        same(part.sent, selection.take(whole.sent), f"{what} of sent", _DRAWS)
    moved = bool(acted(None, torch.zeros_like(drawn)).values.any())
    require(effect.moves_zero() or not moved, "0 becomes another value", "Leave moves_zero out")


def of_distribution(distribution: Distribution) -> Named:
    """Yields the checks of a distribution, first of its quantiles."""
    yield "quantiles rise from at least 0 to at most high", partial(_quantiles, distribution)
    jitter = distribution if distribution.per == "dyad" else None
    channel = Channel(delay=distribution, jitter=jitter)
    build = simulated(FLAT, _SCHEDULE, channels=Channels(channel, channel))
    yield "resumed at every tick", partial(simulations.every_tick, build)


def _quantiles(distribution: Distribution) -> None:
    times = distribution.quantile(np.linspace(0.0, 1.0, 1001)[:-1])
    rising = times.shape == (1000,) and bool((np.diff(times, prepend=0.0) >= 0.0).all())
    mend = "quantile maps shares to times, which `high` bounds"
    require(rising and times[-1] <= distribution.high, "they do not", mend)


def of_probe(probe: Probe) -> Named:
    """Yields the checks of a probe; training itself records those that are not per tick."""
    if probe.per == "tick":
        build = simulated(FLAT, _SCHEDULE, probes=[probe], init="feedforward")
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
    "data": of_data,
    "distribution": of_distribution,
    "effect": of_effect,
    "probe": of_probe,
}
