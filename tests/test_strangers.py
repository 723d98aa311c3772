"""Folders that somebody else has filled: with bombs, odd values and files of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import neurosim as ns
from neurosim.records import Run
from neurosim.reports import comparison_of
from neurosim.reports.sweep import _section, _spoken

BOMB = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(9)
)
ODD = {
    "bomb": BOMB,
    "date": "t: 2001-99-99\n",
    "itself": "a: &a [*a]\n",
    "deep": "a: " + 5000 * "[" + 5000 * "]" + "\n",
    "key": "1: 2\n",
}
SUMMARIES: list[dict[str, Any]] = [
    {"spectral_norms": [1, 2]},
    {"spectral_norms": {"h": "x"}},
    {"epoch_seconds": 5},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ["schedule.ticks=4", "training.max_steps=1", "data.limit=100"]
    return ns.run("parallel", options, out=tmp_path_factory.mktemp("runs"), progress=False).folder


@pytest.mark.parametrize("odd", ODD)
def test_a_comparison_with_an_odd_scenario(odd: str, run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    (other / "scenario.yaml").write_text(ODD[odd])
    assert "comparison of 2 runs" in str(comparison_of([run, other]).html())


@pytest.mark.parametrize("odd", SUMMARIES, ids=lambda odd: next(iter(odd)))
def test_a_comparison_with_an_odd_summary(odd: dict[str, Any], run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    summary = json.loads((other / "summary.json").read_text()) | odd
    (other / "summary.json").write_text(json.dumps(summary))
    assert "comparison of 2 runs" in str(comparison_of([run, other]).html())


def test_an_axis_with_a_bomb() -> None:
    """It is shown as it is written."""
    text = "{" + BOMB.replace("\n", ", ") + "}"
    assert _spoken(text) == text
    assert _section(text) is None


def test_files_of_somebody_else_stay(run: Path, tmp_path: Path) -> None:
    """When a run goes on; what a kill has left does not."""
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / "sub" / ".cache.abcdefgh").mkdir(parents=True)
    kept = [folder / ".notes.markdown", folder / "sub" / ".plot.ipynb_ok"]
    left = [folder / ".summary.json.0123abcd", folder / "sub" / ".last.pt.ffffffff"]
    for path in (*kept, *left):
        path.write_text("mine")
    ns.resume(folder, overrides=["training.max_steps=2"], progress=False)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in left)


def test_a_file_in_the_place_of_its_folder_and_a_run_under_way(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ns.DataError, match="is not a run folder; it is a file: give the folder"):
        Run.read(tmp_path / "metrics.jsonl")
    said = "summary.json could not be read: there is no such file, as the run is under way, or was"
    assert any(note.startswith(said) for note in Run.read(tmp_path).notes)
