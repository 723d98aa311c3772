"""Pipes in the place of files that another file or a run folder names: nobody waits for them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console
from test_damage import PARALLEL, SHORT

from neurosim.cli.main import main
from neurosim.runs import run as runner
from neurosim.scenario import Scenario

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    return runner.run(Scenario.load(PARALLEL, SHORT), out, Console(quiet=True), "x")


FILES = ("scenario.yaml", "environment.json", "metrics.jsonl", "summary.json", "manifest.json")
FILES += ("report.html", ".lock", "checkpoints/last.safetensors", "checkpoints/model.safetensors")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["resume", "report", "compare"])
def test_in_a_run_folder(command: str, name: str, run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "copy"))
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    more = [run, "--to", tmp_path / "c.html"] if command == "compare" else []
    result = CliRunner().invoke(main, [str(part) for part in (command, folder, *more)])
    if result.exit_code:
        assert result.exit_code == 2, result.exception
        assert str(folder) in result.output


@pytest.mark.parametrize("key", ["network", "defaults", "study.weights"])
def test_named_by_a_scenario(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    says = "study: {kind: convergence, weights: pipe}" if "." in key else f"{key}: pipe"
    text = PARALLEL.read_text().replace("network: ../networks/digits_mlp.yaml\n", "")
    network = "" if key == "network" else "network: digits_mlp\n"
    Path("s.yaml").write_text(f"{says}\n{network}{text}")
    result = CliRunner().invoke(main, ["validate", "s.yaml"])
    assert result.exit_code == 2, (result.output, result.exception)
    assert "pipe" in result.output
