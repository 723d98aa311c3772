"""Families of kinds: what scenarios and networks can name, and how its fields are checked."""

from neurosim.families.checks import TYPES, Described, check, demand
from neurosim.families.kinds import (
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
from neurosim.families.ranges import (
    BelowOne,
    Bounded,
    Count,
    Fraction,
    NotNegative,
    Portion,
    Positive,
    Whole,
)
