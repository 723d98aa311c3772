"""Schedules whose wakes are known at the start: tick by tick, against their definitions."""

from __future__ import annotations

from collections import Counter
from math import ceil, inf, nan
from typing import Any

import numpy as np
import pytest
import torch
from clockwork import chain, chi_square, graph, named, starting, wakes
from hypothesis import given
from hypothesis import strategies as st

import neurosim as ns
from neurosim.base.ticks import ticks_of
from neurosim.conformance.running import clock_goes_on, clock_twice
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

NETWORK = chain(5, 3, 4)
SKIP = graph(
    ["input", "z", "output", "y", "x"],
    ("input", "x"),
    ("input", "y"),
    ("x", "y"),
    ("y", "z"),
    ("x", "output"),
    ("z", "output"),
)

# ---- sweep -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "layers", "passes", "feedforward", "expected"),
    [
        ("forward", 3, 1, False, "a b c"),
        ("forward", 3, 2, True, "a b c a b c"),
        ("forward", 4, 2, False, "a b c d a b c d"),
        ("backward", 3, 1, True, "c b a"),
        ("backward", 3, 2, False, "c b a c b a"),
        ("backward", 4, 2, True, "d c b a d c b a"),
        # An upward sweep comes first unless the start is feed-forward; turning ones wake once.
        ("forward_backward", 3, 1, True, "c b a"),
        ("forward_backward", 3, 1, False, "a b c b a"),
        ("forward_backward", 3, 2, True, "c b a b c b a"),
        ("forward_backward", 3, 2, False, "a b c b a b c b a"),
        ("forward_backward", 3, 3, True, "c b a b c b a b c b a"),
        ("forward_backward", 4, 1, True, "d c b a"),
        ("forward_backward", 4, 2, True, "d c b a b c d c b a"),
        ("forward_backward", 4, 2, False, "a b c d c b a b c d c b a"),
        ("forward_backward", 2, 2, False, "a b a b a"),
        ("odd_even", 3, 1, True, "ac b"),
        ("odd_even", 4, 2, False, "ac bd ac bd"),
        ("even_odd", 3, 2, True, "b ac b ac"),
        ("even_odd", 4, 1, False, "bd ac"),
        ("odd_even", 5, 1, False, "ace bd"),
    ],
)
def test_sweep_of_a_chain(
    order: Any, layers: int, passes: int, feedforward: bool, expected: str
) -> None:
    network = chain(*range(2, 2 + layers))
    found = named(Sweep(order, passes), network, feedforward=feedforward)
    assert found == expected.split()


@pytest.mark.parametrize("order", ["forward", "backward", "forward_backward"])
def test_sweep_of_a_single_layer(order: Any) -> None:
    assert set(named(Sweep(order, 3), chain(2))) == {"a"}


def test_sweep_of_a_graph() -> None:
    """In topological order, and by the parity of the longest path from the input."""
    assert named(Sweep("forward"), SKIP) == ["x", "y", "z", "output"]
    assert named(Sweep("backward"), SKIP) == ["output", "z", "y", "x"]
    assert named(Sweep("odd_even"), SKIP) == ["zx", "outputy"] or named(
        Sweep("odd_even"), SKIP
    ) == ["xz", "youtput"]


def test_sweep_of_a_cycle() -> None:
    """In declaration order."""
    edges = [("input", "x"), ("x", "y"), ("y", "x"), ("y", "output")]
    network = graph(["y", "input", "output", "x"], *edges)
    assert named(Sweep("forward", 2), network) == ["y", "output", "x"] * 2
    assert named(Sweep("odd_even"), network) == ["yx", "output"]


def test_sweep_wakes_all_units_of_a_population() -> None:
    """Whatever the unit is."""
    found = wakes(Sweep("forward", unit="neuron"), NETWORK)
    assert found == [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9, 10, 11]]


# ---- parallel ----------------------------------------------------------------------------------


def test_parallel() -> None:
    assert wakes(Parallel(4), NETWORK) == [[0, 1, 2]] * 4
    assert wakes(Parallel(2, unit="neuron"), NETWORK, tick=7) == [list(range(12))] * 2
    assert Parallel(2, unit="neuron").start(starting(Parallel(2), NETWORK, tick=7)).end == 9


def test_when_the_target_acts() -> None:
    assert Parallel().nudge_after(5) == 5
    others = [Sweep(), RandomOrder(groups=1, passes=1), Poisson(), Periodic(), Lazy(1.0), Replay()]
    for schedule in others:
        assert schedule.nudge_after(5) == schedule.nudge_after(None) == 0
    with pytest.raises(ns.ConfigurationError, match="give nudge_after"):
        Parallel().nudge_after(None)


# ---- random order ------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    share=st.floats(0.0, 1.0),
    passes=st.integers(1, 4),
    seed=st.integers(0, 999),
    tick=st.sampled_from([0, 13]),
)
def test_a_permutation_per_pass(
    sizes: list[int], share: float, passes: int, seed: int, tick: int
) -> None:
    """Every unit exactly once per pass, in groups whose sizes differ by at most one."""
    total = sum(sizes)
    groups = max(1, min(total, ceil(share * total)))
    schedule = RandomOrder("neuron", groups=groups, passes=passes)
    found = wakes(schedule, chain(*sizes), seed=seed, tick=tick)
    assert len(found) == groups * passes
    for number in range(passes):
        own = found[number * groups : (number + 1) * groups]
        assert sorted(unit for group in own for unit in group) == list(range(total))
        lengths = {len(group) for group in own}
        assert max(lengths) - min(lengths) <= 1


def test_groups_are_uniform() -> None:
    """How often each of 12 units is in each of 4 groups; 33 degrees of freedom."""
    schedule = RandomOrder("neuron", groups=4, passes=4000)
    counts = np.zeros((12, 4))
    for offset, units in enumerate(wakes(schedule, NETWORK)):
        counts[units, offset % 4] += 1
    assert chi_square(counts, 1000.0) < 75.0  # of which 5 in 100,000 are larger


def test_successive_passes_are_independent() -> None:
    schedule = RandomOrder("neuron", groups=2, passes=8000)
    first = np.array([0 in units for units in wakes(schedule, NETWORK)[::2]])
    assert abs((first[1:] == first[:-1]).mean() - 0.5) < 4.0 * 0.5 / np.sqrt(8000)


def test_random_populations() -> None:
    """One per tick, uniform with replacement: single draws and pairs, by chi-square."""
    found = wakes(RandomOrder("population", updates=30_000), NETWORK, seed=1)
    assert all(len(units) == 1 for units in found)
    drawn = [units[0] for units in found]
    singles = Counter(drawn)
    assert chi_square([singles[p] for p in range(3)], 10_000) < 20.0  # 2 degrees of freedom
    pairs = Counter(zip(drawn[::2], drawn[1::2], strict=True))
    assert len(pairs) == 9
    assert chi_square(list(pairs.values()), 15_000 / 9) < 34.0  # 8 degrees of freedom


# ---- replay ------------------------------------------------------------------------------------


def replayed(tick: float, *times: float) -> list[int]:
    """The ticks at which population "a" wakes at these times; "b" wakes first and last."""
    sure = [(tick, "b", None), (40 * tick, "b", None)]
    schedule = Replay(((t, "a", [0]) for t in times), tick)  # type: ignore[arg-type]
    schedule = Replay((*schedule.wakes, *sure), tick)
    return [n for n, units in enumerate(wakes(schedule, chain(1, 1)), 1) if 0 in units]


@pytest.mark.parametrize(
    ("tick", "times", "expected"),
    [
        (1.0, [1.0, 2.0, 2.0001, 3.9], [1, 2, 3, 4]),
        (1.0, [0.1, 0.5, 1.0], [1]),
        (1.0, [3.0, 1.0, 2.0], [1, 2, 3]),
        (0.1, [0.3, 0.1 + 0.2, 0.7, 0.6000000000000001], [3, 6, 7]),
        (0.1, [0.31], [4]),
        (0.25, [0.25, 0.5, 0.51], [1, 2, 3]),
        (3.0, [0.5, 3.0, 6.5], [1, 3]),
        (1.0, [1e-6, 2.5], [1, 3]),
        (1.0, [1e-12, 2.5], [1, 3]),
        (1.0, [5e-324], [1]),
    ],
)
def test_times_of_a_replay(tick: float, times: list[float], expected: list[int]) -> None:
    """Wakes in ((n−1)·tick, n·tick] commit at tick n, several of them once."""
    assert replayed(tick, *times) == expected


@given(n=st.integers(1, 10**15), tick=st.floats(1e-6, 1e6))
def test_a_multiple_of_a_tick_is_that_tick(n: int, tick: float) -> None:
    assert ticks_of(n * tick, tick) == n


def test_a_replay_names_dyads_by_flat_index() -> None:
    listed = ((1.0, "b", [2, 0]), (2.0, "a", None), (2.0, "b", (1, 1)), (3.0, "c", []))
    found = wakes(Replay((*listed, (4.0, "c", np.array([3])))), NETWORK, tick=10)  # type: ignore[arg-type]
    assert found == [[5, 7], [0, 1, 2, 3, 4, 6], [], [11]]


@pytest.mark.parametrize("tick", [1.0, 0.1, 0.3])
@pytest.mark.parametrize(
    "schedule",
    [
        lambda tick: RandomOrder("neuron", groups=3, passes=4, tick=tick),
        lambda tick: Sweep("forward_backward", 2, tick=tick),
        lambda tick: Poisson("neuron", rate=0.5 / tick, tick=tick, duration=12 * tick),
        lambda tick: Lazy(duration=9 * tick, tick=tick),
    ],
)
def test_round_trip_of_recorded_wakes(schedule: Any, tick: float) -> None:
    model = ns.Model(NETWORK, dtype=torch.float64)
    x = torch.linspace(-1.0, 2.0, 6, dtype=torch.float64).view(3, 2)
    target = torch.ones(3, 4, dtype=torch.float64)
    options: dict[str, Any] = {"init": "zero", "probes": ["wakes"]}
    first = ns.Simulation(model, schedule=schedule(tick), **options).infer(x, target)
    assert {name for _, name, _ in first.trace.wakes} == {"a", "b", "c"}
    again = Replay(tuple(first.trace.wakes), tick)
    second = ns.Simulation(model, schedule=again, **options).infer(x, target)
    assert [(round(t / tick), p, i) for t, p, i in second.trace.wakes] == [
        (round(t / tick), p, i) for t, p, i in first.trace.wakes
    ]
    assert second.wakes == first.wakes
    for name in first.plus:
        assert torch.equal(first.plus[name], second.plus[name])
        assert torch.equal(first.minus[name], second.minus[name])


# ---- the state of a clock ----------------------------------------------------------------------

EVERY: list[Schedule] = [
    Sweep("forward_backward", 2),
    Sweep("odd_even", 5, unit="neuron"),
    Parallel(9),
    RandomOrder("population", updates=9),
    RandomOrder("neuron", groups=4, passes=3),
    Poisson("neuron", rate=0.4, duration=12.0),
    Poisson("block", rate={"a": 0.2, "b": 1.0, "c": 3.0}, duration=12.0),
    Periodic("neuron", period=2.5, spread=0.3, jitter=0.5, duration=14.0),
    Periodic("neuron", period=0.9, phase="aligned", tick=0.5, duration=7.0),
    Lazy(duration=9.0),
    Replay(((1.0, "a", [1]), (2.0, "b", None), (2.5, "a", None), (4.0, "c", [0, 3]))),
]


@pytest.mark.parametrize("tick", [0, 21])
@pytest.mark.parametrize("schedule", EVERY, ids=lambda s: f"{type(s).__name__}-{s.unit}")
def test_a_clock_continues_from_its_state(schedule: Schedule, tick: int) -> None:
    assert any(wakes(schedule, NETWORK, tick=tick))
    clock_goes_on(schedule, NETWORK, tick)


@pytest.mark.parametrize("schedule", EVERY, ids=lambda s: f"{type(s).__name__}-{s.unit}")
def test_a_clock_depends_on_its_seed_alone(schedule: Schedule) -> None:
    clock_twice(schedule, NETWORK)
    drawn = isinstance(schedule, RandomOrder | Poisson) or getattr(schedule, "jitter", 0)
    assert (wakes(schedule, NETWORK) != wakes(schedule, NETWORK, seed=1)) == bool(drawn)


# ---- what is refused ---------------------------------------------------------------------------

BAD: list[tuple[Any, dict[str, Any], str]] = [
    (Sweep, {"order": "up"}, "order is 'up'; it must be one of 'forward', 'backward'"),
    (Sweep, {"passes": 0}, "passes is 0; it must be at least 1"),
    (Sweep, {"passes": 1.5}, "passes is 1.5"),
    (Sweep, {"passes": True}, "passes is True"),
    (Parallel, {"ticks": 0}, "ticks is 0"),
    (RandomOrder, {"unit": "population"}, "unit 'population' needs 'updates'"),
    (RandomOrder, {"unit": "population", "updates": 9, "groups": 2}, "does not take 'groups'"),
    (RandomOrder, {"unit": "population", "updates": 0}, "updates is 0"),
    (RandomOrder, {"updates": 9}, "unit 'neuron' does not take 'updates'"),
    (RandomOrder, {"passes": 1}, "unit 'neuron' needs 'groups'"),
    (RandomOrder, {"groups": 1}, "unit 'neuron' needs 'passes'"),
    (RandomOrder, {"groups": 0, "passes": 1}, "groups is 0"),
    (Poisson, {"rate": 0.0}, "rate is 0.0; it must be greater than 0"),
    (Poisson, {"rate": {"a": 1.0, "b": -1.0}}, "rate of 'b' is -1.0"),
    (Poisson, {"duration": 0.0}, "duration is 0.0"),
    (Periodic, {"period": 0.0}, "period is 0.0"),
    (Periodic, {"period": 1e-20}, "period is 1e-20, .*make it at least 1e-09"),
    (Periodic, {"period": 1e-9, "spread": 0.5}, "the shortest one 5e-10"),
    (Periodic, {"spread": 1.0}, "spread is 1.0"),
    (Periodic, {"spread": -0.1}, "spread is -0.1"),
    (Periodic, {"jitter": -0.1}, "jitter is -0.1"),
    (Periodic, {"period": 2.0, "spread": 0.5, "jitter": 0.51}, "shortest period, 0.5,"),
    (Periodic, {"phase": "none"}, "phase is 'none'"),
    (Lazy, {"duration": -1.0}, "duration is -1.0"),
]
BAD += [(kind, {"rate": value}, "rate is") for kind in [Poisson] for value in (nan, inf)]
BAD += [(Periodic, {key: nan}, f"{key} is nan") for key in ("spread", "jitter", "period")]
KINDS: list[tuple[Any, dict[str, Any]]] = [
    (Sweep, {}),
    (Parallel, {}),
    (RandomOrder, {"groups": 1, "passes": 1}),
    (Poisson, {}),
    (Periodic, {}),
    (Lazy, {"duration": 1.0}),
    (Replay, {}),
]
BAD += [
    (kind, more | {"tick": t}, "tick is") for kind, more in KINDS for t in (0.0, -1.0, nan, inf)
]


@pytest.mark.parametrize(("kind", "options", "message"), BAD)
def test_options_that_cannot_be(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        kind(**options)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (RandomOrder("population", updates=2), "updates is 2, but there are 3 populations"),
        (RandomOrder("neuron", groups=13, passes=1), "groups is 13, .* only 12 units"),
        (RandomOrder("block", groups=4, passes=1), "groups is 4, .* only 3 units"),
        (Poisson(rate={"a": 1.0, "c": 1.0}), "never wakes the population 'b': rate does not name"),
        (Poisson(rate={"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}), "unknown population 'd'"),
        (Poisson(rate=1e-9, duration=2.0), "never wakes the population 'a': .* wakes of it are"),
        (Periodic(period=20.0, phase="aligned"), "never wakes the population 'a': its first wake"),
        (Replay(((1.0, "a", None), (1.0, "c", None))), "never wakes the population 'b'"),
        (Replay(((1.0, "a", None), (1.0, "b", []), (1.0, "c", None))), "never wakes .* 'b'"),
        (Replay(((0.0, "a", None),)), r"wake 0 of the replay, \(0.0, 'a', …\): the time must be"),
        (Replay(((1.0, "a", None), (-1.0, "a", None))), "wake 1 of the replay"),
        (Replay(((nan, "a", None),)), "the time must be greater than 0"),
        (Replay(((inf, "a", None),)), "the time must be"),
        (Replay(((1.0, "d", None),)), "unknown population 'd'"),
        (Replay(((1.0, "input", None),)), "the input never wakes"),
        (Replay(((1.0, "a", [5]),)), "an index lies outside 0…4"),
        (Replay(((1.0, "a", [0, -1]),)), "an index lies outside 0…4"),
    ],
)
def test_schedules_that_do_not_fit_the_network(schedule: Schedule, message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        schedule.start(starting(schedule, NETWORK))
