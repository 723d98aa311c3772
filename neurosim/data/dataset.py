"""Labelled images in memory: splits, data sets, and what makes numbers of bytes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neurosim.base import ConfigurationError, DataError
from neurosim.data.lazy import Lazy, Samples, chunks, finite, part
from neurosim.data.standardization import Standard, Standardization


@dataclass(frozen=True, eq=False)  # tensors have no single answer to ==
class Split:
    """Holds images with their labels.

    ``images`` is a floating-point tensor (N, *shape), or a `Lazy` one, and ``labels`` an int64
    tensor (N,) of classes, or floating-point targets (N, *output), N ≥ 1. With a ``standard``,
    ``images`` (N, C, H, W) are bytes or numbers instead, which become those of the network only as
    they are taken. ``view`` is the shape that they are then given, (C, H, W) if None. ``in_time``
    says that they follow one another in time. Raises DataError if they do not fit together or an
    image is not finite.
    """

    images: Samples
    labels: Tensor
    standard: Standard | None = None
    view: tuple[int, ...] | None = None
    in_time: bool = False

    def __post_init__(self) -> None:
        images, labels, standard = self.images, self.labels, self.standard
        known = labels.dtype == torch.int64 and labels.ndim == 1
        known |= labels.is_floating_point() and labels.ndim >= 1
        fits = len(images.shape) >= 2 and math.prod(images.shape) > 0
        fits &= known and len(labels) == len(images)
        if standard is None:
            what = "floating-point images (N, *shape)"
            fits &= images.dtype.is_floating_point and self.view is None
        else:
            what = "uint8 images (N, C, H, W) of the shape that they are standardized for"
            fits &= images.dtype == torch.uint8 or images.dtype.is_floating_point
            fits &= len(images.shape) == 4 and standard.fits(tuple(images.shape[1:]))
        if not fits:
            raise DataError(
                f"a split needs {what} and int64 labels (N,) with N ≥ 1, "
                f"not {images.dtype} {tuple(images.shape)} and {labels.dtype} {tuple(labels.shape)}"
            )
        if isinstance(images, Tensor) and not (ok := finite(images)).all():
            bad = (~ok).nonzero().flatten().tolist()
            extent = f"as have {len(bad)} of {len(images)} samples; remove or repair them"
            raise DataError(
                f"sample {bad[0]} (counting from 0) has a value that is not finite, {extent}"
            )
        if not (ok := finite(labels.view(len(labels), -1))).all():
            bad = (~ok).nonzero().flatten().tolist()
            raise DataError(f"target {bad[0]} (counting from 0) is not finite; remove or repair it")

    def __repr__(self) -> str:
        labels, dtype = self.labels, str(self.images.dtype).removeprefix("torch.")
        targets = f"targets {list(labels.shape[1:])}" if labels.is_floating_point() else "classes"
        return f"Split({len(self):,} samples {list(self.shape)} as {dtype}, {targets})"

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
        if self.standard is None:
            return self
        return replace(self, images=self.take(slice(None)), standard=None, view=None)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest value that the images can have, float32, as (*shape): of
        numbers those that occur. Without a standard they are one for all, as ()."""
        extremes = torch.tensor([0, 0 if self.standard is None else self.standard.white])
        if self.images.dtype.is_floating_point:
            ends = [(some.min(), some.max()) for some in chunks(self.images)]
            extremes = torch.stack([min(low for low, _ in ends), max(high for _, high in ends)])
            if self.standard is None:
                return extremes[0].float(), extremes[1].float()
        extremes = extremes.to(self.images.dtype)[:, None, None, None]
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
                f"samples of shape {self.shape} ({math.prod(self.shape)} values) cannot be given "
                f"the shape {wanted}; use a network whose input has as many values as a sample"
            )
        if wanted != self.shape and len(wanted) == 3 and sorted(wanted) == sorted(self.shape):
            raise DataError(
                f"samples of shape {self.shape} are not {wanted}, the shape of the network's "
                "input: their channels stand elsewhere; say channels: last where the data are "
                "described"
            )
        if self.standard is not None:
            return replace(self, view=wanted)
        if isinstance(self.images, Lazy):
            reshaped = self.images.map(lambda found: found.reshape(-1, *wanted), wanted)
            return replace(self, images=reshaped)
        return replace(self, images=self.images.reshape(-1, *wanted))

    def limit(self, count: int) -> Split:
        """Returns the first ``count`` images, or all if fewer. Raises ConfigurationError if < 1."""
        if count < 1:
            raise ConfigurationError(f"limit must be at least 1 sample, not {count}")
        return self.part(slice(count))

    def part(self, which: slice | Tensor) -> Split:
        """Returns some of the images."""
        return replace(self, images=part(self.images, which), labels=self.labels[which])


def digest_of(*splits: Split, numbers: bool = True) -> str:
    """Returns the SHA-256 of all images and labels, and of how images become ``numbers``."""
    found = hashlib.sha256()
    for split in splits:
        first = (split.take(slice(1)),) if numbers else ()
        for array in (split.images, split.labels, *first):
            found.update(f"{array.dtype} {tuple(array.shape)}".encode())
            if isinstance(array, Lazy):  # from the front of the file to its end
                found.update(array.index.numpy().data)
                array = array.part(array.index.argsort())
            for some in chunks(array):
                dense = some.contiguous()  # which a single value is whatever its stride
                flat = dense.as_strided((dense.numel(),), (1,))
                found.update(flat.view(torch.uint8).numpy().data)
    return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Holds a training and a test split of one image shape, with labels 0 … ``classes`` − 1, or
    with targets of one shape and ``classes`` None. ``words`` name the classes, where they have
    names."""

    name: str
    train: Split
    test: Split
    classes: int | None
    words: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.train.shape != self.test.shape:
            shapes = f"{self.train.shape} but those of the test {self.test.shape}"
            raise DataError(f"{self.name}: training samples have shape {shapes}")
        for what, split in (("training", self.train), ("test", self.test)):
            if (self.classes is None) is not split.labels.is_floating_point():
                wanted = "targets, which are numbers" if self.classes is None else "classes"
                raise DataError(f"{self.name}, {what} split: needs {wanted}, not {split.labels}")
            if self.classes is not None:
                check_labels(split.labels, self.classes, f"{self.name}, {what} split")
        if self.train.labels.shape[1:] != self.test.labels.shape[1:]:
            one, other = (tuple(split.labels.shape[1:]) for split in (self.train, self.test))
            raise DataError(f"{self.name}: targets have shape {one}, those of the test {other}")

    def __repr__(self) -> str:
        classes = "" if self.classes is None else f", classes={self.classes:,}"
        return f"Dataset({self.name!r}{classes}, train={self.train}, test={self.test})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, without the batch."""
        return self.train.shape

    def digest(self) -> str:
        """Returns `digest_of` both splits."""
        return digest_of(self.train, self.test)

    @property
    def outputs(self) -> int:
        """How many outputs a network needs: one for each class, or for each value of a target."""
        return self.train.labels[:1].numel() if self.classes is None else self.classes

    def standardized(self, by: Standardization) -> Dataset:
        """Returns the same samples with the `Standard` that they get by what those to train on are.
        Bytes are divided by 255 before, whatever the others are."""
        whites = [255 if s.standard is None else s.standard.white for s in (self.train, self.test)]
        standard = by.fit(self.train.images, whites[0])
        train, test = (replace(standard, white=white) for white in whites)
        return replace(
            self,
            train=replace(self.train, standard=train),
            test=replace(self.test, standard=test),
        )

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

        The papers use 54,000 and 6,000 of MNIST's training samples. Raises DataError if no training
        image would be left.
        """
        if count < 1:
            raise ConfigurationError(f"validation must be at least 1 sample, not {count}")
        kept = len(self.train) - count
        if kept < 1:
            parts = f"{count} validation samples of {len(self.train)} training samples"
            raise DataError(f"{self.name}: {parts} leave none to train on; set aside fewer")
        return self.train.limit(kept), self.train.part(slice(kept, None))


def targets(labels: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns what outputs of a shape should be, as (N, *shape): `one_hot` of classes, and targets
    as they are. Raises DataError where they have other sizes."""
    if not labels.is_floating_point():
        return one_hot(labels, math.prod(shape), dtype).view(-1, *shape)
    if labels[:1].numel() != math.prod(shape):
        own = tuple(labels.shape[1:])
        said = f"targets of shape {own} do not fit outputs of shape {tuple(shape)}"
        raise DataError(f"{said}; classes are whole numbers of shape (N,)")
    return labels.to(dtype).reshape(-1, *shape)


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns labels (N,) as targets (N, classes) of 0 and 1. Raises DataError: `check_labels`."""
    check_labels(labels, classes, "one_hot")
    return torch.nn.functional.one_hot(labels, classes).to(dtype)


def check_labels(labels: Tensor, classes: int, what: str) -> None:
    """Raises DataError, beginning with ``what``, for a label of (N,) not in 0 … classes − 1."""
    if bad := ((labels < 0) | (labels >= classes)).nonzero().flatten().tolist():
        wrong = f"label {int(labels[bad[0]])} at index {bad[0]} (counting from 0)"
        raise DataError(f"{what}: {wrong} is not in 0 … {classes - 1}")
