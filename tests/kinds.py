"""The page of all kinds and their keys, made of the families: docs/kinds.md.

python -m tests.kinds > docs/kinds.md
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import yaml

import neurosim as ns
from neurosim.families import Kind, Section, model_of
from neurosim.families.kinds import FAMILIES, Family
from neurosim.scenario import exemplified, whole_files

HEAD = """# Every kind and its keys

What a scenario or a network file can name. [Scenarios](scenarios.md) explains the common ones,
[Plugins](plugins.md) how to add your own. A key with a default may be left out; an example
stands where there is none, or where it is null. A path such as `channels.mean` is of keys in a
scenario. Times are in units of simulated time, where nothing else is said. `neurosim schema` tells
an editor. This page is made of the code: `python -m tests.kinds > docs/kinds.md`.
"""
COLUMNS = "| key | default | may be | what it is |\n|---|---|---|---|"


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


def short(value: Any, annotation: Any) -> Any:
    """What a document has to say for a value: without what is the default."""
    if isinstance(value, list | tuple):
        return [short(item, annotation) for item in value]
    if isinstance(value, dict):
        for model in models(annotation):
            made = getattr(model, "makes", model)
            if getattr(made, "kind", None) == value.get("kind") or not issubclass(made, Kind):
                known = {k: f for k, f in model.model_fields.items() if k in value and k != "kind"}
                own = {
                    k: short(value[k], f.annotation)
                    for k, f in known.items()
                    if value[k] != f.default
                }
                return {"kind": value["kind"], **own} if "kind" in value else own
    return value


def shown(value: Any) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False
    )
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def row_of(key: str, field: Any, schema: Any) -> str:
    """A key with its default, what else may stand there, its range, what it says, an example."""
    needed = field.is_required()
    value = None if needed else field.get_default(call_default_factory=True)
    words = [] if "kind" in str(value) else list(dict.fromkeys(choices(field.annotation)))
    may = ", ".join(words) or bounds(schema)
    said = field.description
    if not words and (needed or value in (None, [], (), {})):
        said += "".join(f"; e.g. {shown(each)}" for each in schema["examples"])
    default = "" if needed else shown(short(value, field.annotation))
    return f"| `{key}` | {cell(default)} | {cell(may)} | {cell(said)} |"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


def rows_of(model: type[Section], without: str = "") -> list[str]:
    schema = exemplified(model.model_json_schema())["properties"]
    fields = ((field.alias or k, field) for k, field in model.model_fields.items() if k != without)
    return [row_of(key, field, schema[key]) for key, field in fields]


def table(rows: list[str]) -> list[str]:
    return [COLUMNS, *rows, ""] if rows else []


def meaning(cls: type[Any]) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")


Found = Iterator[tuple[str, type[Section]]]


def mappings(model: type[Section], path: tuple[str, ...]) -> Found:
    """The mappings in a document, each with a path that leads to it. Kinds are not gone into."""
    yield ".".join(path) or "a scenario", model
    if not issubclass(getattr(model, "makes", model), Kind):
        for key, field in model.model_fields.items():
            for inner in models(field.annotation):
                yield from mappings(inner, (*path, field.alias or key))


def models(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        return
    for part in get_args(annotation):
        yield from models(part)


def family_of(title: str, family: Family, places: list[str]) -> list[str]:
    """A family: where it stands, the keys that all of its members have, and each member."""
    own = [(n, m) for n, m in family.items() if m.__module__.startswith("neurosim.")]
    found = {name: rows_of(model_of(member), family.key) for name, member in own}
    shared = [
        row for row in next(iter(found.values()), ()) if all(row in r for r in found.values())
    ]
    shared = shared if len(found) > 1 else []
    at = ", ".join(f"`{place}`" for place in places)
    said = f"`{family.key}` names one" + (f", at {at}." if at else ".")
    if family.default:
        said += f" Left out, it is `{family.default}`."
    if family.bare:
        said += " The bare name will do where no key is needed."
    text = [f"## {title.replace('_', ' ').capitalize()}", "", said, ""]
    text += ["All have these keys:", "", *table(shared)] if shared else []
    for name, member in own:
        rows = [row for row in found[name] if row not in shared]
        text += [f"### {name}", "", meaning(member), "", *table(rows)]
    return text if own else []


def page() -> str:
    assert ns.Scenario  # all families are there
    titles = ("", "a chain", "a graph")
    roots = [((title,) if title else (), m) for title, m in zip(titles, whole_files(), strict=True)]
    found: dict[type[Section], list[str]] = {}
    for path, root in roots:
        for place, model in mappings(root, path):
            found.setdefault(model, []).append(place)
    text = [HEAD, "## Sections", "", "Mappings that are no kinds: what stands at a key.", ""]
    for model, places in found.items():
        if not issubclass(made_by := getattr(model, "makes", model), Kind):
            field = model.model_fields.get("op")
            op = [f", op: {word}" for word in get_args(field.annotation)] if field else []
            text += ["### " + "".join([", ".join(dict.fromkeys(places)), *op]), ""]
            text += [meaning(made_by), "", *table(rows_of(model))]
    for title, family in sorted(FAMILIES.items()):
        made = [
            p for m, at in found.items() if getattr(m, "makes", None) in family.values() for p in at
        ]
        text += family_of(title, family, list(dict.fromkeys(made)))
    return "\n".join(text)


if __name__ == "__main__":
    sys.stdout.write(page())
