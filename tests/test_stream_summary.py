"""The summary of a stream is of the whole stream, as its table in a sweep is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import neurosim as ns

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
