"""Reads and writes the files of a folder so that a damaged one is found, and its line named.

The manifest of a run folder holds the digests of its files, and one of itself, as a sweep's file
does. Every line of records ends with a checksum of itself and of all lines before it. What was
written before there were any has none, and is taken as it is.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from neurosim.base import DataError, finite, plain, write_json

MANIFEST = "manifest.json"
MAX_BYTES = 1 << 26  # of a file that is no list of records
_LINE = re.compile(rb'(\{.*), "crc": "([0-9a-f]{8})"\}\n')


def parsed(text: str | bytes) -> dict[str, Any] | None:
    """Returns the JSON object that a text is, None where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# ---- objects that hold their own checksum --------------------------------------------------------


def _checksum(value: Mapping[str, Any]) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(finite(value)).encode()).hexdigest()}"


def write_object(path: Path, value: dict[str, Any]) -> None:
    """Writes a JSON object with its checksum, at once or not at all."""
    write_json(path, value | {"checksum": _checksum(value)})


def read_object(path: Path) -> dict[str, Any] | None:
    """Returns the JSON object in a file, None where there is no file.

    Raises:
        DataError: where it cannot be read, or has a checksum of something else.
    """
    return None if (data := _read(path)) is None else _object(path, data)


def _read(path: Path) -> bytes | None:
    if not path.exists():
        return None
    if not path.is_file() or path.stat().st_size > MAX_BYTES:  # a pipe never ends
        raise DataError(f"{path} could not be read: no plain file of at most {MAX_BYTES:,} bytes")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} could not be read: {error.strerror}") from None


def _object(path: Path, data: bytes) -> dict[str, Any]:
    if (found := parsed(data)) is None:
        raise DataError(f"{path} does not hold a JSON object: it is damaged")
    said = found.pop("checksum", None)
    if (b"checksum" in data or b"sha256:" in data) and said != _checksum(found):
        raise DataError(f"{path} does not hold what was written there: it is damaged")
    return found


# ---- a run folder with its manifest --------------------------------------------------------------


def write_manifest(folder: Path, files: Mapping[str, bytes | str]) -> None:
    """Writes the digests of files with these contents (or with these digests, as text)."""
    digests = {
        name: content if isinstance(content, str) else hashlib.sha256(content).hexdigest()
        for name, content in files.items()
    }
    write_object(folder / MANIFEST, {"files": digests})


class RunFiles:
    """Reads the files of a run folder, as they were written by its manifest, or by ``digests``.

    Raises:
        DataError: where the manifest is damaged.
    """

    def __init__(self, folder: Path, digests: Mapping[str, str] | None = None) -> None:
        self.folder, self.summed = folder, (folder / MANIFEST).exists()
        if digests is None:
            found = (read_object(folder / MANIFEST) or {}).get("files")
            digests = found if isinstance(found, dict) else {}
        self.digests = digests

    def check(self, name: str, digest: str | None) -> None:
        """Raises DataError where a file (None: there is none) is not the one in the manifest."""
        wanted = self.digests.get(name, digest)
        if digest != wanted:
            path = self.folder / name
            if digest is None:
                raise DataError(f"{path} could not be read: it is missing, and {MANIFEST} lists it")
            raise DataError(f"{path} does not hold what was written there, says {MANIFEST}")

    def check_below(self, name: str) -> None:
        """Raises DataError where a file in a folder is not the one in the manifest, or missing."""
        found = files_below(self.folder, name)
        listed = (known for known in self.digests if known.startswith(f"{name}/"))
        for known in {**dict.fromkeys(listed), **found}:
            self.check(known, found.get(known))

    def read(self, name: str) -> bytes | None:
        """Returns a file, None where there is none. Raises DataError where it is damaged."""
        data = _read(self.folder / name)
        self.check(name, None if data is None else hashlib.sha256(data).hexdigest())
        return data

    def object(self, name: str) -> dict[str, Any] | None:
        """Returns the JSON object in a file, None where there is none. Raises DataError."""
        data = self.read(name)
        return None if data is None else _object(self.folder / name, data)


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path, name: str) -> dict[str, str]:
    """Returns the SHA-256 of a file of a folder, or of all files in one of its folders, by name;
    of nothing where there is none."""
    path = folder / name
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in found}


# ---- lines of records ----------------------------------------------------------------------------


def record_line(record: Mapping[str, Any], crc: int) -> tuple[bytes, int]:
    """Returns a record as a line of JSON, and the checksum of all lines up to it, given that of
    those before. A number that JSON cannot hold becomes null."""
    text = json.dumps(finite(record), allow_nan=False)[:-1].encode()
    crc = crc32(text, crc)
    return text + b', "crc": "%08x"}\n' % crc, crc


def read_lines(
    file: BinaryIO, chained: bool = False
) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Yields each line with its record, None for one that is damaged or follows a missing one.

    Where nothing says that the lines are ``chained`` by checksums, they are if one of them is.
    """
    crc, chained = 0, chained or any(_LINE.fullmatch(line) for line in file)
    file.seek(0)
    for line in file:
        found = _LINE.fullmatch(line)
        whole = not chained or (found is not None and crc32(found[1], crc) == int(found[2], 16))
        crc = crc if found is None else int(found[2], 16)
        if (record := parsed(line) if whole else None) is not None:
            record.pop("crc", None)
        yield line, record


def check_lines(path: Path, size: int, crc: int) -> None:
    """Raises DataError unless the first ``size`` bytes of a file are lines with that checksum."""
    with plain(path).open("rb") as file:
        at, last = 0, 0
        for number, (line, record) in enumerate(read_lines(file, chained=True), 1):
            if at >= size:
                break
            at += len(line)
            if record is None or at > size:
                raise DataError(f"{path}:{number}: damaged, or a line before it is missing")
            last = int(line[-11:-3], 16)
    if (at, last) != (size, crc):
        raise DataError(f"{path}: lacks records that the checkpoint was saved after")
