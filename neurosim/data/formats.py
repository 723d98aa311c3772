"""The files of data sets. What a reader returns has the size that was promised.

Nothing is downloaded and nothing is ever unpickled.
"""

import gzip
import hashlib
import io
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurosim.base import DataError, plain
from neurosim.data.lazy import is_bomb

Bytes = npt.NDArray[np.uint8]
SUMS = "SHA256SUMS"  # as sha256sum writes it: the checksums of files beside it
_SUM = re.compile(r"([0-9a-f]{64}) [ *](?!\.{1,2}$)([^/\0\n]+)")
_GZIP = b"\x1f\x8b"  # no IDX file and no label of CIFAR begins so
PIXELS = 3 * 32 * 32  # of a colour image
_AGAIN = "download or copy it again"
# A header may promise anything. MNIST's largest file unpacks to 47 MB.
_IDX_LIMIT = 2**30


@contextmanager
def _opened(path: Path) -> Iterator[gzip.GzipFile | io.BufferedReader]:
    """Opens a file, unpacked if it begins as gzip does, whatever its name. Raises DataError, also
    within the block."""
    try:
        with plain(path).open("rb") as file:
            packed = file.read(2) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not an intact gzip file ({error}); {_AGAIN}") from error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read: {reason}; check name and permissions") from error


def check_sums(path: Path) -> None:
    """Raises DataError where a list of checksums names a file that has another one."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
        for number, line in enumerate(lines, 1):
            if not (found := _SUM.fullmatch(line)):
                raise DataError(f"{path}:{number}: is not a SHA-256 and the name of a file")
            file = path.with_name(found[2])
            if file != path and file.is_file():  # sha256sum * finds the list of the last time, too
                with file.open("rb") as content:
                    if hashlib.file_digest(content, "sha256").hexdigest() != found[1]:
                        said = f"its SHA-256 is not the one in {path.name}"
                        raise DataError(f"{file}: is damaged: {said}; {_AGAIN}")
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None


def read_idx(path: Path, ndim: int) -> Bytes:
    """Reads the unsigned bytes of an IDX file with ``ndim`` dimensions, packed by gzip or not.

    IDX: two zero bytes, the type (8 for unsigned bytes), the number of dimensions, each
    dimension as a big-endian 32-bit number, then the values, the last dimension fastest. Reads
    at most one byte more than the header announces, which is at most 1 GiB. Raises DataError for
    whatever is not exactly that.
    """
    with _opened(path) as file:
        header = file.read(4 + 4 * ndim)
        magic = bytes((0, 0, 8, ndim))
        if header[:4] != magic:
            raise DataError(
                f"{path}: not an IDX file of bytes with {ndim} dimension(s): starts with "
                f"'{header[:4].hex(' ')}', not '{magic.hex(' ')}'; {_AGAIN}"
            )
        if len(header) < 4 + 4 * ndim:
            raise DataError(f"{path}: truncated within its header; {_AGAIN}")
        shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
        size = math.prod(shape)
        if not 1 <= size <= _IDX_LIMIT:
            raise DataError(f"{path}: announces {shape}, not 1 to {_IDX_LIMIT} bytes; {_AGAIN}")
        if is_bomb(path, size):
            raise DataError(f"{path}: announces {shape}, far more than it can hold; {_AGAIN}")
        # The byte too many also makes gzip check its own checksum at the end.
        content = file.read(size + 1)
    if len(content) != size:
        problem = f"truncated to {len(content)}" if len(content) < size else "trailing"
        raise DataError(f"{path}: {problem} bytes, {shape} = {size} announced; {_AGAIN}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_rows(path: Path, size: int, labels: int) -> tuple[Bytes, Bytes]:
    """Reads CIFAR's binary file of ``size`` bytes, whose rows have some labels and an image.

    Returns the bytes (n, labels) and (n, 3072). Raises DataError for a file of another size.
    """
    with _opened(path) as file:
        content, found = file.read(size + 1), path.stat().st_size
    count = size // (labels + PIXELS)
    if len(content) != size:
        raise DataError(
            f"{path}: has {found} bytes, not the {size} of {count} images; unpack the binary "
            "version of the data set again"
        )
    rows = np.frombuffer(content, np.uint8).reshape(count, -1)
    return rows[:, :labels], rows[:, labels:]
