"""Documents checked against pydantic models: each problem at its line and in plain words.

pydantic names the place of an error by the fields, keys and indices on the way to it, but also by
the tags and types of the unions it passed. The model says which of these are which, so the model
is walked along with the document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel, RootModel, Tag, ValidationError
from pydantic.fields import FieldInfo

from neurosim.base import DocumentError, Problem, did_you_mean, nearest, shorten
from neurosim.documents.yaml import Document, NodePath, describe, resolve_plain

M = TypeVar("M", bound=BaseModel)

# What pydantic expected, by the type of its error. These are the errors that say "this is
# something else altogether": in a union, they only matter if every member says so.
_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "none_required": "null",
}
_TRUTH = {"yes": "true", "on": "true", "no": "false", "off": "false"}

_NOT_FINITE = {"inf": ".inf", "infinity": ".inf", "-inf": "-.inf", "nan": ".nan"}
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'")

# What a value must be, with the bound in braces.
_BOUNDS = {
    "greater_than": "must be greater than {gt}, got {got}",
    "greater_than_equal": "must be at least {ge}, got {got}",
    "less_than": "must be less than {lt}, got {got}",
    "less_than_equal": "must be at most {le}, got {got}",
    "multiple_of": "must be a multiple of {multiple_of}, got {got}",
    "finite_number": "must be a finite number, got {got}",
    "too_short": "needs at least {min_length} item(s), got {actual_length}",
    "too_long": "can have at most {max_length} item(s), got {actual_length}",
    "string_too_short": "needs at least {min_length} character(s), got {got}",
    "string_too_long": "can have at most {max_length} character(s), got {got}",
    "string_pattern_mismatch": "must match the pattern {pattern}, got {got}",
}


def parse(model: type[M], document: Document, context: dict[str, Any] | None = None) -> M:
    """The ``model`` that the document describes.

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
        findings = [_finding(model, document, dict(details)) for details in error.errors()]
    problems = {problem for finding in _merge(findings) for problem in finding.problems(document)}
    raise DocumentError(sorted(problems, key=lambda p: (p.file != document.file, *astuple(p))))


# ---- the model ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shape:
    """What an annotation stands for, as far as it decides what pydantic puts into a location."""

    kind: Literal["model", "list", "tuple", "dict", "tagged", "union", "some", "leaf"]
    model: type[BaseModel] | None = None
    parts: tuple[Any, ...] = ()  # annotations of the items, the values, the members
    discriminator: Any = None  # a name, or a function


_LEAF = _Shape("leaf")


def _shape(annotation: Any, metadata: tuple[Any, ...] = ()) -> _Shape:
    """The shape of an annotation, without Annotated, Optional, aliases and root models."""
    while True:
        origin = get_origin(annotation)
        if hasattr(annotation, "__value__"):  # type X = ...
            annotation = annotation.__value__
        elif origin is Annotated:
            annotation, *extra = get_args(annotation)
            metadata = (*metadata, *extra)
        elif origin in (Union, UnionType):
            members = tuple(member for member in get_args(annotation) if member is not NoneType)
            if len(members) == 1:
                annotation = members[0]
                continue
            # Field(discriminator="kind") and Discriminator(...) both have the attribute.
            found = [getattr(data, "discriminator", None) for data in metadata]
            key = next(filter(None, found), None)
            key = getattr(key, "discriminator", key)
            return _Shape("tagged" if key else "union", None, members, key)
        elif isinstance(annotation, type) and issubclass(annotation, RootModel):
            metadata = (annotation.model_fields["root"],)
            annotation = metadata[0].annotation
        else:
            break
    arguments = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        annotation.model_rebuild(raise_errors=False)  # it may name models defined after it
        return _Shape("model", annotation)
    if not isinstance(origin, type) or not arguments:
        return _LEAF
    if issubclass(origin, tuple) and arguments[-1] is not Ellipsis:
        return _Shape("tuple", None, arguments)
    if issubclass(origin, Mapping):
        return _Shape("dict", None, (arguments[-1],))
    return _Shape("list", None, arguments[:1]) if issubclass(origin, Iterable) else _LEAF


def _names(name: str, info: FieldInfo) -> list[str]:
    """How a field is written in a document."""
    alias = info.validation_alias or info.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [choice for choice in choices if isinstance(choice, str)] or [name]


def _keys(shape: _Shape) -> list[str]:
    """The keys that a mapping of this shape may have."""
    if shape.kind in ("tagged", "union", "some"):
        return list(dict.fromkeys(key for part in shape.parts for key in _keys(_shape(part))))
    fields = shape.model.model_fields.items() if shape.model else ()
    return [key for name, info in fields for key in _names(name, info)]


def _child(shape: _Shape, part: str | int) -> _Shape:
    """The shape of the item, value or field ``part`` of something of this shape."""
    if shape.kind in ("list", "dict"):
        return _shape(shape.parts[0])
    if shape.kind == "tuple" and isinstance(part, int) and part < len(shape.parts):
        return _shape(shape.parts[part])
    if shape.kind == "some":
        children = (_child(_shape(member), part) for member in shape.parts)
        return next((child for child in children if child.kind != "leaf"), _LEAF)
    for name, info in shape.model.model_fields.items() if shape.model else ():
        if part in (name, *_names(name, info)):
            return _shape(info.annotation, (info,))
    return _LEAF


def _tags(annotation: Any, discriminator: Any) -> list[str]:
    """The tags that lead to this member of a tagged union."""
    if get_origin(annotation) is Annotated:
        tags = [data.tag for data in get_args(annotation) if isinstance(data, Tag)]
        if tags:
            return tags
    shape = _shape(annotation)
    if shape.kind in ("tagged", "union"):
        return [tag for member in shape.parts for tag in _tags(member, discriminator)]
    info = shape.model.model_fields.get(discriminator) if shape.model else None
    if info is None:
        return []
    literal: Any = info.annotation
    while hasattr(literal, "__value__"):
        literal = literal.__value__
    return [str(getattr(value, "value", value)) for value in get_args(literal)]


def _some(members: Sequence[Any]) -> _Shape:
    return _shape(members[0]) if len(members) == 1 else _Shape("some", None, tuple(members))


def _all_tags(shape: _Shape) -> list[str]:
    """The tags of a tagged union; none for anything else."""
    found = [_tags(member, shape.discriminator) for member in shape.parts if shape.discriminator]
    return [tag for tags in found for tag in tags]


def _tagged_member(shape: _Shape, tag: str | int) -> _Shape | None:
    """The member of a tagged union that ``tag`` leads to."""
    found = [m for m in shape.parts if str(tag) in _tags(m, shape.discriminator)]
    return _some(found) if found else None


def _labelled_member(shape: _Shape, label: str) -> _Shape:
    """The member of a plain union that pydantic calls ``label``, e.g. ``function-after[f(), M]``.

    The labels are for people, so this is a guess; where it fails, any member may be meant.
    """
    words = {"list": "list", "tuple": "tuple", "dict": "dict", "tagged": "tagged-union"}
    found = []
    for member in shape.parts:
        inner = _shape(member)
        word = inner.model.__name__ if inner.model else words.get(inner.kind)
        if word == label:
            return inner
        if word and re.search(rf"\b{re.escape(word)}\b", label):
            found.append(member)
    return _some(found or shape.parts)


# ---- the errors --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where the location of a pydantic error leads to."""

    path: NodePath  # in the document, as far as it exists there
    shape: _Shape
    unions: tuple[tuple[NodePath, str], ...]  # the plain unions passed, with the member's label


def _follow(model: type[BaseModel], value: Any, location: Sequence[str | int]) -> _Place:
    path: NodePath = ()
    shape = _shape(model)
    unions: list[tuple[NodePath, str]] = []
    inside = True  # false once a validator has moved us off the document
    for part in location:
        if shape.kind == "tagged" and (member := _tagged_member(shape, part)):
            shape = member
            continue
        if shape.kind == "union" and isinstance(part, str):
            unions.append((path, part))
            shape = _labelled_member(shape, part)
            continue
        known = _child(shape, part)
        try:
            inside = inside and not isinstance(value, str)
            value = value[part] if inside else None
        except (LookupError, TypeError):
            # Of a shape we do not know, this may be a tag or a label: then we have not moved.
            if shape.kind == "leaf":
                continue
            inside = False
        path = (*path, part) if inside else path
        shape = known
    return _Place(path, shape, tuple(unions))


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


def _finding(model: type[BaseModel], document: Document, error: Any) -> _Finding:
    """One error of pydantic in our words."""
    kind, location, given = error["type"], error["loc"], error["input"]
    context = error.get("ctx", {})
    at_key = location[-1:] == ("[key]",)
    parent = at_key or kind in ("missing", "extra_forbidden")
    place = _follow(model, document.value, location[:-1] if parent else location)
    make = partial(_Finding, place.path, place.path, place.unions, at_key=at_key)

    if kind == "missing" and isinstance(location[-1], int):  # an item of a list of fixed length
        return make(f"needs {location[-1] + 1} items, got {len(given)}")
    if kind == "missing":
        return make(f"needs the key {location[-1]!r}")
    if kind == "extra_forbidden":
        key, keys = str(location[-1]), _keys(place.shape)
        elsewhere = getattr(place.shape.model, "elsewhere", {})
        message = _unknown_key(key, keys, elsewhere)
        return replace(make(message, at_key=True), point=(*place.path, key))
    if at_key and kind == "literal_error":  # of a mapping whose keys are some words
        key, keys = str(location[-2]), _quoted(context["expected"])
        return replace(make(_unknown_key(key, keys, {})), path=place.path[:-1])
    if kind == "union_tag_not_found":
        key, tags = _key_of(context), _all_tags(place.shape)
        return make(f"needs a {key!r}: one of {', '.join(tags)}" if tags else f"needs a {key!r}")
    if kind == "union_tag_invalid":
        key, tags = _key_of(context), _quoted(context["expected_tags"])
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
        text = context["expected"]
        choices = {word: repr(word) for word in _quoted(text)}
        all_text = not _QUOTED.sub("", text).strip(" ,or")
        expected = tuple(choices.values()) if all_text else (text,)
        return make(expected=expected, choices=choices, got=given)
    if kind in _EXPECTED:
        return make(expected=(_EXPECTED[kind],), got=given)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        choices = {t: f"{{{place.shape.discriminator}: {t}}}" for t in _all_tags(place.shape)}
        return make(expected=(_mapping_of(place.shape),), choices=choices, got=given)
    message = error["msg"].replace("Input should", "must")
    if kind in _BOUNDS:
        got = shorten(given) if isinstance(given, str) else describe(given).split(" (")[0]
        # pydantic has the bound 0 of a float as 0.0; the user would write 0.
        bounds = {k: f"{v:g}" if v in (0.0, 1.0) else v for k, v in context.items()}
        message = _BOUNDS[kind].format_map({"got": got} | bounds)
    return make(f"the key {message}" if at_key else message)


def _key_of(context: dict[str, Any]) -> str:
    """The key that tells the members of a union apart; a function is named after it."""
    return str(context["discriminator"]).strip("'()").rpartition("_")[2]


def _quoted(text: str) -> list[str]:
    """The words of ``'a', 'b' or 'c'``."""
    return [word[1:-1] for word in _QUOTED.findall(text)]


def _is_number(text: str) -> bool:
    try:
        number = resolve_plain(text)
        return isinstance(number, int | float) and not isinstance(number, bool)
    except ValueError:
        return True


def _unknown_key(key: str, known: list[str], elsewhere: Mapping[str, str]) -> str:
    if owner := elsewhere.get(key):
        return f"{key!r} belongs to {owner}"
    hint = did_you_mean(key, known)
    if ":" in key and key.partition(":")[0] in known:
        hint = "; put a space after the ':'"
    elif known and not hint:
        hint = f"; the keys here are {', '.join(known)}"
    return f"unknown key {shorten(key)}{hint}"


def _mapping_of(shape: _Shape) -> str:
    if shape.kind == "tagged" and isinstance(shape.discriminator, str):
        return f"a mapping with a {shape.discriminator!r}"
    keys = _keys(shape)
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
