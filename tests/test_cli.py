"""The command line: help, what each command prints, exit codes, and what a pipe sees of a run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import neurosim
from neurosim.cli import main
from neurosim.documents import load
from neurosim.scenario import Scenario

ROOT = Path(__file__).parents[1]
SCENARIOS = sorted((ROOT / "scenarios").glob("*.yaml"))
NETWORKS = sorted((ROOT / "networks").glob("*.yaml"))
COMMANDS = ("run", "resume", "validate", "schema", "networks", "report", "bench")
SHORT = ["training.max_steps=2", "data.limit=100", "probes=[accuracy, loss]"]


def invoke(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def name_of(path: Path) -> str:
    return path.stem


# ---- help --------------------------------------------------------------------------------------


def test_help_names_every_command() -> None:
    assert set(main.commands) == set(COMMANDS)
    for option in ("--help", "-h"):
        output = invoke(option).stdout
        for command in COMMANDS:
            assert re.search(rf"^  {command} ", output, re.M)
        assert "neurosim run scenarios/random_order.yaml" in output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str) -> None:
    output = invoke(command, "--help").stdout
    assert output.startswith(f"Usage: main {command} ")
    assert invoke(command, "-h").stdout == output
    # Every option says what it does.
    for line in re.findall(r"^  (--.*)$", output, re.M):
        assert re.search(r"\S  +\S|\.$", line), line


def test_version() -> None:
    assert invoke("--version").stdout == f"neurosim, version {neurosim.__version__}\n"


def test_no_command_shows_the_help() -> None:
    assert "Commands:" in invoke(code=2).output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simulate"], "No such command 'simulate'"),
        (["run"], "Missing argument 'FILE'"),
        (["validate"], "Missing argument 'FILE'"),
        (["resume"], "Missing argument 'FOLDER'"),
        (["run", "x.yaml", "--quick"], "No such option"),
        (["schema", "extra"], "unexpected extra argument"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    result = invoke(*arguments, code=2)
    assert said in result.stderr
    assert "--help" in result.stderr


def test_help_is_instant() -> None:
    """Nothing heavy is imported before it is needed."""
    code = "import sys, neurosim.cli; print(sorted({'torch', 'numpy', 'rich'} & {*sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


# ---- validate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SCENARIOS, ids=name_of)
def test_validate_says_what_it_found(path: Path) -> None:
    scenario = Scenario.load(path)
    line = (
        rf"{path}: valid; {len(scenario.network.populations)} populations, "
        rf"{scenario.network.dyads} dyads, schedule {scenario.file.schedule.kind}" + "\n"
    )
    assert invoke("validate", path).stdout == line


def test_validate_takes_overrides() -> None:
    path = ROOT / "scenarios/sweep.yaml"
    network = "network={input: 64, layers: [{dense: 5}, {dense: 10}]}"
    output = invoke("validate", path, network, "schedule={kind: lazy, duration: 4}").stdout
    assert output.endswith(": valid; 3 populations, 15 dyads, schedule lazy\n")


def test_an_error_has_no_traceback_and_nothing_on_stdout() -> None:
    result = invoke("validate", ROOT / "networks/digits_mlp.yaml", code=2)
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {ROOT}/networks/digits_mlp.yaml:")


# ---- schema ------------------------------------------------------------------------------------


def admits(schema: Any, root: dict[str, Any], value: Any) -> bool:
    """Whether a schema admits a value, as far as types, keys and choices go."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return admits(root["$defs"][name] | {"$ref": None} | {}, root, value)
    return all(
        (
            check(schema, root, value)
            for key, check in CHECKS.items()
            if schema.get(key) is not None
        )
    )


def has_type(schema: Any, root: dict[str, Any], value: Any) -> bool:
    del root
    types = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "null": type(None),
        "integer": int,
        "number": int | float,
    }
    fits = isinstance(value, types[schema["type"]])
    return fits and (not isinstance(value, bool) or schema["type"] == "boolean")


CHECKS: dict[str, Any] = {}


def test_schema_is_json_schema() -> None:
    for options in ([], ["--network"]):
        found = json.loads(invoke("schema", *options).stdout)
        assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert "$defs" in found
