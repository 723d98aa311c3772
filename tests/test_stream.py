"""A stream: the same as inferences that are carried on, causal, and the same bits when resumed."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_simulations import DOUBLE, EVERY, NETWORK, SCHEDULES, X, Y, build, random
from torch import Tensor

import neurosim as ns
from neurosim.data import Target, Timing, samples_of
from neurosim.schedules import Lazy, Parallel, Sweep
from neurosim.simulation.stream import Stream

LATE = ns.Channels(
    mean=ns.Channel(delay=2.0, loss=0.2, noise=ns.Noise(0.1)),
    difference=ns.Channel(delay=ns.Uniform(0.0, 3.0), threshold=1e-3),
)
JITTERED = ns.Channels(
    mean=ns.Channel(delay=0.5, jitter=ns.Exponential(1.0, 4.0), refresh=3),
    difference=ns.Channel(jitter=ns.Uniform(0.0, 2.0), ordering="newest"),
)
CHANNELS = {"ideal": ns.Channels(), "late": LATE, "jittered": JITTERED}


def streaming(
    schedule: str, channels: str = "ideal", lr: float = 0.05, **options: Any
) -> tuple[ns.Simulation, torch.optim.Optimizer]:
    options = {"learn_every": 3, "channels": CHANNELS[channels], "init": "carry"} | options
    if SCHEDULES[schedule].update_ticks:
        options["learn_every"] = None
    simulation = build(SCHEDULES[schedule], **options)
    return simulation, torch.optim.SGD(simulation.model.parameters(), lr)


def driven(stream: Stream, labels: Sequence[Tensor | None], first: int = 0) -> list[Tensor]:
    """Eight ticks for each of some inputs, the label in the last four: what was read before it."""
    found = []
    for number, label in enumerate(labels, first):
        stream.target(None)
        stream.push(random(4, 3, seed=number))
        stream.advance(4)
        found.append(stream.read())
        stream.target(label)
        stream.advance(4)
    return found


# ---- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sweep", "odd_even", "parallel", "populations", "neurons"])
@pytest.mark.parametrize("init", ["carry", "zero"])
def test_a_stream_that_holds_each_input_for_an_inference_is_the_carried_trainer(
    name: str, init: Any
) -> None:
    """Over channels that are not late, to which a carried start is as a message."""
    ticks = {"neurons": 12, "odd_even": 10}.get(name, 9)
    carried = build(SCHEDULES[name], init="carry")
    one = torch.optim.Adam(carried.model.parameters(), 0.01)
    simulation = build(SCHEDULES[name], init=init, learn_every=ticks)
    two = torch.optim.Adam(simulation.model.parameters(), 0.01)
    stream = simulation.stream(None, two)
    for number in range(5):
        x, y = random(4, 3, seed=number), random(4, 2, seed=50 + number)
        assert carried.infer(x, y).ticks == ticks
        carried.learn(one)
        stream.push(x)
        stream.target(y)
        stream.advance(ticks)
        states = [cell.plus.value.clone() for cell in simulation.state.cells]
    stream.push(x)
    stream.advance(1)  # with the update that is due
    for key, value in carried.model.state_dict().items():
        assert torch.equal(simulation.model.state_dict()[key], value), key
    for cell, state in zip(carried.state.cells, states, strict=True):
        assert torch.equal(cell.plus.value, state)


@EVERY
def test_frozen_weights_and_one_input_are_one_inference(name: str) -> None:
    """Up to the end of the schedule, from which on a stream goes on."""
    whole = build(SCHEDULES[name])
    expected = whole.infer(X, Y)
    simulation = build(SCHEDULES[name])
    stream = simulation.stream()
    stream.push(X)
    stream.target(Y)
    assert stream.advance(expected.ticks) == expected.ticks
    found = simulation.finish()
    for states, others in ((found.plus, expected.plus), (found.minus, expected.minus)):
        assert all(torch.equal(states[key], value) for key, value in others.items())
    assert found.counts == whole.counts


def test_a_linear_network_on_a_stationary_stream_is_the_lms_filter() -> None:
    """w ← w + η (y − w x) x, each sample once, with the label after the first half of a hold."""
    network = ns.Network.from_dict({"input": 3, "layers": [{"name": "out", "dense": 2}]})
    model, rate = ns.Model(network, **DOUBLE), 0.1
    rule = ns.DualPropagation(alpha=0.5, beta=0.7)
    simulation = ns.Simulation(model, rule=rule, schedule=Parallel(4), learn_every=4)
    stream = simulation.stream(None, torch.optim.SGD(model.parameters(), rate))
    weight, bias = (model.state_dict()[f"out.{n}"].clone() for n in ("weight", "bias"))
    for number in range(30):
        x, y = random(1, 3, seed=number), random(1, 2, seed=100 + number)
        stream.target(None)
        stream.push(x)
        stream.advance(2)
        prediction = x @ weight.T + bias
        torch.testing.assert_close(stream.read(), prediction, rtol=1e-12, atol=1e-12)
        stream.target(y)
        stream.advance(2)
        weight += rate * (y - prediction).T @ x
        bias += rate * (y - prediction)[0]
    stream.push(x)
    stream.advance(1)
    torch.testing.assert_close(model.state_dict()["out.weight"], weight, rtol=1e-11, atol=0)


def leak(activation: str, beta: float, alpha: float = 0.5) -> float:
    """By how much a target moves what is read, of frozen weights."""
    layers = [{"name": "a", "dense": 6}, {"name": "out", "dense": 2, "activation": "identity"}]
    spec = {"input": 3, "activation": activation, "layers": layers}
    found = []
    for label in (Y, None):
        model = ns.Model(ns.Network.from_dict(spec), **DOUBLE)
        rule = ns.DualPropagation(alpha=alpha, beta=beta)
        stream = ns.Simulation(model, rule=rule, schedule=Parallel(5)).stream()
        stream.push(X)
        stream.advance(10)
        stream.target(label)
        stream.advance(30)
        found.append(stream.read())
    return float((found[0] - found[1]).norm())


def test_the_leak_of_a_linear_network_is_zero_and_of_tanh_quadratic() -> None:
    assert leak("identity", 0.5) == 0.0
    assert leak("identity", 0.5, alpha=0.6) > 1e-3
    slope = torch.tensor([leak("tanh", 0.02), leak("tanh", 0.01)]).log2().diff().neg()
    assert float(slope) == pytest.approx(2.0, rel=0.1)


# ---- causality -----------------------------------------------------------------------------------


@EVERY
@settings(max_examples=4)
@given(
    channels=st.sampled_from(sorted(CHANNELS)),
    changed=st.integers(0, 3),
    absent=st.sets(st.integers(0, 3)),
)
def test_a_label_changes_no_prediction_up_to_its_own(
    name: str, channels: str, changed: int, absent: set[int]
) -> None:
    labels = [None if n in absent else random(4, 2, seed=60 + n) for n in range(5)]
    others = [*labels[:changed], Y, *labels[changed + 1 :]]
    found = []
    for given_ in (labels, others):
        simulation, optimizer = streaming(name, channels, lr=0.5)
        found.append(driven(simulation.stream(None, optimizer), given_))
    for number, (before, after) in enumerate(zip(*found, strict=True)):
        assert torch.equal(before, after) or number > changed, number


def test_labels_do_act() -> None:
    """As the test above could not fail else."""
    for name in SCHEDULES:
        found = []
        for sign in (1, -1):
            simulation, optimizer = streaming(name, "late", lr=0.5)
            labels = [sign * random(4, 2, seed=60 + n) for n in range(5)]
            found.append(driven(simulation.stream(None, optimizer), labels))
        assert not torch.equal(found[0][-1], found[1][-1]), name


# ---- messages ------------------------------------------------------------------------------------


def test_an_input_takes_the_channels_of_all_messages() -> None:
    """With delay d it is seen at d ticks, and counted when it is sent."""
    for delay, seen in ((0.0, 1), (1.0, 1), (3.0, 3)):
        model = ns.Model(NETWORK, **DOUBLE)
        channels = ns.Channels(mean=ns.Channel(delay=delay))
        simulation = build(Parallel(4), model, channels=channels)
        stream = simulation.stream()
        stream.push(X)
        stream.advance(9)
        before = simulation.counts.mean_messages
        changed = X.clone()
        changed[:, 0] += 1.0
        still = simulation.state.cells[0].plus.value.clone()
        stream.push(changed)
        stream.advance(seen - 1)
        assert torch.equal(simulation.state.cells[0].plus.value, still)
        assert simulation.counts.mean_messages == before + 4 * (seen > 1)
        stream.advance(1)
        assert not torch.equal(simulation.state.cells[0].plus.value, still)


def test_an_input_that_does_not_change_sends_nothing_and_wakes_nobody() -> None:
    simulation = build(Lazy(duration=5.0), learn_every=None)
    stream = simulation.stream()
    stream.push(X)
    stream.advance(60)
    counts = (simulation.counts.messages, simulation.counts.wakes)
    stream.push(X)
    assert stream.advance(1000) == 1000
    assert (simulation.counts.messages, simulation.counts.wakes) == counts


def test_a_target_that_goes_leaves_a_difference_that_decays() -> None:
    simulation = build(Parallel(3), learn_every=None)
    stream = simulation.stream()
    stream.push(X)
    stream.target(Y)
    stream.advance(20)
    assert all(cell.difference.tensor is not None for cell in simulation.state.cells)
    stream.target(None)
    stream.advance(20)
    assert all(cell.difference.tensor is None for cell in simulation.state.cells)


# ---- resumed, and errors -------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("channels", CHANNELS)
def test_a_stream_goes_on_from_its_state_bit_for_bit(name: str, channels: str) -> None:
    simulation, optimizer = streaming(name, channels)
    stream = simulation.stream(None, optimizer)
    driven(stream, [Y])
    stream.push(X)  # what waits for the next tick is part of the state
    stream.target(Y)
    state = stream.state()
    weights = {k: v.clone() for k, v in simulation.model.state_dict().items()}
    expected = [stream.advance(5), *driven(stream, [Y, -Y], 3)]
    other, its_own = streaming(name, channels)
    other.model.load_state_dict(weights)
    again = Stream.from_state(other, state, None, its_own)
    assert again.tick == 8
    found = [again.advance(5), *driven(again, [Y, -Y], 3)]
    assert found[0] == expected[0]
    assert all(map(torch.equal, found[1:], expected[1:]))
    assert again.counts == stream.counts


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "phases": ({"rule": ns.EquilibriumPropagation(), "nudge_after": None}, "has none"),
    "nudge": (
        {"rule": ns.DualPropagation(nudge="prediction"), "init": "feedforward"},
        "frozen where an inference starts",
    ),
    "stop": ({"stop": ns.Stop(1e-3)}, "stop ends an inference"),
    "nudge_after": ({"nudge_after": 2}, "nudge_after counts from"),
    "probes": ({"probes": ["residual"]}, "the probe residual records within"),
}


@pytest.mark.parametrize(("options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_stream_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=said):
        build(Parallel(9), **options).stream()


def test_errors() -> None:
    stream = (simulation := build(Sweep())).stream()
    with pytest.raises(ns.StateError, match="push one first"):
        stream.advance()
    with pytest.raises(ns.StateError, match="push an input, and advance"):
        stream.read()
    stream.push(X)
    with pytest.raises(ns.InputError, match="are 4 streams, but 3 targets"):
        stream.target(Y[:3])
    stream.advance(3)
    with pytest.raises(ns.InputError, match="there are 4 streams, but 3 inputs"):
        stream.push(X[:3])  # and leaves nothing behind
    assert stream.advance()
    with pytest.raises(ns.StateError, match=r"use stream\.state"):
        simulation.state_dict()
    with pytest.raises(ns.StateError, match=r"Stream\.from_state goes on"):
        build(Sweep()).load_state_dict(stream.state())
    simulation.infer(X, Y)
    with pytest.raises(ns.StateError, match="no inference under way"):
        stream.advance()
    with pytest.raises(ns.StateError, match="of an inference, not of a stream"):
        Stream.from_state(simulation, simulation.state_dict())
    with pytest.raises(ns.ConfigurationError, match="nothing says when"):
        simulation.stream(None, torch.optim.SGD(simulation.model.parameters(), 0.1))


SOAKED = [(name, "jittered", 1000) for name in SCHEDULES]

# ---- a source ------------------------------------------------------------------------------------


def pairs(count: int = 6) -> list[tuple[Tensor, Tensor]]:
    return [(random(4, 3, seed=n), torch.arange(4).sub(n).remainder(2)) for n in range(count)]


def test_a_source_drives_as_by_hand() -> None:
    """Over a delay of a hold, with what is late acting on what is shown then, or on its own."""
    for replay in (0, 2):
        simulation, optimizer = streaming("parallel", lr=0.3)
        target = Target(delay=8.0, replay=replay, window=(0.25, 0.75))
        stream = simulation.stream(pairs(), optimizer, hold=8.0, target=target, length=6)
        windows = list(stream.run(10))
        assert [window.tick for window in windows] == [10, 20, 30, 40, 48]
        answers = [answer for window in windows for answer in window.answers]
        by_hand, its_own = streaming("parallel", lr=0.3)
        other = by_hand.stream(None, its_own)
        for number, (x, _) in enumerate(pairs()):
            other.push(x)
            other.advance(2)
            assert torch.equal(answers[number].prediction, other.read())
            if number:
                before = pairs()[number - 1]
                other.target(before[1])
                if replay:
                    other.push(before[0])
            other.advance(4)
            other.target(None)
            other.push(x)
            other.advance(2)
        assert sum(window.counts.wakes for window in windows) == other.counts.wakes
        expected = by_hand.model.state_dict()
        assert all(map(torch.equal, simulation.model.state_dict().values(), expected.values()))


def test_an_iterable_is_a_source_as_far_as_it_goes() -> None:
    samples = samples_of((random(1, 3, seed=n), None) for n in range(1500))
    assert torch.equal(samples(1200).x, random(1, 3, seed=1200))
    assert samples(300).y is None
    for number, said in ((100, "no longer kept"), (1500, "has no sample 1500")):
        with pytest.raises(ns.DataError, match=said):
            samples(number)
    assert torch.equal(samples_of([X])(0).x, X)


@settings(max_examples=20)
@given(
    st.integers(2, 9),
    st.integers(0, 30),
    st.tuples(st.floats(0.2, 0.6), st.floats(0.7, 1.0)),
    st.integers(0, 80),
)
def test_what_the_timing_says_changes_only_where_it_says(
    hold: int, delay: int, window: tuple[float, float], tick: int
) -> None:
    try:
        timing = Timing(hold, Target(delay=delay, window=window), 1.0, 0)
    except ns.ConfigurationError:
        return
    until = timing.following(tick)
    assert tick < until <= tick + hold
    for between in range(tick + 1, until):
        assert timing.label(between) == timing.label(tick)
        assert timing.input(between) == timing.input(tick)
        assert timing.reads(between) is None
    label = timing.label(tick)
    # Strictly causal: a label acts where its prediction is read, or later.
    assert label is None or label * hold + timing.read + delay <= tick


def test_a_part_of_the_labels_is_present() -> None:
    timing = Timing(4.0, Target(present=0.3), 1.0, 7)
    found = {timing.label(tick) for tick in range(4000)} - {None}
    assert 250 < len(found) < 350
    assert found == {Timing(4.0, Target(present=0.3), 1.0, 7).label(t) for t in range(4000)} - {
        None
    }


def alive() -> tuple[int, int, int]:
    """Tensors, their bytes, and all objects that there are."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) is Tensor]
    return len(tensors), sum(t.nbytes for t in tensors), len(gc.get_objects())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "channels", "ticks"), [*SOAKED, ("populations", "late", 100_000)])
def test_memory_is_constant(name: str, channels: str, ticks: int) -> None:
    simulation, optimizer = streaming(name, channels, lr=1e-4)
    shown = pairs(7)
    stream = simulation.stream(lambda n: shown[n % 7], optimizer, hold=10.0)
    sizes = []
    for until in (300, ticks):
        for _ in stream.follow(until):
            pass
        sizes.append(alive())
    for before, after, more in zip(*sizes, (5, 500, 500), strict=True):
        assert after <= before + more
