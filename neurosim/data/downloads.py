"""Fetching the data sets that the readers know from their official addresses (extra ``data``).

Nothing is kept that has another SHA-256 than the official file, nothing that is there is
overwritten, and a file appears under its name only when it is whole.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import shlex
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from neurosim.base import ConfigurationError, DataError, write_atomic
from neurosim.data.cifar import cifar10, cifar100
from neurosim.data.dataset import Dataset
from neurosim.data.idx import mnist

# Told of a file on its way and how many of its bytes have arrived.
Told = Callable[["Remote", int], None]

_TIMEOUT = 30.0  # seconds without an answer
_CHUNK = 2**16
_INSTALL = "pip install 'neurosim[data]'"


@dataclass(frozen=True)
class Remote:
    """A file at an address, ``size`` bytes with that SHA-256.

    With ``members`` it is a packed tar archive, of which those files are taken: their names in it
    and below the root, and their sizes. Without, the file itself is taken.
    """

    url: str
    sha256: str
    size: int
    members: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """What the file is called at its address."""
        return self.url.rpartition("/")[2]

    @property
    def files(self) -> dict[str, int]:
        """The files below the root that come of it, with their sizes."""
        return dict(self.members or [(self.name, self.size)])


@dataclass(frozen=True)
class Source:
    """A data set, the files that it consists of, and the reader that proves them."""

    name: str
    remotes: tuple[Remote, ...]
    read: Callable[[Path], Dataset]


@dataclass(frozen=True)
class Fetched:
    """A data set that can be read, and what was downloaded for it: nothing if it was there."""

    data: Dataset
    downloaded: tuple[Remote, ...]


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
_CIFAR = "https://www.cs.toronto.edu/~kriz"
# The checksums are those that torchvision (MNIST) and TensorFlow Datasets (CIFAR) publish.
SOURCES = (
    Source(
        "mnist",
        (
            Remote(
                f"{_MNIST}/train-images-idx3-ubyte.gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                9_912_422,
            ),
            Remote(
                f"{_MNIST}/train-labels-idx1-ubyte.gz",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                28_881,
            ),
            Remote(
                f"{_MNIST}/t10k-images-idx3-ubyte.gz",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                1_648_877,
            ),
            Remote(
                f"{_MNIST}/t10k-labels-idx1-ubyte.gz",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                4_542,
            ),
        ),
        mnist,
    ),
    Source(
        "cifar10",
        (
            Remote(
                f"{_CIFAR}/cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                170_052_171,
                tuple(
                    (f"cifar-10-batches-bin/{name}.bin", 30_730_000)
                    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
                ),
            ),
        ),
        cifar10,
    ),
    Source(
        "cifar100",
        (
            Remote(
                f"{_CIFAR}/cifar-100-binary.tar.gz",
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                168_513_733,
                (
                    ("cifar-100-binary/train.bin", 153_700_000),
                    ("cifar-100-binary/test.bin", 30_740_000),
                ),
            ),
        ),
        cifar100,
    ),
)
_NOT_HERE = {
    "digits": "the digits ship with the package, there is nothing to download; "
    "use them with data: {name: digits}",
    "imagenet32": "ImageNet32x32 cannot be downloaded without an account: register at "
    "https://www.image-net.org, take the NumPy (npz) version of the 32x32 images from its download "
    "page, and put train_data_batch_1.npz … train_data_batch_10.npz and val_data.npz into one "
    "folder; data: {name: imagenet32, root: FOLDER} reads them",
}


def find(name: str) -> Source:
    """The source of that name. Raises ConfigurationError, saying what can be downloaded."""
    for source in SOURCES:
        if source.name == name:
            return source
    if name in _NOT_HERE:
        raise ConfigurationError(_NOT_HERE[name])
    names = ", ".join(source.name for source in SOURCES)
    raise ConfigurationError(f"there is no data set {name!r} to download, but {names}")


def fetch(source: Source, root: Path, told: Told) -> Fetched:
    """Downloads what the source's reader does not find in ``root``, and reads it.

    If the data can be read already, nothing else is done. Files that are there stay as they are.
    Raises DataError if pooch is not installed, a file cannot be downloaded or is not the official
    one, a file that differs from it is in the way, or the reader finds fault; OSError if something
    cannot be written.
    """
    _check_place(source, root)
    try:
        return Fetched(source.read(root), ())
    except DataError:
        pass  # what is missing comes now; what is wrong with it afterwards is an error
    needed = tuple(remote for remote in source.remotes if not _is_there(remote, root))
    by_hand = _by_hand(needed, root)
    for remote in needed:
        # Beside the target, that is on its disk; the root itself appears with its first file.
        above = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
        with _temporary_folder(above) as folder:
            for name, content in _contents(remote, _download(remote, folder, told, by_hand)):
                _install(root / name, content)
    return Fetched(source.read(root), needed)


def _check_place(source: Source, root: Path) -> None:
    """Raises DataError for what is known to be in the way before anything is downloaded."""
    parents = ((root / name).parent for remote in source.remotes for name in remote.files)
    for folder in dict.fromkeys((root, *parents)):
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder}: is not a folder; give another one with --root")


def _is_there(remote: Remote, root: Path) -> bool:
    """Whether nothing of it needs to be downloaded. Raises DataError for what is in the way."""
    for name, size in remote.files.items():
        path = root / name
        if path.exists() and (not path.is_file() or path.stat().st_size != size):
            raise _in_the_way(path)
    path = root / remote.name
    if remote.members or not path.is_file():
        return False
    if hashlib.sha256(path.read_bytes()).hexdigest() != remote.sha256:
        raise _in_the_way(path)
    return True


def _in_the_way(path: Path) -> DataError:
    return DataError(
        f"{path}: is not the official file, and is not overwritten; remove it, or give another "
        "folder with --root"
    )


@contextmanager
def _temporary_folder(above: Path) -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(dir=above, prefix=".download-")
    except OSError as error:  # it names a folder that nobody has heard of
        raise OSError(error.errno, error.strerror, str(above)) from None
    with folder as name:
        yield Path(name)


def _by_hand(remotes: Sequence[Remote], root: Path) -> str:
    """What to do where nothing can be downloaded."""
    where = shlex.quote(str(root))
    addresses = ", ".join(remote.url for remote in remotes)
    unpack = [f"tar -xzf {remote.name} -C {where}" for remote in remotes if remote.members]
    how = f"unpack it in {root}: {'; '.join(unpack)}" if unpack else f"put what you get into {root}"
    return f"or get {addresses} by other means and {how}"


def _download(remote: Remote, folder: Path, told: Told, by_hand: str) -> Path:
    """The file in ``folder``, with the right checksum. Raises DataError."""
    try:
        import pooch
        from requests import RequestException
    except ImportError:
        raise DataError(
            f"downloading needs pooch, which is not installed: {_INSTALL}; {by_hand}"
        ) from None
    told(remote, 0)
    try:
        with _quiet(pooch.get_logger()), ExitStack() as answers:
            downloader = pooch.HTTPDownloader(
                progressbar=_Meter(remote, told),
                chunk_size=_CHUNK,
                timeout=_TIMEOUT,
                headers={"Accept-Encoding": "identity"},
                hooks={"response": partial(_take, answers)},
            )
            found = pooch.retrieve(
                remote.url, f"sha256:{remote.sha256}", remote.name, folder, downloader=downloader
            )
    except RequestException as error:
        raise DataError(
            f"{remote.url}: cannot be downloaded: {_reason(error)}; try again later, {by_hand}"
        ) from error
    except ValueError as error:  # pooch's, of a checksum
        raise DataError(
            f"{remote.url}: what came is not the official file (SHA-256 {remote.sha256}), and is "
            f"not kept; try again later, {by_hand}"
        ) from error
    return Path(found)


class _Meter:
    """What pooch takes for a progress bar. It counts whole chunks: the last may be shorter."""

    total = 0  # pooch's guess, 0 if the server does not say

    def __init__(self, remote: Remote, told: Told) -> None:
        self._remote, self._told, self._done = remote, told, 0

    def update(self, count: int) -> None:
        self._done = min(self._remote.size, self._done + count)
        self._told(self._remote, self._done)

    def reset(self) -> None:
        """Pooch does so at the end, to add ``total`` anew, which it may not know."""

    def close(self) -> None:
        self.update(self._remote.size)


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


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Without pooch's own lines, which name the temporary folder."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _contents(remote: Remote, file: Path) -> Iterator[tuple[str, bytes]]:
    """What the files below the root shall hold.

    Of an archive, regular files with exactly the expected names and sizes are read and nothing is
    extracted, so that no name in it decides what is written where. Raises DataError if one is
    missing or different.
    """
    if not remote.members:
        yield remote.name, file.read_bytes()
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


def _install(path: Path, content: bytes) -> None:
    """Writes the file, or leaves it where it is the same. Raises DataError where it is not."""
    if path.exists():
        if not path.is_file() or path.read_bytes() != content:
            raise _in_the_way(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)
