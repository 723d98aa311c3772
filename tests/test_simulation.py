"""An inference: in one go or in steps, what carries over, when the target acts, when it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import neurosim as ns
from neurosim import metrics
from neurosim.schedules import (
    Lazy,
    Parallel,
    Periodic,
    Poisson,
    RandomOrder,
    Replay,
    Schedule,
    Sweep,
)

DOUBLE = {"dtype": torch.float64}
LAYERS = [{"name": "a", "dense": 6}, {"name": "b", "dense": 5}, {"name": "out", "dense": 2}]
NETWORK = ns.Network.from_dict({"input": 3, "activation": "tanh", "layers": LAYERS})
SCHEDULES: dict[str, Schedule] = {
    "sweep": Sweep("forward_backward", 2),
    "odd_even": Sweep("odd_even", 5),
    "parallel": Parallel(9),
    "populations": RandomOrder("population", updates=9),
    "neurons": RandomOrder("neuron", groups=4, passes=3),
    "poisson": Poisson("neuron", rate=0.5, duration=9.0),
    "periodic": Periodic("neuron", period=2.5, spread=0.2, jitter=0.5, duration=9.0),
    "lazy": Lazy(duration=12.0),
}
EVERY = pytest.mark.parametrize("name", SCHEDULES)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)


X, Y = random(4, 3, seed=1), random(4, 2, seed=2)


def build(schedule: Schedule, model: ns.Model | None = None, **options: Any) -> ns.Simulation:
    options = {"init": "zero", "nudge_after": 0} | options
    return ns.Simulation(model or ns.Model(NETWORK, **DOUBLE), schedule=schedule, **options)


def same(one: ns.Outcome, two: ns.Outcome) -> bool:
    return all(
        torch.equal(one.plus[name], two.plus[name])
        and torch.equal(one.minus[name], two.minus[name])
        for name in one.plus
    ) and torch.equal(one.prediction, two.prediction)


# ---- steps -------------------------------------------------------------------------------------


@EVERY
@settings(max_examples=20)
@given(steps=st.lists(st.integers(0, 5), max_size=6))
def test_steps_are_one_inference(name: str, steps: list[int]) -> None:
    whole = build(SCHEDULES[name])
    expected = whole.infer(X, Y)
    sim = build(SCHEDULES[name])
    sim.start(X, Y)
    left = expected.ticks
    for ticks in steps:
        assert sim.advance(ticks) == min(ticks, left)
        left = max(0, left - ticks)
        assert sim.tick == expected.ticks - left
    assert sim.advance() == left
    assert sim.done
    outcome = sim.finish()
    assert same(outcome, expected)
    assert (outcome.ticks, outcome.time) == (expected.ticks, expected.time)
    assert (outcome.counts, outcome.stopped) == (expected.counts, expected.stopped)
    gradients = whole.gradients()
    assert all(torch.equal(value, gradients[key]) for key, value in sim.gradients().items())


def test_an_inference_may_be_cut_short() -> None:
    sim = build(Parallel(9))
    sim.start(X, Y)
    sim.advance(4)
    outcome = sim.finish()
    assert outcome.ticks == 4
    assert same(outcome, build(Parallel(4)).infer(X, Y))


def test_time_and_counts() -> None:
    outcome = build(RandomOrder("neuron", groups=4, passes=3, tick=0.25)).infer(X, Y)
    assert (outcome.ticks, outcome.time) == (12, 3.0)
    assert outcome.wakes == outcome.unit_wakes == outcome.counts.wakes == 3 * 13
    assert outcome.messages == outcome.counts.mean_messages + outcome.counts.difference_messages
    blocks = build(RandomOrder("block", groups=3, passes=2)).infer(X, Y)
    assert (blocks.wakes, blocks.unit_wakes) == (2 * 13, 2 * 3)


def test_the_seed_is_the_schedules() -> None:
    schedule = SCHEDULES["neurons"]
    one, again, other = (build(schedule, seed=seed).infer(X, Y) for seed in (3, 3, 4))
    assert same(one, again)
    assert not same(one, other)
    sim = build(schedule, seed=3)
    first = sim.infer(X, Y)
    assert same(first, one)
    assert not same(sim.infer(X, Y), first)  # the stream goes on


def test_the_defaults() -> None:
    sim = ns.Simulation(ns.Model(NETWORK), schedule=Sweep())
    assert sim.rule == ns.DualPropagation(0.5, 1.0, "aro", "potential")
    assert (sim.init, sim.nudge_after, sim.learn_every) == ("feedforward", 0, None)
    assert (sim.processes, sim.loss.kind) == ("population", "squared_error")


def test_a_forward_sweep_without_target_predicts() -> None:
    model = ns.Model(NETWORK, **DOUBLE)
    expected = model(X).detach()
    for options in ({"init": "zero"}, {"init": "feedforward"}):
        outcome = build(Sweep("forward"), model, **options).infer(X)
        torch.testing.assert_close(outcome.prediction, expected, rtol=1e-14, atol=1e-14)
        assert torch.equal(outcome.plus["out"], outcome.minus["out"])


# ---- whose tensors -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64])
@pytest.mark.parametrize("name", ["parallel", "neurons", "lazy"])
def test_the_callers_tensors(name: str, dtype: torch.dtype) -> None:
    """They are neither written to, nor does it matter what becomes of them."""
    x, y = (3 * X).to(dtype), (3 * Y).to(dtype)
    before = x.clone(), y.clone()
    expected = build(SCHEDULES[name]).infer(x, y)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
    sim = build(SCHEDULES[name])
    sim.start(x, y)
    x.zero_()
    y.zero_()
    sim.advance()
    assert same(sim.finish(), expected)


@pytest.mark.parametrize("name", ["parallel", "neurons", "sweep"])
def test_an_outcome_is_a_copy(name: str) -> None:
    one, two = (build(SCHEDULES[name], init="carry") for _ in range(2))
    first = one.infer(X, Y)
    kept = {k: v.clone() for k, v in first.plus.items()}
    ticks = first.ticks, first.counts.wakes
    for states in (first.plus, first.minus, {"": first.prediction}, one.gradients()):
        for value in states.values():
            assert not value.requires_grad
            value.fill_(7.0)
    second = one.infer(-X, Y)
    two.infer(X, Y)
    assert same(second, two.infer(-X, Y))
    assert all(bool((value == 7.0).all()) for value in first.plus.values())
    assert (first.ticks, first.counts.wakes) == ticks
    assert all(not torch.equal(kept[k], v) for k, v in second.plus.items())


@EVERY
def test_an_outcome_stays_what_it_was(name: str) -> None:
    """Its states are copied when they are asked for, and nobody writes into them before."""
    one, two = (build(SCHEDULES[name], init="carry") for _ in range(2))
    first, expected = one.infer(X, Y), two.infer(X, Y)
    assert expected.plus.keys() == expected.minus.keys()  # asked for at once
    for x in (-X, 2 * X):
        one.infer(x, Y)
    assert same(first, expected)


def test_gradients_of_the_input_are_not_asked_for() -> None:
    x = X.clone().requires_grad_()
    outcome = build(Parallel(4)).infer(x, Y)
    assert not outcome.plus["out"].requires_grad
    assert x.grad is None


# ---- carry -------------------------------------------------------------------------------------


def test_carrying_continues() -> None:
    """The same input again is one longer inference, of which the second half is the second."""
    for name in ("parallel", "odd_even"):
        sim = build(SCHEDULES[name], init="carry")
        first, second = sim.infer(X, Y), sim.infer(X, Y)
        assert second.ticks == first.ticks
        assert second.time == 2 * first.time == sim.time
        schedule = Parallel(18) if name == "parallel" else Sweep("odd_even", 10)
        assert same(second, build(schedule).infer(X, Y))


def test_a_carried_start_is_from_zero() -> None:
    assert same(build(Parallel(5), init="carry").infer(X, Y), build(Parallel(5)).infer(X, Y))


def test_a_new_input_and_target_arrive() -> None:
    """Carried states forget: a contraction reaches the fixed point of what it now sees."""
    model = ns.Model(NETWORK, **DOUBLE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3)
    expected = build(Parallel(150), model).infer(-X, 2 * Y)
    for schedule in (Parallel(150), Lazy(duration=400.0, unit="population")):
        sim = build(schedule, model, init="carry")
        sim.infer(X, Y)
        found = sim.infer(-X, 2 * Y)
        for name, value in expected.plus.items():
            torch.testing.assert_close(found.plus[name], value, rtol=1e-12, atol=1e-13)


def test_the_batch_is_fixed_where_states_are_carried() -> None:
    sim = build(Parallel(3), init="carry")
    sim.infer(X, Y)
    with pytest.raises(ns.InputError, match="batch has 3 samples, but the carried states have 4"):
        sim.infer(X[:3], Y[:3])
    sim.infer(X, Y)
    fresh = build(Parallel(3))
    assert [len(fresh.infer(X[:n], Y[:n]).plus["a"]) for n in (4, 1, 3)] == [4, 1, 3]


# ---- when the target acts ----------------------------------------------------------------------


def first_difference(sim: ns.Simulation, ticks: int) -> int | None:
    """The tick at which the output first has a difference."""
    sim.start(X, Y)
    for tick in range(1, ticks + 1):
        sim.advance(1)
        if sim.state.output.difference.tensor is not None:
            return tick
    return None


@pytest.mark.parametrize(
    "schedule", [Parallel(9), Lazy(20.0), Poisson("neuron", 9.0, duration=9.0)]
)
@pytest.mark.parametrize(("after", "tick"), [(0, 1), (1, 1), (2, 2), (3, 3), (7, 7)])
def test_nudge_after_counts_ticks_from_one(schedule: Schedule, after: int, tick: int) -> None:
    """The target acts at tick ``nudge_after`` and later."""
    for init in ("zero", "feedforward"):
        assert first_difference(build(schedule, nudge_after=after, init=init), 9) == tick


def test_parallel_waits_for_the_prediction() -> None:
    sim = ns.Simulation(ns.Model(NETWORK, **DOUBLE), schedule=Parallel(9), init="zero")
    assert sim.nudge_after == 3
    assert first_difference(sim, 9) == 3
    expected = sim.model(X).detach()
    torch.testing.assert_close(metrics.output_potential(sim.state.output), expected)
    skip = {
        "populations": {
            "input": {"shape": 2, "role": "input"},
            "h": {"shape": 2},
            "out": {"shape": 2, "role": "output"},
        },
        "projections": [
            {"from": a, "to": b} for a, b in [("input", "out"), ("input", "h"), ("h", "out")]
        ],
    }
    model = ns.Model(ns.Network.from_dict(skip))
    assert ns.Simulation(model, schedule=Parallel(9)).nudge_after == 2
    assert ns.Simulation(model, schedule=Sweep()).nudge_after == 0


def test_without_a_target_nothing_is_nudged() -> None:
    for schedule in SCHEDULES.values():
        outcome = build(schedule).infer(X)
        assert outcome.counts.difference_messages == 0
        assert all(torch.equal(outcome.plus[k], outcome.minus[k]) for k in outcome.plus)


# ---- learning ----------------------------------------------------------------------------------


def optimizer(model: ns.Model) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


@pytest.mark.parametrize("total", [9, 10])
@pytest.mark.parametrize("kind", ["parallel", "odd_even", "populations", "neurons", "poisson"])
def test_learn_every_is_learning_by_hand(kind: str, total: int) -> None:
    """After every third tick; after the last as well if it is one of these."""
    schedule = {
        "parallel": Parallel(total),
        "odd_even": Sweep("odd_even", 5),
        "populations": RandomOrder("population", updates=total),
        "neurons": RandomOrder("neuron", groups=total, passes=1),
        "poisson": Poisson("neuron", 0.5, duration=float(total)),
    }[kind]
    auto = build(schedule, learn_every=3)
    expected = auto.infer(X, Y, optimizer=optimizer(auto.model))
    sim = build(schedule)
    hand = optimizer(sim.model)
    sim.start(X, Y)
    updates = 0
    while sim.advance(3) == 3:
        sim.learn(hand)
        updates += 1
    assert updates == 3
    assert same(sim.finish(), expected)
    for one, two in zip(auto.model.parameters(), sim.model.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("processes", ["population", "neuron"])
def test_lazy_units_wake_for_new_weights(processes: str) -> None:
    """Everything wakes after an update, though nothing else was going on."""
    sim = build(Lazy(duration=40.0), learn_every=15, processes=processes, probes=["wakes"])
    sim.infer(X, Y, optimizer=optimizer(sim.model))
    ticks: dict[str, set[int]] = {"a": set(), "b": set(), "out": set()}
    for time, name, indices in sim.trace.wakes:
        if indices is None or len(indices) == NETWORK[name].size:
            ticks[name].add(int(time))
    for update in (15, 30):
        assert all(own & {update + 1, update + 2} for own in ticks.values())
    again = build(Replay(tuple(sim.trace.wakes)), learn_every=15)
    again.infer(X, Y, optimizer=optimizer(again.model))
    for one, two in zip(sim.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)


@EVERY
def test_no_learning_unless_asked(name: str) -> None:
    for learn_every, given_one in ((3, False), (None, True)):
        sim = build(SCHEDULES[name], learn_every=learn_every)
        before = [p.clone() for p in sim.model.parameters()]
        sim.infer(X, Y, optimizer=optimizer(sim.model) if given_one else None)
        assert all(torch.equal(a, b) for a, b in zip(before, sim.model.parameters(), strict=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, 0.1),
        lambda p: torch.optim.SGD(p, 0.1, foreach=True),
        lambda p: torch.optim.SGD(p, 0.1, fused=True),
        lambda p: torch.optim.Adam(p, 0.1),
        lambda p: torch.optim.AdamW(p, 0.1, fused=True),
    ],
)
def test_the_next_wake_sees_the_new_weights(make: Any) -> None:
    """However the optimizer writes them."""
    sim = build(Parallel(9), init="feedforward")
    sim.start(X, Y)
    sim.advance(1)
    seen = sim.state.by_name["b"].plus.value  # the difference has not reached it
    sim.learn(make(sim.model.parameters()))
    sim.advance(1)
    w = sim.model.state_dict()
    expected = seen @ w["out.weight"].T + w["out.bias"]
    found = metrics.output_potential(sim.state.output)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


# ---- stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "every", "ticks"), [(0, 1, 3), (0, 2, 4), (0, 5, 5), (4, 1, 6), (4, 4, 8)]
)
def test_no_stop_before_the_nudge_has_reached_everything(
    after: int, every: int, ticks: int
) -> None:
    """However large the tolerance: from the output to the first layer takes three ticks."""
    stop = ns.Stop(1e9, every)
    sim = build(Parallel(50), init="feedforward", nudge_after=after, stop=stop)
    outcome = sim.infer(X, Y)
    assert (outcome.ticks, outcome.stopped) == (ticks, True)
    assert all(metrics.reach(sim.state).values())
    without = build(Parallel(50), init="feedforward", nudge_after=after, stop=stop).infer(X)
    assert without.ticks == every  # there is nothing to wait for


def test_a_stop_at_a_tolerance() -> None:
    model = ns.Model(NETWORK, **DOUBLE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.4)
    sim = build(Parallel(500), model, stop=ns.Stop(1e-8))
    outcome = sim.infer(X, Y)
    assert outcome.stopped
    assert 3 < outcome.ticks < 500
    other = build(Parallel(500), model)
    other.start(X, Y)
    residuals = []
    for _ in range(outcome.ticks):
        other.advance(1)
        value = metrics.residual(other.state, other.rule, other.nudge)
        residuals.append(max(value.mean[""], value.difference[""]))
    assert residuals[-1] <= 1e-8 < min(residuals[:-1])
    assert same(other.finish(), outcome)
    never = build(Parallel(9), stop=ns.Stop(1e-30)).infer(X, Y)
    assert (never.ticks, never.stopped) == (9, False)


def test_a_weight_that_nobody_told_of_is_noticed_before_saving_and_advancing() -> None:
    """With carried states, where potentials are kept from one inference to the next."""

    def change(model: ns.Model) -> None:
        with torch.no_grad():
            next(iter(model.parameters())).mul_(1.5)

    whole, saved = (build(Parallel(9), init="carry") for _ in range(2))
    for sim in (whole, saved):
        sim.infer(X, Y)
        change(sim.model)
    other = ns.Model(NETWORK, **DOUBLE)
    other.load_state_dict(saved.model.state_dict())
    resumed = build(Parallel(9), other, init="carry")
    resumed.load_state_dict(saved.state_dict())
    assert same(whole.infer(X, Y), resumed.infer(X, Y))
    # In the middle of an inference it is as if `learn` had done it.
    for sim in (whole, resumed):
        sim.start(X, Y)
        sim.advance(3)
        change(sim.model)
        if sim is whole:
            sim.inference.check_weights()
        sim.advance()
    assert same(whole.finish(), resumed.finish())
