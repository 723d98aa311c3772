"""Schedules whose units have clocks of their own: their laws, within a few standard errors."""

from __future__ import annotations

from math import ceil, exp, sqrt

import numpy as np
import pytest
from clockwork import Wakes, chain, chi_square, run, starting, wakes
from hypothesis import given
from hypothesis import strategies as st

import neurosim as ns
from neurosim.base.ticks import NEVER
from neurosim.schedules import Lazy, Periodic, Poisson, Schedule
from neurosim.tensors import places

MANY = chain(2000)
NETWORK = chain(5, 3, 4)


def times_of(found: Wakes, units: int) -> list[list[int]]:
    """The ticks at which each unit wakes."""
    ticks: list[list[int]] = [[] for _ in range(units)]
    for tick, woken in enumerate(found, 1):
        for unit in woken:
            ticks[unit].append(tick)
    return ticks


# ---- poisson -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("tick", [0.25, 1.0])
def test_poisson_wakes_per_tick(rate: float, tick: float) -> None:
    """A unit wakes in a window with probability 1 − exp(−rate·tick), several times at once."""
    schedule = Poisson("neuron", rate=rate, tick=tick, duration=40 * tick)
    found = wakes(schedule, MANY)
    assert len(found) == 40
    counts = np.array([len(units) for units in found])
    p, n = 1.0 - exp(-rate * tick), 2000
    assert abs(counts.mean() / n - p) < 4.0 * sqrt(p * (1.0 - p) / (40 * n))
    # In each tick by itself, the first and the last too: 40 draws beyond 4.5 are 3 in 10,000.
    assert np.abs(counts / n - p).max() < 4.5 * sqrt(p * (1.0 - p) / n)


def test_poisson_waits_are_geometric() -> None:
    """Wakes of a unit in successive windows are independent."""
    p = 1.0 - exp(-0.7)
    found = wakes(Poisson("neuron", rate=0.7, duration=200.0), MANY)
    waits = np.concatenate([np.diff(ticks) for ticks in times_of(found, 2000)])
    counts = [(waits == k).sum() for k in range(1, 7)] + [(waits > 6).sum()]
    expected = [p * (1 - p) ** (k - 1) for k in range(1, 7)] + [(1 - p) ** 6]
    # 6 degrees of freedom; long waits are cut off at the end, some 1 in 200 of them.
    assert chi_square(counts, np.array(expected) * len(waits)) < 40.0


def test_poisson_units_are_independent() -> None:
    found = wakes(Poisson("neuron", rate=0.7, duration=4000.0), chain(2, 1))
    woken = np.array([[unit in units for units in found] for unit in range(3)])
    correlation = np.corrcoef(woken)[~np.eye(3, dtype=bool)]
    assert np.abs(correlation).max() < 4.0 / sqrt(4000)


def test_poisson_rates_by_population() -> None:
    network = chain(1000, 800, 900)
    rates = {"c": 2.0, "a": 0.1, "b": 0.5}
    found = wakes(Poisson("neuron", rate=rates, duration=50.0), network)
    flat = np.concatenate([np.array(units) for units in found])
    for name, low, high in [("a", 0, 1000), ("b", 1000, 1800), ("c", 1800, 2700)]:
        p, n = 1.0 - exp(-rates[name]), 50 * (high - low)
        share = ((flat >= low) & (flat < high)).sum() / n
        assert abs(share - p) < 4.0 * sqrt(p * (1.0 - p) / n), name


@pytest.mark.parametrize(
    ("tick", "duration", "ticks"), [(1.0, 16.0, 16), (0.1, 0.3, 3), (1.0, 2.2, 3), (1.0, 0.1, 1)]
)
@pytest.mark.parametrize("kind", [Poisson, Periodic, Lazy])
def test_durations_in_simulated_time(
    kind: type[Schedule], tick: float, duration: float, ticks: int
) -> None:
    more = {"period": tick / 2} if kind is Periodic else {}
    schedule = kind(tick=tick, duration=duration, **more)  # type: ignore[call-arg]
    assert schedule.start(starting(schedule, NETWORK, tick=5)).end == 5 + ticks


# ---- periodic ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "tick", "expected"),
    [
        (1.0, 1.0, [1, 2, 3, 4, 5, 6, 7, 8]),
        (2.0, 1.0, [2, 4, 6, 8]),
        (1.5, 1.0, [2, 3, 5, 6, 8]),
        (0.3, 0.1, [3, 6]),  # 0.3/0.1 rounds up, and is 3 all the same
        (0.7, 0.1, [7]),
        (2.5, 0.5, [5]),
        (0.4, 1.0, [1, 2, 3, 4, 5, 6, 7, 8]),  # several wakes in one window commit once
        (8.5, 1.0, [9]),
    ],
)
def test_aligned_phases(period: float, tick: float, expected: list[int]) -> None:
    schedule = Periodic("neuron", period=period, phase="aligned", tick=tick, duration=9 * tick)
    found = wakes(schedule, NETWORK, tick=3)
    woken = [n for n, units in enumerate(found, 1) if units]
    assert [n for n in woken if n <= 8 or n in expected] == expected
    assert all(found[n - 1] == list(range(12)) for n in woken)


@given(
    period=st.floats(0.2, 12.0),
    tick=st.sampled_from([0.1, 1.0, 3.0]),
    spread=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 99),
)
def test_every_unit_keeps_its_period(period: float, tick: float, spread: float, seed: int) -> None:
    """There are one phase in (0, p] and one p in its bounds that explain all wakes of a unit."""
    period *= tick
    schedule = Periodic(
        "neuron", period=period, spread=spread, tick=tick, duration=60 * tick + 2 * period
    )
    low, high = period * (1 - spread) / tick, period * (1 + spread) / tick
    slack = 1e-6
    for ticks in times_of(wakes(schedule, NETWORK, seed=seed), 12):
        if high < 1.0:  # a wake in every window
            assert np.diff(ticks).tolist() == [1] * (len(ticks) - 1)
            continue
        assert 1 <= ticks[0] <= ceil(high)
        if low < 1.0:
            continue
        # The k-th wake lies in (n−1, n]: all of these lie on one line of slope p.
        for first in range(len(ticks)):
            for last in range(first + 1, len(ticks)):
                steps, span = last - first, ticks[last] - ticks[first]
                assert low * steps - 1 - slack <= span <= high * steps + 1 + slack


def test_phases_and_periods_are_uniform() -> None:
    period, spread = 20.0, 0.25
    schedule = Periodic("neuron", period=period, spread=spread, duration=400.0)
    ticks = times_of(wakes(schedule, MANY), 2000)
    periods = np.array([(own[-1] - own[0]) / (len(own) - 1) for own in ticks])
    counts = np.histogram(periods, bins=5, range=(15.0, 25.0))[0]
    assert counts.sum() >= 1990  # they are known to a tick in some 380
    assert chi_square(counts, counts.sum() / 5) < 23.0  # 4 degrees of freedom
    phases = np.array([own[0] for own in ticks]) / periods
    counts = np.histogram(phases, bins=[0.0, 0.25, 0.5, 0.75, 1.1])[0]
    # A first wake in (n−1, n] counts as n, half a tick late on average.
    late = 0.5 / period / 0.25 * np.array([-1, 0, 0, 1]) * 500
    assert chi_square(counts, 500 + late) < 21.0


def test_jitter_is_bounded_and_uniform() -> None:
    """Wakes at k·10 ± 2: one of four ticks, evenly."""
    schedule = Periodic("neuron", period=10.0, jitter=2.0, phase="aligned", duration=103.0)
    offsets = [
        tick - 10 * k
        for ticks in times_of(wakes(schedule, MANY), 2000)
        for k, tick in enumerate(ticks, 1)
    ]
    assert len(offsets) == 20_000
    assert set(offsets) == {-1, 0, 1, 2}
    assert chi_square([offsets.count(k) for k in (-1, 0, 1, 2)], 5000) < 21.0


@pytest.mark.parametrize(
    ("period", "jitter", "spread"),
    [
        (3.0, 0.0, 0.0),
        (3.0, 1.0, 0.2),
        (2.0, 1.0, 0.0),
        (1.5, 0.75, 0.0),
        (1.0, 0.5, 0.0),
        (1.3, 0.4, 0.3),
        (0.7, 0.3, 0.0),
    ],
)
def test_the_mean_rate_with_jitter(period: float, jitter: float, spread: float) -> None:
    """The number of windows that hold a wake, against wakes drawn one by one."""
    ticks, units = 60, 2000
    schedule = Periodic(
        "neuron", period=period, jitter=jitter, spread=spread, duration=float(ticks)
    )
    found = [len(own) for own in times_of(wakes(schedule, MANY), units)]
    random = np.random.default_rng(5)
    expected = []
    for _ in range(units):
        own = random.uniform(period * (1 - spread), period * (1 + spread))
        times = own * (1.0 - random.random()) + own * np.arange(ceil(2 * ticks / own))
        times = times + random.uniform(-jitter, jitter, len(times))
        windows = np.maximum(np.ceil(times), 1)
        expected.append(len(set(windows[windows <= ticks].tolist())))
    error = sqrt((np.var(found) + np.var(expected)) / units)
    assert float(np.mean(found)) == pytest.approx(float(np.mean(expected)), abs=4.5 * error + 0.01)


# ---- carried clocks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [
        Poisson("neuron", rate=0.3, duration=10.0),
        Periodic("neuron", period=3.7, spread=0.2, jitter=0.5, duration=10.0),
        Periodic("neuron", period=12.0, spread=0.9, duration=20.0),
    ],
)
def test_clocks_run_on_from_one_inference_to_the_next(schedule: Schedule) -> None:
    """Twice 10 ticks wake what 20 ticks do: carrying over is not starting anew."""
    at = starting(schedule, NETWORK)
    first = schedule.start(at)
    found = run(first, 0)
    length = len(found)
    again = starting(schedule, NETWORK, tick=length, previous=first, random=at.random)
    second = schedule.start(again)
    assert second.end == 2 * length
    found += run(second, length)
    long = schedule.start(starting(schedule, NETWORK))
    assert found == run(long, 0, 2 * length)


# ---- lazy --------------------------------------------------------------------------------------


def test_lazy_wakes_what_is_due() -> None:
    schedule = Lazy(duration=9.0)
    at = starting(schedule, NETWORK)
    clock = schedule.start(at)
    assert clock.listens
    assert clock.advance(1).tolist() == list(range(12))  # everything, under a zero start
    assert (clock.next == NEVER).all()
    clock.news(3, np.array([4, 7]))
    assert clock.advance(2).tolist() == []
    clock.news(3, np.array([2, 7]))
    clock.news(5, np.array([2, 8]))  # what is due already is not put off
    assert clock.advance(3).tolist() == [2, 4, 7]
    assert clock.advance(4).tolist() == []
    clock.news(6, np.array([8]))
    assert clock.advance(5).tolist() == [8]
    assert (clock.next == NEVER).all()  # one wake answers all that has come


def test_lazy_starts_at_the_output_after_a_feed_forward_pass() -> None:
    schedule = Lazy(duration=3.0)
    assert wakes(schedule, NETWORK, feedforward=True, tick=8) == [[8, 9, 10, 11], [], []]
    blocks = Lazy(duration=3.0, unit="block")
    assert wakes(blocks, NETWORK, feedforward=True) == [[2], [], []]


def test_lazy_carries_what_is_due() -> None:
    schedule = Lazy(duration=3.0)
    first = schedule.start(starting(schedule, NETWORK))
    run(first, 0)
    first.news(4, np.array([6]))
    second = schedule.start(starting(schedule, NETWORK, tick=3, previous=first))
    assert second.end == 6
    assert run(second, 3) == [[6], [], []]


@pytest.mark.parametrize("before", [ns.schedules.Sweep(passes=2), Poisson(rate=0.1)])
@pytest.mark.parametrize("schedule", [Poisson(duration=40.0), Lazy(duration=3.0)])
def test_a_clock_takes_over_no_wakes_of_another_kind(before: Schedule, schedule: Schedule) -> None:
    """They would be those of other units, of another rate, or none."""
    first = before.start(starting(before, NETWORK))
    tick = len(run(first, 0))
    second = schedule.start(starting(schedule, NETWORK, tick=tick, previous=first))
    assert sorted({unit for due in run(second, tick) for unit in due}) == list(range(12))


def test_only_lazy_listens() -> None:
    for schedule in (Poisson(), Periodic()):
        clock = schedule.start(starting(schedule, NETWORK))
        before = clock.next.copy()
        clock.news(1, np.arange(12))
        assert not clock.listens
        assert (clock.next == before).all()


def test_units_of_a_clock() -> None:
    network = ns.Network.from_dict({"input": [1, 4, 4], "layers": [{"conv": 3}, {"dense": 130}]})
    for unit, total in [("channel", 133), ("column", 17), ("tile", 4), ("population", 2)]:
        schedule = Poisson(unit, duration=5.0)  # type: ignore[arg-type]
        clock = schedule.start(starting(schedule, network))
        assert len(clock.next) == total


@pytest.mark.parametrize("size", [0, 7, 1000, 65_536, 65_537, 100_003, 279_999])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.021, 0.05, 0.099, 0.101, 0.5, 1.0])
def test_places_of_marks(size: int, share: float) -> None:
    """Where they are, in the dtype of an index, whatever the way that is taken to find them."""
    marks = np.random.default_rng(size).permutation(size) < round(share * size)
    found = places(marks)
    assert found.dtype == np.int64
    assert np.array_equal(found, np.flatnonzero(marks))


@given(st.integers(65_536, 70_000), st.floats(0.02, 0.1), st.integers(0, 1000))
def test_places_of_any_marks(size: int, share: float, seed: int) -> None:
    marks = np.random.default_rng(seed).random(size) < share
    assert np.array_equal(places(marks), np.flatnonzero(marks))
