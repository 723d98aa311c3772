"""Time jumps to where something is due: against a run of every single tick, and at no cost."""

import gc
import tracemalloc
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from small_simulations import NETWORK, X, Y, build, random, same

import neurosim as ns
from neurosim.base.errors import PluginError
from neurosim.channels.distributions import Exponential, Uniform
from neurosim.dynamics import Reached
from neurosim.schedules import Clock, Lazy, Periodic, Poisson, Replay, Schedule
from neurosim.simulation.inference import Inference

WAKES = (
    (3.0, "b", None),
    (9.0, "a", [0, 2]),
    (9.0, "out", None),
    (31.0, "b", [1]),
    (60.0, "a", None),
)
SCHEDULES: dict[str, Schedule] = {
    "poisson": Poisson("neuron", rate=1.0, duration=2.0, tick=1 / 16),
    "populations": Poisson("population", rate=1.0, duration=4.0, tick=1 / 16),
    "periodic": Periodic("neuron", period=1.0, spread=0.3, jitter=0.2, duration=3.0, tick=1 / 16),
    "lazy": Lazy(duration=80.0),
    "replay": Replay(WAKES),
}
CHANNELS = {
    "ideal": ns.Channel(),
    "late": ns.Channel(delay=5.0),
    "each late": ns.Channel(delay=Uniform(1.0, 9.0)),
    "synapses late": ns.Channel(delay=Uniform(1.0, 9.0, per="synapse")),
    "jitter": ns.Channel(delay=2.0, jitter=Uniform(0.0, 9.0)),
    "newest": ns.Channel(jitter=Exponential(3.0, 20.0), ordering="newest"),
    "lossy": ns.Channel(delay=3.0, loss=0.4, threshold=0.02, refresh=3),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "late target": {"nudge_after": 11},
    "learning": {"learn_every": 7},
    "probed": {"probes": (ns.Probe("residual", every=9), ns.Probe("in_flight", every=4), "wakes")},
    "stopped": {"stop": ns.Stop(residual=0.2, every=5)},
    "a process each": {"processes": "neuron"},
}


def run(schedule: str, channel: str, option: str, ticks: int | None) -> tuple[Any, ...]:
    """Two carried inferences, advanced so many ticks at a time; all that they come to."""
    model = ns.Model(NETWORK, seed=3, dtype=torch.float64)
    channels = ns.Channels(CHANNELS[channel], CHANNELS[channel])
    options = {"channels": channels, "seed": 5, "init": "carry"} | OPTIONS[option]
    simulation = build(SCHEDULES[schedule], model, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    within = optimizer if simulation.learn_every else None
    found: list[Any] = []
    for number in range(2):
        simulation.start(X + number * random(*X.shape, seed=9), Y, optimizer=within)
        while not simulation.done:
            simulation.advance(ticks)
        gradients = simulation.gradients()
        found.append((simulation.finish(), gradients, simulation.tick))
    return found, dict(model.named_parameters())


@pytest.mark.parametrize(
    ("schedule", "channel", "option"),
    [
        (schedule, channel, list(OPTIONS)[(i + j) % len(OPTIONS)])
        for i, schedule in enumerate(SCHEDULES)
        for j, channel in enumerate(CHANNELS)
    ],
)
def test_nothing_is_missed(
    schedule: str, channel: str, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ticks in which nothing is due change nothing, wherever the advance stops in between."""
    jumped = [run(schedule, channel, option, ticks) for ticks in (None, 3)]
    monkeypatch.setattr(Inference, "_due_after", lambda self, tick: tick + 1)
    found, parameters = run(schedule, channel, option, None)
    for others, learned in jumped:
        for (outcome, gradients, tick), (other, same_gradients, reached) in zip(
            found, others, strict=True
        ):
            assert same(outcome, other)
            assert tick == reached
            assert asdict(outcome.counts) == asdict(other.counts)
            assert outcome.trace.state_dict() == other.trace.state_dict()
            assert all(torch.equal(gradients[name], same_gradients[name]) for name in gradients)
        assert all(torch.equal(parameters[name], learned[name]) for name in parameters)


@pytest.mark.parametrize("processes", ["population", "neuron"])
def test_a_tick_in_which_nothing_is_due_is_not_run(
    processes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    on_tick = Inference._on_tick

    def watched(self: Inference, tick: int, units: Any) -> None:
        seen.append(tick)
        on_tick(self, tick, units)

    monkeypatch.setattr(Inference, "_on_tick", watched)
    wakes = ((2.0, "a", None), (700.0, "b", None), (5e5, "out", [1]), (9e7, "out", None))
    channels = ns.Channels(ns.Channel(delay=100.0))
    simulation = build(
        Replay(wakes), channels=channels, processes=processes, nudge_after=40_000, probes=("wakes",)
    )
    outcome = simulation.infer(X, Y)
    # Means arrive 100 ticks after they were sent, and are shown at the end of the tick before.
    assert seen == [2, 101, 700, 799, 39_999, 40_000, 500_000, 90_000_000]
    assert outcome.ticks == 90_000_000


def test_processes_live_from_one_inference_to_the_next() -> None:
    simulation = build(Poisson("neuron", duration=9.0), processes="neuron", init="carry")
    simulation.infer(X, Y)
    engine = simulation.engine
    for _ in range(3):
        simulation.infer(X, Y)
    assert simulation.engine is engine


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["population", "neuron"])
def test_a_million_ticks_take_no_more_memory(processes: Any) -> None:
    """A carried simulation goes on for ever: late, lossy messages, inputs that change, learning."""
    model = ns.Model(NETWORK, seed=3, dtype=torch.float64)
    channel = ns.Channel(delay=0.5, jitter=Uniform(0.0, 0.5), loss=0.1)
    schedule = Poisson("neuron", rate=1 / 32, duration=50_000 / 256, tick=1 / 256)
    options = {"channels": ns.Channels(channel, channel), "init": "carry", "processes": processes}
    simulation = build(schedule, model, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    sizes, values = [], []
    tracemalloc.start()
    try:
        for number in range(20):
            simulation.infer(random(*X.shape, seed=number), Y)
            simulation.learn(optimizer)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
            kinds = torch.Tensor, torch.nn.Parameter  # their values are not traced
            values.append(sum(one.nbytes for one in gc.get_objects() if type(one) in kinds))
    finally:
        tracemalloc.stop()
    assert simulation.tick == 10**6
    for found in (sizes, values):
        assert max(found[10:]) < max(found[2:10]) + 20_000


def test_the_input_is_a_process_that_speaks_when_it_has_something_new() -> None:
    simulation = build(Lazy(duration=8.0), init="carry")
    simulation.infer(X, Y)  # the first is the start, and no message
    engine, heard = simulation.engine, []
    speak = engine.speak

    def listened(*what: Any, **how: Any) -> Any:
        heard.append(what)
        return speak(*what, **how)

    engine.speak = listened  # type: ignore[method-assign]
    for _ in range(2):
        simulation.infer(X + 1, Y)
    assert len(heard) == 2

    def fails() -> Any:
        raise ValueError("no input")

    with pytest.raises(ValueError, match="no input"):
        speak(fails)
    assert speak(Reached) is not None  # and it goes on


def test_after_a_failure_all_begin_anew() -> None:
    simulation = build(Poisson("neuron", duration=9.0), processes="neuron")
    right = simulation.infer(X, Y)
    again = build(Poisson("neuron", duration=9.0), processes="neuron")
    random_state = again.random.bit_generator.state

    def interrupted() -> bool:
        raise KeyboardInterrupt

    again.start(X, Y)
    with pytest.raises(KeyboardInterrupt):
        again.advance(interrupted=interrupted)
    again.random.bit_generator.state = random_state
    assert same(again.infer(X, Y), right)


def test_a_wake_in_the_past_is_refused() -> None:
    class Backwards(Poisson):
        def start(self, at: Any) -> Clock:
            clock = super().start(at)
            clock.reschedule = lambda tick, due: np.full(len(due), tick)  # type: ignore[method-assign]
            return clock

    with pytest.raises(PluginError, match="PoissonClock sets the next wake of a unit to tick"):
        build(Backwards("neuron", duration=9.0)).infer(X, Y)
