"""Episodes: the same stream for networks that take one sample after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_simulations import DOUBLE, NETWORK, SCHEDULES, build, random
from torch import Tensor

import neurosim as ns
from neurosim.data import Target, samples_of
from neurosim.schedules import Parallel, Sweep
from neurosim.simulation import Episodes

PAIRS = [(random(4, 3, seed=n), torch.arange(4).sub(n).remainder(2)) for n in range(12)]
EP = ns.EquilibriumPropagation(variant="centered", beta=0.3, free=2)


def episodes(
    hold: float, schedule: Any = None, pairs: Any = PAIRS, **options: Any
) -> tuple[Episodes, ns.Simulation]:
    model = ns.Model(NETWORK, **DOUBLE)
    simulation = build(schedule or Parallel(9), model, **options)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    source, target = samples_of(pairs), Target(window=(0.75, 1.0))
    return Episodes(simulation, source, optimizer, hold=hold, target=target), simulation


def answers(stream: Episodes, tick: int) -> list[Tensor]:
    return [answer.prediction.clone() for answer in stream.follow(tick)]


@pytest.mark.parametrize("init", ["zero", "carry"])
@pytest.mark.parametrize("rule", [ns.DualPropagation(), EP, ns.BackPropagation()], ids=str)
def test_a_hold_as_long_as_an_inference_is_the_episodic_training(rule: Any, init: Any) -> None:
    how: dict[str, Any] = {"rule": rule, "init": init, "nudge_after": None}
    schedule = Sweep("forward_backward", 3)
    by_hand = build(schedule, ns.Model(NETWORK, **DOUBLE), **how)
    optimizer = torch.optim.SGD(by_hand.model.parameters(), 0.1)
    hold, expected, counts, updates = by_hand.ticks, [], 0, 0
    for x, y in PAIRS[:5]:
        expected.append(by_hand.infer(x, y).prediction)
        by_hand.learn(optimizer)
        counts += by_hand.counts.wakes
        updates += by_hand.inference.synapses.updates
    stream, simulation = episodes(hold, schedule, **how)
    found = answers(stream, 5 * hold)
    assert all(map(torch.equal, found, expected))
    known = by_hand.model.state_dict()
    assert all(torch.equal(known[k], v) for k, v in simulation.model.state_dict().items())
    assert (stream.tick, stream.counts.wakes, stream.updates) == (5 * hold, counts, updates)


def test_what_comes_while_it_is_busy_is_missed() -> None:
    """Inferences of 9 ticks, holds of 4: they begin at 0, 9, 18, 27 with what is shown then."""
    stream, simulation = episodes(4.0)
    by_hand = build(Parallel(9), ns.Model(NETWORK, **DOUBLE))
    optimizer = torch.optim.SGD(by_hand.model.parameters(), 0.1)
    found, known = answers(stream, 36), {}
    for number in (0, 2, 4, 6):
        known[number] = by_hand.infer(*PAIRS[number]).prediction
        by_hand.learn(optimizer)
    assert simulation.inferences == 4
    last = [0, 0, 2, 2, 4, 4, 4, 6, 6]  # read at 3, 7, 11, …, 27, where 6 is about to begin
    assert all(torch.equal(one, known[n]) for one, n in zip(found, last, strict=True))


def test_a_prediction_is_known_when_its_target_begins_to_act() -> None:
    """A free phase of 2 · 9 ticks is over at 18: until then the answer is the one before."""
    stream, _ = episodes(16.0, rule=EP, nudge_after=None)
    found = answers(stream, 60)
    assert not found[0].any()  # there was none
    assert found[1].any()
    assert torch.equal(found[1], found[2])  # of sample 0, as the next one is taken at 36


@pytest.mark.parametrize("ticks", [1, 7, 9, 13, 20])
@pytest.mark.parametrize("name", ["sweep", "populations", "lazy"])
def test_episodes_go_on_from_any_tick(name: str, ticks: int) -> None:
    how: Any = {"hold": 8.0, "schedule": SCHEDULES[name]}
    whole, first = episodes(**how)[0], episodes(**how)[0]
    expected = answers(whole, 64)
    found = answers(first, ticks)
    state = first.state()
    second, simulation = episodes(**how)
    simulation.model.load_state_dict(first.simulation.model.state_dict())
    second.load(state)
    found += answers(second, 64)
    assert len(found) == len(expected) == 8
    assert all(map(torch.equal, found, expected))
    assert second.counts == whole.counts
    assert second.updates == whole.updates > 0


def test_a_label_changes_no_answer_up_to_its_own() -> None:
    for changed in range(5):
        pairs = [(x, 1 - y if n == changed else y) for n, (x, y) in enumerate(PAIRS)]
        one, other = answers(episodes(9.0)[0], 60), answers(episodes(9.0, pairs=pairs)[0], 60)
        same = [torch.equal(a, b) for a, b in zip(one, other, strict=True)]
        assert same == [n <= changed for n in range(len(same))]


def test_what_episodes_have_not() -> None:
    stream, simulation = episodes(4.0)
    with pytest.raises(ns.StateError, match="take their samples from a source"):
        stream.push(PAIRS[0][0])
    with pytest.raises(ns.ConfigurationError, match="leave the delay out"):
        Episodes(simulation, hold=4.0, target=Target(delay=4.0))
