"""What the readers of files share."""

import gzip
import io
import shlex
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurosim.base import DataError

Bytes = npt.NDArray[np.uint8]
AGAIN = "download or copy it again"


@contextmanager
def opened(path: Path) -> Iterator[gzip.GzipFile | io.BufferedReader]:
    """Opens a file for reading, unpacked if it is called ``.gz``.

    Raises:
        DataError: if it cannot be read, also while the block reads it.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        hint = f"{AGAIN}, or remove .gz from its name if it is already unpacked"
        raise DataError(f"{path}: not an intact gzip file ({error}); {hint}") from error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read: {reason}; check name and permissions") from error


def fetching(name: str, root: str | Path) -> str:
    """Returns the command that downloads a data set, as the end of what `absent` says."""
    return f"or fetch them: neurosim download {name} --root {shlex.quote(str(root))}"


def absent(folder: Path, missing: str, what: str, how: str) -> DataError:
    """Makes the error for a folder that has not got the files of a data set."""
    if not folder.is_dir():
        return DataError(f"{folder}: no such folder; give the one that has {what}, {how}")
    there = f"put {what} there, or give the folder that has them"
    return DataError(f"{folder}: {missing}; {there}, {how}")
