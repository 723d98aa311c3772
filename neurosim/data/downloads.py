"""Fetching data sets from their official addresses (extra ``data``).

Nothing is kept that has another SHA-256 than the official file, nothing that is there is
overwritten, and a file appears under its name only when it is whole.
"""

import gzip
import hashlib
import shlex
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from neurosim.base import ConfigurationError, DataError, write_atomic
from neurosim.data.dataset import Dataset
from neurosim.data.formats import SUMS
from neurosim.data.source import DataSource, Remote

# Told of a file on its way and how many of its bytes have arrived; 0 before the first.
Told = Callable[[Remote, int], None]

_TIMEOUT = 30.0  # seconds without an answer
_CHUNK = 2**16
_INSTALL = "pip install 'neurosim[data]'"


@dataclass(frozen=True)
class Fetched:
    """A data set that can be read, and what was downloaded for it: nothing if it was there."""

    data: Dataset
    downloaded: tuple[Remote, ...]


def find(name: str) -> type[DataSource]:
    """Returns the data set of that name. Raises ConfigurationError where none can be downloaded."""
    family = DataSource.family
    if name not in family:
        names = ", ".join(known for known, source in family.items() if source.remotes)
        raise ConfigurationError(f"there is no data set {name!r} to download, but {names}")
    source: type[DataSource] = family[name]
    if not source.remotes:
        raise ConfigurationError(source.origin or f"the data set {name!r} has no known address")
    return source


def fetch(source: type[DataSource], root: Path, told: Told) -> Fetched:
    """Downloads what a data set does not find in its folder ``root``, and reads it.

    If the data can be read already, nothing else is done. Files that are there stay as they are.
    Raises DataError if pooch is not installed, a file cannot be downloaded or is not the official
    one, a file that differs from it is in the way, or the reader finds fault.
    """
    options: dict[str, Any] = {"root": str(root)}
    read = partial(source(**options).read, Path())
    try:
        return Fetched(read(), ())
    except DataError:  # what is missing comes now; what is wrong with it afterwards is an error
        needed = tuple(remote for remote in source.remotes if _is_needed(remote, root))
    if needed:
        _download(needed, root, told)
    return Fetched(read(), needed)


def _is_needed(remote: Remote, root: Path) -> bool:
    """Says if a file has to be downloaded. Raises DataError for what is in its way."""
    for name, size in remote.files.items():
        path = root / name
        for folder in (root, path.parent):
            if folder.exists() and not folder.is_dir():
                raise DataError(f"{folder}: is not a folder; give another one with --root")
        if path.exists() and (not path.is_file() or path.stat().st_size != size):
            raise _in_the_way(path)
    if remote.members or not path.is_file():
        return True
    if hashlib.sha256(path.read_bytes()).hexdigest() != remote.sha256:
        raise _in_the_way(path)
    return False


def _in_the_way(path: Path) -> DataError:
    how = "remove it, or give another folder with --root"
    return DataError(f"{path}: is not the official file, and is not overwritten; {how}")


def _by_hand(remotes: Sequence[Remote], root: Path) -> str:
    """What to do where nothing can be downloaded."""
    where = shlex.quote(str(root))
    addresses = ", ".join(remote.url for remote in remotes)
    unpack = [f"tar -xzf {remote.name} -C {where}" for remote in remotes if remote.members]
    how = f"put what you get into {root / remotes[0].folder}"
    how = f"unpack it in {root}: {'; '.join(unpack)}" if unpack else how
    return f"or get {addresses} by other means and {how}"


def _download(remotes: Sequence[Remote], root: Path, told: Told) -> None:
    """Downloads files with pooch, each of which is put in its place as soon as it is there."""
    by_hand = _by_hand(remotes, root)
    try:
        import pooch
        from requests import RequestException
    except ImportError:
        said = f"downloading needs pooch, which is not installed: {_INSTALL}; {by_hand}"
        raise DataError(said) from None
    # Beside the target, that is on its disk; the root itself appears with its first file.
    above = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    with tempfile.TemporaryDirectory(dir=above, prefix=".download-") as folder, ExitStack() as undo:
        logger = pooch.get_logger()  # its lines name the temporary folder
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel("WARNING")
        for remote in remotes:
            told(remote, 0)
            downloader = pooch.HTTPDownloader(
                progressbar=_Meter(remote, told),
                chunk_size=_CHUNK,
                timeout=_TIMEOUT,
                headers={"Accept-Encoding": "identity"},
                hooks={"response": partial(_take, undo)},
            )
            known, put = f"sha256:{remote.sha256}", partial(_install, remote, root)
            try:
                pooch.retrieve(remote.url, known, remote.name, folder, put, downloader)
            except RequestException as error:
                said = f"{remote.url}: cannot be downloaded: {_reason(error)}"
                raise DataError(f"{said}; try again later, {by_hand}") from error
            except ValueError as error:  # pooch's, of a checksum
                said = f"{remote.url}: what came is not the official file (SHA-256 {remote.sha256})"
                raise DataError(f"{said}, and is not kept; try again later, {by_hand}") from error


@dataclass
class _Meter:
    """A progress bar of pooch, which counts whole chunks: the last may be shorter."""

    remote: Remote
    told: Told
    done: int = 0

    def update(self, count: int) -> None:
        self.done = min(self.remote.size, self.done + count)
        self.told(self.remote, self.done)

    def reset(self) -> None:
        """Pooch does so at the end, to add the size anew, which it may not know."""

    def close(self) -> None:
        self.update(self.remote.size)


def _take(answers: ExitStack, response: Any, **_: object) -> None:
    """Of each answer of a server: close it in the end, and take what it sends as it is.

    Some servers call a packed file an encoding of its content, which would then be unpacked.
    """
    answers.callback(response.close)
    response.raw.headers.pop("Content-Encoding", None)


def _reason(error: BaseException) -> str:
    """What the server answered, or what is at the bottom of it."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answers {response.status_code} {response.reason}"
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _install(remote: Remote, root: Path, file: str, *_: object) -> None:
    """Puts the files that come of a download in their places, and beside those of an archive their
    checksums, which `check_sums` reads. A processor of pooch."""
    sums = dict[Path, str]()
    for name, content in _contents(remote, Path(file)):
        path = root / name
        sums[path] = hashlib.sha256(content).hexdigest()
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, content)
        elif not path.is_file() or path.read_bytes() != content:
            raise _in_the_way(path)
    if remote.members and not (beside := path.with_name(SUMS)).exists():
        lines = (f"{found}  {path.name}\n" for path, found in sums.items())
        write_atomic(beside, "".join(lines).encode())


def _contents(remote: Remote, file: Path) -> Iterator[tuple[str, bytes]]:
    """What the files below the root shall hold.

    Of an archive, regular files with exactly the expected names and sizes are read and nothing is
    extracted, so that no name in it decides what is written where.
    """
    if not remote.members:
        yield f"{remote.folder}{remote.name}", file.read_bytes()
        return
    wanted = remote.files
    try:
        with tarfile.open(file, "r:gz") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                size = wanted.pop(name, None)
                if size is None:
                    continue
                content = archive.extractfile(member) if member.isreg() else None
                if content is None or member.size != size:
                    raise DataError(f"{remote.name}: {name} in it is not a file of {size} bytes")
                yield name, content.read()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{remote.name}: not an intact archive ({error})") from error
    if wanted:
        raise DataError(f"{remote.name}: does not hold {', '.join(wanted)}")
