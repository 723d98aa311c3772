"""Augmentation: what is done to training samples at random, a family that is open from outside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError, DataError
from neurosim.families import Count, Kind, Positive, Whole, register

_SURROUND = "zero: 0 after standardization; edge, reflect: of the image's own"
Padding = Annotated[Literal["black", "zero", "edge", "reflect"], Field(description=_SURROUND)]
Numbers = Callable[[Tensor], Tensor]  # what makes standardized numbers of stored images


@dataclass(frozen=True)
class Augmentation(Kind, ABC, family="augmentation", bare=True):
    """Changes training samples at random, each on its own. Base class of the family."""

    @classmethod
    def of(cls, value: object, **options: Any) -> Any:
        """Makes a member, as `Kind.of`; of a list `InTurn`."""
        if isinstance(value, list | tuple):
            return InTurn(tuple(value))
        return super().of(value, **options)

    @property
    def standardized(self) -> bool:
        """Says if it takes images as numbers, standardized, and not as they are stored."""
        return False

    @abstractmethod
    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """Returns images (B, C, H, W) of the same shape and dtype, drawn from the generator."""

    def apply(self, images: Tensor, numbers: Numbers, generator: np.random.Generator) -> Tensor:
        """Returns the ``numbers`` of stored images, changed before or after they become such."""
        if self.standardized:
            return self(numbers(images), generator)
        return numbers(self(images, generator))

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises DataError for images of a shape that it cannot change."""
        if len(shape) != 3:
            said = f"images of shape {shape} cannot be augmented; that needs (C, H, W)"
            raise DataError(f"{said}, leave augment out")


@dataclass(frozen=True)
class InTurn(Augmentation):
    """Changes images in several ways, one after the other: what a list of augmentations means."""

    steps: tuple[Augmentation, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(map(Augmentation.of, self.steps)))
        super().__post_init__()
        for one, other in pairwise(self.steps):
            if one.standardized and not other.standardized:
                said = f"{one.kind} changes images that are standardized, {other.kind} before that"
                raise ConfigurationError(f"{said}; put {other.kind} first")

    @property
    def standardized(self) -> bool:
        return any(step.standardized for step in self.steps)

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        for step in self.steps:
            images = step(images, generator)
        return images

    def apply(self, images: Tensor, numbers: Numbers, generator: np.random.Generator) -> Tensor:
        early = [step for step in self.steps if not step.standardized]
        images = numbers(InTurn(tuple(early))(images, generator))
        return InTurn(self.steps[len(early) :])(images, generator)

    def check(self, shape: tuple[int, ...]) -> None:
        for step in self.steps:
            step.check(shape)


@register("crop")
@dataclass(frozen=True)
class Crop(Augmentation):
    """Crops images, padded on each side, at random to their own size.

    Each has a top and a left edge in 0 … 2·``pad``, drawn in this order for the whole batch. With
    the ``padding`` `zero` 0 surrounds images that are standardized already, which is the mean
    colour where that has a mean of 0; the papers on dual propagation do so.
    """

    pad: Annotated[Count, Field(description="pixels on each side")] = 4
    padding: Padding = "black"

    @property
    def standardized(self) -> bool:
        return self.padding == "zero"

    def check(self, shape: tuple[int, ...]) -> None:
        super().check(shape)
        _check_moves(self.padding, {"pad": self.pad}, shape, min(shape[1:]))

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        return _moved(images, generator, (self.pad, self.pad), self.padding)


@register("shift")
@dataclass(frozen=True)
class Shift(Augmentation):
    """Moves images up or down and left or right, by as many pixels as is drawn for each."""

    rows: Annotated[Whole, Field(description="pixels up or down at most")] = 2
    columns: Annotated[Whole, Field(description="pixels left or right at most")] = 2
    padding: Padding = "black"

    @property
    def standardized(self) -> bool:
        return self.padding == "zero"

    def check(self, shape: tuple[int, ...]) -> None:
        super().check(shape)
        _check_moves(self.padding, {"rows": self.rows}, shape, shape[1])
        _check_moves(self.padding, {"columns": self.columns}, shape, shape[2])

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        return _moved(images, generator, (self.rows, self.columns), self.padding)


def _check_moves(padding: str, said: dict[str, int], shape: tuple[int, ...], size: int) -> None:
    ((name, pixels),) = said.items()
    if pixels >= size:
        how = "reflected" if padding == "reflect" else "moved"
        what = f"images of {shape[1]}×{shape[2]} pixels can be {how} by {size - 1} at most"
        raise DataError(f"{name} is {pixels}; {what}")


def _moved(
    images: Tensor, generator: np.random.Generator, far: tuple[int, int], padding: str
) -> Tensor:
    """Draws where each image begins, seen from itself: as far as it may be moved, either way."""
    (top, rows_there), (left, columns_there) = (
        _pixels(generator.integers(-most, most + 1, len(images), dtype=np.int64), size, padding)
        for most, size in zip(far, images.shape[2:], strict=True)
    )
    rows, columns = (found.to(images.device) for found in (top, left))
    sample = torch.arange(len(images), device=images.device)[:, None, None]
    found = images.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]
    found = found.permute(0, 3, 1, 2)
    if padding in ("black", "zero"):
        inside = rows_there[:, :, None] & columns_there[:, None, :]
        found = torch.where(inside[:, None].to(images.device), found, 0)
    return found.contiguous()


def _pixels(start: npt.NDArray[np.int64], size: int, padding: str) -> tuple[Tensor, Tensor]:
    """Returns which pixels (B, size) of a row or a column are taken, and if they are there."""
    wanted, last = torch.from_numpy(start)[:, None] + torch.arange(size), size - 1
    if padding == "reflect":
        return last - (last - wanted.abs()).abs(), wanted.new_ones(wanted.shape).bool()
    found = wanted.clamp(0, last)
    return found, found == wanted


@register("flip")
@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors half of the images from left to right, at random."""

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        mirrored = torch.from_numpy(generator.integers(0, 2, len(images), dtype=np.int64) == 1)
        return torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)


@register("crop_flip")
@dataclass(frozen=True)
class CropFlip(Crop):
    """Crops images as `crop` does, and then mirrors half of them as `flip` does."""

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        return Flip()(super().__call__(images, generator), generator)


@register("cutout")
@dataclass(frozen=True)
class Cutout(Augmentation):
    """Covers a square of each image, whose centre is drawn among all pixels (DeVries & Taylor
    2017)."""

    size: Annotated[Count, Field(description="side of the square in pixels")] = 8
    fill: Annotated[
        Literal["black", "zero"], Field(description="zero: 0 after standardization")
    ] = "black"

    @property
    def standardized(self) -> bool:
        return self.fill == "zero"

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        covered = []
        for size in images.shape[2:]:
            center = torch.from_numpy(generator.integers(0, size, len(images), dtype=np.int64))
            first = center[:, None] - self.size // 2
            covered.append((torch.arange(size) >= first) & (torch.arange(size) < first + self.size))
        rows, columns = (one.to(images.device) for one in covered)
        return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


@register("noise")
@dataclass(frozen=True)
class Noise(Augmentation):
    """Adds normal noise to every value, after standardization."""

    std: Annotated[Positive, Field(description="standard deviation of the noise")] = 0.1

    @property
    def standardized(self) -> bool:
        return True

    def check(self, shape: tuple[int, ...]) -> None:
        pass  # samples of any shape

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        drawn = torch.from_numpy(generator.standard_normal(tuple(images.shape)))
        return images + self.std * drawn.to(images)
