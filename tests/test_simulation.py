"""An inference: in one go or in steps, whose its tensors are, what carries over."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from small_simulations import DOUBLE, EVERY, NETWORK, SCHEDULES, X, Y, build, same

import neurosim as ns
from neurosim.schedules import (
    Lazy,
    Parallel,
    RandomOrder,
    Sweep,
)

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
