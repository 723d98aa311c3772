"""From an installed wheel, in an empty folder: what a newcomer has after ``pip install``."""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner
from shipped import ROOT, SCENARIOS
from wheels import Newcomer

import neurosim as ns
from neurosim.base import about, shipped_files
from neurosim.cli.main import main
from neurosim.documents import load


@pytest.mark.slow
def test_from_a_wheel_in_an_empty_folder(newcomer: Newcomer) -> None:
    neurosim, environment = newcomer.neurosim, newcomer.bin.parent
    names = re.findall(r"^  (\w+)", neurosim("examples"), re.M)
    assert {path.stem for path in SCENARIOS} <= set(names)
    assert f"neurosim       {ns.__version__} in {environment}" in neurosim("doctor")
    neurosim("examples", "poisson", "--to", "mine")
    assert neurosim("validate", "mine/scenarios/poisson.yaml").endswith("schedule poisson\n")
    assert "dyads" in neurosim("networks", "digits_skip")
    row = ("--quick", "--row", "DP", "--seeds", "1", "--epochs", "1")
    neurosim("table", "mnist", *row, "training.max_steps=2", "data.limit=100")
    # Data are looked for in the present folder, not in that of the package.
    error = neurosim("validate", "mnist_dp", code=2)
    assert "data.root: data: " in error
    assert "neurosim download mnist --root data" in error
    assert sorted(path.name for path in newcomer.folder.iterdir()) == ["mine", "runs"]


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_examples_say_what_they_are() -> None:
    listed = invoke("examples")
    for path in SCENARIOS:
        assert f"  {path.stem} " in listed
        assert about(path) in listed
    assert (
        about(ROOT / "scenarios/parallel.yaml") == "P-DP: all dyads at every tick from zero states."
    )
    assert invoke("examples", "poisson") == (ROOT / "scenarios/poisson.yaml").read_text()


@pytest.mark.parametrize("name", ["random_order", "skip", "digits_conv"])
def test_an_example_is_copied_with_its_network(name: str, tmp_path: Path) -> None:
    invoke("examples", name, "--to", str(tmp_path))
    (path,) = tmp_path.rglob(f"{name}.yaml")
    if name in shipped_files("scenarios"):
        scenario = ns.Scenario.load(path)
        assert Path(scenario.network_document.file).is_relative_to(tmp_path)
    invoke("examples", name, "--to", str(tmp_path))  # nothing differs
    assert "which one? Say it: neurosim examples NAME" in invoke("examples", "--to", "x", code=2)
    path.write_text("mine: 1\n")
    assert f"{path}: is there and differs" in invoke(
        "examples", name, "--to", str(tmp_path), code=2
    )
    assert load(path).value == {"mine": 1}


def test_names_of_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("validate", "random_order").endswith("schedule random_order\n")
    assert "did you mean 'random_order'?" in invoke("validate", "random_oder", code=2)
    error = invoke("networks", "digits_ml", code=2)
    assert error.startswith("error: digits_ml: no such file, and no example of that name; did you")
    shutil.copy(ROOT / "networks/digits_mlp.yaml", "random_order")  # a file comes first
    assert "random_order:2:1: this is a network" in invoke("validate", "random_order", code=2)


def test_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    said = invoke("doctor")
    for title in ("neurosim", "python", "torch", "threads", "memory", "device", "extra"):
        assert re.search(rf"^{title} +\S", said, re.M), title
    needs = ['pooch>=1.8; extra == "data"', 'no-such-package>=1; extra == "missing"', "numpy>=1"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: needs)
    said = invoke("doctor")
    assert re.search(r"^extra +data: pooch [0-9.]+$", said, re.M)
    assert "missing: lacks no-such-package: pip install 'neurosim[missing]'" in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "_NEUROSIM_COMPLETE" in invoke("completion", shell)
    # What the script asks for when somebody presses TAB.
    monkeypatch.setenv("COMP_WORDS", "neurosim run random_o")
    monkeypatch.setenv("COMP_CWORD", "2" if shell != "fish" else "random_o")
    result = CliRunner().invoke(
        main, prog_name="neurosim", env={"_NEUROSIM_COMPLETE": f"{shell}_complete"}
    )
    assert "random_order" in result.output


def test_the_base_install_stays_small(wheel: Path) -> None:
    """All else is an extra, or there anyway: what was needed before brings it."""
    (built,) = wheel.parents[1].glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        assert sum(one.file_size for one in archive.infolist()) < 10e6
    there = {"simpy", "networkx", "pyyaml", "pydantic", "click", "rich", "safetensors"}
    left = ["torch", "numpy", "matplotlib", "jinja2", "markupsafe"]
    while left:
        there.add(name := left.pop())
        left += base_requirements(name) - there
    assert base_requirements("neurosim") <= there


def base_requirements(name: str) -> set[str]:
    """What a package needs without extras."""
    found = [one for one in metadata.requires(name) or [] if "extra ==" not in one]
    return {re.split(r"[^\w.-]", one)[0].lower() for one in found}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("run poi", "poisson points.csv"),  # files too
        ("run poin", ""),  # bash itself completes files
        ("run ran", "random_order ranges/"),
        ("examples digits_mlp_", "digits_mlp_bounded digits_mlp_tanh"),
        ("download cifar", "cifar10 cifar100"),
        ("table s", "systems streams"),
    ],
)
def test_bash_completes(words: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "points.csv").touch()
    (tmp_path / "ranges").mkdir()
    script = f"""
        compopt() {{ :; }}  # which only works while bash completes
        eval "$(neurosim completion bash)"
        COMP_WORDS=(neurosim {words}) COMP_CWORD=2
        _neurosim_completion neurosim
        echo "${{COMPREPLY[@]}}"
    """
    here = Newcomer(tmp_path, Path(sys.executable).parent)
    assert here.run("bash", "-c", script).strip() == found


def test_results_in_a_pipe_are_not_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = invoke("networks", "vgg16")
    assert "neurosim" not in table
    assert max(map(len, table.splitlines())) < 200
    (row,) = re.findall(r"^\W+conv13\b.*$", table, re.M)
    assert "conv 3×3, max-pool 2×2" in row
    monkeypatch.setenv("COLUMNS", "40")
    assert max(map(len, invoke("networks", "vgg16").splitlines())) <= 40
