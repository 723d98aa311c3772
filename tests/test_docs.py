"""Every command and example of the README and the docs, executed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from report_pages import learning, run_folder
from shipped import narrow_description
from sizes import TINY
from small_cifar import small_cifar10, write_cifar10

from neurosim import bench, documents
from neurosim.cli.main import main
from neurosim.families import plugins
from neurosim.measures import Costs
from neurosim.network.network import Network
from neurosim.runs.axes import split_values
from neurosim.scenario.file import ScenarioFile
from neurosim.scenario.scenario import Scenario
from neurosim.tables.table import table_named
from tests import kinds
from tests.plugged import write

__all__ = ["write"]  # the fixture

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SMALL = ["training.max_steps=2", "data.limit=150"]


def blocks(language: str) -> list[tuple[Path, str]]:
    return [
        (page, text)
        for page in PAGES
        for kind, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if kind == language
    ]


def name_of(value: Any) -> str:
    return value.name if isinstance(value, Path) else ""


# Of what the script of a study goes through, a part that takes seconds.
FEW = {
    "BETAS": "[1e-4, 1e-3]",
    "ALPHAS": "(0, 1)",
    "NORMS": "(1,)",
    "SEEDS": "range(2)",
    "SWEEPS": "100",
    "RUNS": "2",
    "STEPS": "8",
    "DELAYS": "(1, 5)",
}


@pytest.mark.usefixtures("write")  # a plugin that an example loads is forgotten
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_examples(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of their own, where they leave the pictures of their page."""
    for folder in ("scenarios", "networks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "an_example"}
    try:
        for found, text in blocks("python"):
            if found == page:
                for name, value in FEW.items():
                    text = re.sub(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
                exec(compile(text, str(page), "exec", dont_inherit=True), namespace)
    finally:
        plugins.forget("an_example")
    for picture in tmp_path.glob("*.svg"):
        assert picture.name in page.read_text(encoding="utf-8")
        assert (page.parent / picture.name).exists()


@pytest.mark.parametrize(("page", "text"), blocks("yaml"), ids=name_of)
def test_yaml_examples(
    page: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network, sections of a scenario, or a file on top of a shipped one."""
    monkeypatch.setenv("SEED", "17")
    document = documents.loads(text, page.name)
    if "defaults" in document.value:
        (tmp_path / "mine.yaml").write_text(text)
        for folder in ("scenarios", "networks"):
            (tmp_path / folder).symlink_to(ROOT / folder)
        assert Scenario.load(tmp_path / "mine.yaml").file.seed == 17
        return
    if page.name == "costs.md":
        Costs.of(document)
        return
    if not set(document.value) <= {field.name for field in fields(ScenarioFile)}:
        Network.from_document(document)
        return
    sections = [f"{key}={json.dumps(value)}" for key, value in document.value.items()]
    Scenario.load(ROOT / "scenarios/random_order.yaml", sections)


def test_examples_that_need_a_cluster_can_be_parsed() -> None:
    for page, text in blocks("py"):
        compile(text, str(page), "exec", dont_inherit=True)
    for _, text in blocks("bash"):
        subprocess.run(["bash", "-n"], input=text.encode(), check=True)


COMMANDS = [
    (page, line.removeprefix("$ ").split("#")[0].strip())
    for page, text in blocks("console")
    for line in text.splitlines()
]
# Each once, where it first stands. Those of the README are fast.
CASES = [
    pytest.param(page, command, marks=pytest.mark.slow if page.parent != ROOT else ())
    for command, page in {command: page for page, command in reversed(COMMANDS)}.items()
]


def test_there_are_commands() -> None:
    commands = [command for _, command in COMMANDS]
    assert commands[0] == "pip install ."
    assert {"make run", "make test"} <= set(commands[:6])


@pytest.mark.parametrize(("page", "command"), CASES, ids=name_of)
def test_commands(
    page: Path,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    del page
    program, *arguments = shlex.split(command)
    if program == "make":
        # What the command would do; that it does it is what CI shows.
        subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)
        return
    if program == "pip":
        # That it can be installed is what tests/newcomer shows; that it has these extras, this.
        what = re.fullmatch(r"install \.(?:\[([a-z,]+)\])?", " ".join(arguments))
        assert what
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert {*(what[1] or "data").split(",")} <= project["optional-dependencies"].keys()
        return
    assert program == "neurosim"
    for folder in ("scenarios", "networks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "run":
        arguments += SMALL
        if "scenarios/vgg16" in arguments[1]:
            small_cifar10(monkeypatch)
            write_cifar10(tmp_path / "data")
            narrow = json.dumps(narrow_description(ROOT, "vgg16", 16))
            arguments += [f"network={narrow}", "data.batch_size=4"]
        if "scenarios/mnist" in arguments[1]:
            arguments += ["training.validation=50"]  # of the few images that are left
    if arguments[0] == "bench":
        for name in ("FULL", "QUICK"):
            monkeypatch.setattr(bench, name, TINY)
        if "--only" not in arguments:  # what each measures is another test's business
            monkeypatch.setattr(bench, "BENCHMARKS", bench.BENCHMARKS[::8])
    if arguments[0] in ("compare", "figures"):
        for folder in (Path(part) for part in arguments if part.startswith("runs/")):
            folder.parent.mkdir(parents=True, exist_ok=True)
            run_folder(folder, learning(1))
    if arguments[0] == "download":
        request.getfixturevalue("mirror")  # in full, but small files from this machine
    elif any("mnist" in argument for argument in arguments):
        (tmp_path / "mnist").symlink_to(request.getfixturevalue("shared_data"))
    if arguments[0] == "table":  # few rows, of the data that are here
        first = table_named(arguments[1]).rows[0].label
        arguments += ["--quick", "--row", first, "--seeds", "1", "--jobs", "0"]
        arguments += [] if arguments[1] == "streams" else ["--epochs", "1"]
        arguments = [a for a in arguments if not a.startswith("data.root=")] + SMALL
    if arguments[0] == "sweep":
        arguments = [few(argument) for argument in arguments]
        arguments += [*SMALL[:1], "--jobs", "0", "--quiet"]  # the pool is another test's business
        arguments += ["--seeds", "1"] if "--seeds" in arguments else []
        given = any(argument.startswith("data.limit=") for argument in arguments)
        arguments += [] if given else SMALL[1:]
    if "scenarios/stream_mackey_glass.yaml" in arguments:
        arguments += ["stream.foretell=20"]  # of the values that are left
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def few(argument: str) -> str:
    """An axis of a sweep with its first and last value."""
    key, equals, values = argument.partition("=")
    if not equals or argument.startswith("-"):
        return argument
    first, *others = split_values(values)
    return ",".join([f"{key}={first}", *others[-1:]])


def test_the_page_of_kinds_is_that_of_the_code() -> None:
    made = "python -m tests.kinds > docs/kinds.md"
    assert (ROOT / "docs/kinds.md").read_text(encoding="utf-8") == kinds.page(), made


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_glossary_is_in_alphabetical_order() -> None:
    """As it says it is; Greek letters by their names."""
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^- \*\*(?:\w \((\w+)\)|(.+?))\*\*", text, re.MULTILINE)
    found = [(greek or word).lower() for greek, word in words]
    assert {"alpha", "dyad", "wake"} <= set(found)
    assert found == sorted(found)
