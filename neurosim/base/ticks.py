"""Simulated time in whole ticks."""

from math import ceil

from neurosim.base.errors import ConfigurationError

NEVER = 2**63 - 1  # the largest int64

LAST_TICK = 10**15  # no inference gets there; far from what an int64 or a float64 cannot hold


def ticks_of(time: float, tick: float) -> int:
    """⌈time/tick⌉, forgiving round-off just above a whole number, which grows with the number."""
    ticks = time / tick
    return ceil(ticks - max(1e-9, ticks * 2**-51))


def duration_ticks(duration: float, tick: float) -> int:
    """Ticks of a duration, at least 1. Raises ConfigurationError for more than can be counted."""
    if duration / tick > LAST_TICK:
        raise ConfigurationError(
            f"duration is {duration:g}, which is more than {LAST_TICK:,} ticks of {tick:g}",
            "duration",
        )
    return max(1, ticks_of(duration, tick))
