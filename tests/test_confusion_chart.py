"""The chart of a confusion matrix: every count is in it, and what is damaged is named."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurosim as ns
from neurosim.records import Run, told
from neurosim.reports.figures import confusion_figures
from neurosim.reports.plots.canvas import Chart
from neurosim.reports.plots.confusion import confusion_chart

pytestmark = pytest.mark.drawn

SMALL = {"training.epochs": 1, "data.limit": 100, "training.metrics": ["confusion_matrix"]}


def test_every_count_is_told() -> None:
    chart = confusion_chart("key", np.array([[90.0, 10.0, 0.0], [0.0, 7.0, 0.0], [0.0, 0.0, 0.0]]))
    titles = re.findall(r"<title>([^<]*)</title>", chart.svg)
    assert titles == [
        "90 of 100 of class 0: predicted 0",
        "10 of 100 of class 0: predicted 1",
        "7 of 7 of class 1: predicted 1",
    ]


def test_classes_have_their_names(tmp_path: Path) -> None:
    """Those of a table, of which some are no words for a library that draws formulas."""
    names, rows = ["a_cat", "$a_$ <b>", "an eel that is long"], ["x,y,animal"]
    rows += [f"{n % 3},{n % 7},{names[n % 3]}" for n in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    said = {
        "name": "animals",
        "network": {"input": [2], "layers": [{"dense": 3}]},
        "data": {"kind": "csv", "file": "a.csv", "label": "animal", "batch_size": 5},
        "schedule": {"kind": "sweep"},
        "training": {"epochs": 1, "metrics": ["confusion_matrix", {"kind": "top_k", "k": 2}]},
    }
    (tmp_path / "s.yaml").write_text(json.dumps(said))
    run = ns.run(tmp_path / "s.yaml", out=tmp_path)
    assert run.summary["classes"] == sorted(names)
    (figure,) = confusion_figures(Run.read(run.folder))
    assert isinstance(figure.content, Chart)
    found = re.findall(r"of class ([^<]*?): predicted ([^<]*)<", figure.content.svg)
    assert {html.unescape(word) for pair in found for word in pair} <= set(names)
    assert found
    portion = run.summary["test_top_2"]
    assert ("test accuracy of the best 2", f"{100 * portion:.2f} %") in told(run.summary, "line")


def test_many_classes_have_cells_without_numbers() -> None:
    chart = confusion_chart("key", np.eye(100))
    assert "<title>" not in chart.svg
    assert chart.svg.count("<path") >= 100


def test_a_run_draws_what_it_measured(tmp_path: Path) -> None:
    run = ns.run("parallel", SMALL, out=tmp_path)
    (figure,) = confusion_figures(Run.read(run.folder))
    assert isinstance(figure.content, Chart)
    counts = np.array(run.summary["test_confusion_matrix"])
    told = re.findall(r"<title>(\d+) of \d+ of class (\d): predicted (\d)<", figure.content.svg)
    assert {(int(i), int(j)): int(n) for n, i, j in told} == {
        (int(i), int(j)): int(counts[i, j]) for i, j in np.argwhere(counts)
    }
    written = ns.figures(run, to=tmp_path / "paper", format="svg")
    assert "confusion-matrix-of-the-test-split.svg" in [path.name for path in written]
    assert figure.title in run.report.read_text(encoding="utf-8")
    # Before it has ended, its last epoch tells.
    (run.folder / "summary.json").unlink()
    (again,) = confusion_figures(Run.read(run.folder))
    assert isinstance(again.content, Chart)


@pytest.mark.parametrize("damaged", ["x", [[1], [2, 3]], [[1, "a"], [2, 3]], [1, 2], 3, {"a": 1}])
def test_what_is_no_matrix_is_named(damaged: Any, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"test_confusion_matrix": damaged}))
    (figure,) = confusion_figures(Run.read(tmp_path))
    assert figure.content is None
    assert "no matrix" in figure.why_not
