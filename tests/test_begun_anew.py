"""What goes on after a start that failed, a state that was loaded, or a part that was changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosim as ns

NETWORK = ns.Network.from_dict({"input": 5, "layers": [{"dense": 7}, {"dense": 6}, {"dense": 3}]})
X, Y = torch.rand(4, 5, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]]


def simulated(**options: Any) -> ns.Simulation:
    schedule = options.pop("schedule", ns.schedules.Poisson("neuron", duration=20.0))
    model = ns.Model(NETWORK, seed=2, dtype=torch.float64)
    return ns.Simulation(model, schedule=schedule, **options)


def states(simulation: ns.Simulation) -> list[Tensor]:
    return [cell.plus.value.clone() for cell in simulation.state.cells]


def test_a_start_that_fails_leaves_nothing_to_learn_from() -> None:
    simulation = simulated(init="feedforward")
    parameters = list(simulation.model.parameters())
    with torch.no_grad():
        before = parameters[0].clone()
        parameters[0].fill_(1e308)
    with pytest.raises(ns.DivergenceError):
        simulation.start(X, Y)
    optimizer = torch.optim.Adam(parameters, lr=0.1, weight_decay=0.1)
    for ask in (simulation.gradients, lambda: simulation.learn(optimizer), lambda: simulation.done):
        with pytest.raises(ns.StateError, match="call start first"):
            ask()
    with torch.no_grad():
        parameters[0].copy_(before)
    simulation.infer(X, Y)
    simulation.learn(optimizer)


def test_a_stream_whose_first_input_fails_may_be_given_another() -> None:
    simulation = simulated(init="feedforward")
    parameter = next(iter(simulation.model.parameters()))
    with torch.no_grad():
        before = parameter.clone()
        parameter.fill_(1e308)
    stream = simulation.stream()
    stream.push(X)
    with pytest.raises(ns.DivergenceError):
        stream.advance(3)
    with torch.no_grad():
        parameter.copy_(before)
    stream.push(X)
    assert stream.advance(3) == 3
    assert stream.read().isfinite().all()


def test_processes_are_made_anew_where_a_tick_was_broken_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation, whole = (simulated(processes="neuron") for _ in range(2))
    for one in (simulation, whole):
        one.start(X, Y)
        one.advance(5)
    saved = simulation.state_dict()

    def broken(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(simulation.engine._env), "step", broken)
        with pytest.raises(KeyboardInterrupt):
            simulation.advance(5)
    simulation.load_state_dict(saved)
    for one in (simulation, whole):
        one.advance()
    assert simulation.counts == whole.counts
    assert all(map(torch.equal, states(simulation), states(whole)))


def test_a_stream_ends_where_another_state_is_loaded() -> None:
    simulation = simulated()
    simulation.infer(X, Y)
    saved = simulation.state_dict()
    stream = simulation.stream()
    stream.push(X)
    stream.advance(3)
    simulation.load_state_dict(saved)
    with pytest.raises(ns.StateError):
        stream.advance(3)


def test_a_stream_that_cannot_be_loaded_does_not_go_on() -> None:
    stream = simulated().stream()
    stream.push(X)
    stream.advance(3)
    saved = stream.state()
    del next(iter(saved["state"]["cells"].values()))["plus"]
    with pytest.raises(ns.StateError):
        stream.load(saved)
    with pytest.raises(ns.StateError, match="push one first"):
        stream.advance(1)


def test_a_stream_has_no_end() -> None:
    simulation = simulated()
    stream = simulation.stream()
    stream.push(X)
    stream.advance(2)
    with pytest.raises(ns.StateError, match="no end"):
        simulation.advance()


def test_another_start_is_no_replay_of_the_one_before() -> None:
    schedule = ns.schedules.Sweep("backward")
    ours, other = (simulated(schedule=schedule, init="feedforward") for _ in range(2))
    for _ in range(4):
        ours.infer(X, Y)
    for one in (ours, other):
        one.init = "zero"
        one.infer(X, Y)
    assert all(map(torch.equal, states(ours), states(other)))


@pytest.mark.parametrize("kind", ["inference", "stream"])
def test_in_inference_mode(kind: str) -> None:
    simulation = simulated(rule=ns.DualPropagation(nudge="proximal"), loss="squared_error")
    stream, plain = simulation.stream(), simulated(rule=simulation.rule, loss="squared_error")
    if kind == "stream":
        with torch.inference_mode():
            stream.push(X)
            stream.target(Y)
        assert stream.advance(12) == 12
        return
    for one in (simulation, plain):
        one.start(X, Y)
        one.advance(3)
    with torch.inference_mode():
        simulation.load_state_dict(plain.state_dict())
    for one in (simulation, plain):
        one.advance()
    assert all(map(torch.equal, states(simulation), states(plain)))


def _dropped(gradients: dict[str, Tensor]) -> None:
    gradients.popitem()


def _flat(gradients: dict[str, Tensor]) -> None:
    name = next(iter(gradients))
    gradients[name] = gradients[name].flatten()


def _coarse(gradients: dict[str, Tensor]) -> None:
    name = next(iter(gradients))
    gradients[name] = gradients[name].float()


@pytest.mark.parametrize("spoil", [_dropped, _flat, _coarse])
def test_gradients_that_do_not_fit(spoil: Callable[[dict[str, Tensor]], None]) -> None:
    simulation = simulated()
    simulation.infer(X, Y)
    before = [p.clone() for p in simulation.model.parameters()]
    spoil(gradients := dict(simulation.gradients()))
    optimizer = torch.optim.SGD(simulation.model.parameters(), lr=0.1)
    with pytest.raises(ns.InputError, match=r"the gradient"):
        simulation.learn(optimizer, gradients)
    assert all(map(torch.equal, before, simulation.model.parameters()))


def test_what_is_frozen_stays_with_a_gradient_left_over() -> None:
    """The bias of the output was trained by torch before, and is in the optimizer."""
    simulation = simulated()
    *moved, frozen = simulation.model.parameters()
    simulation.model(X).sum().backward()
    optimizer = torch.optim.SGD(simulation.model.parameters(), lr=0.1)
    frozen.requires_grad_(False)
    before = [p.detach().clone() for p in (*moved, frozen)]
    simulation.infer(X, Y)
    simulation.learn(optimizer)
    after = [*moved, frozen]
    same = [torch.equal(old, new) for old, new in zip(before, after, strict=True)]
    assert same == [False] * len(moved) + [True]


def test_what_is_built_in_is_not_exchanged() -> None:
    """As it would be for copies alone."""
    simulation = simulated()
    for name, value in {"seed": 3, "channels": ns.Channels(), "loss": "cross_entropy"}.items():
        with pytest.raises(ns.ConfigurationError, match=f"the {name} of a simulation is built in"):
            setattr(simulation, name, value)
    with pytest.raises(ns.ConfigurationError, match="the schedule of a simulation is built in"):
        simulation.schedule = ns.schedules.Poisson("population")
    simulation.infer(X, Y)
    simulation.init, simulation.schedule = "carry", ns.schedules.Lazy(duration=50.0)
    assert simulation.infer(X, Y).counts.wakes > 0
