"""An inference by tick: what the drawings of a study's page say, and what its script does."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from report_pages import Page, graph

import neurosim as ns
from neurosim.reports.animation import MAX_FRAMES, animate
from neurosim.reports.page import Report, Section

NETWORK = graph({"input": 3, "h": 4, "output": 2}, ["input h", "h output"])


def records(count: int) -> list[dict[str, Any]]:
    found = []
    for tick in range(count):
        part = {"residual_mean": 0.5**tick, "residual_difference": 2.0**-tick / 3, "wakes": 4}
        parts = {"h": {**part, "activity": tick}, "output": {**part, "activity": 0.0}}
        sent = {"mean_messages": tick, "difference_messages": 1}
        found.append(
            {
                "tick": tick,
                "time": tick / 2,
                "populations": parts,
                "projections": {
                    "input->h": {"mean_messages": 0, "difference_messages": 0},
                    "h->output": sent,
                },
            }
        )
    return found


def frames_of(text: str) -> dict[str, Any]:
    (found,) = re.findall(r'data-frames="([^"]*)"', text)
    frames: dict[str, Any] = json.loads(html.unescape(found))
    return frames


def test_frames_say_what_was_recorded() -> None:
    text = animate(NETWORK, records(5))
    frames = frames_of(text)
    assert frames["times"][3] == "time 1.5, tick 3"
    assert frames["boxes"]["h"][2] == [0.5, "activity 2", "residual 0.2"]
    assert frames["boxes"]["output"][2][0] == 0.0
    assert [said for _, said in frames["arrows"]["h->output"]][:2] == ["← 1", "→ 1  ← 1"]
    assert frames["arrows"]["input->h"][4][1] == ""
    assert len(re.findall("<h4>", text)) == 4  # without a script: a few moments


def test_many_records_are_fewer_frames_and_no_message_is_lost() -> None:
    count = 3 * MAX_FRAMES + 7
    frames = frames_of(animate(NETWORK, records(count)))
    assert len(frames["times"]) <= MAX_FRAMES + 1
    assert frames["times"][-1] == f"time {(count - 1) / 2:g}, tick {count - 1}"
    back = [int(said.rpartition("← ")[2]) for _, said in frames["arrows"]["h->output"]]
    assert sum(back) == count


def test_records_of_before_have_none() -> None:
    old = [{**record, "populations": {"h": {}, "output": {}}} for record in records(3)]
    assert animate(NETWORK, old) == animate(NETWORK, []) == ""


def test_a_run_with_the_probe_shows_its_inference(root: Path, tmp_path: Path) -> None:
    """Its messages are those that the simulation counts."""
    given = ["probes=[activity, messages]", "training.max_steps=1", "data.limit=100"]
    run = ns.run(root / "scenarios/parallel.yaml", given, out=tmp_path)
    frames = frames_of(run.report.read_text("utf-8"))
    records = run.records["activity"]
    assert len(frames["times"]) == len(records) > 3
    assert records[-1]["populations.h1.activity"] > 0.0
    sent = [key for key in records[0] if key.endswith("_messages")]
    found = sum(record[key] for record in records for key in sent)
    counted = run.records["messages"][-1]
    assert found == counted["mean_messages"] + counted["difference_messages"]


@pytest.mark.slow
def test_the_script_moves_the_drawing_under_the_policy_of_the_page(tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("there is no Chromium here")
    section = Section("Inference", [("html", animate(NETWORK, records(6)))])
    path = Report("demo", "run", "finished", "finished", [section]).write(tmp_path)
    Page(path)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    ran = subprocess.run(
        [browser, *options, path.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    assert 'class="player"' in ran.stdout
    assert ran.stdout.count("<h4>") == 1
