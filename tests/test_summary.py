"""A number of a summary is described in one place, and shown wherever it says."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from neurosim.records import Quantity, quantities, shown_in, told
from neurosim.records import summary as numbers
from neurosim.records.sweep import Results, Row
from neurosim.reports import report_of
from neurosim.reports.sweep import report_of_sweep
from neurosim.runs.listeners.display import summary_lines
from neurosim.tables.page import terminal_table, write_table
from neurosim.tables.table import Choice, PlannedTable, Table, TableRow

HEAT = Quantity(
    "heat", "heat", "nJ", "line run map", "of all messages", factor=1e9, show="{:.1f}".format
)


@pytest.fixture(autouse=True)
def one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "QUANTITIES", (*numbers.QUANTITIES, HEAT))


def summary(heat: float) -> dict[str, Any]:
    return {"name": "x", "status": "finished", "heat": heat}


@pytest.fixture
def results() -> Results:
    rows = [Row((d,), 0, f"x/{d}", "", summary(e)) for d, e in (("1", 0.0), ("2", 3e-9))]
    return Results("demo", [("channels.mean.delay", [1, 2])], rows)


def test_the_tile_of_a_run_and_the_line_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(summary(4.5e-9)))
    assert "<dt>Heat</dt><dd>4.5 nJ</dd>" in report_of(tmp_path).html()
    assert "heat           4.5 nJ" in summary_lines(summary(4.5e-9))


def test_csv_curve_and_means_of_a_sweep(results: Results) -> None:
    lines = list(csv.DictReader(io.StringIO(results.csv())))
    assert [float(line["heat"]) for line in lines] == [0.0, 3e-9]
    report = report_of_sweep(results)
    (figure,) = report.figures
    assert figure.title == "Heat"
    assert "heat (nJ)" in figure.content.svg  # type: ignore[union-attr]
    assert ">heat (nJ)</th>" in report.html()
    assert "<strong>0</strong>" in report.html()  # the least is the best


def test_column_and_picture_of_a_table(results: Results, tmp_path: Path) -> None:
    row = TableRow(("1",), "x")
    table = Table("t", "T", "Text.", ("system",), (row,), ["heat"], ["heat"], 1)
    sweep: Any = type("Planned", (), {"results": results})()
    planned = PlannedTable(table, Choice(), (row,), (1,), sweep)
    results.rows[0].summary = summary(6e-9)
    assert [column.header for column in terminal_table(planned).columns][-1] == "heat (nJ)"
    _, text = write_table(planned, tmp_path, tmp_path / "out")
    written = text.read_text(encoding="utf-8")
    assert "| 1 | 1 | 6 |" in written
    assert "- *heat (nJ)*: of all messages." in written
    assert "heat (nJ)" in (tmp_path / "out/t-heat.svg").read_text(encoding="utf-8")


def test_every_quantity_is_described_once() -> None:
    assert len(quantities()) == len(numbers.QUANTITIES)
    places = {"line", "run", "study", "map", "mean"}
    assert all(set(one.shown.split()) <= places for one in numbers.QUANTITIES)


def test_a_metric_of_a_plugin_is_told_by_its_name() -> None:
    found = {"status": "finished", "test_mine": 1.5, "test_top_3": 0.5}
    column = len("test accuracy of the best 3 ")
    lines = summary_lines(found, [("resume with", "neurosim resume x")])
    assert [(line[:column].strip(), line[column:]) for line in lines] == [
        ("status", "finished"),
        ("test mine", "1.5"),
        ("test accuracy of the best 3", "50.00 %"),
        ("resume with", "neurosim resume x"),
    ]
    assert "\x1b" not in "".join(summary_lines({"status": "finished", "test_\x1b[31m": 1.0}))


def test_what_is_not_there_is_not_told() -> None:
    assert told({"status": "finished"}, "run") == []
    titles = [title for title, _ in told({"seconds": 90.0, "heat": 1e-9}, "run")]
    assert titles == ["duration", "heat"]
    assert HEAT in shown_in("map")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("test_accuracy", 0.9125, "91.25 %"),
        ("gradient_angle", 8.309, "8.31°"),
        ("messages", 1_234_567, "1.235 M"),
        ("seconds", 754.0, "12 min 34 s"),
        ("peak_memory_bytes", 389_681_152, "390 MB"),
        ("distance_mean", 0.104591, "0.105"),
    ],
)
def test_texts(key: str, value: float, text: str) -> None:
    assert quantities()[key].text(value) == text
