"""The page of all kinds and their keys, made of the families: docs/kinds.md.

python -m tests.kinds > docs/kinds.md
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import neurosim as ns
from neurosim.families import Kind, Section, model_of
from neurosim.families.kinds import FAMILIES
from neurosim.network import file_models
from neurosim.scenario import ScenarioFile, exemplified

HEAD = """# Every kind and its keys

What a scenario or a network file can name. [scenarios.md](scenarios.md) explains the common ones,
[plugins.md](plugins.md) how to add your own. A key with a value may be left out: it is the default;
an example stands where there is none.
Times are in units of simulated time, where nothing else is said. `neurosim schema` tells an editor.
This page is made of the code: `python -m tests.kinds > docs/kinds.md`.
"""


def choices(annotation: Any) -> Iterator[str]:
    """The words that may stand in a place."""
    for part in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield str(part)
        else:
            yield from choices(part)


def bounds(schema: Any) -> str:
    """The range of a number: ``> 0``, ``0 to 1``. Bounds that keep numbers sane are not told."""
    for part in schema.get("anyOf", [schema]):
        low, above = part.get("minimum"), part.get("exclusiveMinimum")
        high, below = part.get("maximum"), part.get("exclusiveMaximum")
        found = [f"≥ {low:g}"] if low is not None and low > -1e12 else []
        found += [f"> {above:g}"] if above is not None else []
        found += [f"≤ {high:g}"] if high is not None and high < 1e12 else []
        found += [f"< {below:g}"] if below is not None and below < 1e12 else []
        if found:
            return ", ".join(found).replace("≥ 0, ≤ 1", "0 to 1")
    return ""


def key_of(name: str, field: Any, schema: Any) -> str:
    """A key with its default, what else may stand there, its range, and what it says."""
    value = schema.get("const", None if field.is_required() else field.default)
    needed = field.is_required() and "const" not in schema
    found = f"`{name}`" if needed else f"`{name}: {json.dumps(value, ensure_ascii=False)}`"
    words = [w for w in dict.fromkeys(choices(field.annotation)) if w != value]
    said = [f"or {', '.join(words)}"] if words and "kind" not in str(field.default) else []
    said += [field.description] if field.description else []
    said += [bounds(schema)] if bounds(schema) else []
    if not words and (needed or value in (None, [], {})):
        said += [f"e.g. `{json.dumps(each, ensure_ascii=False)}`" for each in schema["examples"]]
    return f"{found} ({'; '.join(said)})" if said else found


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


def row_of(name: str, member: type[Any], model: type[Section], without: str = "") -> str:
    schema = exemplified(model.model_json_schema())["properties"]
    fields = ((field.alias or k, field) for k, field in model.model_fields.items() if k != without)
    keys = ", ".join(key_of(key, field, schema[key]) for key, field in fields)
    meaning = (inspect.getdoc(member) or "").split("\n\n")[0].replace("\n", " ")
    return f"| `{name}` | {cell(keys)} | {cell(meaning)} |"


def sections(model: type[Section], path: tuple[str, ...]) -> Iterator[tuple[str, type[Section]]]:
    """The sections of a document that are no kinds, each by the first path that leads to it."""
    yield ".".join(path) or "a scenario", model
    for key, field in model.model_fields.items():
        for inner in models(field.annotation):
            yield from sections(inner, (*path, key))


def models(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        if not issubclass(getattr(annotation, "makes", annotation), Kind):
            yield annotation
        return
    for part in get_args(annotation):
        yield from models(part)


def page() -> str:
    assert ns.Scenario  # all families are there
    parts = [HEAD]
    for title, family in sorted(FAMILIES.items()):
        own = [(n, m) for n, m in family.items() if m.__module__.startswith("neurosim.")]
        if own:
            head = [f"## {title.replace('_', ' ').capitalize()}", ""]
            head += [f"| `{family.key}` | keys | what it is |", "|---|---|---|"]
            rows = [row_of(name, m, model_of(m), family.key) for name, m in own]
            parts.append("\n".join([*head, *rows, ""]))
    head = ["## Sections", "", "Mappings that are no kinds: what stands at a key.", ""]
    head += ["| at | keys | what it is |", "|---|---|---|"]
    found: dict[type[Section], list[str]] = {}
    whole = zip(("", "a chain", "a graph"), (model_of(ScenarioFile), *file_models()), strict=True)
    for title, root in whole:
        for place, model in sections(root, (title,) if title else ()):
            found.setdefault(model, []).append(place)
    rows = [
        row_of("`, `".join(dict.fromkeys(p)), getattr(m, "makes", m), m) for m, p in found.items()
    ]
    parts.append("\n".join([*head, *rows, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
