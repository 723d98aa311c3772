"""Where images come from: the data sets that a scenario can name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from neurosim.base import Count, Kind, register
from neurosim.data import cifar, idx
from neurosim.data.batches import Augmentation
from neurosim.data.dataset import Dataset

Root = Annotated[str, Field(description="the folder of its files, seen from the scenario's")]


@dataclass(frozen=True)
class DataSource(Kind, ABC, family="data", key="name"):
    """Reads a data set. Base class of all data sets.

    ``limit`` uses so many training and so many test images; None uses all.
    """

    _: KW_ONLY
    batch_size: Annotated[Count, Field(description="images of one inference")] = 50
    limit: Annotated[Count | None, Field(description="use this many training and test images")] = (
        None
    )

    @abstractmethod
    def read(self, folder: Path) -> Dataset:
        """Reads all of the data set. Relative paths start from ``folder``.

        Raises:
            DataError: for a file that is missing, damaged or not what it says it is.
        """

    @property
    def augmentation(self) -> Augmentation | None:
        """What is done to training images at random."""
        return None


@register("digits")
@dataclass(frozen=True)
class Digits(DataSource):
    """Reads the 1,797 handwritten digits of 8×8 pixels that ship with the package."""

    def read(self, folder: Path) -> Dataset:
        return idx.digits()


@register("mnist")
@dataclass(frozen=True)
class MNIST(DataSource):
    """Reads MNIST's IDX files, packed or not."""

    root: Root

    def read(self, folder: Path) -> Dataset:
        return idx.mnist(folder / Path(self.root).expanduser())


@dataclass(frozen=True)
class _Colour(DataSource):
    """Reads colour images of 32×32 pixels; those for training may be cropped and flipped."""

    root: Root
    augment: Annotated[
        Augmentation | None,
        Field(description="crop_flip: random crops of training images padded by 4, half mirrored"),
    ] = None

    @property
    def augmentation(self) -> Augmentation | None:
        return self.augment


@register("cifar10")
@dataclass(frozen=True)
class CIFAR10(_Colour):
    """Reads CIFAR-10's binary files in the folder ``root`` or in cifar-10-batches-bin there."""

    def read(self, folder: Path) -> Dataset:
        return cifar.cifar10(folder / Path(self.root).expanduser())


@register("cifar100")
@dataclass(frozen=True)
class CIFAR100(_Colour):
    """Reads CIFAR-100's binary files in the folder ``root`` or in cifar-100-binary there."""

    def read(self, folder: Path) -> Dataset:
        return cifar.cifar100(folder / Path(self.root).expanduser())


@register("imagenet32")
@dataclass(frozen=True)
class ImageNet32(_Colour):
    """Reads the NumPy archives of ImageNet32×32 in the folder ``root``."""

    def read(self, folder: Path) -> Dataset:
        return cifar.imagenet32(folder / Path(self.root).expanduser())
