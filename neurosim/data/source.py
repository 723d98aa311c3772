"""Where images come from: the data sets that a scenario can name, and their official files.

Reading never downloads anything.
"""

import hashlib
import io
import shlex
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from neurosim.base import ConfigurationError, DataError
from neurosim.data.augmentation import Augmentation
from neurosim.data.batches import Remainder
from neurosim.data.dataset import Dataset, Split
from neurosim.data.formats import SUMS, Bytes, check_sums
from neurosim.data.standardization import NoStandardization, Standard, Standardization
from neurosim.families import Count, Kind, register

_DIGITS_FILE = Path(__file__).parent / "digits.npz"
_DIGITS_SHA256 = "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"


@dataclass(frozen=True)
class Remote:
    """Describes a file at an address: ``size`` bytes with that SHA-256.

    With ``members`` it is a packed tar archive, of which those files are taken: their names in it
    and below the root, and their sizes. Without, the file itself is taken, into a ``folder`` below
    the root.
    """

    url: str
    sha256: str
    size: int
    members: tuple[tuple[str, int], ...] = ()
    folder: str = ""

    @property
    def name(self) -> str:
        """What the file is called at its address."""
        return self.url.rpartition("/")[2]

    @property
    def files(self) -> dict[str, int]:
        """The files below the root that come of it, with their sizes."""
        return dict(self.members or [(f"{self.folder}{self.name}", self.size)])


@dataclass(frozen=True)
class DataSource(Kind, ABC, family="data", key="name"):
    """Reads a data set. Base class of all data sets.

    What has ``remotes`` can be downloaded into the folder that its field ``root`` names; of others
    ``origin`` says where they come from. ``paths`` are the fields that name files or folders.
    """

    paths: ClassVar[tuple[str, ...]] = ("root",)
    remotes: ClassVar[tuple[Remote, ...]] = ()
    origin: ClassVar[str] = ""

    _: KW_ONLY
    batch_size: Annotated[Count, Field(description="images of one inference")] = 50
    limit: Annotated[
        Count | None,
        Field(description="use the first so many training and test samples; default: all"),
    ] = None
    augment: Annotated[
        Augmentation | tuple[Augmentation, ...] | None,
        Field(description="what is done to training samples at random, or a list in this order"),
    ] = None
    shuffle: Annotated[
        bool, Field(description="each epoch takes the training samples in a new order")
    ] = True
    remainder: Annotated[
        Remainder, Field(description="what fills no batch at the end of an epoch")
    ] = "drop"

    def __post_init__(self) -> None:
        if self.augment is not None:
            how = Augmentation.of(self.augment)
            object.__setattr__(self, "augment", getattr(how, "steps", how))
        super().__post_init__()

    @property
    def augmentation(self) -> Augmentation | None:
        """What ``augment`` says, as one."""
        return None if self.augment is None else Augmentation.of(self.augment)

    @abstractmethod
    def read(self, folder: Path) -> Dataset:
        """Reads all of the data set. Relative paths start from ``folder``.

        Raises:
            DataError: for a file that is missing, damaged or not what it says it is.
        """


@dataclass(frozen=True)
class Images(DataSource):
    """Images that are stored as bytes, and stay bytes in memory (CIFAR takes 154 MB) until a batch
    of them is taken; but grey ones with nothing to do to them."""

    in_colour: ClassVar[bool] = False

    standardize: Annotated[
        Standardization, Field(description="which numbers 0 … 1, black … white, become")
    ] = field(default=NoStandardization(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "standardize", Standardization.of(self.standardize))
        super().__post_init__()

    def read(self, folder: Path) -> Dataset:
        data = self._bytes(folder).standardized(self.standardize)
        plain = isinstance(self.standardize, NoStandardization) and self.augment is None
        return data.as_numbers() if plain and not self.in_colour else data

    @abstractmethod
    def _bytes(self, folder: Path) -> Dataset:
        """Reads images as bytes (N, C, H, W)."""


@register("digits")
@dataclass(frozen=True)
class Digits(Images):
    """Reads the 1,797 handwritten digits of 8×8 pixels that ship with the package."""

    origin = (
        "the digits ship with the package, there is nothing to download; use them with "
        "data: {name: digits}"
    )

    def _bytes(self, folder: Path) -> Dataset:
        return _digits()


def digits(*, dtype: torch.dtype = torch.float32) -> Dataset:
    """Reads the 1,797 handwritten digits that ship with the package, images (N, 1, 8, 8) in [0, 1].

    The published values 0 … 16 are divided by 16. Within each class, in the order of the file,
    every fifth image is for the test: 1,442 for training, 355 for the test, classes in the same
    proportion. Both splits keep the order of the file. Origin and licence: ``data/DIGITS.md``.

    Raises:
        DataError: if the file is missing or not the one that was shipped.
    """
    if not dtype.is_floating_point:
        raise ConfigurationError(f"images need a floating-point dtype, not {dtype}")
    data = _digits()
    train, test = (
        Split(split.images[:].to(dtype) / 16, split.labels) for split in (data.train, data.test)
    )
    return replace(data, train=train, test=test)


def _digits() -> Dataset:
    content = b""
    try:
        content = _DIGITS_FILE.read_bytes()
        found = hashlib.sha256(content).hexdigest()
    except OSError as error:
        found = f"none ({error.strerror or error})"
    if found != _DIGITS_SHA256:
        raise DataError(
            f"{_DIGITS_FILE}: missing or damaged: expected SHA-256 {_DIGITS_SHA256}, found {found};"
            " reinstall neurosim to restore it"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        pixels, labels = file["images"], file["labels"]
    test = np.zeros(len(labels), dtype=np.bool_)
    for label in range(10):
        test[np.flatnonzero(labels == label)[4::5]] = True
    first, second = (byte_split(pixels[mask, None], labels[mask], 16) for mask in (~test, test))
    return Dataset("digits", first, second, classes=10)


@dataclass(frozen=True)
class StoredImages(Images):
    """A data set that lies in a folder."""

    inner: ClassVar[str] = ""  # the folder in the root in which they are
    elsewhere: ClassVar[str] = ""  # and the one where torchvision puts them
    needs: ClassVar[str]  # what the folder has to have
    how: ClassVar[str] = "or fetch them: neurosim download {name} --root {root}"
    classes: ClassVar[int] = 10

    root: Annotated[str, Field(description="the folder of its files, seen from the scenario's")]

    def _bytes(self, folder: Path) -> Dataset:
        root = folder / Path(self.root).expanduser()
        for place in {root, *self._places(root)}:
            check_sums(place / SUMS)
        train, test = self._splits(root)
        return Dataset(self.kind, train, test, self.classes)

    def _places(self, root: Path) -> list[Path]:
        """The folders in which the files may be: the root is torchvision's, too."""
        outer, _, last = self.elsewhere.partition("/")
        within = [root / last] if root.name == outer else []
        return [root / self.inner, *([root / self.elsewhere, *within] if last else [])]

    @abstractmethod
    def _splits(self, root: Path) -> Sequence[Split]:
        """Reads the samples for training and for the test."""

    def _absent(self, root: Path, missing: str, inner: Path | None = None) -> DataError:
        """The error for a folder that has not got the files, or a folder in it that should."""
        folder, how = inner or root, self.how.format(name=self.kind, root=shlex.quote(str(root)))
        if not folder.is_dir():
            said = "no such folder; give the one that has"
            return DataError(f"{folder}: {said} {self.needs}, {how}")
        there = f"put {self.needs} there, or give the folder that has them"
        return DataError(f"{folder}: {missing}; {there}, {how}")

    def _require(self, root: Path, names: Sequence[str], folder: Path) -> None:
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise self._absent(root, f"no {', '.join(missing)}", folder)


def byte_split(pixels: Bytes, labels: npt.NDArray[Any], white: int = 255) -> Split:
    """Bytes (N, C, H, W) and labels (N,) as a split whose numbers are bytes / white."""
    counted = torch.from_numpy(labels.astype(np.int64))
    return Split(torch.from_numpy(pixels), counted, Standard(white=white))
