"""Event-driven inferences come to rest without a threshold: when only rounding still goes round."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import neurosim as ns
from neurosim.base import NEVER
from neurosim.schedules import Clock, Start
from neurosim.tensors import Ints

FOR_EVER = 3000
NETWORKS: dict[str, Any] = {
    "dense": {"input": [64], "layers": [{"dense": 16}, {"dense": 10}]},
    "deep": {"input": [64], "layers": [{"dense": 32}, {"dense": 32}, {"dense": 32}, {"dense": 10}]},
    "tanh": {"input": [64], "activation": "tanh", "layers": [{"dense": 32}, {"dense": 10}]},
    "max": {"input": [1, 8, 8], "layers": [{"conv": 4, "pool": "max"}, {"conv": 3}, {"dense": 10}]},
    "soft": {"input": [1, 8, 8], "layers": [{"conv": 4, "pool": "softmax"}, {"dense": 10}]},
}
RULES = {
    "potential": ns.DualPropagation(nudge="potential"),
    "proximal": ns.DualPropagation(nudge="proximal"),
    "weak": ns.DualPropagation(nudge="potential", beta=1e-3),
    "damped": ns.DualPropagation(0.7, 0.5, "damped", "potential"),
}
LATE = ns.Channel(delay=3.0)


def problem(name: str, dtype: torch.dtype) -> tuple[ns.Model, torch.Tensor, torch.Tensor]:
    network, seeded = ns.Network.from_dict(NETWORKS[name]), torch.Generator().manual_seed(0)
    model = ns.Model(network, seed=0, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.7)  # so that it does not take long
    x = torch.rand(20, *network.input.shape, generator=seeded, dtype=dtype)
    return model, x, torch.eye(10, dtype=dtype).repeat(2, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NETWORKS)
def test_rests_where_all_at_once_do(name: str, rule: str, dtype: torch.dtype) -> None:
    if rule == "proximal" and name == "tanh":
        pytest.skip("the nudge 'proximal' is for activations that clip")
    model, x, target = problem(name, dtype)
    lazy = ns.Simulation(model, rule=RULES[rule], schedule=ns.schedules.Lazy(duration=FOR_EVER))
    outcome = lazy.infer(x, target)
    assert lazy.done
    assert outcome.ticks < 600
    other = ns.Simulation(model, rule=RULES[rule], schedule=ns.schedules.Parallel(1000))
    settled = other.infer(x, target)
    for population, expected in settled.plus.items():
        found, least = outcome.plus[population], torch.finfo(dtype).eps
        assert (found - expected).abs().max() <= 200 * least * expected.abs().max()


@pytest.mark.parametrize("processes", ["population", "neuron"])
@pytest.mark.parametrize("unit", ["neuron", "population"])
def test_a_change_on_its_way_is_waited_for(unit: Any, processes: Any) -> None:
    """Where the only change of a tick is rounding, and an earlier one has yet to arrive."""
    model, x, target = problem("dense", torch.float64)
    late = ns.Channels(LATE, ns.Channel(delay=40.0))
    schedule = ns.schedules.Lazy(FOR_EVER, unit)
    lazy = ns.Simulation(model, schedule=schedule, channels=late, processes=processes)
    outcome = lazy.infer(x, target)
    settled = ns.Simulation(model, schedule=ns.schedules.Parallel(2500), channels=late)
    assert 40 < outcome.ticks < FOR_EVER
    assert (outcome.plus["layer1"] - settled.infer(x, target).plus["layer1"]).abs().max() < 1e-13


def test_every_phase_rests() -> None:
    model, x, target = problem("tanh", torch.float64)
    rule = ns.EquilibriumPropagation(beta=0.5)
    lazy = ns.Simulation(model, rule=rule, schedule=ns.schedules.Lazy(FOR_EVER))
    assert lazy.infer(x, target).ticks < FOR_EVER  # of all three phases
    sweeps = ns.Simulation(model, rule=rule, schedule=ns.schedules.Parallel(FOR_EVER))
    sweeps.infer(x, target)
    for name, found in lazy.gradients().items():
        assert (found - sweeps.gradients()[name]).abs().max() < 1e-13, name


def test_a_stream_is_silent_until_something_comes() -> None:
    model, x, target = problem("dense", torch.float64)
    rule = ns.DualPropagation(nudge="potential")
    simulation = ns.Simulation(model, rule=rule, schedule=ns.schedules.Lazy(100.0), init="carry")
    stream = simulation.stream()
    for values in (x, x.flip(0)):
        stream.push(values)
        stream.target(target)
        stream.advance(300)
        counts = simulation.counts.wakes, simulation.counts.messages
        stream.advance(300)
        assert (simulation.counts.wakes, simulation.counts.messages) == counts


def test_news_of_another_target_or_weight_is_not_dropped() -> None:
    model, x, target = problem("dense", torch.float64)
    lazy = ns.Simulation(model, schedule=ns.schedules.Lazy(FOR_EVER), init="carry")
    lazy.infer(x, target)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    again = lazy.infer(x, target.roll(1, 0))
    fresh = ns.Simulation(model, schedule=ns.schedules.Parallel(1000)).infer(x, target.roll(1, 0))
    for population, expected in fresh.plus.items():
        assert (again.plus[population] - expected).abs().max() < 1e-13, population


class SlowToWake(Clock):
    """An event-driven clock of a user: what reaches a unit wakes it some ticks later."""

    later = 0
    listens = True  # type: ignore[assignment]

    def reschedule(self, tick: int, due: Ints) -> Ints:
        del tick
        return np.full(len(due), NEVER)

    def news(self, tick: int, units: Ints) -> None:
        self.next[units] = np.minimum(self.next[units], tick + self.later)


@dataclass(frozen=True)
class Slow(ns.Schedule):
    later: int = 0
    duration: int = FOR_EVER
    unit: Any = "neuron"
    tick: float = 1.0

    def start(self, at: Start) -> Clock:
        clock = SlowToWake(np.full(at.layout.total, at.tick + 1), at.tick + self.duration)
        clock.later = self.later
        return clock


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("later", [0, 3, 7])
def test_clocks_of_users_rest_and_lose_nothing(later: int, dtype: torch.dtype) -> None:
    """They need to know nothing of rounding, and what they have yet to wake for is not dropped."""
    model, x, target = problem("dense", dtype)
    slow = ns.Simulation(model, schedule=Slow(later), init="zero")
    outcome = slow.infer(x, target)
    assert slow.done
    assert outcome.ticks < FOR_EVER
    settled = ns.Simulation(model, schedule=ns.schedules.Parallel(1000)).infer(x, target)
    for population, expected in settled.plus.items():
        found, least = outcome.plus[population], torch.finfo(dtype).eps
        assert (found - expected).abs().max() <= 200 * least * expected.abs().max()
