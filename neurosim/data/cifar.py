"""Colour images of 32×32 pixels from a folder: CIFAR-10, CIFAR-100 and ImageNet32×32.

The images stay bytes in memory (50,000 take 154 MB) and are standardized batch by batch, with the
constants of the dual propagation papers. Nothing is ever unpickled.
"""

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
from neurosim.data.reading import Bytes, absent, fetching, opened

SHAPE = (3, 32, 32)
PIXELS = 3072
CIFAR10_STANDARD = Standard((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
CIFAR100_STANDARD = Standard((0.5074, 0.4867, 0.4411), (0.2011, 0.1987, 0.2025))
IMAGENET_STANDARD = Standard((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Images per official file, or of all files of a split.
CIFAR10_IMAGES = 10_000
CIFAR100_IMAGES = {"train": 50_000, "test": 10_000}
IMAGENET_IMAGES = {"train": 1_281_167, "val": 50_000}


def cifar10(root: str | Path) -> Dataset:
    """Reads CIFAR-10 from its official binary files, images (N, 3, 32, 32), 50,000 and 10,000.

    ``root`` has ``data_batch_1.bin`` … ``data_batch_5.bin`` and ``test_batch.bin``, or a folder
    ``cifar-10-batches-bin`` with them.

    Raises:
        DataError: naming the file, if one is missing, has another size than the official one, or
            a label that is not in 0 … 9.
    """
    train = {f"data_batch_{number}.bin": CIFAR10_IMAGES for number in range(1, 6)}
    parts = (train, {"test_batch.bin": CIFAR10_IMAGES})
    return _binary("CIFAR-10", root, "cifar-10-batches-bin", parts, (10,), CIFAR10_STANDARD)


def cifar100(root: str | Path) -> Dataset:
    """Reads CIFAR-100 with its 100 fine labels from ``train.bin`` and ``test.bin``.

    They may be in a folder ``cifar-100-binary``. The 20 coarse labels are checked and left out.

    Raises:
        DataError: as `cifar10` does.
    """
    parts = [{f"{part}.bin": count} for part, count in CIFAR100_IMAGES.items()]
    return _binary("CIFAR-100", root, "cifar-100-binary", parts, (20, 100), CIFAR100_STANDARD)


def imagenet32(root: str | Path) -> Dataset:
    """Reads ImageNet32×32 from its NumPy archives, images (N, 3, 32, 32), 1,281,167 and 50,000.

    ``root`` has ``train_data_batch_1.npz`` … ``train_data_batch_10.npz`` and ``val_data.npz``
    (the test split), each with ``data`` (n, 3072), bytes, and ``labels`` (n,), 1 … 1000. It takes
    4 GB of memory.

    Raises:
        DataError: naming the file, if one is missing, damaged or different.
    """
    folder = Path(root)
    names = [[f"train_data_batch_{i}.npz" for i in range(1, 11)], ["val_data.npz"]]
    account = "they come from image-net.org, where one needs an account"
    _require(folder, [*names[0], *names[1]], "the archives of ImageNet32x32", account)
    train, test = (
        _archives([folder / name for name in part], count)
        for part, count in zip(names, IMAGENET_IMAGES.values(), strict=True)
    )
    return Dataset("imagenet32", train, test, classes=1000)


def _require(folder: Path, names: Sequence[str], what: str, how: str) -> None:
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise absent(folder, f"no {', '.join(missing)}", what, how)


def _binary(
    title: str,
    root: str | Path,
    inner: str,
    parts: Sequence[dict[str, int]],
    classes: tuple[int, ...],
    standard: Standard,
) -> Dataset:
    """Reads binary files in ``inner`` or in ``root``: for each split, how many images each has."""
    folder, name = Path(root) / inner, title.lower().replace("-", "")
    folder = folder if folder.is_dir() else Path(root)
    files = [file for part in parts for file in part]
    _require(folder, files, f"{title}'s binary files", fetching(name, root))
    train, test = (
        _split(*_rows([(folder / file, count) for file, count in part.items()], classes), standard)
        for part in parts
    )
    return Dataset(name, train, test, classes[-1])


def _split(pixels: Bytes, labels: npt.NDArray[Any], standard: Standard) -> Split:
    images = torch.from_numpy(pixels).view(-1, *SHAPE)
    return Split(images, torch.from_numpy(labels.astype(np.int64)), standard)


def _rows(files: Sequence[tuple[Path, int]], classes: tuple[int, ...]) -> tuple[Bytes, Bytes]:
    """Pixels (N, 3072) and labels (N,) of files with so many rows each.

    A row has a byte for each kind of label, of which the last counts, and 3072 of pixels.
    """
    before, total = len(classes), sum(count for _, count in files)
    pixels, labels = np.empty((total, PIXELS), np.uint8), np.empty(total, np.uint8)
    start = 0
    for path, count in files:
        size = count * (before + PIXELS)
        with opened(path) as file:
            content, found = file.read(size + 1), path.stat().st_size
        if len(content) != size:
            raise DataError(
                f"{path}: has {found} bytes, not the {size} of {count} images; unpack the binary "
                "version of the data set again"
            )
        rows = np.frombuffer(content, np.uint8).reshape(count, before + PIXELS)
        for place, most in enumerate(classes):
            check_labels(torch.tensor(rows[:, place]), most, str(path))
        labels[start : start + count] = rows[:, before - 1]
        pixels[start : start + count] = rows[:, before:]
        start += count
    return pixels, labels


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
    return _split(pixels, np.concatenate(labels).astype(np.int64) - 1, IMAGENET_STANDARD)


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
