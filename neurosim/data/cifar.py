"""Colour images of 32×32 pixels from a folder: CIFAR-10, CIFAR-100 and ImageNet32×32.

The images stay bytes in memory (50,000 take 154 MB) and are standardized batch by batch, with the
constants of the dual propagation papers. Nothing is ever unpickled.
"""

from __future__ import annotations

import shlex
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from neurosim.base import DataError
from neurosim.data.dataset import Dataset, Split, Standard, check_labels

_Bytes = npt.NDArray[np.uint8]

SHAPE = (3, 32, 32)
PIXELS = 3072
CIFAR10 = Standard((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
CIFAR100 = Standard((0.5074, 0.4867, 0.4411), (0.2011, 0.1987, 0.2025))
IMAGENET = Standard((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Images per official file, or of all files of a split.
CIFAR10_IMAGES = 10_000
CIFAR100_IMAGES = {"train": 50_000, "test": 10_000}
IMAGENET_IMAGES = {"train": 1_281_167, "val": 50_000}


def cifar10(root: str | Path) -> Dataset:
    """CIFAR-10 from its official binary files, images (N, 3, 32, 32), 50,000 and 10,000.

    ``root`` has ``data_batch_1.bin`` … ``data_batch_5.bin`` and ``test_batch.bin``, or a folder
    ``cifar-10-batches-bin`` with them. Raises DataError, naming the file, if one is missing, has
    another size than the official one, or a label that is not in 0 … 9.
    """
    folder = _folder(root, "cifar-10-batches-bin")
    parts = [[f"data_batch_{i}.bin" for i in range(1, 6)], ["test_batch.bin"]]
    names = [name for part in parts for name in part]
    _require(folder, names, "CIFAR-10's binary files", _fetch("cifar10", root))
    train, test = (_cifar(folder, names, CIFAR10_IMAGES, (10,), CIFAR10) for names in parts)
    return Dataset("cifar10", train, test, classes=10)


def cifar100(root: str | Path) -> Dataset:
    """CIFAR-100 with its 100 fine labels, the same way from ``train.bin`` and ``test.bin``.

    They may be in a folder ``cifar-100-binary``. The 20 coarse labels are checked and left out.
    """
    folder = _folder(root, "cifar-100-binary")
    names = [f"{part}.bin" for part in CIFAR100_IMAGES]
    _require(folder, names, "CIFAR-100's binary files", _fetch("cifar100", root))
    train, test = (
        _cifar(folder, [f"{part}.bin"], count, (20, 100), CIFAR100)
        for part, count in CIFAR100_IMAGES.items()
    )
    return Dataset("cifar100", train, test, classes=100)


def imagenet32(root: str | Path) -> Dataset:
    """ImageNet32×32 from its NumPy archives, images (N, 3, 32, 32), 1,281,167 and 50,000.

    ``root`` has ``train_data_batch_1.npz`` … ``train_data_batch_10.npz`` and ``val_data.npz``
    (the test split), each with ``data`` (n, 3072), bytes, and ``labels`` (n,), 1 … 1000. It takes
    4 GB of memory. Raises DataError, naming the file, if one is missing, damaged or different.
    """
    folder = Path(root)
    names = [[f"train_data_batch_{i}.npz" for i in range(1, 11)], ["val_data.npz"]]
    every = [name for part in names for name in part]
    account = "they come from image-net.org, where one needs an account"
    _require(folder, every, "the archives of ImageNet32x32", account)
    train, test = (
        _archives([folder / name for name in part], count)
        for part, count in zip(names, IMAGENET_IMAGES.values(), strict=True)
    )
    return Dataset("imagenet32", train, test, classes=1000)


def _folder(root: str | Path, inner: str) -> Path:
    """The folder of that name in ``root``, or ``root`` where there is none."""
    found = Path(root) / inner
    return found if found.is_dir() else Path(root)


def _fetch(name: str, root: str | Path) -> str:
    return f"or fetch them: neurosim download {name} --root {shlex.quote(str(root))}"


def _require(folder: Path, names: Sequence[str], what: str, how: str) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the one that has {what}, {how}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder}: no {', '.join(missing)}; put {what} there, or give the folder that has "
            f"them, {how}"
        )


def _split(pixels: _Bytes, labels: npt.NDArray[Any], standard: Standard) -> Split:
    images = torch.from_numpy(pixels).view(-1, *SHAPE)
    return Split(images, torch.from_numpy(labels.astype(np.int64)), standard)


def _cifar(
    folder: Path, names: Sequence[str], count: int, classes: tuple[int, ...], standard: Standard
) -> Split:
    """Files of ``count`` rows: a byte per label, of which the last counts, and 3072 of pixels."""
    before = len(classes)
    pixels = np.empty((len(names) * count, PIXELS), np.uint8)
    labels = np.empty(len(pixels), np.uint8)
    for number, name in enumerate(names):
        path, some = folder / name, slice(number * count, (number + 1) * count)
        size = count * (before + PIXELS)
        try:
            with path.open("rb") as file:
                content = file.read(size + 1)
            found = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        if len(content) != size:
            raise DataError(
                f"{path}: has {found} bytes, not the {size} of {count} images; unpack the binary "
                "version of the data set again"
            )
        rows = np.frombuffer(content, np.uint8).reshape(count, before + PIXELS)
        for place, most in enumerate(classes):
            check_labels(torch.tensor(rows[:, place]), most, str(path))
        labels[some], pixels[some] = rows[:, before - 1], rows[:, before:]
    return _split(pixels, labels, standard)


def _archives(paths: Sequence[Path], count: int) -> Split:
    """All images of the files, ``count`` in total; labels count from 0."""
    labels = [_member(path, "labels") for path in paths]
    for path, own in zip(paths, labels, strict=True):
        if own.ndim != 1 or own.dtype.kind not in "iu":
            raise DataError(f"{path}: 'labels' is {own.dtype} {own.shape}, not whole numbers (n,)")
        if len(own) and not 1 <= own.min() <= own.max() <= 1000:
            raise DataError(f"{path}: has labels {own.min()} … {own.max()}, not in 1 … 1000")
    total = sum(map(len, labels))
    if total != count:
        files = ", ".join(path.name for path in (paths[0], paths[-1]))
        raise DataError(
            f"{paths[0].parent}: {total} images in {files}, not {count}; download them again"
        )
    pixels, start = np.empty((count, PIXELS), np.uint8), 0
    for path, own in zip(paths, labels, strict=True):
        data = _member(path, "data")
        if data.dtype != np.uint8 or data.shape != (len(own), PIXELS):
            raise DataError(
                f"{path}: 'data' is {data.dtype} {data.shape}, not uint8 ({len(own)}, {PIXELS})"
            )
        pixels[start : start + len(own)] = data
        start += len(own)
    return _split(pixels, np.concatenate(labels).astype(np.int64) - 1, IMAGENET)


def _member(path: Path, name: str) -> npt.NDArray[Any]:
    """An array of a NumPy archive. Raises DataError for anything else, pickled objects too."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            file.read(1)  # at the end its checksum is compared
        return array
    except KeyError:
        raise DataError(f"{path}: has no array {name!r}; download it again") from None
    except (OSError, EOFError, ValueError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: not an intact NumPy archive ({error}); download it again"
        ) from error
