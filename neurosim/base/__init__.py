"""What everything stands on: errors, checks, random streams, files, words. Knows no torch."""

from neurosim.base.checks import (
    check_choices,
    check_counts,
    check_finite,
    check_not_negative,
    check_positive,
)
from neurosim.base.errors import (
    ConfigurationError,
    DataError,
    DivergenceError,
    DocumentError,
    InputError,
    NetworkError,
    NeurosimError,
    PluginError,
    Problem,
    StateError,
    inside,
)
from neurosim.base.files import finite, write_atomic, write_json
from neurosim.base.interrupts import Interrupted, interruptible
from neurosim.base.random import generator_state, restore_generator, seed_sequence, stream
from neurosim.base.suggest import did_you_mean, nearest, shorten, unknown
from neurosim.base.ticks import LAST_TICK, NEVER, duration_ticks, ticks_of
from neurosim.base.words import compact, cut, duration, gigabytes, number, plus_minus, spread

__all__ = [
    "LAST_TICK",
    "NEVER",
    "ConfigurationError",
    "DataError",
    "DivergenceError",
    "DocumentError",
    "InputError",
    "Interrupted",
    "NetworkError",
    "NeurosimError",
    "PluginError",
    "Problem",
    "StateError",
    "check_choices",
    "check_counts",
    "check_finite",
    "check_not_negative",
    "check_positive",
    "compact",
    "cut",
    "did_you_mean",
    "duration",
    "duration_ticks",
    "finite",
    "generator_state",
    "gigabytes",
    "inside",
    "interruptible",
    "nearest",
    "number",
    "plus_minus",
    "restore_generator",
    "seed_sequence",
    "shorten",
    "spread",
    "stream",
    "ticks_of",
    "unknown",
    "write_atomic",
    "write_json",
]
