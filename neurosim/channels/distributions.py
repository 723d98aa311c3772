"""Bounded distributions, for delays that are drawn once and jitter that is drawn per message."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import expm1
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurosim.base import ConfigurationError
from neurosim.families import Kind, NotNegative, Positive, register

Floats = npt.NDArray[np.float64]
Per = Literal["dyad", "synapse"]


class Distribution(Kind, ABC, family="distribution"):
    """How times, at least 0 and at most ``high``, are drawn: a delay once ``per`` sending dyad or,
    on a dense projection, per synapse."""

    high: float
    per: Per = "dyad"

    @abstractmethod
    def quantile(self, share: Floats) -> Floats:
        """Returns the times below which these shares (0 ≤ share < 1) of all draws lie."""


@register("uniform")
@dataclass(frozen=True)
class Uniform(Distribution):
    """Draws uniformly between ``low`` and ``high``, in simulated time: 0 ≤ low ≤ high."""

    low: Annotated[NotNegative, Field(description="the shortest, in simulated time")]
    high: Annotated[NotNegative, Field(description="the longest, in simulated time")]
    per: Annotated[
        Per,
        Field(
            description="one delay for each sending dyad, or for each synapse of a dense projection"
        ),
    ] = "dyad"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise ConfigurationError(
                f"low is {self.low:g}, above high, which is {self.high:g}", "low"
            )

    def quantile(self, share: Floats) -> Floats:
        return self.low + (self.high - self.low) * share


@register("exponential")
@dataclass(frozen=True)
class Exponential(Distribution):
    """Draws exponentially, cut off at ``high``: with the density ∝ exp(−t/scale) on [0, high], in
    simulated time."""

    scale: Annotated[Positive, Field(description="mean of what is not cut off, in simulated time")]
    high: Annotated[Positive, Field(description="the longest, in simulated time")]
    per: Annotated[
        Per,
        Field(
            description="one delay for each sending dyad, or for each synapse of a dense projection"
        ),
    ] = "dyad"

    def quantile(self, share: Floats) -> Floats:
        times: Floats = -self.scale * np.log1p(share * expm1(-self.high / self.scale))
        return np.minimum(times, self.high)
