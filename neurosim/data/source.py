"""Where images come from: the data sets that a scenario can name, and their official files.

Reading never downloads anything.
"""

import hashlib
import io
import shlex
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from neurosim.base import ConfigurationError, DataError
from neurosim.data.batches import Augmentation
from neurosim.data.dataset import Dataset, Split, Standard, check_labels
from neurosim.data.formats import PIXELS, Bytes, read_idx, read_member, read_rows
from neurosim.families import Count, Kind, register

_DIGITS_FILE = Path(__file__).parent / "digits.npz"
_DIGITS_SHA256 = "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"
IMAGENET_IMAGES = {"train": 1_281_167, "val": 50_000}


@dataclass(frozen=True)
class Remote:
    """Describes a file at an address: ``size`` bytes with that SHA-256.

    With ``members`` it is a packed tar archive, of which those files are taken: their names in it
    and below the root, and their sizes. Without, the file itself is taken.
    """

    url: str
    sha256: str
    size: int
    members: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """What the file is called at its address."""
        return self.url.rpartition("/")[2]

    @property
    def files(self) -> dict[str, int]:
        """The files below the root that come of it, with their sizes."""
        return dict(self.members or [(self.name, self.size)])


# Of the images and the labels for training, then for the test. The checksums here and below are
# those that torchvision (MNIST) and TensorFlow Datasets (CIFAR) publish.
_MNIST = (
    ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
    ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
    ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
    ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
)
_MNIST_NAMES = [f"{p}-{kind}" for p in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


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
        return digits()


def digits(*, dtype: torch.dtype = torch.float32) -> Dataset:
    """Reads the 1,797 handwritten digits that ship with the package, images (N, 1, 8, 8) in [0, 1].

    The published values 0 … 16 are divided by 16. Within each class, in the order of the file,
    every fifth image is for the test: 1,442 for training, 355 for the test, classes in the same
    proportion. Both splits keep the order of the file. Origin and licence: ``data/DIGITS.md``.

    Raises:
        DataError: if the file is missing or not the one that was shipped.
    """
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
    first, second = (_gray(pixels[mask], labels[mask], 16, dtype) for mask in (~test, test))
    return Dataset("digits", first, second, classes=10)


@dataclass(frozen=True)
class _Stored(DataSource):
    """A data set that lies in a folder."""

    needs: ClassVar[str]  # what the folder has to have
    how: ClassVar[str] = "or fetch them: neurosim download {name} --root {root}"
    classes: ClassVar[int] = 10

    root: Annotated[str, Field(description="the folder of its files, seen from the scenario's")]

    def read(self, folder: Path) -> Dataset:
        train, test = self._splits(folder / Path(self.root).expanduser())
        return Dataset(self.kind, train, test, self.classes)

    @abstractmethod
    def _splits(self, root: Path) -> Sequence[Split]:
        """Reads the images for training and for the test."""

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


@register("mnist")
@dataclass(frozen=True)
class MNIST(_Stored):
    """Reads MNIST's IDX files, packed or not.

    Images are (N, 1, 28, 28) in [0, 1]: pixels are divided by 255, the papers' setting. The files
    are called ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``, with ``.gz`` or not. Data
    in the same form, such as Fashion-MNIST, reads as well.
    """

    remotes = tuple(
        Remote(f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}-ubyte.gz", *said)
        for name, said in zip(_MNIST_NAMES, _MNIST, strict=True)
    )
    needs = "MNIST's four IDX files"

    def _splits(self, root: Path) -> Sequence[Split]:
        return [self._part(root, part) for part in ("train", "t10k")]

    def _part(self, root: Path, part: str) -> Split:
        image_file = self._find(root, f"{part}-images", 3)
        label_file = self._find(root, f"{part}-labels", 1)
        pixels, labels = read_idx(image_file, 3), read_idx(label_file, 1)
        if pixels.shape[1:] != (28, 28):
            raise DataError(f"{image_file}: images are {pixels.shape[1:]}, not MNIST's (28, 28)")
        if len(pixels) != len(labels):
            raise DataError(
                f"{image_file} holds {len(pixels)} images but {label_file} {len(labels)} labels; "
                "take both from the same source"
            )
        # Here and not only in Dataset, because here the file can be named.
        check_labels(torch.tensor(labels), 10, str(label_file))
        return _gray(pixels, labels, 255)

    def _find(self, root: Path, stem: str, ndim: int) -> Path:
        names = [f"{stem}{dot}idx{ndim}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
        for name in names:
            if (root / name).is_file():
                return root / name
        raise self._absent(root, f"none of {', '.join(names)}")


@dataclass(frozen=True)
class _Colour(_Stored):
    """Colour images of 32×32 pixels; those for training may be cropped and flipped.

    The images stay bytes in memory (50,000 take 154 MB) and are standardized batch by batch, with
    the constants of the dual propagation papers.
    """

    standard: ClassVar[Standard]

    augment: Annotated[
        Augmentation | None,
        Field(description="crop_flip: random crops of training images padded by 4, half mirrored"),
    ] = None

    @property
    def augmentation(self) -> Augmentation | None:
        return self.augment

    def _split(self, pixels: Bytes, labels: npt.NDArray[Any]) -> Split:
        images = torch.from_numpy(pixels).view(-1, 3, 32, 32)
        return Split(images, torch.from_numpy(labels.astype(np.int64)), self.standard)


@dataclass(frozen=True)
class _Binary(_Colour):
    """The binary files of CIFAR, in a folder ``inner`` or not: the last is that of the test."""

    inner: ClassVar[str]
    labels: ClassVar[tuple[int, ...]]  # how many there are of each kind; the last kind counts

    def _splits(self, root: Path) -> Sequence[Split]:
        folder = root / self.inner if (root / self.inner).is_dir() else root
        files = [(name.rpartition("/")[2], size) for name, size in self.remotes[0].members]
        self._require(root, [name for name, _ in files], folder)
        return [self._part(folder, part) for part in (files[:-1], files[-1:])]

    def _part(self, folder: Path, files: Sequence[tuple[str, int]]) -> Split:
        parts = []
        for name, size in files:
            labels, pixels = read_rows(folder / name, size, len(self.labels))
            for kind, most in enumerate(self.labels):
                check_labels(torch.tensor(labels[:, kind]), most, str(folder / name))
            parts.append((pixels, labels[:, -1]))
        pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return self._split(pixels, labels)


@register("cifar10")
@dataclass(frozen=True)
class CIFAR10(_Binary):
    """Reads CIFAR-10's binary files in the folder ``root`` or in cifar-10-batches-bin there."""

    inner = "cifar-10-batches-bin"
    remotes = (
        Remote(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            170_052_171,
            tuple(
                (f"cifar-10-batches-bin/{name}.bin", 30_730_000)
                for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
            ),
        ),
    )
    needs = "CIFAR-10's binary files"
    labels = (10,)
    standard = Standard((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


@register("cifar100")
@dataclass(frozen=True)
class CIFAR100(_Binary):
    """Reads CIFAR-100's binary files in the folder ``root`` or in cifar-100-binary there.

    The 100 fine labels count; the 20 coarse labels are checked and left out.
    """

    inner = "cifar-100-binary"
    remotes = (
        Remote(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            168_513_733,
            (
                ("cifar-100-binary/train.bin", 153_700_000),
                ("cifar-100-binary/test.bin", 30_740_000),
            ),
        ),
    )
    needs = "CIFAR-100's binary files"
    labels = (20, 100)
    classes = 100
    standard = Standard((0.5074, 0.4867, 0.4411), (0.2011, 0.1987, 0.2025))


@register("imagenet32")
@dataclass(frozen=True)
class ImageNet32(_Colour):
    """Reads the NumPy archives of ImageNet32×32 in the folder ``root``.

    Each has ``data`` (n, 3072), bytes, and ``labels`` (n,), 1 … 1000. They take 4 GB of memory.
    """

    origin = (
        "ImageNet32x32 cannot be downloaded without an account: register at "
        "https://www.image-net.org, take the NumPy (npz) version of the 32x32 images from its "
        "download page, and put train_data_batch_1.npz … train_data_batch_10.npz and val_data.npz "
        "into one folder; data: {name: imagenet32, root: FOLDER} reads them"
    )
    needs = "the archives of ImageNet32x32"
    how = "they come from image-net.org, where one needs an account"
    classes = 1000
    standard = Standard((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def _splits(self, root: Path) -> Sequence[Split]:
        train, test = [f"train_data_batch_{i}.npz" for i in range(1, 11)], ["val_data.npz"]
        self._require(root, [*train, *test], root)
        counts = IMAGENET_IMAGES.values()
        return [self._part(root, *part) for part in zip((train, test), counts, strict=True)]

    def _part(self, folder: Path, names: Sequence[str], count: int) -> Split:
        paths = [folder / name for name in names]
        labels = [self._labels(path) for path in paths]
        ends = np.cumsum([len(own) for own in labels])
        if ends[-1] != count:
            files = ", ".join((names[0], names[-1]))
            found = f"{ends[-1]} images in {files}, not {count}"
            raise DataError(f"{folder}: {found}; download them again")
        pixels = np.empty((count, PIXELS), np.uint8)
        for path, rows in zip(paths, np.split(pixels, ends[:-1]), strict=True):
            data = read_member(path, "data")
            if data.dtype != np.uint8 or data.shape != rows.shape:
                raise DataError(
                    f"{path}: 'data' is {data.dtype} {data.shape}, not uint8 {rows.shape}"
                )
            rows[:] = data
        return self._split(pixels, np.concatenate(labels).astype(np.int64) - 1)

    def _labels(self, path: Path) -> npt.NDArray[Any]:
        labels = read_member(path, "labels")
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            said = f"{labels.dtype} {labels.shape}, not whole numbers (n,)"
            raise DataError(f"{path}: 'labels' is {said}")
        if len(labels) and not 1 <= labels.min() <= labels.max() <= 1000:
            raise DataError(f"{path}: has labels {labels.min()} … {labels.max()}, not in 1 … 1000")
        return labels


def _gray(pixels: Bytes, labels: Bytes, scale: int, dtype: torch.dtype = torch.float32) -> Split:
    """Gray images (N, H, W) and labels (N,) as a split with images (N, 1, H, W) / scale."""
    if not dtype.is_floating_point:
        raise ConfigurationError(f"images need a floating-point dtype, not {dtype}")
    images = torch.tensor(pixels).to(dtype).unsqueeze(1) / scale
    return Split(images, torch.tensor(labels).to(torch.int64))
