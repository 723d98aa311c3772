"""Bounded distributions, for delays that are drawn once and jitter that is drawn per message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import expm1
from typing import Literal

import numpy as np
import numpy.typing as npt

from neurosim.base import ConfigurationError, check_choices, check_not_negative, check_positive

Floats = npt.NDArray[np.float64]
Per = Literal["dyad", "synapse"]


class Distribution(ABC):
    """A distribution of times, at least 0 and at most ``high``.

    ``per``: a delay is drawn once per sending dyad, or, on a dense projection, per synapse.
    """

    high: float
    per: Per

    @abstractmethod
    def quantile(self, share: Floats) -> Floats:
        """The times below which these shares (0 ≤ share < 1) of all draws lie."""


@dataclass(frozen=True)
class Uniform(Distribution):
    """Uniform between ``low`` and ``high``. Raises ConfigurationError unless 0 ≤ low ≤ high."""

    low: float
    high: float
    per: Per = "dyad"

    def __post_init__(self) -> None:
        check_not_negative(low=self.low, high=self.high)
        check_choices(per=(self.per, Per))
        if self.low > self.high:
            raise ConfigurationError(
                f"low is {self.low:g}, above high, which is {self.high:g}", "low"
            )

    def quantile(self, share: Floats) -> Floats:
        return self.low + (self.high - self.low) * share


@dataclass(frozen=True)
class Exponential(Distribution):
    """Exponential with scale ``scale``, cut off at ``high`` (and normalized to it).

    The density is proportional to exp(−t/scale) on [0, high]. Raises ConfigurationError unless both
    are positive.
    """

    scale: float
    high: float
    per: Per = "dyad"

    def __post_init__(self) -> None:
        check_positive(scale=self.scale, high=self.high)
        check_choices(per=(self.per, Per))

    def quantile(self, share: Floats) -> Floats:
        times: Floats = -self.scale * np.log1p(share * expm1(-self.high / self.scale))
        return np.minimum(times, self.high)
