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

from pydantic import BaseModel, Discriminator, TypeAdapter, ValidationError

from neurosim.base import DocumentError, Problem, did_you_mean, nearest, shorten
from neurosim.documents.yaml import Document, NodePath, describe, resolve_plain
from neurosim.families import TYPES, demand

M = TypeVar("M", bound=BaseModel)

_TRUTH = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_NOT_FINITE = {"inf": ".inf", "infinity": ".inf", "-inf": "-.inf", "nan": ".nan"}


def parse(model: type[M], document: Document) -> M:
    """Makes the ``model`` that the document describes.

    The document is validated as JSON is: in strict mode too, a list can be a tuple or a set, and
    text an Enum or a Path. What a validator raises is reported as it is, where the value stands.

    Raises:
        DocumentError: with every problem found, in the order of the lines.
    """
    try:
        try:
            text = json.dumps(document.value)
        except (TypeError, ValueError):  # made in Python, with things that YAML cannot hold
            return model.model_validate(document.value)
        return model.model_validate_json(text)
    except ValidationError as error:
        schemas = _Schemas(model)
        findings = [_finding(schemas, document, details) for details in error.errors()]
    problems = {finding.problem(document) for finding in _merge(findings)}
    raise DocumentError(sorted(problems, key=lambda p: (p.file != document.file, *astuple(p))))


# ---- the schema that pydantic makes of a model: what may stand at a place of a document ----------

_Schema = Mapping[str, Any]  # of a part of a model; its "type" says what else it holds
_LEAF: _Schema = {"type": "any"}


def by_key(key: str, default: str = "") -> Discriminator:
    """Makes what tells the members of a union apart by a key that may be left out.

    Each member is annotated with the `pydantic.Tag` that stands under the key.
    """

    def tag(said: Any) -> str:
        return str(said.get(key, default)) if isinstance(said, dict) else default

    tag.__name__ = key  # errors name it
    return Discriminator(tag)


class _Schemas:
    """The schema of a model, and of the places below it."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._named: dict[str, _Schema] = {}
        self.root = self._bare(TypeAdapter(model).core_schema)

    def child(self, schema: _Schema, part: str | int) -> _Schema:
        """Returns the schema of the item, value or field ``part``, or `_LEAF`."""
        if schema["type"] == "some":
            children = (self.child(member, part) for member in self._members(schema))
            return next((child for child in children if child is not _LEAF), _LEAF)
        found = schema.get("items_schema", schema.get("values_schema"))
        if isinstance(found, list):  # of a tuple
            last = schema.get("variadic_item_index", len(found) - 1)
            found = found[min(part, last)] if isinstance(part, int) else None
        for name, part_of in self._fields(schema).items():
            if part in (name, part_of.get("validation_alias")):
                found = part_of
        return self._bare(found) if found else _LEAF

    def tagged(self, schema: _Schema, tag: str | int) -> _Schema | None:
        """Returns the member of a tagged union that a tag leads to."""
        found = schema["choices"].get(tag) if schema["type"] == "tagged-union" else None
        return self._bare(found) if found else None

    def member(self, union: _Schema, value: Any) -> _Schema:
        """Returns the member of a plain union for such a value, or what stands for several."""
        found = members = self._members(union)
        if isinstance(value, dict):
            found = [part for part in members if part["type"] in ("model", "dict", "tagged-union")]
        elif isinstance(value, list | tuple):
            found = [part for part in members if "items_schema" in part]
        return found[0] if len(found) == 1 else {"type": "some", "choices": found or members}

    def keys(self, schema: _Schema) -> list[str]:
        """Returns the keys that a mapping may have here."""
        if "choices" in schema:
            found = [key for member in self._members(schema) for key in self.keys(member)]
            return list(dict.fromkeys(found))
        return [field.get("validation_alias", name) for name, field in self._fields(schema).items()]

    def tags(self, schema: _Schema) -> tuple[str, list[str]]:
        """Returns the key and the tags of a tagged union, or of the one that may be meant."""
        for part in (schema, *self._members(schema)):
            if found := part.get("discriminator"):
                tags = [str(tag) for tag in part["choices"] if tag]
                return str(getattr(found, "__name__", found)), tags
        return "", []

    def words(self, schema: _Schema) -> list[Any]:
        """Returns the values of a literal or an enumeration, or of those that may be meant; of a
        mapping, those of its keys."""
        schema = self._bare(schema.get("keys_schema", schema))
        found = [part.get("expected", part.get("members", ())) for part in self._members(schema)]
        return [getattr(word, "value", word) for words in found for word in words]

    def _members(self, schema: _Schema) -> list[_Schema]:
        """The members of a union of any kind; anything else itself."""
        choices = schema.get("choices", [schema])
        choices = choices.values() if isinstance(choices, Mapping) else choices
        return [self._bare(part[0] if isinstance(part, tuple) else part) for part in choices]

    def _fields(self, schema: _Schema) -> Mapping[str, _Schema]:
        """The fields of a model by name; of anything else none."""
        while schema["type"] == "model" or ("fields" not in schema and "schema" in schema):
            schema = schema["schema"]
        fields: Mapping[str, _Schema] = schema.get("fields", {})
        return fields

    def _bare(self, schema: _Schema) -> _Schema:
        """The schema without defaults, validators, references and so on around it."""
        self._named.update((named["ref"], named) for named in schema.get("definitions", ()))
        if "schema_ref" in schema:
            return self._bare(self._named[schema["schema_ref"]])
        if schema["type"] == "model" and not schema.get("root_model"):
            return schema
        around = (key for key in ("schema", "json_schema", "strict_schema") if key in schema)
        return next((self._bare(schema[key]) for key in around), schema)


# ---- the errors --------------------------------------------------------------------------------

_Unions = tuple[tuple[NodePath, str], ...]  # the plain unions passed, with the member's label


def _follow(
    schemas: _Schemas, value: Any, location: Sequence[str | int]
) -> tuple[NodePath, _Schema, _Unions]:
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
            if schema is _LEAF:
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
        if self.expected:
            *most, last = dict.fromkeys(self.expected)
            phrase = f"{', '.join(most)} or {last}" if most else last
            message = f"expected {phrase}, got {describe(self.got)}{self._hint()}"
        mark = document.position(self.point, key=self.at_key)
        return replace(document.problem(self.path, message), **mark._asdict())

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


def _finding(schemas: _Schemas, document: Document, error: Any) -> _Finding:
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
        return make(f"needs the key {last!r}")
    if kind == "extra_forbidden":
        elsewhere = getattr(schema.get("cls"), "elsewhere", {})
        message = _unknown_key(last, schemas.keys(schema), elsewhere)
        return replace(make(message, at_key=True), point=(*path, last))
    if at_key and kind == "literal_error":  # of a mapping whose keys are some words
        above, mapping, _ = _follow(schemas, document.value, location[:-2])
        return replace(make(_unknown_key(location[-2], schemas.words(mapping))), path=above)
    if kind == "union_tag_not_found":
        return make(f"needs a {key!r}: one of {', '.join(tags)}")
    if kind == "union_tag_invalid":
        tag = given.get(key, context["tag"]) if isinstance(given, dict) else context["tag"]
        hint = did_you_mean(str(tag), tags) or f"; it is one of {', '.join(tags)}"
        message = f"unknown {key} {shorten(tag) if isinstance(tag, str) else describe(tag)}{hint}"
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
    return make(f"the key {message}" if at_key else message)


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
