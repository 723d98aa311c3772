"""Writing files so that a reader never sees half of one, in folders that one process owns."""

import errno
import json
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from neurosim.base.errors import FolderInUseError

_LOCK = ".lock"
_POLL = 0.1  # seconds between two looks at a folder that is in use


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Names the file in an error of the system that names none, or one nobody has heard of."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def plain(path: Path) -> Path:
    """Returns the path of what can be read to its end. Raises OSError for a pipe or a device, which
    may wait or go on for ever."""
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise OSError(errno.EINVAL, "a pipe or a device, not a file", str(path))
    return path


def write_atomic(path: Path, content: bytes | str | Callable[[Path], None]) -> None:
    """Writes a file beside its target, syncs it, then renames it over the target. What is too large
    to be held as bytes is written by a function of the file's path."""
    data = content.encode() if isinstance(content, str) else content
    beside = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    with naming(path):
        try:
            with beside.open("xb") as file:
                if isinstance(data, bytes):
                    file.write(data)
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if not isinstance(data, bytes):
                data(beside)
                beside.chmod(mode)  # libraries put a file of their own there
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def remove_unfinished(folder: Path) -> None:
    """Removes what a kill has left below a folder of files that `write_atomic` was writing."""
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}", path.name) and path.is_file():
            path.unlink()


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON in the same way; NaN and infinities become null."""
    write_atomic(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """Returns the value with None in the place of every number that JSON cannot hold."""
    match value:
        case float():
            return value if value - value == 0.0 else None
        case dict():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case _:
            return value


# ---- files of another machine --------------------------------------------------------------------

_COPIES: ContextVar[Mapping[str, Path] | None] = ContextVar("copies", default=None)


@contextmanager
def lying_at(copies: Mapping[str, Path]) -> Iterator[None]:
    """Says where copies are of files that are not in their places on this machine."""
    token = _COPIES.set(copies)
    try:
        yield
    finally:
        _COPIES.reset(token)


def here(path: Path) -> Path:
    """Returns where a file or folder is: in its place, or a copy of it."""
    return (_COPIES.get() or {}).get(str(path), path)


# ---- one owner of a folder -----------------------------------------------------------------------


@contextmanager
def owned(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Makes this process the only owner of a folder, by a lock that ends with the process.

    A file in the folder names the host and the process. Where the file system knows no locks, that
    counts, unless it names a dead process of this host.

    Raises:
        FolderInUseError: another process, or this one, owns it and does for ``patience`` seconds.
    """
    if not os.access(folder, os.W_OK):  # nobody writes here
        yield
        return
    until = time.monotonic() + patience
    while (file := _locked(folder)) is None:
        if time.monotonic() >= until:
            raise FolderInUseError(f"{folder}: another process is at work here{_owner(folder)}")
        time.sleep(_POLL)
    with file:
        try:
            file.truncate(0)
            file.write(f"{socket.gethostname()} {os.getpid()}\n")
            file.flush()
        except OSError:  # a full disk: the lock holds without a name
            pass
        try:
            yield
        finally:
            (folder / _LOCK).unlink(missing_ok=True)


def _locked(folder: Path) -> TextIO | None:
    """Returns the locked file of a folder, None where another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows refuses to remove or replace an open file instead
        return (folder / _LOCK).open("a+", encoding="utf-8")
    while True:
        lock = folder / _LOCK
        if lock.is_symlink() or (lock.exists() and not lock.is_file()):
            raise FolderInUseError(f"{lock}: no plain file; no process of ours made it")
        file = (folder / _LOCK).open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), (folder / _LOCK).stat()):
                return file
        except FileNotFoundError:
            pass  # its owner has just removed it
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES) and _stale(folder):
                return file  # a file system without locks
            file.close()
            return None
        file.close()


def _said(folder: Path) -> tuple[str, int]:
    """Returns the host and the process that the lock names, 0 for none."""
    try:
        host, _, process = (folder / _LOCK).read_text(encoding="utf-8").strip().rpartition(" ")
        return host, int(process)
    except (OSError, ValueError):
        return "", 0


def _stale(folder: Path) -> bool:
    host, process = _said(folder)
    if host not in ("", socket.gethostname()):
        return False
    try:
        os.kill(process or os.getpid(), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return not process


def _owner(folder: Path) -> str:
    host, process = _said(folder)
    named = f": process {process} on {host}" if process else ""
    return f"{named}; wait until it has ended (if it is no more, delete {folder / _LOCK})"
