"""What a measured inference came to: converged, not (yet), elsewhere, oscillating or diverging.

Pure: numbers in, a verdict and its reason out.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["converged", "not_converged", "oscillates", "several_fixed_points", "diverged"]
Floats = npt.NDArray[np.float64]

FALLS = 0.9  # a residual that falls less than to this over the tail does not fall
COMES_BACK = 0.05  # of the variance of independent states
GOES_AWAY = 0.5
GROWS = 10.0  # over the tail, and against the fixed point
LEAST = 6  # values that a tail must have for oscillation or growth to be seen in it


def tail(values: Sequence[float]) -> Floats:
    """Takes the last third, at least one value."""
    return np.array(values[-max(1, len(values) // 3) :], dtype=np.float64)


def residual_floor(residuals: Sequence[float]) -> float:
    """Takes the median over the last third of the record."""
    return float(np.median(tail(residuals)))


def falls(residuals: Sequence[float]) -> bool:
    """Says if the residual falls over the last third: the median of its later half is less than
    nine tenths of that of its earlier half."""
    last = tail(residuals)
    half = len(last) // 2
    return bool(half and np.median(last[-half:]) < FALLS * np.median(last[:half]))


def grows(norms: Sequence[float], reference: float | None) -> bool:
    """Says if the states grow without bound: over the last third (at least six records) the median
    norm of the later half is more than ten times that of the earlier half, and more than ten times
    the norm of the fixed point, if that is known. A norm past what a float64 can hold is enough."""
    last = tail(norms)
    if not np.isfinite(last).all():
        return True
    half = len(last) // 2
    if len(last) < LEAST:
        return False
    before, after = np.median(last[:half]), np.median(last[-half:])
    return bool(0.0 < GROWS * before < after and (not reference or after > GROWS * reference))


def cycles(states: Floats, rounding: float) -> int | None:
    """Finds the period of the exact cycle in which states (T, n) end, a row per tick; None if they
    end in none, or rest.

    The last states, at least six and two whole periods of them, are those a period before, up to
    ``rounding`` times the largest value. That is proof enough in few ticks, where `recurs` needs
    many: an oscillation that dies out comes back smaller.
    """
    count = len(states)
    if count < LEAST or not np.isfinite(states).all():
        return None
    near = rounding * np.abs(states).max()
    for lag in range(1, count // 2 + 1):
        if (np.abs(states[-1] - states[-1 - lag]) <= near).all():  # most are ruled out by the last
            last = states[-max(LEAST, 2 * lag) :]
            if (np.abs(last[lag:] - last[:-lag]) <= near).all():
                return lag if lag > 1 else None
    return None


def recurs(states: Floats, rounding: float) -> int | None:
    """Finds the period after which the states (T, n), a row per tick, come back; None if never.

    r(p) is the mean of ‖s_t − s_{t−p}‖² over t, divided by twice the variance of the s_t: 0 for
    states that come back after p ticks, 1 for independent ones. The period is the first p ≤ T/2
    with r(p) ≤ 0.05 and a lag before it with r ≥ 0.5: the states went away, and came back. A spread
    of no more than ``rounding`` times the norm is not movement.
    """
    count = len(states)
    if count < LEAST or not np.isfinite(states).all():
        return None
    states = states / (np.abs(states).max() or 1.0)  # that no square overflows
    states = states - (centre := states.mean(0))
    spread = float(np.square(states).sum(1).mean())
    if not spread > rounding**2 * float(np.square(centre).sum()):
        return None
    away = False
    for lag in range(1, count // 2 + 1):
        ratio = float(np.square(states[lag:] - states[:-lag]).sum(1).mean()) / (2.0 * spread)
        if away and ratio <= COMES_BACK:
            return lag
        away = away or ratio >= GOES_AWAY
    return None
