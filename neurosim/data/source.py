"""Where images come from: the data sets that a scenario can name."""

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from neurosim.data import cifar, idx
from neurosim.data.batches import Augmentation
from neurosim.data.dataset import Dataset
from neurosim.data.remotes import CIFAR10_FILES, CIFAR100_FILES, MNIST_FILES, Remote
from neurosim.families import Count, Kind, register


@dataclass(frozen=True)
class DataSource(Kind, ABC, family="data", key="name"):
    """Reads a data set. Base class of all data sets.

    What has ``remotes`` can be downloaded into the folder that its field ``root`` names; of others
    ``origin`` says where they come from.
    """

    remotes: ClassVar[tuple[Remote, ...]] = ()
    origin: ClassVar[str] = ""

    _: KW_ONLY
    batch_size: Annotated[Count, Field(description="images of one inference")] = 50
    limit: Annotated[
        Count | None,
        Field(description="use the first so many training and test images; default: all"),
    ] = None

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

    origin = (
        "the digits ship with the package, there is nothing to download; use them with "
        "data: {name: digits}"
    )

    def read(self, folder: Path) -> Dataset:
        return idx.digits()


@dataclass(frozen=True)
class _Stored(DataSource):
    """A data set that lies in a folder."""

    root: Annotated[str, Field(description="the folder of its files, seen from the scenario's")]

    def place(self, folder: Path) -> Path:
        """Returns the folder of the files."""
        return folder / Path(self.root).expanduser()


@register("mnist")
@dataclass(frozen=True)
class MNIST(_Stored):
    """Reads MNIST's IDX files, packed or not."""

    remotes = MNIST_FILES

    def read(self, folder: Path) -> Dataset:
        return idx.mnist(self.place(folder))


@dataclass(frozen=True)
class _Colour(_Stored):
    """Colour images of 32×32 pixels; those for training may be cropped and flipped."""

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

    remotes = CIFAR10_FILES

    def read(self, folder: Path) -> Dataset:
        return cifar.cifar10(self.place(folder))


@register("cifar100")
@dataclass(frozen=True)
class CIFAR100(_Colour):
    """Reads CIFAR-100's binary files in the folder ``root`` or in cifar-100-binary there."""

    remotes = CIFAR100_FILES

    def read(self, folder: Path) -> Dataset:
        return cifar.cifar100(self.place(folder))


@register("imagenet32")
@dataclass(frozen=True)
class ImageNet32(_Colour):
    """Reads the NumPy archives of ImageNet32×32 in the folder ``root``."""

    origin = (
        "ImageNet32x32 cannot be downloaded without an account: register at "
        "https://www.image-net.org, take the NumPy (npz) version of the 32x32 images from its "
        "download page, and put train_data_batch_1.npz … train_data_batch_10.npz and val_data.npz "
        "into one folder; data: {name: imagenet32, root: FOLDER} reads them"
    )

    def read(self, folder: Path) -> Dataset:
        return cifar.imagenet32(self.place(folder))
