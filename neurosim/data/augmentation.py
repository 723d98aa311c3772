"""Augmentation: what is done to training images at random, a family that is open from outside."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import DataError
from neurosim.families import Count, Kind, register

Padding = Literal["black", "zero", "edge", "reflect"]


@dataclass(frozen=True)
class Augmentation(Kind, ABC, family="augmentation", bare=True):
    """Changes training images at random, each on its own. Base class of the family."""

    @property
    def standardized(self) -> bool:
        """Says if it takes images as numbers, standardized, and not as they are stored."""
        return False

    @abstractmethod
    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """Returns images (B, C, H, W) of the same shape and dtype, drawn from the generator."""

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises DataError for images of a shape that it cannot change."""
        if len(shape) != 3:
            said = f"images of shape {shape} cannot be augmented; that needs (C, H, W)"
            raise DataError(f"{said}, leave augment out")


@register("crop")
@dataclass(frozen=True)
class Crop(Augmentation):
    """Crops images, padded on each side, at random to their own size.

    Each has a top and a left edge in 0 … 2·``pad``, drawn in this order for the whole batch. With
    the ``padding`` `zero` 0 surrounds images that are standardized already, which is the mean
    colour where that has a mean of 0; the papers on dual propagation do so.
    """

    pad: Annotated[Count, Field(description="pixels on each side")] = 4
    padding: Annotated[
        Padding,
        Field(description="zero: 0 after standardization; edge, reflect: of the image's own"),
    ] = "black"

    @property
    def standardized(self) -> bool:
        return self.padding == "zero"

    def check(self, shape: tuple[int, ...]) -> None:
        super().check(shape)
        if self.padding == "reflect" and self.pad >= min(shape[1:]):
            said = f"pad is {self.pad}; images of {shape[1]}×{shape[2]} pixels can be reflected by"
            raise DataError(f"{said} {min(shape[1:]) - 1} at most")

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        edges = generator.integers(0, 2 * self.pad + 1, (2, len(images)), dtype=np.int64)
        top, left = torch.from_numpy(edges).to(images.device)
        rows, row_inside = self._pixels(top, images.shape[2])
        columns, column_inside = self._pixels(left, images.shape[3])
        sample = torch.arange(len(images), device=images.device)[:, None, None]
        found = images.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]
        found = found.permute(0, 3, 1, 2)
        if self.padding in ("black", "zero"):
            inside = row_inside[:, :, None] & column_inside[:, None, :]
            found = torch.where(inside[:, None], found, 0)
        return found.contiguous()

    def _pixels(self, start: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Returns which pixels (B, size) of a row or a column are taken, and if they are there."""
        wanted = start[:, None] - self.pad + torch.arange(size, device=start.device)
        last = size - 1
        if self.padding == "reflect":
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
