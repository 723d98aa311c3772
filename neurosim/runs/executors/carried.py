"""Files that runs read, which travel to workers that have none, or others, in their places."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from neurosim.base import DataError, write_atomic
from neurosim.records import RunFiles
from neurosim.runs.folder import set_aside

LARGEST = 64_000_000  # bytes of a file, or of all in a folder, that travel
_MOST = 10_000  # files of a folder that does
Files = dict[str, bytes]


def read_files(folder: Path) -> Files:
    """Reads the files of a folder."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def write_files(folder: Path, files: Files) -> None:
    """Writes the files of a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name, content)


def put_run(folder: Path, files: Files, anew: bool) -> None:
    """Puts a run folder that a worker sent in its place. Raises DataError where it is damaged.

    What lay there, which the worker had, is what it continued, unless it made the run ``anew``.
    """
    if not files:
        return
    if any(".." in Path(name).parts or Path(name).is_absolute() for name in files):
        raise DataError(f"{folder}: a worker sent files that lead out of the folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".collected-") as name:
        come = Path(name) / "run"
        write_files(come, files)
        found = RunFiles(come)
        for path in found.digests:
            found.read(path)
        if anew:
            set_aside(folder)
        elif folder.exists():
            folder.rename(Path(name) / "before")
        come.rename(folder)


def content_of(path: Path) -> Files:
    """Reads a file (whose name is ""), or a folder; nothing where neither is, or it is too large to
    travel."""
    size = 0
    for number, part in enumerate([path] if path.is_file() else path.rglob("*")):
        size += part.stat().st_size if part.is_file() else 0
        if size > LARGEST or number > _MOST:
            return {}
    return {"": path.read_bytes()} if path.is_file() else read_files(path)


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file, or of a folder's files and their names; "" where it does not
    travel."""
    try:
        whole, files = sha256(), content_of(path)
    except OSError:
        return ""
    for name, content in files.items():
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest() if files else ""


class Kept:
    """What a worker keeps of files that came to it, in its ``folder`` by their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._same: dict[tuple[str, str], bool] = {}  # whether what is at a path has a digest

    def copies(
        self, digests: Mapping[str, str], come: Mapping[str, Files] = MappingProxyType({})
    ) -> dict[str, Path]:
        """Returns where copies of what is needed are or would be, for what is not in its place
        here; keeps what has ``come``. What does not travel has no digest."""
        found = {}
        for name, digest in digests.items():
            kept = self._folder / digest / Path(name).name
            if not digest or self._has(name, digest):
                continue
            if name in come and not kept.exists():
                self._keep(kept, come[name])
            found[name] = kept
        return found

    def _has(self, name: str, digest: str) -> bool:
        key = name, digest
        if key not in self._same:
            self._same[key] = digest_of(Path(name)) == digest
        return self._same[key]

    def _keep(self, path: Path, files: Files) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._folder) as new:
            write_files(Path(new), {f"{path.name}/{n}".rstrip("/"): c for n, c in files.items()})
            (Path(new) / path.name).rename(path)


def absent(digests: Mapping[str, str]) -> Iterable[str]:
    """Says what of that which does not travel is not here."""
    for name, digest in digests.items():
        if not digest and not Path(name).exists():
            most = f"{LARGEST // 1_000_000} MB at most do"
            yield f"{name} is not on the worker, and does not travel ({most}): put it there"
