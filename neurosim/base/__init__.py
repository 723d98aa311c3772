"""What everything stands on: errors, checks, random streams, files, words. Knows no torch."""

from neurosim.base.checks import TYPES, Described, check, demand
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
from neurosim.base.kinds import (
    Family,
    Kind,
    Section,
    Written,
    build,
    described,
    keys_of,
    model_of,
    register,
    written,
)
from neurosim.base.random import generator_state, restore_generator, seed_sequence, stream
from neurosim.base.ranges import (
    BelowOne,
    Bounded,
    Count,
    Fraction,
    NotNegative,
    Portion,
    Positive,
    Whole,
)
from neurosim.base.suggest import did_you_mean, nearest, shorten, unknown
from neurosim.base.ticks import LAST_TICK, NEVER, duration_ticks, ticks_of
from neurosim.base.words import compact, cut, duration, gigabytes, number, plus_minus, spread
