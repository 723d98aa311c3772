"""Families of kinds: what scenarios and networks can name, and how its fields are checked."""

from neurosim.families.checks import (
    TYPES,
    BelowOne,
    Bounded,
    Count,
    Described,
    Fraction,
    NotNegative,
    Portion,
    Positive,
    Seed,
    Whole,
    check,
    demand,
)
from neurosim.families.kinds import (
    Family,
    Kind,
    Section,
    Written,
    described,
    gather,
    keys_of,
    model_of,
    register,
    written,
)
from neurosim.families.objects import build
from neurosim.families.repeating import Repeating
