"""Documents a user writes: the files that they are in, and overrides of parts of them."""

import copy
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurosim.base import (
    DocumentError,
    NeurosimError,
    Problem,
    did_you_mean,
    plain,
    shipped_files,
    shorten,
)
from neurosim.documents.merging import merged
from neurosim.documents.yaml import (
    COMMAND_LINE,
    FORBIDDEN,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    Document,
    Mark,
    NodePath,
    describe,
    fail,
    forbidden,
    loads,
    mark_at,
    show_path,
)
from neurosim.families import check

# A name or an index. One of more than six digits is out of range in any document we read.
_STEP = r"(?:[^.\[\]]+|\[[0-9]{1,6}\])"
_KEY = re.compile(rf"{_STEP}(?:\.[^.\[\]]+|\[[0-9]{{1,6}}\])*")


def load(path: str | os.PathLike[str]) -> Document:
    """Reads the YAML document in a file, on top of the files that its ``defaults`` name.

    Raises DocumentError where that cannot be; see `loads`.
    """
    check(str | os.PathLike, path=path)
    return merged(_read_file(os.fspath(path)), _load_default)


def _load_default(document: Document, path: NodePath) -> Document:
    return _named(document, path, _read_file)


def _read_file(file: str) -> Document:
    """The document in a file, as it is."""
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        fail(Mark(file), _why_unreadable(Path(file), error))
    if len(data) > MAX_BYTES:
        fail(Mark(file), f"larger than {MAX_BYTES} bytes; that is no document of ours")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        fail(Mark(file), "this is UTF-16; save the file as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        mark = mark_at(data[: error.start].decode("utf-8"), file)
        fail(mark, f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8")
    return loads(text, file)


ReadPart = Callable[[Document, NodePath], Document]  # what `load_part` does
_LISTED = "; neurosim examples lists them"


def load_part(document: Document, path: NodePath) -> Document:
    """Reads the document in the file that the string at ``path`` names, seen from `folder`, or in
    the shipped one of that name.

    Where there is no such file, the problem is at the string.
    """
    return _named(document, path, load)


def _named(document: Document, path: NodePath, read: Callable[[str], Document]) -> Document:
    name = document.part(path).value
    file = folder(document, path) / Path(name).expanduser()
    if not file.exists():
        shipped = shipped_files("networks") | shipped_files("scenarios")
        file = shipped.get(name, file)
    try:
        return read(os.fspath(plain(file) if file.exists() else file))
    except OSError as error:
        raise DocumentError([document.problem(path, f"{name!r}: {error.strerror}")]) from None
    except DocumentError as error:
        if file.is_file():
            raise
        said = f"{name!r}: {error.problems[0].message}"
        if not file.suffix:
            hint = did_you_mean(name, shipped_files("networks"))
            said = f"{name!r}: no such file, and no example of that name{hint or _LISTED}"
        raise DocumentError([document.problem(path, said)]) from None


def folder(document: Document, path: NodePath) -> Path:
    """Returns what a file name at ``path`` is relative to: the folder of the file that says it, or
    here for the command line."""
    file = document.position(path).file
    return Path() if file in (COMMAND_LINE, "<dict>") else Path(file).parent


@contextmanager
def located(
    document: Document, path: NodePath = (), elsewhere: Mapping[NodePath, NodePath] = {}
) -> Iterator[None]:
    """Gives an error of the program's own a line in the document: that of the option at fault
    below ``path``, or where it is ``elsewhere``."""
    try:
        yield
    except DocumentError:
        raise
    except NeurosimError as error:
        option: NodePath = getattr(error, "option", ())
        at = elsewhere.get(option, (*path, *option))
        raise DocumentError([document.problem(at, str(error))]) from None


def apply_overrides(
    document: Document, assignments: Sequence[str], files: Mapping[NodePath, ReadPart] = {}
) -> Document:
    """Copies ``document`` so that each of the ``assignments`` (``key.path=value``) holds.

    The value is read as YAML. Items of a list are named ``layers[0]`` or ``layers.0``; mappings
    that are missing on the way are created. Later assignments see earlier ones. Problems with an
    overridden value are reported in the file ``<command line>``, at the ordinal of its assignment.
    A string at one of the paths ``files`` names a file, which is read as it says there: a key that
    goes on inside of it changes what that file says, and the result stands there in its place.

    Raises:
        DocumentError: with one problem for each assignment that cannot be applied.
    """
    marks = dict(document.marks)
    document = replace(document, value=copy.deepcopy(document.value), marks=marks)
    problems = []
    for ordinal, assignment in enumerate(assignments, 1):
        mark = Mark(COMMAND_LINE, ordinal)
        try:
            document = replace(document, value=_assign(document, marks, assignment, mark, files))
        except _RefusedError as error:
            message = f"in the argument {shorten(assignment, 100)}: {error}"
            problems.append(Problem(*mark, "", message))
        except DocumentError as error:  # of a file
            problems += error.problems
    if problems:
        raise DocumentError(problems)
    return document


def _why_unreadable(path: Path, error: Exception) -> str:
    """Plain words for a file that cannot be opened, with the names that come close."""
    if isinstance(error, FileNotFoundError):
        try:
            # A bound: the folder may be the root of a data set with a million files.
            names = sorted(entry.name for entry in itertools.islice(path.parent.iterdir(), 2000))
        except OSError:
            return f"no such file; the folder {str(path.parent)!r} cannot be read either"
        return "no such file" + (did_you_mean(path.name, names) or "; check the path")
    if isinstance(error, IsADirectoryError):
        return "is a folder; name a YAML file in it"
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"cannot be read: {reason}; check the path and its permissions"


class _RefusedError(Exception):
    """Why an assignment cannot be applied; `apply_overrides` adds which one it is."""


def quotes_hint(assignment: str) -> str:
    """Says what to do about a piece that a shell has cut off at a space of a mapping or a list."""
    cut = assignment.endswith(("}", "]", ","))
    return ", and in quotes where it has spaces: 'key.path={a: 1, b: 2}'" if cut else ""


def _read(assignment: str) -> tuple[list[str], Document]:
    """The steps of the key, an index in its brackets, and the value."""
    key, equals, text = assignment.partition("=")
    key = key.strip()
    if not equals or not key:
        raise _RefusedError("write it as key.path=value" + quotes_hint(assignment))
    if found := FORBIDDEN.search(key):
        raise _RefusedError(forbidden(found[0]))
    if not _KEY.fullmatch(key):
        raise _RefusedError(f"{shorten(key)} is no key; write it like layers[0].conv")
    if not text.strip():
        raise _RefusedError("there is no value after '='; write null or '\"\"' if that is meant")
    try:
        return re.findall(_STEP, key), loads(text.strip(), COMMAND_LINE)
    except DocumentError as error:
        raise _RefusedError(error.problems[0].message) from None


def _assign(
    document: Document,
    marks: dict[NodePath, tuple[Mark, Mark]],
    assignment: str,
    mark: Mark,
    files: Mapping[NodePath, ReadPart],
) -> Any:
    """Applies one assignment to the value of the document and its ``marks``, in place; returns the
    value."""
    steps, new = _read(assignment)
    root = document.value
    if len(steps) + max(map(len, new.marks)) > MAX_DEPTH:
        raise _RefusedError(f"nested more than {MAX_DEPTH} deep; make the document flatter")
    if root is None:
        root = {}
        marks[()] = (mark, mark)
    path: NodePath = ()
    node = root
    for step in steps:
        parent, key = node, _slot(node, path, step)
        path = (*path, key)
        if len(path) == len(steps):
            parent[key] = new.value
        elif (parent.get(key) if isinstance(parent, dict) else parent[key]) is None:
            parent[key] = {}
            marks[path] = (mark, mark)
        elif path in files and isinstance(parent[key], str):
            found = files[path](document, path)
            parent[key] = found.value
            marks.update({(*path, *inner): pair for inner, pair in found.marks.items()})
        node = parent[key]
    for old in [old for old in marks if old[: len(path)] == path]:
        del marks[old]
    marks.update({(*path, *inner): (mark, mark) for inner in new.marks})
    if len(marks) > MAX_NODES:
        raise _RefusedError(f"more than {MAX_NODES} values; make the document smaller")
    return root


def _slot(node: Any, path: NodePath, step: str) -> str | int:
    """The key or index in ``node``, which is at ``path``, that ``step`` stands for."""
    where = f"{show_path(path)!r}" if path else "the document"
    if isinstance(node, dict):
        if step.startswith("["):
            raise _RefusedError(f"{where} is no list, so it has no item {step}")
        return step
    if isinstance(node, list):
        index = step.strip("[]")
        if not re.fullmatch("[0-9]{1,6}", index):
            raise _RefusedError(f"{where} is a list; name one of its items, like [0]")
        if int(index) >= len(node):
            has = f"items 0 to {len(node) - 1}" if node else "no items"
            raise _RefusedError(f"there is no item {index} in {where}, which has {has}")
        return int(index)
    raise _RefusedError(f"{where} is {describe(node)}; nothing can be set inside of it")
