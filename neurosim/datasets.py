"""Labelled images: the digits that ship with the package, MNIST from a folder, and batches.

Readers never download anything. Whatever a reader returns has been checked: sizes, labels and
finite values, so that training need not look again.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.errors import ConfigurationError, DataError, StateError
from neurosim.random import generator_state, restore_generator

_Bytes = npt.NDArray[np.uint8]

_DIGITS_FILE = Path(__file__).parent / "data" / "digits.npz"
_DIGITS_SHA256 = "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"
# A header may promise anything. MNIST's largest file unpacks to 47 MB.
_IDX_LIMIT = 2**30


@dataclass(frozen=True, eq=False)  # tensors have no single answer to ==
class Split:
    """Images with their labels.

    ``images`` is a floating-point tensor (N, *shape) and ``labels`` an int64 tensor (N,), N ≥ 1.
    Raises DataError if they do not fit together or an image is not finite.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        fits = images.ndim >= 2 and images.numel() > 0 and labels.shape == images.shape[:1]
        if not (fits and images.is_floating_point() and labels.dtype == torch.int64):
            raise DataError(
                "a split needs floating-point images (N, *shape) and int64 labels (N,) with N ≥ 1, "
                f"not {images.dtype} {tuple(images.shape)} and {labels.dtype} {tuple(labels.shape)}"
            )
        check_finite(images)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return tuple(self.images.shape[1:])

    def reshaped(self, shape: Sequence[int]) -> Split:
        """The same images as (N, *shape); DataError if an image has another number of values."""
        wanted = tuple(shape)
        if not wanted or min(wanted) < 1 or math.prod(wanted) != math.prod(self.shape):
            raise DataError(
                f"images of shape {self.shape} ({math.prod(self.shape)} values) cannot be given "
                f"the shape {wanted}; use a network whose input has as many values as an image"
            )
        return Split(self.images.reshape(-1, *wanted), self.labels)

    def limit(self, count: int) -> Split:
        """The first ``count`` images, or all if fewer; ConfigurationError if ``count`` < 1."""
        if count < 1:
            raise ConfigurationError(f"limit must be at least 1 image, not {count}")
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split with labels 0 … ``classes`` − 1.

    Raises DataError if the splits differ in image shape or a label is out of range.
    """

    name: str
    train: Split
    test: Split
    classes: int

    def __post_init__(self) -> None:
        if self.train.shape != self.test.shape:
            shapes = f"{self.train.shape} but test images {self.test.shape}"
            raise DataError(f"{self.name}: training images have shape {shapes}")
        for part, split in (("training", self.train), ("test", self.test)):
            _check_labels(split.labels, self.classes, f"{self.name}, {part} split")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, without the batch."""
        return self.train.shape

    def limit(self, train: int | None = None, test: int | None = None) -> Dataset:
        """The first ``train`` and ``test`` images (see `Split.limit`); None keeps all."""
        return replace(
            self,
            train=self.train if train is None else self.train.limit(train),
            test=self.test if test is None else self.test.limit(test),
        )

    def validation(self, count: int) -> tuple[Split, Split]:
        """(training, validation): the last ``count`` training images are set aside.

        The papers use 54,000 and 6,000 of MNIST's training images. Raises ConfigurationError if
        ``count`` < 1 and DataError if no training image would be left.
        """
        if count < 1:
            raise ConfigurationError(f"validation must be at least 1 image, not {count}")
        kept = len(self.train) - count
        if kept < 1:
            images = f"{count} validation images of {len(self.train)} training images"
            raise DataError(f"{self.name}: {images} leave none to train on; set aside fewer")
        rest = Split(self.train.images[kept:], self.train.labels[kept:])
        return self.train.limit(kept), rest


def check_finite(images: Tensor) -> None:
    """Raises DataError with the index of the first image of (N, *shape) that is not finite."""
    bad = ~torch.isfinite(images).flatten(1).all(dim=1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        extent = f"as have {int(bad.sum())} of {len(images)} images; remove or repair them"
        raise DataError(f"image {first} (counting from 0) has a value that is not finite, {extent}")


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Labels (N,) as targets (N, classes) of 0 and 1; DataError if a label is out of range."""
    _check_labels(labels, classes, "one_hot")
    return torch.nn.functional.one_hot(labels, classes).to(dtype)


def digits(*, dtype: torch.dtype = torch.float32) -> Dataset:
    """The 1,797 handwritten digits that ship with the package, images (N, 1, 8, 8) in [0, 1].

    The published values 0 … 16 are divided by 16. Within each class, in the order of the file,
    every fifth image is for the test: 1,442 for training, 355 for the test, classes in the same
    proportion; both keep the order of the file. Origin and licence: ``data/DIGITS.md``.
    Raises DataError if the file is missing or not the one that was shipped.
    """
    content = _read_verified(_DIGITS_FILE, _DIGITS_SHA256)
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        pixels, labels = file["images"], file["labels"]
    test = np.zeros(len(labels), dtype=np.bool_)
    for label in range(10):
        test[np.flatnonzero(labels == label)[4::5]] = True
    first, second = (_split(pixels[mask], labels[mask], 16, dtype) for mask in (~test, test))
    return Dataset("digits", first, second, classes=10)


def mnist(root: str | Path, *, dtype: torch.dtype = torch.float32) -> Dataset:
    """MNIST from its four IDX files in the folder ``root``, images (N, 1, 28, 28) in [0, 1].

    Pixels are divided by 255, the papers' setting. Files may be packed (``.gz``) or not and be
    called ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``. Data in the same form,
    such as Fashion-MNIST, reads as well. Raises DataError, naming the file, if one is missing,
    damaged or does not fit the others.
    """
    train, test = (_mnist_part(Path(root), part, dtype) for part in ("train", "t10k"))
    return Dataset("mnist", train, test, classes=10)


def read_idx(path: str | Path, ndim: int) -> _Bytes:
    """The unsigned bytes of an IDX file with ``ndim`` dimensions; ``.gz`` is unpacked.

    IDX: two zero bytes, the type (8 for unsigned bytes), the number of dimensions, each
    dimension as a big-endian 32-bit number, then the values, the last dimension fastest. Reads
    at most one byte more than the header announces, and refuses headers that announce more than
    1 GiB. Raises DataError if the file cannot be read or is not exactly that.
    """
    path, again = Path(path), "download or copy it again"
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * ndim)
            magic = bytes((0, 0, 8, ndim))
            if header[:4] != magic:
                raise DataError(
                    f"{path}: not an IDX file of bytes with {ndim} dimension(s): starts with "
                    f"'{header[:4].hex(' ')}', not '{magic.hex(' ')}'; {again}"
                )
            if len(header) < 4 + 4 * ndim:
                raise DataError(f"{path}: truncated within its header; {again}")
            shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
            size = math.prod(shape)
            if not 1 <= size <= _IDX_LIMIT:
                raise DataError(f"{path}: announces {shape}, not 1 to {_IDX_LIMIT} bytes; {again}")
            # The byte too many also makes gzip check its own checksum at the end.
            content = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        hint = "or remove .gz from its name if it is already unpacked"
        raise DataError(f"{path}: not an intact gzip file ({error}); {again}, {hint}") from error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read: {reason}; check name and permissions") from error
    if len(content) != size:
        problem = f"truncated to {len(content)}" if len(content) < size else "trailing"
        raise DataError(f"{path}: {problem} bytes, {shape} = {size} announced; {again}")
    return np.frombuffer(content, np.uint8).reshape(shape)


class Batches:
    """An endless stream of shuffled epochs over a split, with a position that can be saved.

    Each epoch is a new permutation; what does not fill the last batch is left out of that
    epoch. ``epoch`` counts from 0 and ``position`` is the number of batches taken from it, so
    after the last batch ``position == len(batches)`` and the next one starts a new epoch.
    ``shuffle=False`` keeps the order of the split and draws nothing from ``generator``. Raises
    ConfigurationError if ``batch_size`` < 1, DataError if it exceeds the split.
    """

    def __init__(
        self, split: Split, batch_size: int, generator: np.random.Generator, shuffle: bool = True
    ) -> None:
        if batch_size < 1:
            raise ConfigurationError(f"batch_size must be at least 1, not {batch_size}")
        if batch_size > len(split):
            remedy = "choose a smaller batch_size or more images"
            raise DataError(f"batch_size {batch_size} exceeds the {len(split)} images; {remedy}")
        self._split, self._size = split, batch_size
        self._generator, self._shuffle = generator, shuffle
        self.epoch, self.position = 0, 0
        self._order = self._permutation()

    def __len__(self) -> int:
        """The number of batches per epoch."""
        return len(self._split) // self._size

    def next(self) -> tuple[Tensor, Tensor]:
        """The next images (B, *shape) and labels (B,), both copies."""
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0
            self._order = self._permutation()
        start = self.position * self._size
        index = self._order[start : start + self._size].to(self._split.images.device)
        self.position += 1
        return self._split.images[index], self._split.labels[index]

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: plain numbers, and ``order`` as an int64 tensor (N,)."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "batch_size": self._size,
            "shuffle": self._shuffle,
            "order": self._order.clone(),
            "generator": generator_state(self._generator),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to where `state_dict` was taken; the batches that follow are identical.

        Raises StateError, and changes nothing, if the state belongs to another split size, batch
        size, shuffling or kind of generator, or is incomplete.
        """
        if missing := self.state_dict().keys() - state.keys():
            raise StateError(f"saved batches lack {', '.join(sorted(missing))}")
        for key, own in (("batch_size", self._size), ("shuffle", self._shuffle)):
            if state[key] != own:
                raise StateError(f"saved batches have {key} {state[key]}, these have {own}")
        order, count = torch.as_tensor(state["order"]).cpu(), len(self._split)
        if order.dtype != torch.int64 or not torch.equal(order.sort().values, torch.arange(count)):
            raise StateError(f"saved batches hold no permutation of these {count} images")
        epoch, position = int(state["epoch"]), int(state["position"])
        if epoch < 0 or not 0 <= position <= len(self):
            raise StateError(
                f"saved position {position} of epoch {epoch} is not in 0 … {len(self)}"
            )
        before = generator_state(self._generator)
        try:
            restore_generator(self._generator, state["generator"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            restore_generator(self._generator, before)  # NumPy may have set a part of it
            raise StateError(f"saved batches hold another kind of generator: {error}") from error
        self.epoch, self.position, self._order = epoch, position, order.clone()

    def _permutation(self) -> Tensor:
        if not self._shuffle:
            return torch.arange(len(self._split))
        # NumPy 1 permutes 32-bit numbers on Windows.
        return torch.from_numpy(self._generator.permutation(len(self._split)).astype(np.int64))


def _check_labels(labels: Tensor, classes: int, what: str) -> None:
    bad = (labels < 0) | (labels >= classes)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        wrong = f"label {int(labels[first])} at index {first} (counting from 0)"
        raise DataError(f"{what}: {wrong} is not in 0 … {classes - 1}")


def _split(pixels: _Bytes, labels: _Bytes, scale: int, dtype: torch.dtype) -> Split:
    """Gray images (N, H, W) and labels (N,) as a split with images (N, 1, H, W) / scale."""
    if not dtype.is_floating_point:
        raise ConfigurationError(f"images need a floating-point dtype, not {dtype}")
    images = torch.tensor(pixels).to(dtype).unsqueeze(1) / scale
    return Split(images, torch.tensor(labels).to(torch.int64))


def _read_verified(path: Path, sha256: str) -> bytes:
    content = b""
    try:
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
    except OSError as error:
        found = f"none ({error.strerror or error})"
    if found != sha256:
        raise DataError(
            f"{path}: missing or damaged: expected SHA-256 {sha256}, found {found}; reinstall "
            "neurosim to restore it"
        )
    return content


def _mnist_part(root: Path, part: str, dtype: torch.dtype) -> Split:
    image_file = _find_idx(root, f"{part}-images", 3)
    label_file = _find_idx(root, f"{part}-labels", 1)
    pixels, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if pixels.shape[1:] != (28, 28):
        raise DataError(f"{image_file}: images are {pixels.shape[1:]}, not MNIST's (28, 28)")
    if len(pixels) != len(labels):
        raise DataError(
            f"{image_file} holds {len(pixels)} images but {label_file} {len(labels)} labels; "
            "take both from the same source"
        )
    # Here and not only in Dataset, because here the file can be named.
    _check_labels(torch.tensor(labels), 10, str(label_file))
    return _split(pixels, labels, 255, dtype)


def _find_idx(root: Path, stem: str, ndim: int) -> Path:
    names = [f"{stem}{dot}idx{ndim}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    for name in names:
        if (root / name).is_file():
            return root / name
    raise DataError(
        f"{root}: {'' if root.is_dir() else 'no such folder, so '}none of {', '.join(names)}; put "
        "MNIST's four IDX files there or give the folder that has them"
    )
