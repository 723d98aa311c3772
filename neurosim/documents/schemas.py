"""The schema that pydantic makes of a model: what may stand at a place of a document."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Discriminator, TypeAdapter

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
        for name, field in self._fields(schema).items():
            if part in (name, field.get("validation_alias")):
                found = field
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

    def tags(self, schema: Schema) -> list[str]:
        """Returns the tags of a tagged union, or of the one that may be meant."""
        unions = [schema] if schema["type"] == "tagged-union" else self._members(schema)
        return [
            str(tag) for part in unions if "discriminator" in part for tag in part["choices"] if tag
        ]

    def key(self, schema: Schema) -> str:
        """Returns the key under which a tagged union, or the one that may be meant, has its tag."""
        for part in (schema, *self._members(schema)):
            if found := part.get("discriminator"):
                return str(getattr(found, "__name__", found))
        return ""

    def words(self, schema: Schema) -> list[Any]:
        """Returns the values of a literal or an enumeration, or of those that may be meant."""
        found = [part.get("expected", part.get("members", ())) for part in self._members(schema)]
        return [getattr(word, "value", word) for words in found for word in words]

    def words_of_keys(self, schema: Schema) -> list[Any]:
        """Returns the keys of a mapping that has literals for them."""
        return self.words(self._bare(schema.get("keys_schema", LEAF)))

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
