"""The JSON Schema of scenario and network files."""

from pathlib import Path
from typing import Any, Union

import yaml
from pydantic import Field, TypeAdapter, create_model

from neurosim.documents import DEFAULTS, Schemas
from neurosim.families import Section, model_of
from neurosim.network import file_models
from neurosim.scenario.file import ScenarioFile

_TEXT = Path(__file__).with_name("examples.yaml").read_text(encoding="utf-8")
_EXAMPLES: dict[str, Any] = yaml.safe_load(_TEXT)


def whole_files() -> tuple[type[Section], type[Section], type[Section]]:
    """Returns the models of scenarios, and of networks in chain and in graph form, each with all
    that its file may say: ``defaults`` too, which are merged before a file is parsed."""
    files = Field((), description="files that this one is on top of, seen from it; the last wins")
    key: dict[str, Any] = {DEFAULTS: (str | list[str], files)}
    scenario, chain, graph = (
        create_model(model.__name__, __base__=model, __doc__=model.__doc__, **key)
        for model in (model_of(ScenarioFile), *file_models())
    )
    return scenario, chain, graph


def places_of(key: str) -> list[str]:
    """Returns the paths at which a scenario has a key of that name, or of a name like it."""
    return [
        ".".join(map(str, path)) for path in Schemas(model_of(ScenarioFile)).places(key, {}, ())
    ]


def json_schema(network: bool = False) -> dict[str, Any]:
    """Returns the schema of scenario files, networks in them included, or of network files.

    A file on top of others (``defaults``) need not say what all of them say together.
    """
    base, chain, graph = whole_files()
    form: Any = chain | graph
    if not network:
        inner: Any = Union[str, *file_models()]
        about = Field(description=base.model_fields["network"].description)
        form = create_model(
            base.__name__, __base__=base, __doc__=base.__doc__, network=(inner, about)
        )
    found = TypeAdapter[Any](form).json_schema()
    parts = [found] if not network else [found["$defs"][m.__name__] for m in (chain, graph)]
    for part in parts:
        needed = part.pop("required")
        part["anyOf"] = [{"required": [DEFAULTS]}, {"required": needed}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **exemplified(found)}


def exemplified(schema: dict[str, Any]) -> dict[str, Any]:
    """Gives each key an example: its own, that of examples.yaml, its default, or what its type
    tells. A text of a plugin that has none of them stays without."""
    parts = schema.get("$defs", {})
    for part in (schema, *parts.values()):
        for key, said in part.get("properties", {}).items():
            title = part["title"]
            own = [_EXAMPLES[name] for name in (f"{title}.{key}", key) if name in _EXAMPLES]
            own = own if said.get("default") in (None, [], {}) and "const" not in said else []
            found = said.get("examples", own[:1] or _examples(said, parts))
            said |= {"examples": found} if found else {}
    return schema


def _examples(schema: dict[str, Any], parts: dict[str, Any]) -> list[Any]:
    """One value that a schema admits, if its default, its words or its bounds tell one."""
    if "examples" in schema:
        return list(schema["examples"])
    if schema.get("default") is not None:
        return [schema["default"]]
    if "$ref" in schema:
        return _examples(parts[schema["$ref"].removeprefix("#/$defs/")], parts)
    match schema:
        case {"const": word} | {"enum": [word, *_]}:
            return [word]
        case {"type": "boolean"}:
            return [True]
        case {"type": "integer" | "number" as kind}:
            low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
            high = schema.get("maximum", schema.get("exclusiveMaximum", low + 2))
            return [low + (1 if kind == "integer" else min(1, (high - low) / 2))]
        case {"type": "object"}:
            needed = {key: schema["properties"][key] for key in schema.get("required", ())}
            known = {key: _examples(part, parts) for key, part in needed.items()}
            return [{key: each[0] for key, each in known.items()}] if all(known.values()) else []
    members = schema.get("anyOf", schema.get("oneOf", ()))
    return next((found for part in members if (found := _examples(part, parts))), [])
