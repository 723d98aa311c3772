"""Standardization: what makes numbers of the bytes of images, a family open from outside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor

from neurosim.base import DataError
from neurosim.data.lazy import Samples, chunks
from neurosim.families import Bounded, Kind, Positive, register


@dataclass(frozen=True, eq=False)
class Standard:
    """Standardizes bytes: (byte / ``white`` − ``mean``) / ``std``.

    Both are numbers, one for each channel (C,), or for each pixel (C, H, W).
    """

    mean: Any = 0.0
    std: Any = 1.0
    white: int = 255

    def of(self, images: Tensor) -> Tensor:
        """Returns bytes (B, C, H, W) as float32 of the same shape, numbers in their precision."""
        numbers = images.to(torch.promote_types(images.dtype, torch.float32)) / self.white
        if isinstance(self.mean, float) and (self.mean, self.std) == (0.0, 1.0):
            return numbers  # the same bits
        mean, std = (
            _wide(torch.as_tensor(values, dtype=numbers.dtype, device=images.device))
            for values in (self.mean, self.std)
        )
        return (numbers - mean) / std

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Says if it is one for images (C, H, W) of this shape."""
        arrays = (tuple(torch.as_tensor(values).shape) for values in (self.mean, self.std))
        return all(own in ((), (1,), shape[:1], shape) for own in arrays)


def _wide(values: Tensor) -> Tensor:
    """Returns numbers for each channel (C,) as (C, 1, 1), others as they are."""
    return values[:, None, None] if values.ndim == 1 else values


@dataclass(frozen=True)
class Standardization(Kind, ABC, family="standardization", bare=True, default="channel"):
    """Says which numbers images become, where black is 0 and white is 1. Base class of the family.

    What is measured is measured on all training samples of the data set, whatever its ``limit``,
    those held out for validation included.
    """

    @abstractmethod
    def fit(self, images: Samples, white: int) -> Standard:
        """Returns the `Standard` for data with these training samples (N, C, H, W):
        bytes, which ``white`` divides, or numbers, and then ``white`` is 1. Of data larger than
        memory they are a `Lazy`: take some at a time with `chunks`."""


@register("none")
@dataclass(frozen=True)
class NoStandardization(Standardization):
    """Leaves values in 0 … 1."""

    def fit(self, images: Samples, white: int) -> Standard:
        return Standard(white=white)


def kept_as(standardize: Standardization) -> type[np.floating[Any]]:
    """Returns what numbers of a table are kept as until they are standardized: with float32 large
    ones that differ by little would become equal."""
    return np.float32 if isinstance(standardize, NoStandardization) else np.float64


@register("symmetric")
@dataclass(frozen=True)
class Symmetric(Standardization):
    """Maps 0 … 1 to −1 … 1."""

    def fit(self, images: Samples, white: int) -> Standard:
        return Standard(0.5, 0.5, white)


@register("min_max")
@dataclass(frozen=True)
class MinMax(Standardization):
    """Maps the least value of all training samples to 0 and the greatest to 1."""

    def fit(self, images: Samples, white: int) -> Standard:
        ends = [(some.min(), some.max()) for some in chunks(images)]
        low, high = min(one for one, _ in ends) / white, max(one for _, one in ends) / white
        return Standard(low, _divisor(high - low), white)


@register("channel")
@dataclass(frozen=True)
class PerChannel(Standardization):
    """Takes away the mean of each channel and divides by its standard deviation.

    Each is one number for all channels or one for each of them; what is not given is measured.
    """

    mean: Annotated[
        Bounded | tuple[Bounded, ...] | None,
        Field(description="what is taken away, of all channels or of each; default: measured"),
    ] = None
    std: Annotated[
        Positive | tuple[Positive, ...] | None,
        Field(description="what is divided by, of all channels or of each; default: measured"),
    ] = None

    def fit(self, images: Samples, white: int) -> Standard:
        for name, said in (("mean", self.mean), ("std", self.std)):
            if isinstance(said, tuple) and len(said) != images.shape[1]:
                channels = f"the images have {images.shape[1]} channel(s)"
                raise DataError(f"standardize gives {name} for {len(said)} channels, {channels}")
        measured = self.mean is None or self.std is None
        found = _moments(images, white, lambda x: x.mean((1, 2))) if measured else (0.0, 1.0)
        mean, std = (
            own if given is None else given
            for given, own in zip((self.mean, self.std), found, strict=True)
        )
        return Standard(mean, std, white)


@register("pixel")
@dataclass(frozen=True)
class PerPixel(Standardization):
    """Takes away the mean of each value of an image and divides by its standard deviation.

    A value that is the same in all training samples, such as a corner of MNIST's, is divided by 1.
    """

    def fit(self, images: Samples, white: int) -> Standard:
        return Standard(*_moments(images, white, lambda x: x), white)


@dataclass(frozen=True)
class InMargin(Standardization):
    """Standardizes what a black margin surrounds, as if it were alone. The margin becomes 0."""

    inner: Standardization
    margin: int

    def fit(self, images: Samples, white: int) -> Standard:
        assert isinstance(images, Tensor)
        inside = images[..., self.margin : -self.margin, self.margin : -self.margin]
        found = self.inner.fit(inside, white)
        mean, std = (
            F.pad(_wide(torch.as_tensor(own)).expand(inside.shape[1:]), [self.margin] * 4, value=at)
            for own, at in ((found.mean, 0.0), (found.std, 1.0))
        )
        return Standard(mean, std, white)


def _moments(
    images: Samples, white: int, over: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation over all images, and ``over`` those of (C, H, W), in two
    passes in float64, so that what never differs has a deviation of hardly more than 0."""

    def average(of: Callable[[Tensor], Tensor]) -> Tensor:
        parts = (of(part.double() / white).sum(0) for part in chunks(images))
        total: Tensor = sum(parts, torch.zeros(()))
        return over(total / len(images))

    mean = average(lambda x: x)
    variance = average(lambda x: (x - _wide(mean)).square())
    return mean, _divisor(variance.sqrt(), mean)


def _divisor(spread: Tensor, mean: Tensor | None = None) -> Tensor:
    """Returns what to divide by: 1 where a spread is no more than rounding leaves of the mean."""
    least = 0.0 if mean is None else 1e-12 * mean.abs()
    return torch.where(spread > least, spread, 1.0)
