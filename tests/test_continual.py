"""Plasticity in time: thresholds, targets that come and go, traces, bounded steps, counted."""

from __future__ import annotations

from math import exp
from typing import Any

import pytest
import torch
from small_simulations import DOUBLE, NETWORK, SCHEDULES, X, Y, build, random
from torch import Tensor

import neurosim as ns
from neurosim.dynamics import Plasticity
from neurosim.schedules import Parallel
from neurosim.simulation import Stream


def continual(schedule: Any = None, lr: float = 0.1, **options: Any) -> tuple[ns.Simulation, Any]:
    options = {"every": 2} | options
    channels = options.pop("channels", None)
    simulation = build(
        schedule or Parallel(9),
        ns.Model(NETWORK, **DOUBLE),
        plasticity=Plasticity.of("continual", **options),
        channels=channels,
    )
    return simulation, torch.optim.SGD(simulation.model.parameters(), lr)


def weights(simulation: ns.Simulation) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in simulation.model.state_dict().items()}


@pytest.mark.parametrize("name", ["parallel", "poisson"])
def test_without_options_it_is_contrastive_hebbian(name: str) -> None:
    one, optimizer = continual(SCHEDULES[name])
    one.infer(X, Y, optimizer=optimizer)
    two = build(SCHEDULES[name], ns.Model(NETWORK, **DOUBLE), learn_every=2)
    two.infer(X, Y, optimizer=torch.optim.SGD(two.model.parameters(), 0.1))
    assert all(torch.equal(two.model.state_dict()[k], v) for k, v in weights(one).items())
    assert 0 < one.inference.synapses.updates <= two.inference.synapses.updates
    assert two.inference.synapses.updates == 4 * 71  # of all parameters


def test_a_synapse_learns_where_the_difference_is_above_the_threshold() -> None:
    simulation, optimizer = continual(threshold=0.05)
    plain, _ = continual()
    for each in (simulation, plain):
        each.start(X, Y)
        each.advance(7)
    found, updates = simulation.gradients(), 0
    for cell, (link,) in ((cell, cell.incoming) for cell in plain.state.cells):
        difference = cell.difference.value
        kept = torch.where(difference.abs() > 0.05, difference, 0)
        assert 0 < int((kept != 0).sum()) < kept.numel() or cell.name == "out"
        expected = -kept.T @ link.means[0].value.value / len(X)
        torch.testing.assert_close(found[f"{cell.name}.weight"], expected, rtol=1e-12, atol=1e-15)
        updates += int((expected != 0).sum()) + int((kept.sum(0) != 0).sum())
    simulation.learn(optimizer)
    assert simulation.inference.synapses.updates == updates


def test_a_large_threshold_learns_nothing() -> None:
    simulation, optimizer = continual(threshold=1e3)
    before = weights(simulation)
    simulation.infer(X, Y, optimizer=optimizer)
    assert all(torch.equal(before[key], value) for key, value in weights(simulation).items())
    assert simulation.inference.synapses.updates == 0


def test_only_with_a_target() -> None:
    """Momentum moves weights at every update: what is left out moves nothing."""
    for only, moves in ((True, False), (False, True)):
        simulation, _ = continual(only_with_target=only)
        optimizer = torch.optim.SGD(simulation.model.parameters(), 0.1, momentum=0.9)
        stream = simulation.stream(None, optimizer)
        stream.push(X)
        stream.target(Y)
        stream.advance(8)
        stream.target(None)
        stream.advance(1)
        before = weights(simulation)
        stream.advance(20)
        after = weights(simulation)
        assert any(not torch.equal(before[key], after[key]) for key in after) == moves


def test_a_trace_is_the_mean_that_fades() -> None:
    """Of the input: e' = (x − e) / τ in closed form, over holds of 3, 5 and 4 ticks."""
    simulation, _ = continual(trace=2.5)
    stream = simulation.stream()
    expected = torch.zeros_like(X)
    for number, ticks in enumerate((3, 5, 4)):
        x = random(4, 3, seed=number)
        stream.push(x)
        stream.advance(ticks)
        expected = x + (expected - x) * exp(-ticks / 2.5)
    stream.target(Y)
    stream.advance(2)
    expected = x + (expected - x) * exp(-2 / 2.5)
    found = simulation.gradients()["a.weight"]
    cell = simulation.state.cells[0]
    difference = cell.difference.tensor
    if difference is None:  # the target has not come down yet
        stream.advance(3)
        expected = x + (expected - x) * exp(-3 / 2.5)
        found, difference = simulation.gradients()["a.weight"], cell.difference.value
    torch.testing.assert_close(found, -difference.T @ expected / 4, rtol=1e-12, atol=1e-15)


def test_a_trace_goes_on_from_a_state() -> None:
    late = ns.Channels(mean=ns.Channel(delay=2.0))
    simulation, optimizer = continual(trace=3.0, threshold=1e-3, channels=late)
    stream = simulation.stream(None, optimizer)
    stream.push(X)
    stream.target(Y)
    stream.advance(7)
    state, before = stream.state(), weights(simulation)
    stream.advance(9)
    other, its_own = continual(trace=3.0, threshold=1e-3, channels=late)
    other.model.load_state_dict(before)
    again = Stream.from_state(other, state, None, its_own)
    again.advance(9)
    assert all(
        torch.equal(value, weights(other)[key]) for key, value in weights(simulation).items()
    )
    assert other.inference.synapses.updates == simulation.inference.synapses.updates > 0


def test_steps_are_bounded() -> None:
    simulation, optimizer = continual(lr=10.0, clip=ns.Clip(step=1e-3), every=9)
    before = weights(simulation)
    simulation.infer(X, Y, optimizer=optimizer)
    moved = [(after - before[key]).abs() for key, after in weights(simulation).items()]
    assert max(float(m.max()) for m in moved) == pytest.approx(1e-3)
    assert min(float(m.max()) for m in moved) > 0


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "phases": ({"rule": ns.EquilibriumPropagation(), "nudge_after": None}, "of its phases"),
    "activation": ({"plasticity": {"presynaptic": "activation"}}, "presynaptic is 'activation'"),
    "synapses": (
        {"channels": ns.Channels(mean=ns.Channel(delay=ns.Uniform(0.0, 2.0, per="synapse")))},
        "reach each synapse at another time",
    ),
}


@pytest.mark.parametrize(("options", "said"), REFUSED.values(), ids=REFUSED)
def test_where_a_trace_is_not_defined(options: dict[str, Any], said: str) -> None:
    more = options.pop("plasticity", {})
    with pytest.raises(ns.ConfigurationError, match=said):
        build(Parallel(9), plasticity=Plasticity.of("continual", trace=1.0, **more), **options)


@pytest.mark.parametrize("delay", [0.0, 7.0])
def test_who_looks_at_traces_changes_none(delay: float) -> None:
    """To the bit, where little happens: a record, or gradients that are asked for, in between."""
    channels = ns.Channels(mean=ns.Channel(delay=delay))
    x, y = torch.rand(4, 5, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]]
    network = ns.Network.from_dict({"input": 5, "layers": [{"dense": 7}, {"dense": 3}]})

    def learned(*probes: ns.Probe, looks: bool = False) -> list[torch.Tensor]:
        simulation = ns.Simulation(
            ns.Model(network, seed=2, dtype=torch.float64),
            schedule=ns.schedules.Poisson("neuron", rate=0.02, duration=200.0),
            plasticity=ns.Plasticity.of("continual", trace=3.0, every=17),
            channels=channels,
            probes=probes,
        )
        optimizer = torch.optim.SGD(simulation.model.parameters(), lr=0.1)
        simulation.start(x, y, optimizer=optimizer)
        while not simulation.done:
            simulation.advance(1)
            if looks:
                simulation.gradients()
        simulation.finish()
        return [parameter.detach() for parameter in simulation.model.parameters()]

    alone = learned()
    assert not torch.equal(
        alone[0], ns.Model(network, seed=2, dtype=torch.float64).state_dict()["layer1.weight"]
    )
    assert all(map(torch.equal, alone, learned(ns.Probe("gradient_angle", every=1))))
    assert all(map(torch.equal, alone, learned(looks=True)))


@pytest.mark.parametrize("ticks", [4, 7, 16])
def test_an_update_within_a_tick_sees_the_trace_of_the_tick_before(ticks: int) -> None:
    """As between two ticks: what comes after the n-th tick is not known to its update."""
    network = ns.Network.from_dict(
        {"input": 3, "layers": [{"name": "h", "dense": 4}, {"dense": 2}]}
    )
    model = ns.Model(network, seed=0, dtype=torch.float64)
    simulation = ns.Simulation(
        model,
        schedule=ns.schedules.Parallel(ticks),
        init="zero",
        nudge_after=0,
        plasticity=ns.Plasticity.of("continual", trace=4.0, every=4),
    )
    seen: list[torch.Tensor] = []
    simulation.before_step = lambda gradients: seen.append(gradients["h.weight"].clone()) is None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    x = torch.tensor([[0.5, -1.0, 0.7]], dtype=torch.float64)
    simulation.start(x, torch.tensor([[1.0, -1.0]], dtype=torch.float64), optimizer=optimizer)
    simulation.advance(4)
    expected = simulation.gradients()["h.weight"]
    simulation.advance()
    simulation.finish()
    assert torch.equal(seen[0], expected)
