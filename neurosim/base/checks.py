"""Checks of option values; each raises ConfigurationError that names the option and the value."""

from __future__ import annotations

from math import isfinite
from typing import Any, get_args

from neurosim.base.errors import ConfigurationError


def check_choices(**values: tuple[object, Any]) -> None:
    """Each option as (value, Literal type)."""
    for name, (value, literal) in values.items():
        choices = get_args(literal)
        if value not in choices:
            listed = ", ".join(map(repr, choices))
            raise ConfigurationError(f"{name} is {value!r}; it must be one of {listed}", name)


def check_counts(least: int = 1, **values: int | None) -> None:
    """Whole numbers of at least ``least``, or None for an option that is left out."""
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigurationError(
                f"{name} is {value!r}; it must be a whole number, at least {least}", name
            )


def check_positive(**values: float) -> None:
    """Finite numbers greater than 0."""
    for name, value in values.items():
        if not (isfinite(value) and value > 0):
            raise ConfigurationError(
                f"{name} is {value}; it must be finite and greater than 0", name
            )


def check_not_negative(**values: float) -> None:
    """Finite numbers of at least 0."""
    for name, value in values.items():
        if not (isfinite(value) and value >= 0):
            raise ConfigurationError(f"{name} is {value}; it must be finite and at least 0", name)


def check_finite(**values: float) -> None:
    """Finite numbers."""
    for name, value in values.items():
        if not isfinite(value):
            raise ConfigurationError(f"{name} is {value}; it must be finite", name)
