"""The JSON Schemas that `neurosim schema` prints, for editors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from neurosim.cli.main import main
from neurosim.documents import load
from neurosim.families import model_of
from neurosim.families.kinds import FAMILIES
from neurosim.network import file_models
from neurosim.scenario import Scenario, ScenarioFile, exemplified

ROOT = Path(__file__).parents[1]
SCENARIOS = sorted((ROOT / "scenarios").glob("*.yaml"))
NETWORKS = sorted((ROOT / "networks").glob("*.yaml"))

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "discriminator", "examples"}


def admits(schema: Any, value: Any, root: dict[str, Any]) -> bool:
    """Whether a JSON Schema admits a value, as far as the keywords go that ours use."""

    if isinstance(schema, bool):
        return schema

    def inner(part: Any, item: Any) -> bool:
        return admits(part, item, root)

    def holds(keyword: str, given: Any) -> bool:
        match keyword:
            case "$ref":
                return inner(root["$defs"][given.removeprefix("#/$defs/")], value)
            case "anyOf":
                return any(inner(part, value) for part in given)
            case "oneOf":
                return sum(inner(part, value) for part in given) == 1
            case "type":
                return isinstance(value, TYPES[given]) and isinstance(value, bool) == (
                    given == "boolean"
                )
            case "const" | "enum":
                return value in (given if keyword == "enum" else [given])
            case "properties":
                return all(inner(given[key], value[key]) for key in value if key in given)
            case "required":
                return all(key in value for key in given)
            case "patternProperties":
                pairs = [
                    (part, key)
                    for pattern, part in given.items()
                    for key in value
                    if re.search(pattern, key)
                ]
                return all(inner(part, value[key]) for part, key in pairs)
            case "propertyNames":
                return all(inner(given, key) for key in value)
            case "additionalProperties":
                patterns = schema.get("patternProperties", {})
                others = value.keys() - schema.get("properties", {}).keys()
                others -= {key for key in others for pattern in patterns if re.search(pattern, key)}
                return all(inner(given, value[key]) for key in others)
            case "items":
                return all(
                    inner(given, item) for item in value[len(schema.get("prefixItems", [])) :]
                )
            case "prefixItems":
                return all(inner(*pair) for pair in zip(given, value, strict=False))
            case "minItems" | "minLength" | "minProperties":
                return len(value) >= given
            case "maxItems" | "maxLength":
                return len(value) <= given
            case "pattern":
                return re.search(given, value) is not None
            case "minimum" | "exclusiveMinimum":
                return value > given or (value == given and keyword == "minimum")
            case "maximum" | "exclusiveMaximum":
                return value < given or (value == given and keyword == "maximum")
        raise AssertionError(f"the check of schemas does not know {keyword!r}")

    # The type first: the other keywords are about values of that type.
    keywords = sorted(schema.keys() - ANNOTATIONS, key=lambda keyword: keyword != "type")
    return all(holds(keyword, schema[keyword]) for keyword in keywords)


def printed(*options: str) -> Any:
    result = CliRunner().invoke(main, ["schema", *options])
    assert result.exit_code == 0
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    """The schemas that the command prints."""
    return {
        "scenario": printed(),
        "network": printed("--network"),
    }


def test_the_schemas_are_json_schema(schemas: dict[str, Any]) -> None:
    for schema in schemas.values():
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert not re.search(r'"\$ref": "(?!#/\$defs/)', json.dumps(schema))


@pytest.mark.parametrize("path", SCENARIOS + NETWORKS, ids=lambda path: path.stem)
def test_the_schema_admits_what_is_shipped(schemas: dict[str, Any], path: Path) -> None:
    schema = schemas["scenario" if path in SCENARIOS else "network"]
    value = load(path).value
    assert admits(schema, value, schema)
    assert not admits(schema, value | {"no such key": 1}, schema)
    for key in value:
        assert not admits(schema, value | {key: -1}, schema), key
    if path in SCENARIOS:
        # What a run writes is admitted too.
        assert admits(schema, yaml.safe_load(Scenario.load(path).resolved()), schema)


def keys(part: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key that a JSON Schema describes, wherever in it, and what is said of it."""
    if isinstance(part, list):
        for number, inner in enumerate(part):
            yield from keys(inner, (*path, str(number)))
    elif isinstance(part, dict):
        for key, said in part.get("properties", {}).items():
            yield (*path, key), said
        for word, inner in part.items():
            if word not in ("default", "examples", "const", "enum"):
                yield from keys(inner, (*path, word))


@pytest.mark.parametrize("name", ["scenario", "network"])
def test_every_key_is_described(schemas: dict[str, Any], name: str) -> None:
    schema = schemas[name]
    found = list(keys(schema))
    assert len(found) > (400 if name == "scenario" else 100)
    assert [path for path, said in found if len(said.get("description", "")) < 8] == []
    assert [path for path, said in found if not said.get("examples")] == []
    whole = {"": schema, **schema["$defs"]}
    bare = [title for title, part in whole.items() if not part.get("description")]
    assert bare in ([], [""])


def test_a_key_that_names_a_kind_says_which_there_are(schemas: dict[str, Any]) -> None:
    parts = schemas["scenario"]["$defs"]
    for title, family in FAMILIES.items():
        for name, member in family.items():
            if member.__name__ in parts:
                said = parts[member.__name__]["properties"][family.key]["description"]
                assert said.startswith(f"which {title.replace('_', ' ')}: "), said
                assert all(re.search(rf"\b{other}\b", said) for other in family), said
                assert (f"default: {family.default}" in said) == (family.default is not None)
                assert name in said


def test_the_schema_knows_networks_in_scenarios(schemas: dict[str, Any]) -> None:
    schema, value = schemas["scenario"], load(SCENARIOS[0]).value
    for network, good in (
        ({"input": [64], "layers": [{"dense": 10}]}, True),
        ({"input": [64], "layers": [{"densse": 10}]}, False),
        ({"input": [64], "layers": [{"dense": 10}], "activation": "rellu"}, False),
        ("net.yaml", True),
    ):
        assert admits(schema, value | {"network": network}, schema) == good, network


def test_the_schema_admits_a_file_on_top_of_others(schemas: dict[str, Any]) -> None:
    for schema in schemas.values():
        assert admits(schema, {"defaults": ["base.yaml"]}, schema)
        assert not admits(schema, {"defaults": [3]}, schema)
    assert not admits(schemas["scenario"], {"name": "x"}, schemas["scenario"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scenario", "names the folder of the run"),
        ("scenario", "simulated time of one tick"),
        ("network", "shape of the input, [N] or [C, H, W]"),
    ],
)
def test_the_schema_explains(schemas: dict[str, Any], name: str, said: str) -> None:
    assert said in json.dumps(schemas[name])


def _models() -> list[Any]:
    """The models of all mappings that a scenario or a network file can hold."""
    found: dict[Any, None] = {}

    def visit(annotation: Any) -> None:
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            for part in get_args(annotation):
                visit(part)
        elif annotation not in found:
            found[annotation] = None
            for field in annotation.model_fields.values():
                visit(field.annotation)

    for model in (model_of(ScenarioFile), *file_models()):
        visit(model)
    return list(found)


@pytest.mark.parametrize("model", _models(), ids=lambda model: model.__name__)
def test_every_key_has_an_example_that_fits(model: Any) -> None:
    """Beside the least that its mapping has to say."""
    schema = exemplified(model.model_json_schema())
    examples = {key: said["examples"] for key, said in schema["properties"].items()}
    least = {key: examples[key][0] for key in schema.get("required", ())}
    for key, values in examples.items():
        whole = least | ({"conv": 32} if model.__name__ == "layer" and key != "dense" else {})
        for value in values:
            model.model_validate(whole | {key: value})
