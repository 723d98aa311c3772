"""Documents on top of others: what the key ``defaults`` of a file names."""

from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

from neurosim.documents.yaml import Document, Mark, NodePath, fail

DEFAULTS = "defaults"
MAX_FILES = 20  # that one file names

# Reads the file that the string at a path of a document names.
Read = Callable[[Document, NodePath], Document]


def merged(document: Document, read: Read) -> Document:
    """Puts a document on the files that its ``defaults`` name, each on top of the one before.

    Mappings are merged key by key, anything else is replaced. Raises DocumentError at the name of a
    file that cannot be read, or that leads back to itself.
    """
    return _merged(document, read, {}, ())


def _merged(document: Document, read: Read, known: dict[Path, Document], above: Any) -> Document:
    """``known`` are the files that are done, ``above`` those that are not."""
    place = Path(document.file).resolve()
    value = document.value
    if not isinstance(value, dict) or DEFAULTS not in value:
        return document
    names = value[DEFAULTS]
    paths: list[NodePath] = [(DEFAULTS,)]
    if isinstance(names, list):
        paths = [(DEFAULTS, number) for number in range(len(names))]
    else:
        names = [names]
    if not names or len(names) > MAX_FILES or not all(isinstance(name, str) for name in names):
        said = f"names a file, or lists up to {MAX_FILES} of them, seen from this one"
        fail(document.position((DEFAULTS,)), f"{DEFAULTS} {said}")
    own = {key: item for key, item in value.items() if key != DEFAULTS}
    parts = []
    for path in paths:
        found = read(document, path)
        file = Path(found.file).resolve()
        if file in (*above, place):
            fail(document.position(path), f"{found.file} leads back to itself; leave it out")
        if file not in known:
            if not isinstance(found.value, dict):
                fail(Mark(found.file), "is no mapping; write 'key: value' lines")
            known[file] = _merged(found, read, known, (*above, place))
        parts.append(known[file])
    return reduce(_on_top, [*parts, Document(document.file, own, document.marks)])


def _on_top(below: Document, over: Document) -> Document:
    value = _values(below.value, over.value)
    marks = {path: over.marks.get(path) or below.marks[path] for path in _paths(value)}
    layers = dict.fromkeys(file for part in (below, over) for file in part.layers or (part.file,))
    return Document(over.file, value, marks, layers=tuple(layers))


def _values(below: Any, over: Any) -> Any:
    if isinstance(below, dict) and isinstance(over, dict):
        shared = {key: _values(below.get(key), value) for key, value in over.items()}
        return below | shared
    return over


def _paths(value: Any, path: NodePath = ()) -> Iterator[NodePath]:
    yield path
    items: Any = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else items:
        yield from _paths(item, (*path, key))
