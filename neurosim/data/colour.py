"""Data sets of colour images of 32×32 pixels, standardized with the constants of the dual
propagation papers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from neurosim.base import DataError
from neurosim.data.arrays import open_npz
from neurosim.data.dataset import Split, check_labels
from neurosim.data.formats import PIXELS, Bytes, read_rows
from neurosim.data.source import Remote, StoredImages, byte_split
from neurosim.data.standardization import PerChannel, Standardization
from neurosim.families import register

IMAGENET_IMAGES = {"train": 1_281_167, "val": 50_000}


_Standardized = Annotated[
    Standardization, Field(description="which numbers 0 … 1, black … white, become")
]


@dataclass(frozen=True)
class _Binary(StoredImages):
    """The binary files of CIFAR, in a folder ``inner`` or not: the last is that of the test."""

    in_colour = True
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
        return _colour(pixels, labels)


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
    standardize: _Standardized = field(
        default=PerChannel((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)), kw_only=True
    )


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
    standardize: _Standardized = field(
        default=PerChannel((0.5074, 0.4867, 0.4411), (0.2011, 0.1987, 0.2025)), kw_only=True
    )


@register("imagenet32")
@dataclass(frozen=True)
class ImageNet32(StoredImages):
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
    in_colour, classes = True, 1000
    standardize: _Standardized = field(
        default=PerChannel((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), kw_only=True
    )

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
            data = open_npz(path, "data")
            if data.dtype != np.uint8 or data.shape != rows.shape:
                raise DataError(
                    f"{path}: 'data' is {data.dtype} {data.shape}, not uint8 {rows.shape}"
                )
            rows[:] = data.array()
        return _colour(pixels, np.concatenate(labels).astype(np.int64) - 1)

    def _labels(self, path: Path) -> npt.NDArray[Any]:
        found, most = open_npz(path, "labels"), max(IMAGENET_IMAGES.values())
        if len(found.shape) != 1 or found.dtype.kind not in "iu" or found.shape[0] > most:
            said = f"{found.dtype} {found.shape}, not whole numbers (n,), n ≤ {most}"
            raise DataError(f"{path}: 'labels' is {said}")
        labels = found.array()
        if len(labels) and not 1 <= labels.min() <= labels.max() <= 1000:
            raise DataError(f"{path}: has labels {labels.min()} … {labels.max()}, not in 1 … 1000")
        return labels


def _colour(pixels: Bytes, labels: npt.NDArray[Any]) -> Split:
    return byte_split(pixels.reshape(-1, 3, 32, 32), labels)
