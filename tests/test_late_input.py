"""A stream whose input comes late: what is computed with it, tick by tick."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import neurosim as ns
from neurosim.rules import DualPropagation
from neurosim.schedules import Parallel

TICKS = 20
LATE = [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (5, 4), (13, 12)]


def streaming(channel: ns.Channel) -> ns.Stream:
    layers = [{"name": "h", "dense": 4, "activation": "tanh"}, {"name": "output", "dense": 2}]
    network = ns.Network.from_dict({"input": 3, "layers": layers})
    rule = DualPropagation(nudge="potential")
    options: Any = {"init": "zero", "nudge_after": 0, "rule": rule, "seed": 4}
    model = ns.Model(network, seed=1, dtype=torch.float64)
    channels = ns.Channels(mean=channel, difference=ns.Channel())
    return ns.Simulation(model, schedule=Parallel(4), channels=channels, **options).stream()


def pushed(number: int) -> Tensor:
    return torch.full((1, 3), 1.0 + number, dtype=torch.float64)


def seen(stream: ns.Stream) -> float:
    """The input that h has computed with."""
    link = stream.simulation.state.links[0]
    assert link.weight is not None
    product = (link.basal.value - link.bias).T.detach()
    return float(torch.linalg.lstsq(link.weight.detach(), product).solution[0])


@pytest.mark.parametrize(("delay", "hold"), LATE)
def test_the_input_of_so_many_ticks_ago(delay: int, hold: int) -> None:
    stream, found, expected = streaming(ns.Channel(delay=float(delay))), [], []
    for tick in range(TICKS):
        if tick % hold == 0:
            stream.push(pushed(tick))
        stream.advance(1)
        found.append(seen(stream))
        late = max(0, tick - delay + 1)  # one tick of it is that of the wake itself
        expected.append(1.0 + late // hold * hold)
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("delay", "hold"), LATE)
def test_the_same_delay_drawn(delay: int, hold: int) -> None:
    """A jitter far below a tick takes another kind of line."""
    late = ns.Channel(delay=float(delay))
    shaken = ns.Channel(delay=float(delay), jitter=ns.Uniform(0.0, 1e-12))
    one, other = streaming(late), streaming(shaken)
    for tick in range(TICKS):
        for stream in (one, other):
            if tick % hold == 0:
                stream.push(pushed(tick))
            stream.advance(1)
        assert torch.equal(one.read(), other.read()), tick


def test_delays_of_dyads() -> None:
    """Those with the longest one have their input, too."""
    late = ns.Channel(delay=ns.Uniform(0.0, 3.0))
    shaken = ns.Channel(delay=ns.Uniform(0.0, 3.0), jitter=ns.Uniform(0.0, 1e-12))
    one, other = streaming(late), streaming(shaken)
    for tick in range(TICKS):
        for stream in (one, other):
            stream.push(pushed(tick))
            stream.advance(1)
        assert torch.equal(one.read(), other.read()), tick


def test_saved_before_it_is_pushed() -> None:
    """A stream that goes on from a saved state in every tick does what it would have done."""
    late = ns.Channel(delay=3.0)
    whole, part = streaming(late), streaming(late)
    for tick in range(TICKS):
        part = ns.Stream.from_state(streaming(late).simulation, part.state())
        for stream in (whole, part):
            stream.push(pushed(tick))
            stream.advance(1)
        assert torch.equal(whole.read(), part.read()), tick
