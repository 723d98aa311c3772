"""Documents checked against pydantic models: each problem at its line and in plain words.

pydantic names the place of an error by the fields, keys and indices on the way to it, but also by
the tags and types of the unions it passed. The schema of the model says which of these are which,
so it is walked along with the document.
"""

import copy
import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial, reduce
from operator import getitem
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from neurosim.base import (
    DocumentError,
    NeurosimWarning,
    Problem,
    did_you_mean,
    nearest,
    shorten,
)
from neurosim.documents.remedies import look_alikes
from neurosim.documents.schemas import LEAF, Schema, Schemas
from neurosim.documents.yaml import (
    COMMAND_LINE,
    Document,
    NodePath,
    describe,
    resolve_plain,
    show_path,
)
from neurosim.families import TYPES, demand

M = TypeVar("M", bound=BaseModel)

_TRUTH = {"yes": "true", "on": "true", "no": "false", "off": "false"}
MAX_PROBLEMS = 100  # that are explained: a file of something else has tens of thousands
_SEVERAL = "; several values, 1,2 or 1..5, are for neurosim sweep"
_RANGE = re.compile(r"[-+0-9.eE]+(\.\.|,)|(lin|log)\(")
_NOT_FINITE = {"inf": ".inf", "infinity": ".inf", "-inf": "-.inf", "nan": ".nan"}


def parse(model: type[M], document: Document) -> M:
    """Makes the ``model`` that the document describes.

    The document is validated as JSON is: in strict mode too, a list can be a tuple or a set, and
    text an Enum or a Path. What a validator raises is reported as it is, where the value stands.
    Where a ``kind`` was changed by a later file or by an override, keys that only the former kind
    has are left out; of an override a warning says so.

    Raises:
        DocumentError: with every problem found, in the order of the lines.
    """
    try:
        try:
            text = json.dumps(document.value, default=_plain_number)
        except (TypeError, ValueError):  # made in Python, with things that YAML cannot hold
            return model.model_validate(document.value)
        return model.model_validate_json(text)
    except ValidationError as error:
        schemas, errors = Schemas(model), error.errors()[:MAX_PROBLEMS]
        pairs = (_outdated(model, schemas, document, e) for e in errors)
        if outdated := [pair for pair in pairs if pair is not None]:
            return parse(model, _without(document, list(dict.fromkeys(outdated))))
        findings = [_finding(schemas, document, details) for details in errors]
        left = error.error_count() - len(errors)
    found = {finding.problem(document) for finding in _merge(findings)}
    problems = sorted(found, key=lambda p: (p.file != document.file, *astuple(p)))
    more = f"and {left:,} more problems, which are not shown"
    raise DocumentError(problems + [replace(problems[-1], path="", message=more)] * (left > 0))


def _plain_number(value: object) -> Any:
    """Makes a number or an array of numpy one of Python. Raises TypeError for anything else."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError


# ---- the errors --------------------------------------------------------------------------------

_Unions = tuple[tuple[NodePath, str], ...]  # the plain unions passed, with the member's label


def _follow(
    schemas: Schemas, value: Any, location: Sequence[str | int]
) -> tuple[NodePath, Schema, _Unions]:
    """Where the location of a pydantic error leads to: the path as far as it exists in the value,
    the schema there, and the unions on the way."""
    path: NodePath = ()
    schema = schemas.root
    unions: _Unions = ()
    inside = True  # false once a validator has moved us off the document
    for number, part in enumerate(location, 1):
        if member := schemas.tagged(schema, part):
            schema = member
            continue
        if schema["type"] == "union" and isinstance(part, str):
            # The label only groups the errors of one member: it is made for people.
            unions = (*unions, (path, part))
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
    return path, schema, unions


@dataclass(frozen=True)
class _Finding:
    """One error in our words, before those of the members of a union are made one."""

    path: NodePath  # what it is about
    point: NodePath  # what it points to
    unions: _Unions
    message: str = ""
    at_key: bool = False
    expected: tuple[str, ...] = ()  # "expected …, got …" instead of a message
    choices: Mapping[str, str] = field(default_factory=dict)  # what may be meant: how to write it
    got: Any = None

    def problem(self, document: Document) -> Problem:
        message = self.message
        mark = document.position(self.point, key=self.at_key)
        if self.expected:
            *most, last = dict.fromkeys(self.expected)
            phrase = f"{', '.join(most)} or {last}" if most else last
            message = f"expected {phrase}, got {describe(self.got)}"
            message += self._hint(mark.file == COMMAND_LINE)
        return replace(document.problem(self.path, message), **mark._asdict())

    def _hint(self, in_shell: bool) -> str:
        got, number = self.got, {"a number", "a whole number"} & {*self.expected}
        if isinstance(got, str):
            if close := nearest(got, self.choices):
                return f"; did you mean {self.choices[close]}?"
            if self.expected == ("a list",):
                return f"; write [{got}]"
            if self.choices and self.expected[0].startswith("a mapping"):
                return f"; the kinds are {', '.join(self.choices)}"
            if "true or false" in self.expected and got.lower() in _TRUTH:
                return f"; write {_TRUTH[got.lower()]}"
            if number and got.lower() in _NOT_FINITE:
                return f"; write {_NOT_FINITE[got.lower()]}"
            if number and _is_number(got):
                return "; remove the quotes"
            if number and re.fullmatch(r"[-+]?[0-9]+,[0-9]+([eE][-+]?[0-9]+)?", got):
                whole = "a number" not in self.expected
                return _SEVERAL if whole else f"; write {got.replace(',', '.')}"
            if number and in_shell and _RANGE.match(got):
                return _SEVERAL
            return look_alikes(got)
        if self.expected == ("text",) and isinstance(got, int | float):
            return "; put it into quotes" + (", twice: key='\"…\"'" if in_shell else "")
        if number and isinstance(got, float) and got.is_integer() and abs(got) < 1e15:
            return f"; write {int(got)}"
        return ""


def _finding(schemas: Schemas, document: Document, error: Any) -> _Finding:
    """One error of pydantic in our words."""
    kind, location, given = error["type"], error["loc"], error["input"]
    context = error.get("ctx", {})
    at_key = location[-1:] == ("[key]",)
    parent = at_key or kind in ("missing", "extra_forbidden")
    at = location[:-1] if parent else location
    path, schema, unions = _follow(schemas, document.value, at)
    last = location[-1] if location else ""
    key, tags = schemas.tags(schema)
    make = partial(_Finding, path, path, unions, at_key=at_key)

    if kind == "missing" and isinstance(last, int):  # an item of a list of fixed length
        return make(f"needs {last + 1} items, got {len(given)}")
    if kind == "missing":
        return replace(make(f"needs the key {last!r}"), point=_asking(schemas, document, path, at))
    if kind == "extra_forbidden":
        elsewhere = getattr(schema.get("cls"), "elsewhere", {})
        known = schemas.keys(schema)
        owners = schemas.owners(last, _follow(schemas, document.value, at[:-1])[1])
        near = path and (owners or nearest(str(last), known))  # what may be meant where it stands
        places = {} if near else schemas.places(last, document.value, known, slips=not path)
        if path:  # elsewhere, only what may be said as things are
            places = {place: kinds for place, kinds in places.items() if not kinds}
        message = _unknown_key(last, known, elsewhere)
        if look_alikes(last):
            message = f"unknown key {shorten(last)}{look_alikes(last)}"
        elif last not in elsewhere and 0 < len(places) <= 3:  # of "kind" there are many
            shown = [
                show_path((*document.prefix, *place))
                + f" of kind {' or '.join(kinds)}" * bool(kinds)
                for place, kinds in places.items()
            ]
            message = f"unknown key {shorten(last)}; did you mean {' or '.join(shown)}?"
        elif owners:
            message += f"; {last!r} belongs to {', '.join(owners)}"
        return replace(make(message, at_key=True), point=(*path, last))
    if at_key and kind == "literal_error":  # of a mapping whose keys are some words
        above, mapping, _ = _follow(schemas, document.value, location[:-2])
        return replace(make(_unknown_key(location[-2], schemas.words(mapping))), path=above)
    if kind == "union_tag_not_found":
        said = f"needs a {key!r}: one of {', '.join(tags)}"
        if isinstance(given, dict) and given and document.position(path).file == COMMAND_LINE:
            said += f"; {show_path((*path, next(iter(given))))}=VALUE changes that alone"
        return make(said)
    if kind == "union_tag_invalid":
        tag = given.get(key, context["tag"]) if isinstance(given, dict) else context["tag"]
        hint = did_you_mean(str(tag), tags) or f"; it is one of {', '.join(tags)}"
        spelled = document.spelled.get((*path, str(key)), key)
        named = shorten(tag) if isinstance(tag, str) else describe(tag)
        message = f"unknown {spelled} {named}{hint}"
        return replace(make(message), point=(*path, key))

    if isinstance(context.get("error"), Exception):
        return make(str(context["error"]))
    if kind in ("literal_error", "enum"):
        words = schemas.words(schema)
        choices = {word: repr(word) for word in words if isinstance(word, str)}
        return make(expected=tuple(map(repr, words)), choices=choices, got=given)
    if kind in TYPES:
        return make(expected=(TYPES[kind],), got=given)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        keys = schemas.keys(schema)
        names = ", ".join(map(repr, keys[:6])) + (", …" if len(keys) > 6 else "")
        wanted = f" with a {key!r}" if key else f" with {names}" if keys else ""
        choices = {tag: f"{{{key}: {tag}}}" for tag in tags}
        return make(expected=(f"a mapping{wanted}",), choices=choices, got=given)
    message = demand(kind, context) or error["msg"]
    got = shorten(given) if isinstance(given, str) else describe(given).split(" (")[0]
    message += f", got {context.get('actual_length', got)}"
    message += look_alikes(given) if isinstance(given, str) else ""
    return make(f"the key {message}" if at_key else message)


def _asking(
    schemas: Schemas, document: Document, path: NodePath, location: Sequence[str | int]
) -> NodePath:
    """The path of what asks for a key: an override of the kind, or the mapping that lacks it."""
    above, union, _ = _follow(schemas, document.value, location[:-1])
    kind = (*path, schemas.tags(union)[0])
    overridden = kind in document.marks and document.position(kind).file == COMMAND_LINE
    return kind if above == path and overridden else path


def _outdated(
    model: type[BaseModel], schemas: Schemas, document: Document, error: Any
) -> tuple[NodePath, NodePath] | None:
    """The paths of a key that is unknown, or has a value that only another kind takes, and of the
    kind that it does not go with, where a later file says the kind."""
    location = error["loc"]
    for end in range(len(location) - 1, 0, -1):
        path, union, _ = _follow(schemas, document.value, location[: end - 1])
        key, tags = schemas.tags(union)
        kind, at = (*path, key), (*path, location[end])
        if tags and {kind, at} <= document.marks.keys():
            later = document.layer(kind) > document.layer(at)
            unknown = error["type"] == "extra_forbidden" and end == len(location) - 1
            if later and (unknown or _takes(model, schemas, document, at, kind, tags)):
                return at, kind
            return None
    return None


def _takes(
    model: type[BaseModel],
    schemas: Schemas,
    document: Document,
    at: NodePath,
    kind: NodePath,
    tags: Sequence[str],
) -> bool:
    """Says if some kind takes the value of a key, as that which it was written for does."""
    for tag in tags:
        value = copy.deepcopy(document.value)
        reduce(getitem, kind[:-1], value)[kind[-1]] = tag
        try:
            model.model_validate_json(json.dumps(value, default=_plain_number))
        except ValidationError as error:
            places = (_follow(schemas, value, one["loc"])[0] for one in error.errors())
            if any(place[: len(at)] == at for place in places):
                continue
        return True
    return False


def _without(document: Document, outdated: Sequence[tuple[NodePath, NodePath]]) -> Document:
    """The document without some keys. Warns of those that an override has made obsolete."""
    value = copy.deepcopy(document.value)
    for path, kind in outdated:
        del reduce(getitem, path[:-1], value)[path[-1]]
        if document.position(kind).file == COMMAND_LINE:
            where, new = document.position(path, key=True), document.part(kind).value
            what = f"{show_path((*document.prefix, *kind))}={new} leaves out {path[-1]!r}"
            warnings.warn(f"{what} of {where.file}:{where.line}", NeurosimWarning, stacklevel=2)
    return replace(document, value=value)


def _is_number(text: str) -> bool:
    try:
        number = resolve_plain(text)
        return isinstance(number, int | float) and not isinstance(number, bool)
    except ValueError:
        return True


def _unknown_key(key: str, known: Sequence[str], elsewhere: Mapping[str, str] = {}) -> str:
    if owner := elsewhere.get(key):
        return f"{key!r} belongs to {owner}"
    hint = did_you_mean(key, known)
    if ":" in key and key.partition(":")[0] in known:
        hint = "; put a space after the ':'"
    elif known and not hint:
        hint = f"; the keys here are {', '.join(known)}"
    return f"unknown key {shorten(key)}{hint}"


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
