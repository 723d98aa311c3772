"""Readers: the digits that ship with the package, and MNIST from a folder.

Readers never download anything. Whatever a reader returns has been checked: sizes, labels and
finite values, so that training need not look again.
"""

import hashlib
import io
import math
from pathlib import Path

import numpy as np
import torch

from neurosim.base import ConfigurationError, DataError
from neurosim.data.dataset import Dataset, Split, check_labels
from neurosim.data.reading import AGAIN, Bytes, absent, fetching, opened

_DIGITS_FILE = Path(__file__).parent / "digits.npz"
_DIGITS_SHA256 = "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"
# A header may promise anything. MNIST's largest file unpacks to 47 MB.
_IDX_LIMIT = 2**30


def digits(*, dtype: torch.dtype = torch.float32) -> Dataset:
    """Reads the 1,797 handwritten digits that ship with the package, images (N, 1, 8, 8) in [0, 1].

    The published values 0 … 16 are divided by 16. Within each class, in the order of the file,
    every fifth image is for the test: 1,442 for training, 355 for the test, classes in the same
    proportion. Both splits keep the order of the file. Origin and licence: ``data/DIGITS.md``.

    Raises:
        DataError: if the file is missing or not the one that was shipped.
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
    """Reads MNIST from its four IDX files in the folder ``root``, images (N, 1, 28, 28) in [0, 1].

    Pixels are divided by 255, the papers' setting. Files may be packed (``.gz``) or not and be
    called ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``. Data in the same form,
    such as Fashion-MNIST, reads as well.

    Raises:
        DataError: naming the file, if one is missing, damaged or does not fit the others.
    """
    train, test = (_mnist_part(Path(root), part, dtype) for part in ("train", "t10k"))
    return Dataset("mnist", train, test, classes=10)


def read_idx(path: str | Path, ndim: int) -> Bytes:
    """Reads the unsigned bytes of an IDX file with ``ndim`` dimensions; ``.gz`` is unpacked.

    IDX: two zero bytes, the type (8 for unsigned bytes), the number of dimensions, each
    dimension as a big-endian 32-bit number, then the values, the last dimension fastest. Reads
    at most one byte more than the header announces, and refuses headers that announce more than
    1 GiB.

    Raises:
        DataError: if the file cannot be read or is not exactly that.
    """
    path = Path(path)
    with opened(path) as file:
        header = file.read(4 + 4 * ndim)
        magic = bytes((0, 0, 8, ndim))
        if header[:4] != magic:
            raise DataError(
                f"{path}: not an IDX file of bytes with {ndim} dimension(s): starts with "
                f"'{header[:4].hex(' ')}', not '{magic.hex(' ')}'; {AGAIN}"
            )
        if len(header) < 4 + 4 * ndim:
            raise DataError(f"{path}: truncated within its header; {AGAIN}")
        shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
        size = math.prod(shape)
        if not 1 <= size <= _IDX_LIMIT:
            raise DataError(f"{path}: announces {shape}, not 1 to {_IDX_LIMIT} bytes; {AGAIN}")
        # The byte too many also makes gzip check its own checksum at the end.
        content = file.read(size + 1)
    if len(content) != size:
        problem = f"truncated to {len(content)}" if len(content) < size else "trailing"
        raise DataError(f"{path}: {problem} bytes, {shape} = {size} announced; {AGAIN}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _split(pixels: Bytes, labels: Bytes, scale: int, dtype: torch.dtype) -> Split:
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
    check_labels(torch.tensor(labels), 10, str(label_file))
    return _split(pixels, labels, 255, dtype)


def _find_idx(root: Path, stem: str, ndim: int) -> Path:
    names = [f"{stem}{dot}idx{ndim}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    for name in names:
        if (root / name).is_file():
            return root / name
    how = fetching("mnist", root)
    raise absent(root, f"none of {', '.join(names)}", "MNIST's four IDX files", how)
