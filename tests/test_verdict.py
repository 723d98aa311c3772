"""Verdicts on series that are made for them."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.convergence import verdict

RNG = np.random.default_rng(0)
TIME = np.arange(60.0)[:, None]
PLACES = RNG.normal(size=(1, 20))


@pytest.mark.parametrize("period", [2, 3, 7, 20])
def test_what_comes_back(period: int) -> None:
    states = 5.0 + PLACES * np.sin(2 * np.pi * (TIME + 0.3) / period)
    assert verdict.recurs(states, 1e-10) == period
    assert verdict.recurs(1e300 * states, 1e-10) == period
    noisy = states + 0.05 * RNG.normal(size=states.shape)
    assert verdict.recurs(noisy, 1e-10) == period


@pytest.mark.parametrize(
    "states",
    [
        np.ones((60, 20)),
        1.0 + PLACES * 0.9**TIME,  # converges
        1.0 + PLACES * TIME,  # drifts
        RNG.normal(size=(60, 20)),  # noise
        1.0 + 1e-12 * PLACES * (-1.0) ** TIME,  # rounding
        PLACES * np.sin(2 * np.pi * TIME / 50),  # goes away, but not back yet
        PLACES * (-1.0) ** TIME[:5],  # too short to tell
        np.full((60, 20), np.inf),
    ],
)
def test_what_does_not(states: verdict.Floats) -> None:
    assert verdict.recurs(states, 1e-10) is None


@pytest.mark.parametrize(("period", "ticks"), [(2, 6), (3, 6), (4, 8), (7, 14), (7, 200)])
def test_an_exact_cycle_needs_two_periods(period: int, ticks: int) -> None:
    """And six states. One that dies out, or grows, is none."""
    states = RNG.normal(size=(period, 20))[np.arange(ticks) % period]
    assert verdict.cycles(states, 1e-10) == period
    assert verdict.cycles(1e300 * states, 1e-10) == period
    states[: ticks - max(6, 2 * period)] += 1.0  # what was before does not matter
    assert verdict.cycles(states, 1e-10) == period
    assert verdict.cycles(states[1 - max(6, 2 * period) :], 1e-10) is None
    for factor in (0.999999, 1.000001):
        assert verdict.cycles(states * factor ** np.arange(ticks)[:, None], 1e-10) is None


@pytest.mark.parametrize(
    "states",
    [
        np.ones((60, 20)),
        1.0 + PLACES * (TIME < 50),  # rests
        RNG.normal(size=(60, 20)),  # noise
        1.0 + 1e-12 * PLACES * (-1.0) ** TIME,  # rounding
        np.full((60, 20), np.inf),
    ],
)
def test_no_exact_cycle(states: verdict.Floats) -> None:
    assert verdict.cycles(states, 1e-10) is None


def test_a_residual_that_falls() -> None:
    assert verdict.falls([0.9**k for k in range(30)])
    assert not verdict.falls([1.0] * 30)
    assert not verdict.falls([0.9999**k for k in range(30)])
    assert not verdict.falls([1.0, 0.1])  # a third of two is one, which cannot fall
    noise = list(1.0 + 0.1 * RNG.normal(size=300))
    assert not verdict.falls(noise)
    assert verdict.residual_floor([100.0] * 200 + noise[:100]) == pytest.approx(1.0, abs=0.05)


def test_growth() -> None:
    powers = [2.0**k for k in range(60)]
    assert verdict.grows(powers, None)
    assert verdict.grows(powers, 1.0)
    assert not verdict.grows(powers, 2.0**58)  # on its way to a large fixed point
    assert verdict.grows([value * (1 + k % 2) for k, value in enumerate(powers)], None)
    assert not verdict.grows([1.0 - 0.5**k for k in range(60)], None)
    assert not verdict.grows([0.0] * 60, None)
    assert not verdict.grows(powers[:9], None)  # a third of them is too short
    assert verdict.grows([1.0, float("inf")], None)
