"""The schema that pydantic makes of a model: what may stand at a place of a document."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Discriminator, TypeAdapter

from neurosim.base import nearest
from neurosim.documents.yaml import NodePath

Schema = Mapping[str, Any]  # of a part of a model; its "type" says what else it holds
LEAF: Schema = {"type": "any"}


def by_key(key: str, default: str = "") -> Discriminator:
    """Makes what tells the members of a union apart by a key that may be left out.

    Each member is annotated with the `pydantic.Tag` that stands under the key.
    """

    def tag(said: Any) -> str:
        return str(said.get(key, default)) if isinstance(said, dict) else default

    tag.__name__ = key  # errors name it
    return Discriminator(tag)


class Schemas:
    """The schema of a model, and of the places below it."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._named: dict[str, Schema] = {}
        self.root = self._bare(TypeAdapter(model).core_schema)

    def child(self, schema: Schema, part: str | int) -> Schema:
        """Returns the schema of the item, value or field ``part``, or `LEAF`."""
        if schema["type"] == "some":
            children = (self.child(member, part) for member in self._members(schema))
            return next((child for child in children if child is not LEAF), LEAF)
        found = schema.get("items_schema", schema.get("values_schema"))
        if isinstance(found, list):  # of a tuple
            last = schema.get("variadic_item_index", len(found) - 1)
            found = found[min(part, last)] if isinstance(part, int) else None
        for name, part_of in self._fields(schema).items():
            if part in (name, part_of.get("validation_alias")):
                found = part_of
        return self._bare(found) if found else LEAF

    def tagged(self, schema: Schema, tag: str | int) -> Schema | None:
        """Returns the member of a tagged union that a tag leads to."""
        found = schema["choices"].get(tag) if schema["type"] == "tagged-union" else None
        return self._bare(found) if found else None

    def member(self, union: Schema, value: Any) -> Schema:
        """Returns the member of a plain union for such a value, or what stands for several."""
        found = members = self._members(union)
        if isinstance(value, dict):
            found = [part for part in members if part["type"] in ("model", "dict", "tagged-union")]
        elif isinstance(value, list | tuple):
            found = [part for part in members if "items_schema" in part]
        return found[0] if len(found) == 1 else {"type": "some", "choices": found or members}

    def keys(self, schema: Schema) -> list[str]:
        """Returns the keys that a mapping may have here."""
        if "choices" in schema:
            found = [key for member in self._members(schema) for key in self.keys(member)]
            return list(dict.fromkeys(found))
        return [field.get("validation_alias", name) for name, field in self._fields(schema).items()]

    def owners(self, name: str, schema: Schema) -> list[str]:
        """Returns the tags of the kinds that may stand here and have a key of that name."""
        if "discriminator" not in schema:
            inside = self._members(schema) if "choices" in schema else []
            return [tag for member in inside for tag in self.owners(name, member)]
        tags = self.tags(schema)[1]
        return [tag for tag in tags if name in self.keys(self.tagged(schema, tag) or LEAF)]

    def places(
        self, name: str, value: Any, here: Sequence[str], *, slips: bool = True
    ) -> dict[NodePath, list[str]]:
        """Returns the shortest paths to keys of that name, through the kinds that the value names
        or that are the default, and the kinds that have it where these have not.

        Where there are none, it returns paths to those that it may be a slip for, unless a key
        ``here`` may be or ``slips`` are not looked for.
        """
        found: dict[str, dict[NodePath, list[str]]] = {}
        level: list[tuple[NodePath, Schema, Any]] = [((), self.root, value)]
        for _ in range(4):
            below: list[tuple[NodePath, Schema, Any]] = []
            for path, schema, said in level:
                inside = said if isinstance(said, dict) else {}
                keys = dict[str, list[str]]()
                for model in self._models(schema, said):
                    for key in self.keys(model):
                        keys[key] = []
                        whole = inside.get(key, self._default(model, key))
                        below.append(((*path, key), self.child(model, key), whole))
                if name not in keys and (kinds := self.owners(name, schema)):
                    keys[name] = kinds
                for key, kinds in keys.items():
                    at = found.setdefault(key, {})
                    if not kinds and all(at.values()):
                        at.clear()  # what needs no other kind comes first
                    if all(
                        len(known) == len(path) + 1 and bool(kinds) == bool(at[known])
                        for known in at
                    ):
                        at[*path, key] = kinds
            level = below
        close = name if name in found else None
        if close is None and slips and not nearest(name, here):
            close = nearest(name, found)
        return found[close] if close else {}

    def _models(self, schema: Schema, value: Any) -> list[Schema]:
        """The models that may stand here: that of the kind which the value names, or all."""
        if "choices" not in schema:
            return [schema] if self._fields(schema) else []
        key, _ = self.tags(schema)
        named = self.tagged(schema, str(value.get(key))) if isinstance(value, dict) else None
        members = [named] if named else self._members(schema)
        return [model for member in members for model in self._models(member, value)]

    def _default(self, model: Schema, key: str) -> Any:
        """What a field is where nothing is said."""
        for name, field in self._fields(model).items():
            if key in (name, field.get("validation_alias")):
                return field["schema"].get("default")
        return None

    def tags(self, schema: Schema) -> tuple[str, list[str]]:
        """Returns the key and the tags of a tagged union, or of the one that may be meant."""
        for part in (schema, *self._members(schema)):
            if found := part.get("discriminator"):
                tags = [str(tag) for tag in part["choices"] if tag]
                return str(getattr(found, "__name__", found)), tags
        return "", []

    def words(self, schema: Schema) -> list[Any]:
        """Returns the values of a literal or an enumeration, or of those that may be meant; of a
        mapping, those of its keys."""
        schema = self._bare(schema.get("keys_schema", schema))
        found = [part.get("expected", part.get("members", ())) for part in self._members(schema)]
        return [getattr(word, "value", word) for words in found for word in words]

    def _members(self, schema: Schema) -> list[Schema]:
        """The members of a union of any kind; anything else itself."""
        choices = schema.get("choices", [schema])
        choices = choices.values() if isinstance(choices, Mapping) else choices
        return [self._bare(part[0] if isinstance(part, tuple) else part) for part in choices]

    def _fields(self, schema: Schema) -> Mapping[str, Schema]:
        """The fields of a model by name; of anything else none."""
        while schema["type"] == "model" or ("fields" not in schema and "schema" in schema):
            schema = schema["schema"]
        fields: Mapping[str, Schema] = schema.get("fields", {})
        return fields

    def _bare(self, schema: Schema) -> Schema:
        """The schema without defaults, validators, references and so on around it."""
        self._named.update((named["ref"], named) for named in schema.get("definitions", ()))
        if "schema_ref" in schema:
            return self._bare(self._named[schema["schema_ref"]])
        if schema["type"] == "model" and not schema.get("root_model"):
            return schema
        around = (key for key in ("schema", "json_schema", "strict_schema") if key in schema)
        return next((self._bare(schema[key]) for key in around), schema)
