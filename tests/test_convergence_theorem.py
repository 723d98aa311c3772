"""The asynchronous convergence theorem (Chazan-Miranker 1969, Baudet 1978, Bertsekas-Tsitsiklis):
where one wake of everything contracts, every schedule, unit, bounded delay and ordering that does
not let old messages win leads to one and the same fixed point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil, log
from typing import Any

import pytest
from contraction import Problem, Rounds, chain, distance, make_problem, present
from fewer import randomly
from hypothesis import strategies as st

import neurosim as ns
from neurosim.base.ticks import ticks_of

# ---- what the theorem runs over ------------------------------------------------------------------

UNITS = {
    "neuron": ns.Unit("neuron"),
    "channel": ns.Unit("channel"),
    "column": ns.Unit("column"),
    "tile": ns.Unit("tile", 2),
    "block": ns.Unit("block", 3),
    "population": ns.Unit("population"),
}
FOR_EVER = 4000  # ticks, or wakes of each unit: no run gets there


def random_order(unit: ns.Unit, network: ns.Network) -> ns.schedules.Schedule:
    if unit.kind == "population":
        return ns.schedules.RandomOrder(unit=unit, updates=FOR_EVER)
    return ns.schedules.RandomOrder(unit=unit, groups=2, passes=FOR_EVER // 4)


def replay(unit: ns.Unit, network: ns.Network) -> ns.schedules.Schedule:
    """Each population wholly, and half of the others' dyads, in turn."""
    wakes: list[tuple[float, str, list[int] | None]] = []
    for tick in range(1, FOR_EVER // 2):
        for turn, population in enumerate(network.dyadic):
            half = list(range(tick % 2, population.size, 2))
            wakes.append((tick, population.name, None if (tick + turn) % 3 == 0 else half))
    return ns.schedules.Replay([wake for wake in wakes if wake[2] != []])


SCHEDULES: dict[str, Callable[[ns.Unit, ns.Network], ns.schedules.Schedule]] = {
    "forward": lambda unit, _: ns.schedules.Sweep("forward", FOR_EVER, unit=unit),
    "backward": lambda unit, _: ns.schedules.Sweep("backward", FOR_EVER, unit=unit),
    "forward_backward": lambda unit, _: ns.schedules.Sweep("forward_backward", 999, unit=unit),
    "odd_even": lambda unit, _: ns.schedules.Sweep("odd_even", FOR_EVER, unit=unit),
    "even_odd": lambda unit, _: ns.schedules.Sweep("even_odd", FOR_EVER, unit=unit),
    "parallel": lambda unit, _: ns.schedules.Parallel(FOR_EVER, unit=unit),
    "random_order": random_order,
    "poisson": lambda unit, _: ns.schedules.Poisson(unit=unit, rate=0.7, duration=FOR_EVER),
    "periodic": lambda unit, _: ns.schedules.Periodic(
        unit=unit, period=1.2, spread=0.3, jitter=0.4, tick=0.5, duration=FOR_EVER
    ),
    "lazy": lambda unit, _: ns.schedules.Lazy(unit=unit, duration=FOR_EVER),
    "replay": replay,
}


def skip(size: int, first: str, second: str) -> dict[str, Any]:
    """Connections past a layer, two projections side by side, and one back down: a cycle."""
    populations = {
        "input": {"shape": [2], "role": "input"},
        "p0": {"shape": [size], "activation": first},
        "p1": {"shape": [3], "activation": second},
        "out": {"shape": [2], "role": "output"},
    }
    edges = ["input p0", "p0 p1", "p0 p1", "p1 out", "p0 out", "input out", "p1 p0"]
    projections: list[dict[str, Any]] = []
    for number, edge in enumerate(edges):
        pre, post = edge.split()
        projections.append({"from": pre, "to": post, "name": f"e{number}"})
    return {"populations": populations, "projections": projections}


CONV = {
    "input": [2, 4, 4],
    "layers": [
        {"name": "c1", "conv": 3},
        {"name": "c2", "conv": 2, "activation": "tanh"},
        {"name": "out", "dense": 3},
    ],
}

LINEAR_PIECES = st.sampled_from(["relu", "identity", "hard_sigmoid"])
ANY = st.sampled_from(["relu", "identity", "hard_sigmoid", "tanh"])


@st.composite
def problems(draw: st.DrawFn) -> tuple[Problem, str]:
    """A network with its rule, and how an inference starts."""
    variant = draw(st.sampled_from(["aro", "lagrangian", "damped"]))
    nudge = draw(st.sampled_from(["potential", "proximal", "prediction"]))
    alpha = draw(st.sampled_from([0.5, 0.0, 0.3, 1.0]))
    beta = draw(st.sampled_from([0.2, 0.7]))
    rule = ns.DualPropagation(alpha, beta, variant, nudge)
    pieces = LINEAR_PIECES if variant == "damped" else ANY
    init = "feedforward" if nudge == "prediction" else draw(st.sampled_from(["zero", "carry"]))
    if init != "feedforward" and draw(st.booleans()):
        description = skip(draw(st.integers(1, 4)), draw(pieces), draw(pieces))
    else:
        layers = st.tuples(st.integers(1, 5), pieces)
        description = chain(*draw(st.lists(layers, min_size=2, max_size=4)))
    factor = draw(st.sampled_from([0.1, 0.3, 0.5]))
    return make_problem(description, rule, factor, draw(st.integers(0, 10**6))), init


@st.composite
def channels(draw: st.DrawFn) -> ns.Channel:
    """Late by a constant, a time of each dyad's or synapse's own, by jitter, or by several."""
    by_dyad, by_synapse = ns.Uniform(0.0, 4.0), ns.Uniform(0.0, 3.0, per="synapse")
    delay = draw(st.sampled_from([0.0, 3.0, 5.5, by_dyad, ns.Exponential(1.0, 5.0), by_synapse]))
    jitter = draw(st.sampled_from([None, ns.Uniform(0.0, 3.0), ns.Exponential(1.0, 4.0)]))
    if jitter is not None and delay is by_synapse:
        delay = 1.5  # a jittered line for each distinct delay is slow; it has a test of its own
    return ns.Channel(
        delay=delay, jitter=jitter, ordering=draw(st.sampled_from(["fifo", "newest"]))
    )


def latest(channels: ns.Channels, tick: float) -> int:
    """Within how many ticks every message arrives."""
    found = [channels.mean, channels.difference]
    for kinds in channels.overrides.values():
        found += kinds.values()
    times = []
    for channel in found:
        longest: Any = getattr(channel.delay, "high", channel.delay)
        times.append(longest + (channel.jitter.high if channel.jitter else 0.0))
    return max(1, ticks_of(max(times), tick))


# ---- the theorem ---------------------------------------------------------------------------------


def check(
    problem: Problem,
    schedule: ns.schedules.Schedule,
    channels: ns.Channels,
    init: Any = "zero",
    **options: Any,
) -> None:
    """Runs until the theorem promises 5e-11, and holds the run to its promise on the way.

    After r `Rounds` the error is at most factorʳ·E, E being the largest error before; so
    r = log(5e-11/E)/log(factor) of them suffice, and as every unit wakes again and again and
    messages arrive within the bound, each of them comes to an end.
    """
    simulation = ns.Simulation(
        problem.model,
        rule=problem.rule,
        schedule=schedule,
        channels=channels,
        init=init,
        nudge_after=0,
        probes=["wakes"],
        **options,
    )
    goal, factor = problem.fixed_point(), problem.contraction()
    assert factor < 1.0
    worst = 0.0
    if init == "carry":  # from the states and messages of another input
        simulation.start(problem.x + 1.0, -problem.target)
        for _ in range(12):
            simulation.advance(1)
            worst = max(worst, distance(present(simulation), goal))
        simulation.finish()
    before = simulation.tick
    simulation.start(problem.x, problem.target)
    worst = max(worst, distance(present(simulation), goal))
    round_off = 1e-13 * max(1.0, worst) / (1.0 - factor)
    rounds = Rounds(problem.sizes, latest(channels, schedule.tick))
    lazy = isinstance(schedule, ns.schedules.Lazy)
    needed = ceil(log(5e-11 / max(worst, 1e-10)) / log(factor))
    seen = 0
    for tick in range(1, 10**6):
        simulation.advance(1)
        wakes = simulation.trace["wakes"]
        for wake in wakes[seen:]:
            rounds.wake(tick, wake["population"], wake["indices"])
        seen = len(wakes)
        if lazy:  # who does not wake has no news, so that a wake would not change it
            for population in problem.sizes:
                rounds.wake(tick, population, None)
        rounds.close(tick)
        if rounds.count >= needed:
            break
        if tick % 8 == 0 or simulation.done:
            error = distance(present(simulation), goal)
            assert error <= factor**rounds.count * worst + round_off, (tick, rounds.count)
        if simulation.done:  # event-driven, and nothing is left to do
            assert lazy
            break
    assert distance(present(simulation), goal) <= 1e-10, simulation.tick - before


LONG = ("forward", "backward", "odd_even", "even_odd")  # most ticks to come to rest


@pytest.mark.parametrize(
    "schedule",
    [pytest.param(n, marks=pytest.mark.slow if n in LONG else ()) for n in SCHEDULES],
)
@randomly(5, 20, problems(), st.sampled_from(list(UNITS)), channels(), channels())
def test_one_fixed_point(
    schedule: str, found: tuple[Problem, str], unit: str, mean: ns.Channel, difference: ns.Channel
) -> None:
    problem, init = found
    described = SCHEDULES[schedule](UNITS[unit], problem.model.network)
    if schedule == "replay" and init == "carry":
        init = "zero"
    check(problem, described, ns.Channels(mean, difference), init)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("schedule", ["random_order", "periodic", "lazy"])
def test_convolutions(schedule: str, unit: str) -> None:
    """Conv channels, columns and tiles, whose dyads are neither all nor in one piece."""
    rule = ns.DualPropagation(0.3, 0.5, "aro", "proximal")
    problem = make_problem(CONV, rule, 0.2, seed=5)
    mean = ns.Channel(delay=ns.Uniform(0.0, 2.0), jitter=ns.Uniform(0.0, 2.0), ordering="newest")
    difference = ns.Channel(delay=ns.Uniform(0.0, 3.0))
    jittered = ns.Channel(jitter=ns.Exponential(0.5, 2.0))
    by_synapse = ns.Channel(delay=ns.Uniform(0.0, 3.0, per="synapse"))
    overrides: Any = {
        "c2": {"mean": difference, "difference": jittered},
        "out": {"mean": by_synapse, "difference": by_synapse},
    }
    described = SCHEDULES[schedule](UNITS[unit], problem.model.network)
    check(problem, described, ns.Channels(mean, difference, overrides))


@pytest.mark.parametrize("ordering", ["fifo", "newest"])
def test_jitter_on_top_of_a_delay_for_each_synapse(ordering: Any) -> None:
    rule = ns.DualPropagation(0.3, 0.7, "lagrangian", "potential")
    problem = make_problem(chain((4, "relu"), (3, "tanh"), (2, "")), rule, 0.3, seed=1)
    late = ns.Uniform(0.0, 3.0, per="synapse")
    channel = ns.Channel(delay=late, jitter=ns.Uniform(0.0, 2.0), ordering=ordering)
    schedule = SCHEDULES["poisson"](UNITS["neuron"], problem.model.network)
    check(problem, schedule, ns.Channels(channel, channel))


# ---- event-driven --------------------------------------------------------------------------------


THRESHOLDS = st.sampled_from([0.0, 1e-13])


@randomly(20, 80, problems(), st.sampled_from(list(UNITS)), channels(), channels(), THRESHOLDS)
def test_lazy_comes_to_rest(
    found: tuple[Problem, str], unit: str, mean: ns.Channel, back: ns.Channel, threshold: float
) -> None:
    """It stops by itself: with a threshold τ above round-off nothing is due and nothing in flight,
    and without one nothing but changes by round-off.

    What is seen is then within τ of what is, so that an error e obeys e ≤ factor·(e + τ): it is at
    most τ·factor/(1 − factor), and round-off.
    """
    problem, init = found
    factor = problem.factor()
    simulation = ns.Simulation(
        problem.model,
        rule=problem.rule,
        schedule=ns.schedules.Lazy(FOR_EVER, UNITS[unit]),
        channels=ns.Channels(*(replace(channel, threshold=threshold) for channel in (mean, back))),
        init=init,  # type: ignore[arg-type]
        probes=[ns.Probe("in_flight", every=FOR_EVER)],
    )
    if init == "carry":
        simulation.start(problem.x + 1.0, -problem.target)
        simulation.advance(5)
        simulation.finish()
    outcome = simulation.infer(problem.x, problem.target)
    assert simulation.done
    assert outcome.ticks < FOR_EVER / 4
    assert not threshold or outcome.trace["in_flight"][-1]["total"] == 0
    round_off = 1e-15 * max(1.0, problem.scale()) / (1.0 - factor)
    error = distance(present(simulation), problem.fixed_point())
    assert error <= threshold * factor / (1.0 - factor) + 10 * round_off


NOISY = ns.Channel(
    delay=ns.Uniform(0.0, 3.0),
    jitter=ns.Exponential(1.0, 3.0),
    ordering="arrival",
    noise=ns.Noise(0.1, "relative"),
    loss=0.2,
    quantize=ns.Quantize(12, 4.0, "stochastic"),
)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    "channel",
    [ns.Channel(), ns.Channel(delay=ns.Uniform(0.0, 4.0)), ns.Channel(delay=3.0, loss=0.3), NOISY],
    ids=["ideal", "late", "lost", "noisy"],
)
def test_lazy_is_parallel_without_the_idle_wakes(channel: ns.Channel, unit: str) -> None:
    """Who has no news would send nothing: so the same states and messages, bit for bit."""
    rule = ns.DualPropagation(0.3, 0.5, "aro", "potential")
    problem = make_problem(CONV, rule, 0.5, seed=2)
    by_synapse = ns.Channel(delay=ns.Uniform(0.0, 3.0, per="synapse"), loss=channel.loss)
    options: dict[str, Any] = {
        "rule": rule,
        "channels": ns.Channels(channel, channel, {"out": {"difference": by_synapse}}),
        "init": "zero",
        "nudge_after": 4,
        "compute": "dense",
    }
    lazy = ns.Simulation(problem.model, schedule=ns.schedules.Lazy(15, UNITS[unit]), **options)
    parallel = ns.Simulation(problem.model, schedule=ns.schedules.Parallel(15), **options)
    # Columns and tiles lie position by position, and products of another order round differently.
    for ours, other in zip(parallel.state.cells, lazy.state.cells, strict=True):
        ours.by_position = other.by_position
    parallel.state.input.by_position = lazy.state.input.by_position
    for simulation in (lazy, parallel):
        simulation.start(problem.x, problem.target)
    for tick in range(15):
        lazy.advance(1)
        parallel.advance(1)
        assert distance(present(lazy), present(parallel)) == 0.0, tick
        assert lazy.counts.mean_messages == parallel.counts.mean_messages
        assert lazy.counts.difference_messages == parallel.counts.difference_messages
    assert lazy.counts.wakes < parallel.counts.wakes
