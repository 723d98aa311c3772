"""What happens in an inference: when the target acts, when weights learn, when it stops."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_simulations import DOUBLE, EVERY, NETWORK, SCHEDULES, X, Y, build, same

import neurosim as ns
from neurosim import metrics
from neurosim.schedules import (
    Lazy,
    Parallel,
    Poisson,
    RandomOrder,
    Replay,
    Schedule,
    Sweep,
)

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
@pytest.mark.filterwarnings("ignore::neurosim.NeurosimWarning")  # says that nothing is learned
def test_no_learning_unless_asked(name: str) -> None:
    sim = build(SCHEDULES[name], learn_every=3)
    before = [p.clone() for p in sim.model.parameters()]
    sim.infer(X, Y)
    assert all(torch.equal(a, b) for a, b in zip(before, sim.model.parameters(), strict=True))


def test_learning_that_would_never_happen() -> None:
    sim = build(Parallel(9))
    sim.start(X, Y)
    said = "make the Simulation with learn_every, or call learn"
    with pytest.raises(ns.ConfigurationError, match=said):
        sim.start(X, Y, optimizer=optimizer(sim.model))
    with pytest.raises(ns.ConfigurationError, match=said):
        sim.load_state_dict(sim.state_dict(), optimizer=optimizer(sim.model))
    assert sim.advance() == 9  # of the one under way
    for rule in (ns.DualPropagation(), ns.EquilibriumPropagation()):
        sim = build(Parallel(9), rule=rule, nudge_after=None)
        sim.infer(X)
        with pytest.raises(ns.StateError, match="without a target: give it one"):
            sim.learn(optimizer(sim.model))


LATE = ns.Channel(delay=9.0)


@pytest.mark.parametrize(
    ("channels", "warning"),
    [
        ({"difference": LATE}, "the target never reaches 'a', 'b' in an inference of 9 ticks"),
        ({"difference": ns.Channel(delay=4.0)}, "the target never reaches 'a' in"),
        ({"difference": ns.Channel(delay=ns.Uniform(4.0, 9.0))}, "the target never reaches 'a' in"),
        ({"difference": ns.Channel(delay=2.0, jitter=ns.Uniform(2.0, 3.0))}, "reaches 'a' in"),
        ({"difference": ns.Channel(loss=1.0)}, "the target never reaches 'a', 'b' in"),
        ({"overrides": {"b": {"difference": LATE}}}, "the target never reaches 'a' in"),
        ({"mean": LATE}, "the input never reaches 'b', 'out' in an inference of 9 ticks"),
        ({"difference": ns.Channel(delay=3.0), "mean": ns.Channel(delay=4.0)}, None),
        ({"difference": ns.Channel(delay=ns.Uniform(0.0, 5.0))}, None),
    ],
)
def test_a_warning_of_what_never_arrives(channels: dict[str, Any], warning: str | None) -> None:
    """In parallel, with a target that acts at tick 2: no message is faster."""
    options: dict[str, Any] = {"channels": ns.Channels(**channels), "nudge_after": 2}
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        build(Parallel(9), **options).check_schedule()
        sim = build(Parallel(9), **options)
        sim.infer(X, Y)
        sim.infer(X, Y)  # where it is known
        carried = build(Parallel(9), init="carry", **options)
        carried.infer(X, Y)  # what is on its way arrives later
    assert len(found) == (0 if warning is None else 2)
    assert all(warning is not None and warning in str(one.message) for one in found)
    if warning is None:
        assert all(metrics.reach(sim.state).values())
    elif "mean" in channels:
        assert torch.equal(sim.infer(X).prediction, sim.infer(-X).prediction)
    else:
        gradients = sim.gradients()
        still = [name for name in "ab" if not gradients[f"{name}.weight"].any()]
        assert still == re.findall(r"'(\w)'", warning)


HIGH = ns.Channel(threshold=1e3)
SILENT: list[tuple[dict[str, Any], str]] = [
    ({"difference": HIGH}, "differences of 'out' .* channels.difference.threshold is 1000"),
    ({"mean": HIGH}, "means of 'a' .* channels.mean.threshold is 1000"),
    (
        {"overrides": {"b": {"difference": HIGH}}},
        "differences of 'b' .* channels.overrides.b.difference.threshold is 1000",
    ),
]


@pytest.mark.parametrize("rule", ["dual_propagation", "backprop", "equilibrium_propagation"])
@pytest.mark.parametrize(("channels", "warning"), SILENT)
def test_a_warning_of_what_is_never_sent(channels: Any, warning: str, rule: str) -> None:
    options: Any = {"channels": ns.Channels(**channels), "rule": rule, "nudge_after": None}
    sim = build(Parallel(9), **options)
    with pytest.warns(ns.NeurosimWarning, match=f"nothing was sent of .*{warning}"):
        sim.infer(X, Y)
    sim.infer(X, Y)  # once


def test_a_stream_warns_after_a_window_of_what_was_never_sent() -> None:
    sim = build(Lazy(9.0), channels=ns.Channels(difference=HIGH))
    windows = sim.stream([(X, Y)] * 3, hold=9.0, length=3).run(ticks=9)
    with pytest.warns(ns.NeurosimWarning, match="in 9 ticks nothing .* of the differences"):
        next(windows)
    assert len(list(windows)) == 2


@EVERY
def test_thresholds_that_only_save_messages_are_no_reason_to_warn(name: str) -> None:
    """Warnings are errors here. Nothing is sent where there is nothing: without a target, where
    the answer is right, where the feed-forward pass has shown all, and below what sends nothing."""
    channels = ns.Channels(mean=ns.Channel(threshold=1e-3), difference=ns.Channel(threshold=1e-3))
    for init in ("zero", "feedforward"):
        sim = build(SCHEDULES[name], channels=channels, init=init)
        sim.infer(X)
        sim.infer(X, Y)
    quiet = ns.Channels(difference=HIGH)
    build(SCHEDULES[name], channels=quiet).infer(X)
    sim = build(SCHEDULES[name], channels=quiet, init="feedforward", loss="squared_error")
    sim.infer(X, sim.predict(X))
    shown = build(SCHEDULES[name], channels=ns.Channels(mean=HIGH), init="feedforward")
    shown.infer(X, Y)
    untaught = ns.Target(present=0.0)
    stream = build(SCHEDULES[name], channels=quiet).stream([(X, Y)], target=untaught, length=1)
    assert len(list(stream.run(ticks=16))) == 1


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


def _in_place(model: ns.Model) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.clamp_(-0.2, 0.2)


def _by_data(model: ns.Model) -> None:
    for parameter in model.parameters():
        parameter.data.clamp_(-0.2, 0.2)


def _with_other_data(model: ns.Model) -> None:
    """Twice: what is written last may lie where the first was, had nobody kept that."""
    for parameter in model.parameters():
        parameter.data = 2.0 * parameter.data
        parameter.data = (parameter.data / 2.0).clamp(-0.2, 0.2)


def _with_other_parameters(model: ns.Model) -> None:
    clipped = {name: value.clamp(-0.2, 0.2) for name, value in model.state_dict().items()}
    model.load_state_dict(clipped, assign=True)


@pytest.mark.parametrize("write", [_by_data, _with_other_data, _with_other_parameters])
@pytest.mark.parametrize("rule", [ns.DualPropagation(), ns.DualPropagation(0.2, variant="damped")])
@pytest.mark.parametrize("init", ["zero", "carry"])
def test_weights_that_are_written_past_torchs_count(
    write: Callable[[ns.Model], None], rule: ns.Rule, init: str
) -> None:
    """In the middle of an inference and between carried ones, event-driven and not."""
    for schedule in (Parallel(12), Lazy(duration=20.0)):
        expected, sim = (build(schedule, init=init, rule=rule) for _ in range(2))
        for one, clip in ((expected, _in_place), (sim, write)):
            for after in (None, 3):
                one.start(X, Y)
                one.advance(after)
                clip(one.model)
                if clip is _by_data:
                    one.weights_changed()
                one.advance()
                outcome = one.finish()
            again = one.infer(X, Y)
            if one is expected:
                wanted = outcome, again, one.gradients()
        assert same(outcome, wanted[0])
        assert same(again, wanted[1])
        assert all(torch.equal(v, wanted[2][k]) for k, v in sim.gradients().items())
        ns.Simulation(sim.model, schedule=schedule).weights_changed()  # of which nothing was seen
