"""Documents checked against pydantic models: each problem at its line and in plain words.

pydantic names the place of an error by the fields, keys and indices on the way to it, but also by
the tags and types of the unions it passed. The schema of the model says which of these are which,
so it is walked along with the document.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from neurosim.base import DocumentError, Problem, did_you_mean, nearest, shorten
from neurosim.documents.schemas import LEAF, Schema, Schemas
from neurosim.documents.yaml import Document, NodePath, describe, resolve_plain
from neurosim.families import TYPES, demand

M = TypeVar("M", bound=BaseModel)

_TRUTH = {"yes": "true", "on": "true", "no": "false", "off": "false"}

_NOT_FINITE = {"inf": ".inf", "infinity": ".inf", "-inf": "-.inf", "nan": ".nan"}


def parse(model: type[M], document: Document, context: dict[str, Any] | None = None) -> M:
    """Makes the ``model`` that the document describes.

    The document is validated as JSON is: in strict mode too, a list can be a tuple or a set, and
    text an Enum or a Path. A validator may raise ValueError (reported as it is, where the value
    stands) or DocumentError (its problems are taken over). ``context`` is for the validators.

    Raises:
        DocumentError: with every problem found, in the order of the lines.
    """
    try:
        try:
            text = json.dumps(document.value)
        except (TypeError, ValueError):  # made in Python, with things that YAML cannot hold
            return model.model_validate(document.value, context=context)
        return model.model_validate_json(text, context=context)
    except ValidationError as error:
        schemas = Schemas(model)
        findings = [_finding(schemas, document, details) for details in error.errors()]
    problems = {problem for finding in _merge(findings) for problem in finding.problems(document)}
    raise DocumentError(sorted(problems, key=lambda p: (p.file != document.file, *astuple(p))))


# ---- the errors --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where the location of a pydantic error leads to."""

    path: NodePath  # in the document, as far as it exists there
    schema: Schema
    unions: tuple[tuple[NodePath, str], ...]  # the plain unions passed, with the member's label


def _follow(schemas: Schemas, value: Any, location: Sequence[str | int]) -> _Place:
    path: NodePath = ()
    schema = schemas.root
    unions: list[tuple[NodePath, str]] = []
    inside = True  # false once a validator has moved us off the document
    for number, part in enumerate(location, 1):
        if member := schemas.tagged(schema, part):
            schema = member
            continue
        if schema["type"] == "union" and isinstance(part, str):
            # The label only groups the errors of one member: it is made for people.
            unions.append((path, part))
            schema = schemas.member(schema, value if inside and number < len(location) else None)
            continue
        known = schemas.child(schema, part)
        try:
            inside = inside and not isinstance(value, str)
            value = value[part] if inside else None
        except (LookupError, TypeError):
            # Of a schema we do not know, this may be a tag or a label: then we have not moved.
            if schema is LEAF:
                continue
            inside = False
        path = (*path, part) if inside else path
        schema = known
    return _Place(path, schema, tuple(unions))


@dataclass(frozen=True)
class _Finding:
    """One error in our words, before those of the members of a union are made one."""

    path: NodePath  # what it is about
    point: NodePath  # what it points to
    unions: tuple[tuple[NodePath, str], ...]
    message: str = ""
    at_key: bool = False
    expected: tuple[str, ...] = ()  # "expected …, got …" instead of a message
    choices: Mapping[str, str] = field(default_factory=dict)  # what may be meant: how to write it
    got: Any = None
    foreign: tuple[Problem, ...] = ()  # of a DocumentError raised by a validator

    def problems(self, document: Document) -> tuple[Problem, ...]:
        message = self.message
        if self.expected:
            *most, last = dict.fromkeys(self.expected)
            phrase = f"{', '.join(most)} or {last}" if most else last
            message = f"expected {phrase}, got {describe(self.got)}{self._hint()}"
        mark = document.position(self.point, key=self.at_key)
        return self.foreign or (replace(document.problem(self.path, message), **mark._asdict()),)

    def _hint(self) -> str:
        got, number = self.got, {"a number", "a whole number"} & {*self.expected}
        if isinstance(got, str):
            if close := nearest(got, self.choices):
                return f"; did you mean {self.choices[close]}?"
            if "true or false" in self.expected and got.lower() in _TRUTH:
                return f"; write {_TRUTH[got.lower()]}"
            if number and got.lower() in _NOT_FINITE:
                return f"; write {_NOT_FINITE[got.lower()]}"
            if number and _is_number(got):
                return "; remove the quotes"
        if number and isinstance(got, float) and got.is_integer() and abs(got) < 1e15:
            return f"; write {int(got)}"
        return ""


def _finding(schemas: Schemas, document: Document, error: Any) -> _Finding:
    """One error of pydantic in our words."""
    kind, location, given = error["type"], error["loc"], error["input"]
    context = error.get("ctx", {})
    at_key = location[-1:] == ("[key]",)
    parent = at_key or kind in ("missing", "extra_forbidden")
    place = _follow(schemas, document.value, location[:-1] if parent else location)
    schema, last = place.schema, location[-1] if location else ""
    make = partial(_Finding, place.path, place.path, place.unions, at_key=at_key)

    if kind == "missing" and isinstance(last, int):  # an item of a list of fixed length
        return make(f"needs {last + 1} items, got {len(given)}")
    if kind == "missing":
        return make(f"needs the key {last!r}")
    if kind == "extra_forbidden":
        elsewhere = getattr(schema.get("cls"), "elsewhere", {})
        message = _unknown_key(last, schemas.keys(schema), elsewhere)
        return replace(make(message, at_key=True), point=(*place.path, last))
    if at_key and kind == "literal_error":  # of a mapping whose keys are some words
        above = _follow(schemas, document.value, location[:-2])
        message = _unknown_key(location[-2], schemas.words_of_keys(above.schema))
        return replace(make(message), path=above.path)
    if kind == "union_tag_not_found":
        key, tags = schemas.key(schema), schemas.tags(schema)
        return make(f"needs a {key!r}: one of {', '.join(tags)}")
    if kind == "union_tag_invalid":
        key, tags = schemas.key(schema), schemas.tags(schema)
        tag = given.get(key, context["tag"]) if isinstance(given, dict) else context["tag"]
        hint = did_you_mean(str(tag), tags) or f"; it is one of {', '.join(tags)}"
        message = f"unknown {key} {shorten(tag) if isinstance(tag, str) else describe(tag)}{hint}"
        return replace(make(message), point=(*place.path, key))

    raised = context.get("error")
    if isinstance(raised, DocumentError):
        return make(foreign=raised.problems)
    if isinstance(raised, Exception):
        return make(str(raised))
    if kind in ("literal_error", "enum"):
        words = schemas.words(schema)
        choices = {word: repr(word) for word in words if isinstance(word, str)}
        return make(expected=tuple(map(repr, words)), choices=choices, got=given)
    if kind in TYPES:
        return make(expected=(TYPES[kind],), got=given)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        choices = {tag: f"{{{schemas.key(schema)}: {tag}}}" for tag in schemas.tags(schema)}
        return make(expected=(_mapping(schemas, schema),), choices=choices, got=given)
    message = demand(kind, context) or error["msg"]
    got = shorten(given) if isinstance(given, str) else describe(given).split(" (")[0]
    message += f", got {context.get('actual_length', got)}"
    return make(f"the key {message}" if at_key else message)


def _is_number(text: str) -> bool:
    try:
        number = resolve_plain(text)
        return isinstance(number, int | float) and not isinstance(number, bool)
    except ValueError:
        return True


def _unknown_key(key: str, known: list[str], elsewhere: Mapping[str, str] | None = None) -> str:
    if owner := (elsewhere or {}).get(key):
        return f"{key!r} belongs to {owner}"
    hint = did_you_mean(key, known)
    if ":" in key and key.partition(":")[0] in known:
        hint = "; put a space after the ':'"
    elif known and not hint:
        hint = f"; the keys here are {', '.join(known)}"
    return f"unknown key {shorten(key)}{hint}"


def _mapping(schemas: Schemas, schema: Schema) -> str:
    """What a mapping must look like."""
    if key := schemas.key(schema):
        return f"a mapping with a {key!r}"
    keys = schemas.keys(schema)
    names = ", ".join(map(repr, keys[:6])) + (", …" if len(keys) > 6 else "")
    return f"a mapping with {names}" if keys else "a mapping"


def _merge(findings: Iterable[_Finding], level: int = 0) -> list[_Finding]:
    """The findings, with those of the members of each plain union made one.

    ``level`` is the number of unions, from the outermost, that are done.
    """
    merged: list[_Finding] = []
    unions: dict[NodePath, dict[str, list[_Finding]]] = {}
    for finding in findings:
        if len(finding.unions) <= level:
            merged.append(finding)
        else:
            path, label = finding.unions[level]
            unions.setdefault(path, {}).setdefault(label, []).append(finding)
    for path, members in unions.items():
        # The member that the user had in mind is the one that does not say "something else
        # altogether"; of several, the one with the fewest errors.
        meant = [m for m in members.values() if not all(f.expected and f.path == path for f in m)]
        if meant:
            fewest = min(meant, key=len)
            merged += _merge(fewest, level + 1)
            continue
        everything = [finding for member in members.values() for finding in member]
        expected = tuple(phrase for finding in everything for phrase in finding.expected)
        # Of two ways to write the same choice, that of the first member.
        choices = {k: v for finding in everything[::-1] for k, v in finding.choices.items()}
        merged.append(replace(everything[0], expected=expected, choices=choices))
    return merged
