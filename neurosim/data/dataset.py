"""Labelled images in memory: splits, data sets, and what makes numbers of bytes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neurosim.base import ConfigurationError, DataError
from neurosim.data.standardization import Standard, Standardization


@dataclass(frozen=True, eq=False)  # tensors have no single answer to ==
class Split:
    """Holds images with their labels.

    ``images`` is a floating-point tensor (N, *shape) and ``labels`` an int64 tensor (N,), N ≥ 1.
    With a ``standard``, ``images`` are bytes (N, C, H, W) instead, which become numbers only as
    they are taken. ``view`` is the shape that they are then given, (C, H, W) if None. Raises
    DataError if they do not fit together or an image is not finite.
    """

    images: Tensor
    labels: Tensor
    standard: Standard | None = None
    view: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        images, labels, standard = self.images, self.labels, self.standard
        fits = images.ndim >= 2 and images.numel() > 0 and labels.shape == images.shape[:1]
        if standard is None:
            what = "floating-point images (N, *shape)"
            fits &= images.is_floating_point() and self.view is None
        else:
            what = "uint8 images (N, C, H, W) of the shape that they are standardized for"
            fits &= images.dtype == torch.uint8 and images.ndim == 4
            fits &= standard.fits(tuple(images.shape[1:]))
        if not (fits and labels.dtype == torch.int64):
            raise DataError(
                f"a split needs {what} and int64 labels (N,) with N ≥ 1, "
                f"not {images.dtype} {tuple(images.shape)} and {labels.dtype} {tuple(labels.shape)}"
            )
        if standard is None and not (finite := torch.isfinite(images).flatten(1).all(dim=1)).all():
            bad = (~finite).nonzero().flatten().tolist()
            extent = f"as have {len(bad)} of {len(images)} images; remove or repair them"
            raise DataError(
                f"image {bad[0]} (counting from 0) has a value that is not finite, {extent}"
            )

    def take(self, which: slice | Tensor) -> Tensor:
        """Returns the images of a slice or of indices (B,), floating-point (B, *shape)."""
        return self.finish(self.images[which])

    def finish(self, images: Tensor) -> Tensor:
        """Returns the numbers of stored images (B, …), as (B, *shape): `Standard` for bytes."""
        return self.numbers(images).reshape(-1, *self.shape)

    def numbers(self, images: Tensor) -> Tensor:
        """Returns the numbers of stored images (B, …), of the shape that they are stored in."""
        return images if self.standard is None else self.standard.of(images)

    def as_numbers(self) -> Split:
        """Returns the same images as the numbers that they are taken as."""
        return self if self.standard is None else Split(self.take(slice(None)), self.labels)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest value that the images can have, float32: of bytes per conv
        channel, as (*shape); of numbers those that occur, as ()."""
        if self.standard is None:
            return self.images.min().float(), self.images.max().float()
        extremes = torch.tensor([0, self.standard.white], dtype=torch.uint8)[:, None, None, None]
        low, high = self.finish(extremes.expand(-1, *self.images.shape[1:]))
        return low, high

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return tuple(self.images.shape[1:]) if self.view is None else self.view

    def reshaped(self, shape: Sequence[int]) -> Split:
        """Returns the same images as (N, *shape). Raises DataError if that does not fit them."""
        wanted = tuple(shape)
        if not wanted or min(wanted) < 1 or math.prod(wanted) != math.prod(self.shape):
            raise DataError(
                f"images of shape {self.shape} ({math.prod(self.shape)} values) cannot be given "
                f"the shape {wanted}; use a network whose input has as many values as an image"
            )
        if self.standard is not None:
            return replace(self, view=wanted)
        return Split(self.images.reshape(-1, *wanted), self.labels)

    def limit(self, count: int) -> Split:
        """Returns the first ``count`` images, or all if fewer. Raises ConfigurationError if < 1."""
        if count < 1:
            raise ConfigurationError(f"limit must be at least 1 image, not {count}")
        return self._part(slice(count))

    def _part(self, which: slice) -> Split:
        return replace(self, images=self.images[which], labels=self.labels[which])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Holds a training and a test split of one image shape, with labels 0 … ``classes`` − 1."""

    name: str
    train: Split
    test: Split
    classes: int

    def __post_init__(self) -> None:
        if self.train.shape != self.test.shape:
            shapes = f"{self.train.shape} but test images {self.test.shape}"
            raise DataError(f"{self.name}: training images have shape {shapes}")
        for part, split in (("training", self.train), ("test", self.test)):
            check_labels(split.labels, self.classes, f"{self.name}, {part} split")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, without the batch."""
        return self.train.shape

    def digest(self) -> str:
        """Returns the SHA-256 of all images and labels, and of how images become numbers."""
        found = hashlib.sha256()
        for split in (self.train, self.test):
            for part in (split.images, split.labels, split.take(slice(1))):
                found.update(part.contiguous().view(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()

    def standardized(self, by: Standardization) -> Dataset:
        """Returns the same bytes with the `Standard` that they get by what their training images
        are."""
        white = 255 if self.train.standard is None else self.train.standard.white
        standard = by.fit(self.train.images, white)
        train, test = (replace(split, standard=standard) for split in (self.train, self.test))
        return replace(self, train=train, test=test)

    def as_numbers(self) -> Dataset:
        """Returns the same images as numbers, see `Split.as_numbers`."""
        return replace(self, train=self.train.as_numbers(), test=self.test.as_numbers())

    def limit(self, train: int | None = None, test: int | None = None) -> Dataset:
        """Keeps the first ``train`` and ``test`` images (see `Split.limit`); None keeps all."""
        return replace(
            self,
            train=self.train if train is None else self.train.limit(train),
            test=self.test if test is None else self.test.limit(test),
        )

    def validation(self, count: int) -> tuple[Split, Split]:
        """Returns the training split without its last ``count`` images, and those.

        The papers use 54,000 and 6,000 of MNIST's training images. Raises DataError if no training
        image would be left.
        """
        if count < 1:
            raise ConfigurationError(f"validation must be at least 1 image, not {count}")
        kept = len(self.train) - count
        if kept < 1:
            images = f"{count} validation images of {len(self.train)} training images"
            raise DataError(f"{self.name}: {images} leave none to train on; set aside fewer")
        return self.train.limit(kept), self.train._part(slice(kept, None))


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns labels (N,) as targets (N, classes) of 0 and 1. Raises DataError: `check_labels`."""
    check_labels(labels, classes, "one_hot")
    return torch.nn.functional.one_hot(labels, classes).to(dtype)


def check_labels(labels: Tensor, classes: int, what: str) -> None:
    """Raises DataError, beginning with ``what``, for a label of (N,) not in 0 … classes − 1."""
    if bad := ((labels < 0) | (labels >= classes)).nonzero().flatten().tolist():
        wrong = f"label {int(labels[bad[0]])} at index {bad[0]} (counting from 0)"
        raise DataError(f"{what}: {wrong} is not in 0 … {classes - 1}")
