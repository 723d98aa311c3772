"""The summary of a stream is of the whole stream, as its table in a sweep is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import neurosim as ns
from neurosim.records import Run
from neurosim.reports.figures import drifts_of, figures_of

ROOT = Path(__file__).parents[1]


def test_costs_of_samples_and_right_answers_are_of_the_whole_stream(tmp_path: Path) -> None:
    scenario = ROOT / "scenarios/stream_digits.yaml"
    run = ns.run(scenario, ["stream.horizon=6400", "stream.window=100"], out=tmp_path)
    found = run.summary
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    windows = [record for record in records if "messages_per_right" in record]
    assert len(windows) >= 3
    right = found["cumulative_accuracy"] * found["samples"]
    for key in ("messages", "wakes", "synaptic_operations", "updates"):
        assert found[f"{key}_per_sample"] == pytest.approx(found[key] / found["samples"])
        assert found[f"{key}_per_right"] == pytest.approx(found[key] / right)
    assert windows[-1]["messages_per_right"] != pytest.approx(found["messages_per_right"], rel=1e-3)


def test_when_it_drifts_is_recorded_and_marked(tmp_path: Path) -> None:
    """Once at 500, which sample 32 comes after; and from 1200 on all the time."""
    drift = "[{kind: permute, at: 500}, {kind: rotate, at: 1200, every: 16, degrees: 3.0}]"
    more = ["stream.horizon=1600", "stream.window=10", f"stream.drift={drift}", "data.limit=300"]
    run = ns.run(ROOT / "scenarios/stream_digits.yaml", more, out=tmp_path)
    windows = run.records["epoch"]
    found = [window.get("drifted_at") for window in windows]
    assert found == [None] * 3 + [512.0] + [None] * 3 + [1200.0, 1280.0, 1440.0]
    same = [window["drifted_test_accuracy"] == window["test_accuracy"] for window in windows]
    assert all(same[:3])
    assert not all(same[3:])
    read = Run.read(run.folder)
    assert drifts_of(read, "time") == [512.0, 1200.0]
    assert drifts_of(read, "epoch") == [3.2, 7.5]
    figures = [*figures_of("stream", read), *figures_of("learning", read)]
    assert all("something drifts" in figure.content.note for figure in figures if figure.content)
    assert "stream (windows of samples)" in figures[-1].content.canvas.axes.get_xlabel()
