"""Tables: columns of a CSV or a Parquet file, of which one or some are what to learn."""

import csv
import json
import re
from abc import abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import DataError, gigabytes, plain, unknown
from neurosim.data.lazy import IN_MEMORY, is_bomb
from neurosim.data.own import Found, OwnData, TestFile, Values, says
from neurosim.data.standardization import kept_as
from neurosim.families import register

_NUMBER = re.compile(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?")
Column = str | int  # columns may be called 0, 1, …
Names = Sequence[str] | None
_INSTALL = "pip install 'neurosim[parquet]'"


@dataclass(frozen=True)
class _Columns(OwnData):
    """A table with a row for each sample."""

    paths = ("file", "test")

    file: Annotated[str, says("the table, seen from the scenario")]
    label: Annotated[
        Column | tuple[Column, ...], says("the column to learn; of values also several")
    ]
    test: TestFile = 0.2
    columns: Annotated[
        tuple[Column, ...] | None, says("the columns that are seen; default: all others")
    ] = None

    def _found(self, folder: Path, test: bool) -> Found | None:
        if test and not isinstance(self.test, str):
            return None
        table, path = (
            folder / Path(name).expanduser()
            for name in (self.file, str(self.test) if test else self.file)
        )
        try:
            # A table for the test may have its columns in another order.
            numbers, labels = self._read(path, self._header(table) if test else None)
        except OSError as error:
            said = f"cannot be read: {error.strerror or error}; check name and permissions"
            raise DataError(f"{path}: {said}") from None
        if not len(labels):
            raise DataError(f"{path}: has no rows")
        return torch.from_numpy(numbers), labels

    @property
    def _learned(self) -> list[str]:
        return [str(n) for n in (self.label if isinstance(self.label, tuple) else [self.label])]

    @abstractmethod
    def _header(self, path: Path) -> list[str]:
        """Reads the names of all columns."""

    @abstractmethod
    def _read(self, path: Path, like: Names) -> tuple[Values, Values]:
        """Reads the columns that are seen (N, columns), and what is to be learned. A table for the
        test has to have the columns ``like`` those of the other."""

    def _chosen(
        self, path: Path, header: Sequence[str], like: Names
    ) -> tuple[list[str], list[str]]:
        """Returns the names of the columns that are seen, and of those to learn."""
        learned = self._learned
        chosen = [str(name) for name in self.columns or ()]
        seen = chosen or [name for name in like or header if name not in learned]
        if like and not chosen and (more := [name for name in header if name not in like]):
            said = f"has the column {more[0]!r}, which the table to train on has not"
            raise DataError(f"{path}: {said}; remove it, or say in columns which are seen")
        for name in (*learned, *seen):
            if name not in header:
                raise DataError(f"{path}: {unknown('column', name, header)}{_hint(header)}")
            if header.count(name) > 1:
                raise DataError(f"{path}: several columns are called {name!r}; rename them")
        if not seen or set(seen) & set(learned):
            raise DataError(f"{path}: one column must be seen, and none that is to be learned")
        return seen, learned

    def _finish(self, path: Path, numbers: Values, learned: list[Values]) -> tuple[Values, Values]:
        if len(learned) > 1 and self.labels == "classes":
            raise DataError(f"{path}: several columns to learn are no classes; say labels: values")
        return numbers, learned[0] if len(learned) == 1 else np.stack(learned, 1)


def _hint(header: Sequence[str]) -> str:
    """What to say where a column is not there, and why, as the others are called."""
    if len(header) == 1 and (signs := [sign for sign in ";\t|" if sign in header[0]]):
        return f"; to separate values by it say delimiter: {json.dumps(signs[0])}"
    if header != [str(i) for i in range(len(header))] and any(
        _NUMBER.fullmatch(name) for name in header
    ):
        return "; if the first row is data say header: false, and call the columns 0, 1, …"
    return ""


@register("csv")
@dataclass(frozen=True)
class Csv(_Columns):
    """Reads a text file of columns of numbers; classes may be words."""

    delimiter: Annotated[
        str, Field(min_length=1, max_length=1), says("what separates the values of a row")
    ] = ","
    header: Annotated[
        bool, says("false: the first row is data; the columns are called 0, 1, …")
    ] = True

    @contextmanager
    def _rows(self, path: Path) -> Iterator[Any]:
        """Opens a table, and reads its rows."""
        with plain(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=self.delimiter, strict=True)
            try:
                yield rows
            except (csv.Error, UnicodeDecodeError) as error:
                said = f"is no text file of columns ({error}); save it as CSV in UTF-8"
                # Text is read, and its bytes are decoded, some lines ahead.
                line = f", line {rows.line_num}" if isinstance(error, csv.Error) else ""
                raise DataError(f"{path}{line}: {said}") from None

    def _header(self, path: Path) -> list[str]:
        with self._rows(path) as rows:
            return self._named(path, next(filter(None, rows), None))

    def _named(self, path: Path, first: list[str] | None) -> list[str]:
        """Returns the names of the columns, of the first row."""
        if first is None:
            raise DataError(f"{path}: is empty")
        return [name.strip() if self.header else str(i) for i, name in enumerate(first)]

    def _read(self, path: Path, like: Names) -> tuple[Values, Values]:
        with self._rows(path) as rows:
            return self._parsed(path, rows, like)

    def _parsed(self, path: Path, rows: Any, like: Names) -> tuple[Values, Values]:
        filled = filter(None, rows)  # an empty line is no row
        header = self._named(path, first := next(filled, None))
        assert first is not None
        seen, learned = self._chosen(path, header, like)
        at, of = ([header.index(name) for name in names] for names in (seen, learned))
        dtype = np.dtype(kept_as(self.standardize))
        numbers: array[float] = array(dtype.char)
        words = [list[str]() for _ in learned]
        for row in filled if self.header else _again(first, filled):
            line = f"{path}, line {rows.line_num}"
            if len(row) != len(header):
                how = "as many as the first row; fill it in, or remove it"
                raise DataError(f"{line}: has {len(row)} values, not {len(header)}, {how}")
            try:
                numbers.extend([float(row[i]) for i in at])
            except ValueError:
                raise _no_number(line, row, header, at) from None
            if len(numbers) * numbers.itemsize > IN_MEMORY:
                raise _too_large(path)
            for i, own in zip(of, words, strict=True):
                own.append(row[i].strip())
                if not own[-1]:
                    said = f"the value in column {header[i]!r} is missing; remove the row"
                    raise DataError(f"{line}: {said}")
        values = np.frombuffer(numbers, dtype).reshape(-1, len(at)).copy()
        found = [self._words(path, *own) for own in zip(learned, words, strict=True)]
        return self._finish(path, values, found)

    def _words(self, path: Path, name: str, words: list[str]) -> Values:
        """Returns what is to be learned: classes as words, which may be numbers."""
        if self.labels == "values":
            try:
                return np.array([float(word) for word in words])
            except ValueError:
                raise DataError(f"{path}: the column {name!r} has no numbers") from None
        _check_words(path, name, max(map(len, words), default=0), len(words))
        return np.array(words)

    def _names(self, labels: Values) -> Values:
        return super()._names(_as_numbers(labels))

    def _encoded(self, labels: Values, names: Values) -> Tensor:
        found = labels if names.dtype.kind == "U" else _as_numbers(labels)
        alike = (
            names.astype(str) if found.dtype.kind == "U" else names
        )  # to say which label differs
        return super()._encoded(found, alike)


def _as_numbers(labels: Values) -> Values:
    """Returns words as numbers, if all of them are: whole ones to the last digit, or as words."""
    if labels.dtype.kind != "U":
        return labels
    for kind, of in ((int, np.int64), (float, np.float64)):
        try:
            return np.array([kind(label) for label in labels], of)
        except OverflowError:
            break
        except ValueError:
            continue
    return labels


def _check_words(path: Path, name: str, longest: int, rows: int) -> None:
    """Raises DataError for words that fill memory: an array has the longest one's room for all."""
    if is_bomb(path, 4 * longest * rows):
        said = f"has words of up to {longest:,} signs, too long for {rows:,} rows"
        raise DataError(f"{path}: the column {name!r} {said}; give the classes short names")


def _again(first: list[str], rows: Iterator[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from rows


def _no_number(line: str, row: list[str], header: list[str], at: list[int]) -> DataError:
    for i in at:
        try:
            float(row[i])
        except ValueError:
            how = "remove the row, fill it in, or leave the column out of columns"
            return DataError(f"{line}: {row[i]!r} in column {header[i]!r} is no number; {how}")
    raise AssertionError(line)


@register("parquet")
@dataclass(frozen=True)
class Parquet(_Columns):
    """Reads a Parquet file with PyArrow, the extra ``parquet``; classes may be words."""

    @contextmanager
    def _open(self, path: Path) -> Iterator[Any]:
        """Opens a table."""
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise DataError(f"{path}: to read Parquet takes pyarrow: {_INSTALL}") from None
        try:
            quiet = np.errstate(all="ignore")  # what is not finite is an error later
            # Words stay in their dictionary, so that a long one that is everywhere is there once.
            with (
                quiet,
                plain(path).open("rb") as stream,
                parquet.ParquetFile(stream, read_dictionary=self._learned) as file,
            ):
                yield file
        except (ArrowException, ValueError, TypeError, KeyError) as error:
            said = f"is no intact Parquet file whose columns are numbers ({error})"
            hint = "; say kind: csv if it is that" * (path.suffix.lower() in (".csv", ".tsv"))
            raise DataError(f"{path}: {said}; save it again{hint}") from None

    def _header(self, path: Path) -> list[str]:
        with self._open(path) as file:
            return [*file.schema_arrow.names]

    def _read(self, path: Path, like: Names) -> tuple[Values, Values]:
        with self._open(path) as file:
            seen, learned = self._chosen(path, file.schema_arrow.names, like)
            rows = file.metadata.num_rows
            _check_types(path, file.schema_arrow, seen, learned)
            dtype = np.dtype(kept_as(self.standardize))
            if rows * len(seen) * dtype.itemsize > IN_MEMORY:
                raise _too_large(path)
            groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
            unpacked = sum(group.total_byte_size for group in groups)
            if is_bomb(path, max(unpacked, rows * len([*seen, *learned]))):
                raise DataError(f"{path}: has {rows:,} rows, far more than it can hold")
            numbers, words, done = np.empty((rows, len(seen)), dtype), [], 0
            for batch in file.iter_batches(columns=[*seen, *learned]):
                some = slice(done, done := done + len(batch))
                for i, name in enumerate(seen):
                    numbers[some, i] = batch[name].to_numpy(zero_copy_only=False)
                for name in learned:
                    _check_words(path, name, _longest(batch[name]), rows)
                words.append([batch[name].to_pylist() for name in learned])
        columns = [np.array([x for batch in words for x in batch[i]]) for i in range(len(learned))]
        if any(column.dtype == object for column in columns):
            raise DataError(f"{path}: a value of {', '.join(learned)} is missing; remove the row")
        return self._finish(path, numbers, columns)


def _check_types(path: Path, schema: Any, seen: list[str], learned: list[str]) -> None:
    """Raises DataError for a column that holds neither numbers nor, if it is to be learned, words:
    its values may be of any size."""
    from pyarrow import types

    numbers = types.is_boolean, types.is_integer, types.is_floating
    words = types.is_dictionary, types.is_string, types.is_large_string
    for name in (*seen, *learned):
        of, more = schema.field(name).type, words if name in learned else (types.is_decimal,)
        if not any(test(of) for test in (*numbers, *more)):
            said = f"{of}, not numbers{' or words' if name in learned else ''}"
            raise DataError(
                f"{path}: the column {name!r} holds {said}; leave it out, or convert it"
            )


def _longest(column: Any) -> int:
    """Returns the length of the longest word of a column, 0 of one of numbers."""
    from pyarrow import compute, types

    words = column.dictionary if types.is_dictionary(column.type) else column
    if types.is_primitive(words.type):
        return 0
    return int(compute.max(compute.binary_length(words)).as_py() or 0)


def _too_large(path: Path) -> DataError:
    size = gigabytes(IN_MEMORY)
    return DataError(f"{path}: has more than {size} of numbers; np.save them and use kind: npy")
