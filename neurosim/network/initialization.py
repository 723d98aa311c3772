"""What weights and biases are before they learn: a family that is open from outside.

Fans are those of the projection, (fan-in, fan-out), fan-in the weights that meet in a dyad.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf, sqrt
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from neurosim.families import Kind, NotNegative, Positive, register
from neurosim.tensors import Shape

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Distribution = Literal["uniform", "normal", "truncated_normal"]
Fans = tuple[int, int]
# The standard deviation that is left of a standard normal distribution cut at ±2.
CUT = 0.8796256610342398


class Initialization(Kind, ABC, family="initialization", bare=True):
    """Draws the initial weights, and biases, of a projection. Base class of the family."""

    @abstractmethod
    def weight(self, shape: Shape, fans: Fans, random: np.random.Generator) -> Array:
        """Returns weights of this shape, drawn from ``random`` and nowhere else."""

    def bias(self, shape: Shape, fans: Fans, random: np.random.Generator) -> Array:
        """Returns the biases that the projection adds, by default 0. Without a weight its fans are
        0."""
        del fans, random
        return np.zeros(shape)


@register("variance_scaling")
@dataclass(frozen=True)
class VarianceScaling(Initialization):
    """Weights of variance ``scale`` / n, n the fan-in, the fan-out or their mean (``mode``).

    ``truncated_normal`` is cut at two standard deviations, and stretched to that variance: as in
    the functions of that name of JAX, flax, haiku and Keras.
    """

    scale: Annotated[Positive, Field(description="factor of the variance")] = 1.0
    mode: Annotated[
        Literal["fan_in", "fan_out", "fan_avg"],
        Field(description="what the variance is divided by: inputs, outputs, or the mean of both"),
    ] = "fan_in"
    distribution: Annotated[Distribution, Field(description="of what weights are drawn")] = (
        "truncated_normal"
    )

    def weight(self, shape: Shape, fans: Fans, random: np.random.Generator) -> Array:
        count = {"fan_in": fans[0], "fan_out": fans[1], "fan_avg": sum(fans) / 2}[self.mode]
        if self.distribution == "uniform":
            bound = sqrt(3.0 * self.scale / count)
            return random.uniform(-bound, bound, shape)
        std = sqrt(self.scale / count)
        if self.distribution == "normal":
            return random.normal(0.0, std, shape)
        return _truncated(std / CUT, shape, random)


@register("glorot_uniform")
@dataclass(frozen=True)
class GlorotUniform(Initialization):
    """Uniform weights of variance 2 / (fan-in + fan-out) (Glorot & Bengio 2010)."""

    def weight(self, shape: Shape, fans: Fans, random: np.random.Generator) -> Array:
        return VarianceScaling(1.0, "fan_avg", "uniform").weight(shape, fans, random)


@dataclass(frozen=True)
class _Normal(Initialization):
    truncated: Annotated[
        bool, Field(description="cut at two standard deviations and stretched, as in flax")
    ] = False

    def weight(self, shape: Shape, fans: Fans, random: np.random.Generator) -> Array:
        distribution: Distribution = "truncated_normal" if self.truncated else "normal"
        scale = 2.0 if isinstance(self, HeNormal) else 1.0
        return VarianceScaling(scale, "fan_in", distribution).weight(shape, fans, random)


@register("lecun_normal")
@dataclass(frozen=True)
class LecunNormal(_Normal):
    """Normal weights of variance 1 / fan-in (LeCun et al. 1998). Truncated: flax's default."""


@register("he_normal")
@dataclass(frozen=True)
class HeNormal(_Normal):
    """Normal weights of variance 2 / fan-in (He et al. 2015)."""


@register("normal")
@dataclass(frozen=True)
class Normal(Initialization):
    """Normal weights of standard deviation ``std``."""

    std: Annotated[NotNegative, Field(description="standard deviation of the weights")] = 0.01

    def weight(self, shape: Shape, fans: Fans, random: np.random.Generator) -> Array:
        return random.normal(0.0, self.std, shape)


@register("truncated_normal")
@dataclass(frozen=True)
class TruncatedNormal(Initialization):
    """Normal weights of standard deviation ``std``, cut at ±2 std and not stretched.

    Without ``std`` it is 1/√fan-in: haiku's default.
    """

    std: Annotated[
        Positive | None, Field(description="standard deviation before the cut; default: 1/√fan-in")
    ] = None

    def weight(self, shape: Shape, fans: Fans, random: np.random.Generator) -> Array:
        return _truncated(1.0 / sqrt(fans[0]) if self.std is None else self.std, shape, random)


@register("fan_in_uniform")
@dataclass(frozen=True)
class FanInUniform(Initialization):
    """Weights uniform in ±gain/√fan-in, biases in ±bias/√fan-in. As it is it is torch's default."""

    gain: Annotated[NotNegative, Field(description="weights are in ± so many times 1/√fan-in")] = (
        1.0
    )
    bias_gain: Annotated[
        NotNegative, Field(description="biases are in ± so many times 1/√fan-in")
    ] = 1.0

    def weight(self, shape: Shape, fans: Fans, random: np.random.Generator) -> Array:
        return random.uniform(-1.0, 1.0, shape) * (self.gain / sqrt(fans[0]))

    def bias(self, shape: Shape, fans: Fans, random: np.random.Generator) -> Array:
        fan_in = fans[0] or inf  # without a weight there is no bias either
        return random.uniform(-1.0, 1.0, shape) * (self.bias_gain / sqrt(fan_in))


@register("weak_uniform")
@dataclass(frozen=True)
class WeakUniform(Initialization):
    """Weights uniform in ±½/√fan-in: with such weak ones an energy has a single minimum."""

    def weight(self, shape: Shape, fans: Fans, random: np.random.Generator) -> Array:
        bound = 0.5 / sqrt(fans[0])
        return random.uniform(-bound, bound, shape)


def _truncated(std: float, shape: Shape, random: np.random.Generator) -> Array:
    """Draws again what lies beyond two standard deviations."""
    values = random.standard_normal(shape)
    while (beyond := np.abs(values) > 2.0).any():
        values[beyond] = random.standard_normal(int(beyond.sum()))
    return values * std
