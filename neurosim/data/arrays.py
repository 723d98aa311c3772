"""Arrays in files: NumPy's .npy and .npz, and IDX, packed or not.

What a header promises is compared with the size of the file before memory is taken. A large array
is never in memory as a whole, and never a memory map, which takes addresses of its size.
"""

import gzip
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.base import DataError, gigabytes, plain, unknown
from neurosim.data.lazy import IN_MEMORY, Lazy, Samples, is_bomb

_DAMAGED = (
    *(EOFError, ValueError, RuntimeError, MemoryError, OverflowError, SyntaxError),
    *(zlib.error, zipfile.BadZipFile, TokenError),  # of a header that numpy parses
)
_PACKED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_STEP = 2**24  # bytes at a time
_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


@dataclass(frozen=True)
class Stored:
    """An array in a file, whose header was read and no more.

    Its values begin at the byte ``start`` of the file, or of its ``member``, or of what it unpacks
    to; at the byte ``at`` of the file itself, if it can be read there.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    at: int | None
    member: str | None = None
    fortran: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self) -> npt.NDArray[Any]:
        """Reads all of it. Raises DataError where the file does not have exactly its values."""
        if self.size > IN_MEMORY:
            raise self._too_large()
        if is_bomb(self.path, self.size):
            raise self._other_size("far fewer")
        self._check_size()
        values = np.empty(math.prod(self.shape), self.dtype)
        with _stream(self.path, self.member) as file:
            file.read(self.start)
            found = _fill(file, values.view(np.uint8).data)
            more = bool(file.read(1))  # at the end its checksum is compared
        if more or found != self.size:
            raise self._other_size("more" if more else f"{found:,}")
        return values.reshape(self.shape, order="F" if self.fortran else "C")

    def samples(self) -> Samples:
        """Returns its numbers, in memory or, of a large one, in the file."""
        if self.dtype.kind not in "buif" or not self.shape:
            said = f"{self.dtype} {self.shape} is no array of numbers, one row a sample"
            raise DataError(f"{self._name}: {said}")
        if self.size <= IN_MEMORY:
            return as_numbers(self.array())
        if self.at is None or self.fortran:
            raise self._too_large()
        self._check_size()
        dtype = as_numbers(np.empty(0, self.dtype)).dtype
        return Lazy(self._rows, self.shape[1:], dtype, torch.arange(self.shape[0]))

    def _rows(self, which: Tensor) -> Tensor:
        """Reads some rows, those that follow each other at once."""
        assert self.at is not None
        rows = np.empty((len(which), *self.shape[1:]), self.dtype)
        view, row = rows.reshape(-1).view(np.uint8).data, self.size // self.shape[0]
        indices = which.tolist()
        breaks = (np.flatnonzero(np.diff(indices) != 1) + 1).tolist() if indices else []
        bounds = [0, *breaks, len(indices)]
        with _reported(self.path), self.path.open("rb", buffering=0) as file:
            for begin, end in pairwise(bounds):
                file.seek(self.at + indices[begin] * row)
                wanted = view[begin * row : end * row]
                if _fill(file, wanted) < len(wanted):
                    raise DataError(f"{self._name}: has become shorter; restore it")
        return as_numbers(rows)

    def _check_size(self) -> None:
        if self.at is not None and self.member is None:
            there = self.path.stat().st_size - self.at
            if there != self.size:
                raise self._other_size(f"{there:,}")

    def _other_size(self, found: str) -> DataError:
        said = f"its header announces {self.shape}, {self.size:,} bytes of {self.dtype}"
        return DataError(f"{self._name}: {said}, there are {found}; save or copy it again")

    def _too_large(self) -> DataError:
        how = "to be read as it is needed it must lie unpacked and row by row (np.save, np.savez)"
        return DataError(f"{self._name}: takes {gigabytes(self.size)} in memory; {how}")

    @property
    def _name(self) -> str:
        return f"{self.path}" + ("" if self.member is None else f", array {self.member[:-4]!r}")


def _fill(file: Any, view: memoryview) -> int:
    """Reads until the view is full or the file at its end. Returns how many bytes there were."""
    done = 0
    while done < len(view) and (read := file.readinto(view[done : done + _STEP])):
        done += read
    return done


def as_numbers(array: npt.NDArray[Any]) -> Tensor:
    """Returns bytes as they are, float64 too, and all other numbers as float32."""
    kept = array.dtype.itemsize in (1, 8) and array.dtype.kind == "uf"[array.dtype.itemsize > 1]
    native = array.dtype.newbyteorder("=") if kept else np.dtype(np.float32)
    values = np.ascontiguousarray(array, native)
    return torch.from_numpy(values if values.flags.writeable else values.copy())


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Says of what goes wrong which file it is. Raises DataError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _damaged(path, error) from None
        reason, how = error.strerror or error, "check name and permissions"
        if path.is_dir():
            how = "name a file in it, or of images say kind: images, root: FOLDER"
        raise DataError(f"{path}: cannot be read: {reason}; {how}") from None
    except _DAMAGED as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    kinds = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".npy": "npy", ".npz": "npz"}
    other = kinds.get(path.suffix.lower(), "")
    hint = f"; say kind: {other} if it is that" * (other not in ("", "npz"))
    return DataError(f"{path}: not an intact file of arrays ({error}); save or copy it again{hint}")


@contextmanager
def _stream(path: Path, member: str | None = None) -> Iterator[IO[bytes]]:
    """Opens a file, unpacked if it is packed, or its member. Raises DataError, in the block too."""
    with _reported(path):
        if member is not None:
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo(member).compress_type not in _PACKED:
                    raise ValueError(f"{member} is packed in another way than numpy does it")
                with archive.open(member) as file:
                    yield file
            return
        with plain(path).open("rb") as content:
            packed = content.read(2) == b"\x1f\x8b"
            content.seek(0)
            if not packed:
                yield content
                return
            with gzip.open(content) as unpacked:
                yield unpacked  # type: ignore[misc]


def open_npy(path: Path, member: str | None = None) -> Stored:
    """Reads the header of an .npy file, or of one in an archive. Raises DataError for all else."""
    with _stream(path, member) as file:
        version = np.lib.format.read_magic(file)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"version {version} of the format")
        shape, fortran, dtype = readers[version](file)
        _check_shape(shape)
        start, packed = file.tell(), isinstance(file, gzip.GzipFile)
    if dtype.hasobject or dtype.kind not in "buifUS":
        said = f"holds {dtype}, not numbers or words, and nothing is unpickled"
        name = "" if member is None else f", array {member.removesuffix('.npy')!r}"
        how = "save it as numbers (astype(float)), or labels as words (astype(str))"
        raise DataError(f"{path}{name}: {said}; {how}")
    at = None if packed else start
    if member is not None:
        at = _place(path, member)
        at = None if at is None else at + start
    return Stored(path, dtype, shape, start, at, member, fortran)


def _check_shape(shape: tuple[int, ...]) -> None:
    """Raises ValueError for a shape that no array has."""
    if any(type(size) is not int or size < 0 for size in shape) or math.prod(shape) >= 2**63:
        raise ValueError(f"its header announces {str(shape)[:200]}")


def _place(path: Path, member: str) -> int | None:
    """Where in an archive a member begins, if it is not packed; its checksum is compared here."""
    with _reported(path), zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size <= IN_MEMORY:
            return None
        with archive.open(info) as file:
            while file.read(2**20):
                pass
    with _reported(path), path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = np.frombuffer(file.read(4), "<u2").tolist()
    return int(info.header_offset + 30 + name + extra)


def open_npz(path: Path, name: str, said: str = "") -> Stored:
    """Finds an array in an archive by its name. Raises DataError where there is none, in which
    ``said`` tells who asked for it."""
    with _reported(path), zipfile.ZipFile(plain(path)) as archive:
        names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
    if name not in names:
        raise DataError(f"{path}: {said}{unknown('array', name, names)}")
    return open_npy(path, f"{name}.npy")


def open_idx(path: Path) -> Stored:
    """Reads the header of an IDX file: two zeros, type, number of dimensions, sizes."""
    with _stream(path) as file:
        head = file.read(4)
        dtype = _IDX_TYPES.get(head[2]) if len(head) == 4 and head[:2] == b"\0\0" else None
        if dtype is None or not head[3]:
            said = f"not an IDX file: starts with '{head.hex(' ')}'"
            raise DataError(f"{path}: {said}, not '00 00', a type and a number of dimensions")
        sizes = file.read(4 * head[3])
        if len(sizes) < 4 * head[3]:
            raise DataError(f"{path}: truncated within its header; copy it again")
        shape, packed = tuple(np.frombuffer(sizes, ">u4").tolist()), isinstance(file, gzip.GzipFile)
        _check_shape(shape)
    start = 4 + len(sizes)
    return Stored(path, np.dtype(dtype), shape, start, None if packed else start)
