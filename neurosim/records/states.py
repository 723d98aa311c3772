"""Recorded states of single dyads on disk: a Zarr store (version 2), which grows by rows.

Its arrays are ``inference`` and ``tick`` by row, ``value`` by row and column, and the names
``column``. Chunks are whole files, written at once, and then the number of rows: what a reader
finds is a store at any time.
"""

import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import numpy as np
import numpy.typing as npt

from neurosim.base import ConfigurationError, DataError, plain, write_atomic, write_json
from neurosim.families import check
from neurosim.records.folder import MAX_BYTES, parsed

Rows = npt.NDArray[Any]  # with a field for each column
_HEAD = ("inference", "tick")
_GROWING = (*_HEAD, "value")
_ROWS, _BYTES = 1 << 14, 1 << 20  # of a chunk, at most, unless one row is larger
_MOST = 1 << 18  # columns
_METADATA = ".zmetadata"
# Names of its files, and of those that are being written.
_PART = re.compile(
    r"\.?\.z(group|metadata)(\.\w{8})?|"
    r"(column|inference|tick|value)/\.?(\.zarray|\.zattrs|\d+(\.0)?)(\.\w{8})?"
)


def _row_type(columns: Sequence[str]) -> np.dtype[Any]:
    """Returns the type of a row: a field for each name, one after the other."""
    return np.dtype([(name, "<i8") for name in _HEAD] + [(name, "<f8") for name in columns])


def _arrays(columns: int) -> np.dtype[Any]:
    """Returns the type of the same row, a field for each array of the store."""
    return np.dtype([(name, "<i8") for name in _HEAD] + [("value", "<f8", (columns,))])


def _chunk_rows(columns: int) -> int:
    return max(1, min(_ROWS, _BYTES // (8 * columns)))


def _key(name: str, number: int) -> str:
    return f"{number}.0" if name == "value" else str(number)


def _metadata(columns: Sequence[str], rows: int) -> dict[str, Any]:
    """Returns the JSON files of the store, by name, consolidated in one."""
    count, size = len(columns), _chunk_rows(len(columns))
    found: dict[str, dict[str, Any]] = {".zgroup": {"zarr_format": 2}}
    for name, kind, dimensions, shape, chunks in (
        ("column", np.array(columns, "<U").dtype.str, ["column"], [count], [count]),
        *((name, "<i8", ["row"], [rows], [size]) for name in _HEAD),
        ("value", "<f8", ["row", "column"], [rows, count], [size, count]),
    ):
        found[f"{name}/.zarray"] = {
            "zarr_format": 2,
            "shape": shape,
            "chunks": chunks,
            "dtype": kind,
            "compressor": {"id": "zlib", "level": 1},
            "fill_value": None,
            "order": "C",
            "filters": None,
        }
        found[f"{name}/.zattrs"] = {"_ARRAY_DIMENSIONS": dimensions}  # where xarray looks for them
    return {"zarr_consolidated_format": 1, "metadata": found}


# ---- writing -------------------------------------------------------------------------------------


def _is_store(path: Path) -> bool:
    """Returns whether a folder is a store, or what a kill has left of a new one."""
    if (path / _METADATA).exists():
        try:
            return bool(States(path).columns)
        except DataError:
            return False
    files = (part.relative_to(path).as_posix() for part in path.rglob("*") if not part.is_dir())
    return path.is_dir() and all(map(_PART.fullmatch, files))


class StatesWriter:
    """Appends rows to a store. It holds one chunk of them, at most 1 MiB or one row.

    ``rows`` is their number and ``crc`` their checksum. A store that is there is written anew.

    Raises:
        ConfigurationError: where there is something else, or there are no or too many columns.
        OSError: where it cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        if not columns:
            raise ConfigurationError(
                f"{path}: no dyad and no weight is named, so nothing to record"
            )
        path = path.resolve() if path.is_symlink() else path  # where what it leads to is removed
        self._prepare(path, columns)
        names = np.array(columns, "<U").tobytes()
        if len(columns) > _MOST or len(names) > MAX_BYTES:
            raise ConfigurationError(f"{path}: at most {_MOST:,} values are recorded: choose fewer")
        if path.exists():
            if not _is_store(path):
                said = "is no recording: remove it, or name another file"
                raise ConfigurationError(f"{path} is there and {said}")
            (path / _METADATA).unlink(missing_ok=True)  # first: a kill leaves what _is_store knows
            shutil.rmtree(path)
        for name in ("column", *_GROWING):
            (path / name).mkdir(parents=True)
        write_atomic(path / "column/0", zlib.compress(names))
        self._set_rows()

    def _prepare(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self._columns, self.rows, self.crc = path, columns, 0, 0
        self._written = 0  # rows on the disk
        self._chunk = np.zeros(_chunk_rows(len(columns)), _row_type(columns))
        self._arrays = _arrays(len(columns))

    @classmethod
    def after(cls, path: Path, rows: int, crc: int) -> Self:
        """Goes on after so many rows with this checksum, and cuts off what follows.

        Raises:
            DataError: where they are not there.
        """
        states, writer = States(path), cls.__new__(cls)
        writer._prepare(path, states.columns)
        size = len(writer._chunk)
        for number in range(-(-min(rows, len(states)) // size)):
            found = states.chunk(number)[: rows - writer.rows]
            writer.rows, writer.crc = writer.rows + len(found), crc32(found.tobytes(), writer.crc)
            writer._chunk[: len(found)] = found
        if (writer.rows, writer.crc) != (rows, crc):
            raise DataError(f"{path}: lacks rows that the checkpoint was saved after")
        writer._set_rows()
        return writer

    def append(self, inference: int, tick: int, values: Iterable[float]) -> None:
        """Appends a row."""
        at = self.rows % len(self._chunk)
        if not at:
            self.flush()  # what a full disk has refused before, as its place is taken now
        self._chunk[at] = (inference, tick, *values)
        self.crc = crc32(self._chunk[at].tobytes(), self.crc)
        self.rows += 1
        if at + 1 == len(self._chunk):
            self.flush()

    def flush(self) -> None:
        """Writes all rows to the disk: their chunk, then how many there are."""
        if self.rows == self._written:
            return
        chunk, number = self._chunk.view(self._arrays), (self.rows - 1) // len(self._chunk)
        for name in _GROWING:
            content = zlib.compress(chunk[name].tobytes(), level=1)
            write_atomic(self.path / name / _key(name, number), content)
        self._set_rows()

    def _set_rows(self) -> None:
        """Says how many rows there are, and removes the chunks after them."""
        about = _metadata(self._columns, self.rows)
        for name, content in about["metadata"].items():
            if "shape" in content or not (self.path / name).exists():
                write_json(self.path / name, content)
        write_json(self.path / _METADATA, about)
        for name in _GROWING:
            number = -(-self.rows // len(self._chunk))
            while (late := self.path / name / _key(name, number)).exists():
                late.unlink()
                number += 1
        self._written = self.rows


# ---- reading -------------------------------------------------------------------------------------


class States:
    """The recorded rows of a run, which stay on the disk: only what is looked at is read.

    ``states["plus.h1[5]"]`` is a column, ``states[-10:]`` rows with a field for each of the
    ``names``, ``numpy.asarray(states)`` all of them, and ``len(states)`` their number. ``path`` is
    a Zarr store, which other programs read as well.

    Raises:
        DataError: where there is no store, or it is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(check(str | Path, path=path))
        found = parsed(self._bytes(_METADATA, MAX_BYTES)) or {}
        try:
            rows, count = found["metadata"]["value/.zarray"]["shape"]
            if not (type(rows) is type(count) is int and 0 < count <= _MOST):
                raise ValueError
            names = self._unpacked("column/0", None)
            columns = np.frombuffer(names, f"<U{len(names) // (4 * count)}").tolist()
            most = _chunk_rows(count) * sum(1 for _ in (self.path / "value").iterdir())
            self.dtype = _row_type(columns)
            if len(columns) != count or found != _metadata(columns, rows) or not 0 <= rows <= most:
                raise ValueError
        except (KeyError, TypeError, ValueError, OSError):
            raise self._damaged(_METADATA) from None
        self.columns: tuple[str, ...] = tuple(columns)
        self._rows, self._size = rows, _chunk_rows(count)
        self._last: tuple[int, Rows] | None = None

    def __repr__(self) -> str:
        return f"<States {str(self.path)!r}: {len(self):,} rows of {', '.join(self.names)}>"

    def __len__(self) -> int:
        return self._rows

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all fields of a row."""
        return self.dtype.names or ()

    def __getitem__(self, key: str | int | slice | Sequence[int] | npt.NDArray[np.int64]) -> Rows:
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"no {key!r} was recorded: {', '.join(self.names)}")
            return np.concatenate([np.empty(0, self.dtype[key]), *self.blocks(key)])
        wanted = self._numbers(key)
        rows = np.empty(wanted.shape, self.dtype)
        chunks = wanted // self._size
        for number in np.unique(chunks):
            within = chunks == number
            rows[within] = self.chunk(int(number))[wanted[within] % self._size]
        chosen: Rows = rows[()]  # of one number, the row itself
        return chosen

    def _numbers(self, key: int | slice | Sequence[int] | npt.NDArray[Any]) -> npt.NDArray[Any]:
        if isinstance(key, slice):
            return np.arange(*key.indices(len(self)))
        numbers = np.asarray(key)
        if numbers.dtype == bool:
            if numbers.shape != (len(self),):
                raise IndexError(f"there are {len(self):,} rows, and {numbers.size:,} are told of")
            return np.flatnonzero(numbers)
        if numbers.size and (numbers.dtype.kind not in "iu" or numbers.ndim > 1):
            raise IndexError("rows are chosen by their numbers")
        numbers = np.where(numbers < 0, numbers + len(self), numbers).astype(np.int64)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"there are {len(self):,} rows")
        return numbers

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Rows:
        rows: Rows = self[:].astype(dtype or self.dtype, copy=bool(copy))
        return rows

    def blocks(self, name: str) -> Iterator[Rows]:
        """Yields a column, a chunk at a time."""
        for number in range(-(-len(self) // self._size)):
            if name in _HEAD:
                yield self._part(number, name)
            else:
                yield self._part(number, "value")[:, self.columns.index(name)]

    def chunk(self, number: int) -> Rows:
        """Returns the rows of a chunk, each with a field for each of the `names`."""
        if self._last is None or self._last[0] != number:  # as rows are looked at one by one
            kind = _arrays(len(self.columns))
            parts = {name: self._part(number, name) for name in _GROWING}
            rows = np.empty(len(parts["value"]), kind)
            for name, part in parts.items():
                rows[name] = part
            self._last = number, rows.view(self.dtype)
        return self._last[1]

    def _part(self, number: int, name: str) -> Rows:
        kind = _arrays(len(self.columns))[name]
        file = f"{name}/{_key(name, number)}"
        data = self._unpacked(file, self._size * kind.itemsize)
        part = np.frombuffer(data, kind.base).reshape(self._size, *kind.shape)
        return part[: len(self) - number * self._size]

    def _unpacked(self, name: str, size: int | None) -> bytes:
        """Returns the content of a chunk. Raises DataError where it is not ``size`` bytes long."""
        most, unpacking = MAX_BYTES if size is None else size, zlib.decompressobj()
        try:
            data = unpacking.decompress(self._bytes(name, 2 * most + 1024), most + 1)
        except zlib.error:
            raise self._damaged(name) from None
        if not unpacking.eof or unpacking.unused_data or size not in (None, len(data)):
            raise self._damaged(name)
        return data

    def _bytes(self, name: str, most: int) -> bytes:
        path = self.path / name
        try:
            if plain(path).stat().st_size <= most:
                return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} could not be read: {error.strerror}") from None
        raise self._damaged(name)

    def _damaged(self, name: str) -> DataError:
        return DataError(f"{self.path / name} does not hold what a recorder writes: it is damaged")
