"""The JSON Schema of scenario and network files."""

from typing import Any

from pydantic import Field, TypeAdapter, create_model

from neurosim.documents import DEFAULTS
from neurosim.families import model_of
from neurosim.network import file_models
from neurosim.scenario.file import ScenarioFile


def json_schema(network: bool = False) -> dict[str, Any]:
    """Returns the schema of scenario files, networks in them included, or of network files.

    A file on top of others (``defaults``) need not say what all of them say together.
    """
    chain, graph = file_models()
    form: Any = chain | graph
    if not network:
        base = model_of(ScenarioFile)
        about = Field(description=base.model_fields["network"].description)
        form = create_model(
            base.__name__, __base__=base, __doc__=base.__doc__, network=(str | form, about)
        )
    found = TypeAdapter[Any](form).json_schema()
    parts = [found] if not network else [found["$defs"][m.__name__] for m in (chain, graph)]
    for part in parts:
        part["properties"][DEFAULTS] = {
            "description": "files that this one is on top of, seen from it; the last one wins",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        }
        needed = part.pop("required")
        part["anyOf"] = [{"required": [DEFAULTS]}, {"required": needed}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
