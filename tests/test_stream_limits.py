"""A stream held against what it must come to: `converge`, plain torch, the twin, causality."""

from __future__ import annotations

from math import log2
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from settling_models import chain
from small_simulations import DOUBLE, EVERY, SCHEDULES, build, random
from test_stream import CHANNELS, streaming

import neurosim as ns
from neurosim import metrics
from neurosim.data import Source, Split, Target
from neurosim.learning import StreamPlan, StreamTrainer
from neurosim.schedules import Parallel

X, Y = random(4, 5, seed=50), random(4, 3, seed=51)


@EVERY
def test_frozen_weights_give_the_trajectory_of_converge(name: str) -> None:
    """What a convergence study records at each tick, to the bit."""

    def simulation() -> ns.Simulation:
        rule = ns.DualPropagation(alpha=0.5, beta=0.3, nudge="proximal")
        return build(SCHEDULES[name], chain("tanh", 0.6), rule=rule, seed=5)

    known = ns.measure_convergence(simulation(), X, Y).records
    assert len(known) > 9
    streamed = simulation()
    stream = streamed.stream()
    stream.push(X)
    stream.target(Y)
    for record in known[1:]:
        stream.advance(1)
        residual = metrics.residual(streamed.state, streamed.rule, streamed.nudge)
        assert record["residual_mean"] == residual.mean[""]
        assert record["residual_difference"] == residual.difference[""]
        assert (record["tick"], record["wakes"]) == (stream.tick, stream.counts.wakes)
        assert record["messages"] == stream.counts.messages
        assert record["synaptic_operations"] == stream.counts.synaptic_operations
        assert record["objective"] == streamed.objective()


def trained(
    rule: Any, activation: str = "tanh", lr: float = 0.01, **options: Any
) -> tuple[StreamTrainer, Split]:
    """Two streams of sixty samples, each held for nine ticks."""
    layers = [{"name": "a", "dense": 6}, {"name": "out", "dense": 3, "activation": "identity"}]
    spec = {"input": 4, "activation": activation, "layers": layers}
    model = ns.Model(ns.Network.from_dict(spec), seed=3, **DOUBLE)
    simulation = build(Parallel(9), model, rule=rule, learn_every=9)
    x = random(60, 4, seed=7)
    data = Split(x, x[:, :3].argmax(1))
    source = Source.of("samples", hold=9.0, order="given")
    plan = StreamPlan(source, streams=2, window=10, **options)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    return StreamTrainer(plan, simulation, optimizer, data, data), data


def test_online_back_propagation_is_that_of_torch() -> None:
    """Each sample of both streams is answered, and then learned from by a step of Adam."""
    trainer, data = trained(ns.BackPropagation())
    one, two = torch.nn.Linear(4, 6, **DOUBLE), torch.nn.Linear(6, 3, **DOUBLE)
    plain = torch.nn.Sequential(one, torch.nn.Tanh(), two)
    own = trainer.model.state_dict()
    with torch.no_grad():
        for layer, name in ((one, "a"), (two, "out")):
            layer.weight.copy_(own[f"{name}.weight"])
            layer.bias.copy_(own[f"{name}.bias"])
    optimizer = torch.optim.Adam(plain.parameters(), 0.01)
    right, after = 0.0, []
    for number in range(30):
        which = [number, 30 + number]
        x, y = data.images[which], data.labels[which]
        answer = plain(x)
        right += float((answer.argmax(1) == y).sum())
        loss = (answer - torch.nn.functional.one_hot(y, 3)).square().sum() / 2 / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after.append(one.weight.detach().clone())
    epochs = trainer.fit()
    assert epochs[-1]["cumulative_accuracy"] == right / 60 > 0.4
    # What the last sample teaches is still due.
    torch.testing.assert_close(own["a.weight"], after[-2], rtol=1e-9, atol=1e-12)


def leaks(activation: str, beta: float, lr: float, alpha: float = 0.5) -> list[float]:
    """With labels so late that they act from when the next sample comes to after its answer."""
    rule = ns.DualPropagation(alpha=alpha, beta=beta)
    trainer, _ = trained(rule, activation, lr, leak=True, target=Target(delay=5.0))
    return [epoch["leak"] for epoch in trainer.fit()]


def test_the_leak_that_a_training_measures() -> None:
    """0 for a linear network that learns; of tanh as β², with frozen weights."""
    assert leaks("identity", 0.5, 0.01) == [0.0, 0.0, 0.0]
    assert min(leaks("identity", 0.5, 0.01, alpha=0.6)) > 1e-3
    for more, less in zip(leaks("tanh", 0.02, 0.0), leaks("tanh", 0.01, 0.0), strict=True):
        assert log2(more / less) == pytest.approx(2.0, rel=0.1)


@EVERY
@settings(max_examples=4)
@given(
    channels=st.sampled_from(sorted(CHANNELS)),
    changed=st.integers(0, 4),
    holds=st.integers(0, 2),
    replay=st.integers(0, 2),
    window=st.sampled_from([(0.25, 0.75), (0.5, 1.0), (0.9, 1.0)]),
    present=st.sampled_from([0.5, 1.0]),
)
def test_a_label_of_a_source_changes_no_answer_up_to_its_own(
    name: str,
    channels: str,
    changed: int,
    holds: int,
    replay: int,
    window: tuple[float, float],
    present: float,
) -> None:
    target = Target(delay=8.0 * holds, replay=replay, window=window, present=present)
    found = []
    for other in (0, 1):
        pairs = [
            (random(4, 3, seed=n), torch.arange(4).sub(n + other * (n == changed)).remainder(2))
            for n in range(7)
        ]
        simulation, optimizer = streaming(name, channels, lr=0.5)
        stream = simulation.stream(pairs, optimizer, hold=8.0, target=target, length=7)
        found.append([answer.prediction for w in stream.run(56) for answer in w.answers])
    same = [torch.equal(one, two) for one, two in zip(*found, strict=True)]
    assert all(same[: changed + 1])


def test_the_label_of_a_source_does_act() -> None:
    """As the test above could not fail else: on the answer that comes `delay` later."""
    found = []
    for label in (0, 1):
        pairs = [(random(4, 3, seed=n), torch.full((4,), label * (n == 1))) for n in range(5)]
        simulation, optimizer = streaming("sweep", lr=0.5)
        target = Target(delay=8.0)
        stream = simulation.stream(pairs, optimizer, hold=8.0, target=target, length=5)
        found.append([answer.prediction for w in stream.run(40) for answer in w.answers])
    same = [torch.equal(one, two) for one, two in zip(*found, strict=True)]
    assert same == [True, True, True, False, False]
