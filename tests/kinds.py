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
from neurosim.families import Family, Kind, model_of
from neurosim.families.kinds import FAMILIES

HEAD = """# Every kind and its keys

What a scenario or a network file can name. [scenarios.md](scenarios.md) explains the common ones,
[plugins.md](plugins.md) how to add your own. A key with a value may be left out: it is the default.
This page is made of the code: `python -m tests.kinds > docs/kinds.md`.
"""


def choices(annotation: Any) -> Iterator[str]:
    """The words that may stand in a place."""
    for part in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield str(part)
        else:
            yield from choices(part)


def key_of(name: str, field: Any) -> str:
    """A key with its default, what else may stand there, and what it says."""
    default = "" if field.is_required() else f": {json.dumps(field.default, ensure_ascii=False)}"
    found = f"`{name}{default}`"
    words = [w for w in dict.fromkeys(choices(field.annotation)) if w != field.default]
    said = [f"or {', '.join(words)}"] if words and "kind" not in str(field.default) else []
    said += [field.description] if field.description else []
    return f"{found} ({'; '.join(said)})" if said else found


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


def row_of(family: Family, name: str, member: type[Kind]) -> str:
    fields = model_of(member).model_fields.items()
    keys = ", ".join(key_of(key, field) for key, field in fields if key != family.key)
    meaning = (inspect.getdoc(member) or "").split("\n\n")[0].replace("\n", " ")
    return f"| `{name}` | {cell(keys)} | {cell(meaning)} |"


def page() -> str:
    assert ns.Scenario  # all families are there
    parts = [HEAD]
    for title, family in sorted(FAMILIES.items()):
        own = [(n, m) for n, m in family.items() if m.__module__.startswith("neurosim.")]
        if own:
            head = [f"## {title.replace('_', ' ').capitalize()}", ""]
            head += [f"| `{family.key}` | keys | what it is |", "|---|---|---|"]
            parts.append("\n".join([*head, *(row_of(family, *one) for one in own), ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
