"""YAML documents as plain data in which every node knows its line and column.

The dialect is small on purpose: YAML 1.2 scalars (``1e-3`` is a number, ``no`` is text), text
keys, one document per file, no anchors, tags or merge keys. What is not in it is refused with a
`DocumentError` that says where and what to write instead. ``${env:NAME}`` stands for a variable of
the environment.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import yaml

from neurosim.base import DocumentError, Problem, shorten
from neurosim.documents.remedies import NO_TAGS, explain, look_alikes

COMMAND_LINE = "<command line>"
MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 100_000
MAX_INTEGER_BITS = 256

NodePath = tuple[str | int, ...]

# Outside of this are control characters, surrogates, byte order marks, and the line breaks that
# only YAML 1.1 knows (they would make our line numbers differ from every editor's).
FORBIDDEN = re.compile(
    r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_LINE_BREAK = re.compile(r"\r\n|\n|\r")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS = dict.fromkeys(("", "~", "null", "Null", "NULL")) | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}
_INFINITY_NAN = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_VARIABLE = re.compile(r"(\$?)\$\{env:([^}]*)\}")


class Mark(NamedTuple):
    """Says where something is written; of an override, its ordinal in `COMMAND_LINE` as a line."""

    file: str
    line: int = 1
    column: int = 1


@dataclass(frozen=True)
class Document:
    """Holds plain data and where each part of it is written.

    Attributes: ``file``, as the user wrote it; ``value``, made of dict, list, str, int, float,
    bool and None; ``marks``, for each node the marks of its key (or list item) and of its value;
    ``prefix``, for a part of a document, where in it that is (shown in problems); ``layers``, the
    files that were merged, the last one wins; ``spelled``, keys that the user wrote otherwise. A
    document made in Python needs no marks: all its problems are then reported at line 1.
    """

    file: str
    value: Any
    marks: Mapping[NodePath, tuple[Mark, Mark]] = field(default_factory=dict, repr=False)
    prefix: NodePath = ()
    layers: tuple[str, ...] = ()
    spelled: Mapping[NodePath, str] = field(default_factory=dict, repr=False)

    def position(self, path: NodePath, *, key: bool = False) -> Mark:
        """Returns where the value at ``path`` is written, or its key if ``key`` is set.

        A path that is not in the document gives the position of its nearest parent's value.
        """
        for end in range(len(path), -1, -1):
            if marks := self.marks.get(path[:end]):
                return marks[0 if key and end == len(path) else 1]
        return Mark(self.file)

    def layer(self, path: NodePath) -> float:
        """Returns how late the file is merged that says the key at ``path``; overrides are last."""
        file = self.position(path, key=True).file
        if file == COMMAND_LINE:
            return math.inf
        return self.layers.index(file) if file in self.layers else -1

    def problem(self, path: NodePath, message: str) -> Problem:
        """Makes a `Problem` with the node at ``path``."""
        if path in self.spelled:
            shown = (*self.prefix, *path[:-1], self.spelled[path])
        else:
            shown = (*self.prefix, *path)
        return Problem(*self.position(path), show_path(shown), message)

    def part(self, path: NodePath) -> Document:
        """Returns the node at ``path`` as a document. Its problems name the place in the whole."""
        value = self.value
        for step in path:
            value = value[step]
        count = len(path)
        marks = {at[count:]: pair for at, pair in self.marks.items() if at[:count] == path}
        spelled = {at[count:]: key for at, key in self.spelled.items() if at[:count] == path}
        return Document(self.file, value, marks, (*self.prefix, *path), self.layers, spelled)


def loads(text: str, file: str) -> Document:
    """Reads the YAML document ``text``; ``file`` is what its problems are reported under.

    Raises DocumentError for what is not in our dialect (see the module), and for a text that is
    empty or exceeds a bound on size, nesting, nodes or numbers.
    """
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_BYTES:
        fail(Mark(file), f"larger than {MAX_BYTES} bytes; that is no document of ours")
    if found := FORBIDDEN.search(text):
        fail(mark_at(text[: found.start()], file), forbidden(found[0]))
    reader = _Reader(text, file)
    try:
        return Document(file, reader.document(), reader.marks)
    except yaml.MarkedYAMLError as error:
        mark, advice = explain(error, text)
        lines = text.splitlines()[max(0, mark.line - 1) : mark.line + 1]
        fail(_mark(file, mark), advice + look_alikes("\n".join(lines)))
    except DocumentError:
        raise
    except (ValueError, OverflowError):  # PyYAML on "\UFFFFFFFF" and on absurd %YAML versions
        fail(
            _mark(file, reader.events),
            "a number in an escape or directive is out of range; correct it",
        )


class _Reader:
    """Builds plain data from PyYAML's events.

    From events, not from PyYAML's nodes, so that bounds act before anything is built, and so that
    anchors and tags are seen as the user wrote them.
    """

    def __init__(self, text: str, file: str) -> None:
        self.events: Any = yaml.SafeLoader(text)  # the pure Python one: its marks are complete
        self._file, self._text = file, text
        self.marks: dict[NodePath, tuple[Mark, Mark]] = {}

    def document(self) -> Any:
        events, empty = self.events, "the document is empty; write 'key: value' lines"
        events.get_event()  # the start of the stream
        if events.check_event(yaml.StreamEndEvent):
            fail(Mark(self._file), empty)
        events.get_event()  # the start of the document
        first = events.peek_event()
        value = self._node(())
        if value is None and not first.value:
            fail(Mark(self._file), empty)
        events.get_event()  # the end of the document
        if not events.check_event(yaml.StreamEndEvent):
            mark = _mark(self._file, events.peek_event().start_mark)
            fail(mark, "a second document starts here; keep one document per file")
        return value

    def _node(self, path: NodePath, key: Mark | None = None) -> Any:
        event, mark = self._next()
        if len(self.marks) >= MAX_NODES:
            fail(mark, f"more than {MAX_NODES} values; make the document smaller")
        if len(path) > MAX_DEPTH:
            fail(mark, f"nested more than {MAX_DEPTH} deep; make the document flatter")
        self.marks[path] = (key or mark, mark)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, mark)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not self.events.check_event(yaml.SequenceEndEvent):
                items.append(self._node((*path, len(items))))
            self.events.get_event()
            return items
        mapping: dict[str, Any] = {}
        while not self.events.check_event(yaml.MappingEndEvent):
            name, key = self._key()
            if name in mapping:
                first = self.marks[(*path, name)][0]
                fail(key, f"the key {shorten(name)} is already in line {first.line}; remove one")
            mapping[name] = self._node((*path, name), key)
        self.events.get_event()
        return mapping

    def _key(self) -> tuple[str, Mark]:
        event, mark = self._next()
        if not isinstance(event, yaml.ScalarEvent):
            fail(mark, "a key must be text, not a list or a mapping; put '{...}' into quotes")
        if event.value == "<<" and not event.style:
            fail(mark, "merge keys '<<' are not supported; write the keys out")
        name = self._scalar(event, mark)
        if not isinstance(name, str):
            if re.search(r"\d,$", self._text[: event.start_mark.index]):  # type: ignore[union-attr]
                fail(mark, "a ',' ends a value here; write decimals with a '.'")
            shown = shorten(event.value) if event.value else "without a name"
            fail(mark, f"the key {shown} would be read as {describe(name)}; put it into quotes")
        return name, mark

    def _scalar(self, event: Any, mark: Mark) -> Any:
        try:
            text: str = _VARIABLE.sub(_variable, event.value)
        except ValueError as error:
            fail(mark, str(error))
        if event.style and not _VARIABLE.fullmatch(event.value):
            if found := FORBIDDEN.search(text):  # by an escape; raw ones are refused earlier
                fail(mark, forbidden(found[0]))
            return text
        if str(self.events.resolve(yaml.ScalarNode, text, (True, False))).endswith(":timestamp"):
            fail(mark, f"{shorten(text)} is a date for other programs; put it into quotes")
        try:
            return resolve_plain(text)
        except ValueError as error:
            fail(mark, str(error))

    def _next(self) -> tuple[Any, Mark]:
        event = self.events.get_event()
        mark = _mark(self._file, event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            fail(mark, f"aliases are not supported; write out what *{event.anchor!s:.40} is")
        if event.anchor is not None:
            fail(mark, f"anchors are not supported; remove '&{event.anchor!s:.40}'")
        if event.tag is not None:
            fail(mark, NO_TAGS)
        return event, mark


def _variable(found: re.Match[str]) -> str:
    """The value of a variable of the environment; with one more $ its own text."""
    escaped, name = found.groups()
    if escaped:
        return found[0][1:]
    value = os.environ.get(name) if name else None
    if value is None:
        raise ValueError(f"the environment has no variable {shorten(name)}; set it")
    if sign := FORBIDDEN.search(value):
        raise ValueError(f"in the variable {shorten(name)}: {forbidden(sign[0])}")
    return value


def resolve_plain(text: str) -> Any:
    """Returns what the unquoted scalar ``text`` stands for in the YAML 1.2 core schema.

    Raises ValueError for a number beyond our bounds.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        # The length first: int() itself refuses very long literals, with an error of its own.
        if len(text) <= MAX_INTEGER_BITS:
            number = int(text, 0 if text[1:2] in ("o", "x") else 10)
            if number.bit_length() <= MAX_INTEGER_BITS:
                return number
        raise ValueError(f"the number {shorten(text)} has more than {MAX_INTEGER_BITS} bits")
    if _FLOAT.fullmatch(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"the number {shorten(text)} is too large; infinity is written .inf")
        return value
    return float(text.replace(".", "")) if _INFINITY_NAN.fullmatch(text) else text


def dumps(value: Any) -> str:
    """Writes plain data as YAML, so that `loads` gives the same data back.

    Raises:
        TypeError: ``value`` holds something other than dict (with text keys), list, tuple, str,
            int, float, bool and None.
        ValueError: a text holds control characters, which `loads` would refuse.
    """
    try:
        text = yaml.dump(
            value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 30
        )  # a width beyond every line: nothing is folded
    except yaml.representer.RepresenterError as error:
        raise TypeError(f"{type(error.args[-1]).__name__} is not plain data") from None
    return str(text)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever our loader, or a loader of YAML 1.1, would not read as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_scalar(self, tag: str, value: Any, style: str | None = None) -> yaml.ScalarNode:
        if found := FORBIDDEN.search(value):
            raise ValueError(forbidden(found[0]))
        value = _VARIABLE.sub(r"$\g<0>", value)
        return super().represent_scalar(tag, value, '"' if "\n" in value else style)

    def represent_mapping(self, tag: str, mapping: Any, flow_style: Any = None) -> yaml.MappingNode:
        for key in mapping:
            if not isinstance(key, str):
                raise yaml.representer.RepresenterError("a key is not text", key)
        return super().represent_mapping(tag, mapping, flow_style)


# None stands for every other type: those are refused.
_PLAIN: tuple[Any, ...] = (dict, list, tuple, str, int, float, bool, type(None), None)
_Dumper.yaml_representers = {t: yaml.SafeDumper.yaml_representers[t] for t in _PLAIN}
for _numbers in (_INTEGER, _FLOAT):  # text like them is quoted
    _Dumper.add_implicit_resolver("!", re.compile(f"(?:{_numbers.pattern})$"), [*"-+.0123456789"])


def forbidden(character: str) -> str:
    """Says why a character that `FORBIDDEN` finds is refused."""
    return f"the character U+{ord(character):04X} cannot be used; remove it, or save as UTF-8 text"


def describe(value: Any) -> str:
    """Shows a value in messages: what was written, and what it was read as."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return "true" if value else "false"
        case str():
            return f"{shorten(value)} (text)"
        case int():
            if value.bit_length() > MAX_INTEGER_BITS:  # str() refuses very long ones
                return f"a whole number of {value.bit_length()} bits"
            return f"{value} (a whole number)"
        case float():
            return re.sub("inf|nan", r".\g<0>", repr(value)) + " (a number)"
        case dict():
            return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def show_path(path: NodePath) -> str:
    """Shows a path as the user would write it: ``layers[2].conv``."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        elif re.fullmatch(r"[^\s.\[\]'\"]+", step):
            shown += f".{step}" if shown else step
        else:
            shown += f"[{shorten(step)}]"
    return shown


def fail(mark: Mark, message: str) -> NoReturn:
    """Raises a DocumentError with one problem."""
    raise DocumentError([Problem(*mark, "", message)])


def mark_at(before: str, file: str) -> Mark:
    """Returns the mark of the character that follows the text ``before``."""
    breaks = [0, *(found.end() for found in _LINE_BREAK.finditer(before))]
    return Mark(file, len(breaks), len(before) - breaks[-1] + 1)


def _mark(file: str, place: Any) -> Mark:
    """The mark of a place of PyYAML, which counts from 0."""
    return Mark(file, place.line + 1, place.column + 1)
