"""The ranges that numbers have, as annotations of the fields of described dataclasses."""

from typing import Annotated

from pydantic import AfterValidator, Field

LARGEST = 1e30  # float32 holds it, and its products with what it meets


def _not_tiny(value: float) -> float:
    if value < 1 / LARGEST:
        raise ValueError(f"must be at least {1 / LARGEST:.0e}, got {value:g}")
    return value


Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False), AfterValidator(_not_tiny)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Bounded = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Portion = Annotated[float, Field(gt=0, lt=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=10**12)]
Whole = Annotated[int, Field(ge=0)]
