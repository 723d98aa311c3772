"""Runs on one page: their curves over each other, what differs, their numbers."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner
from report_pages import Page, graph, learning, run_folder, series, traces

import neurosim as ns
from neurosim.cli.main import main
from neurosim.reports import write_report

pytestmark = pytest.mark.drawn


@pytest.fixture(name="folders", scope="module")
def _folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root, network = (
        tmp_path_factory.mktemp("runs"),
        graph({"input": 2, "output": 3}, ["input output"]),
    )
    found = []
    for name, epochs, beta in (("a", 2, 0.5), ("b", 3, 1.0)):
        lines = [*learning(epochs), *traces(network, epochs)]
        folder = run_folder(root / name, lines, status="finished", test_accuracy=beta / 2)
        scenario = f"name: x\nrule: {{kind: dual_propagation, beta: {beta}}}\nseed: 0\n"
        (folder / "scenario.yaml").write_text(scenario)
        found.append(folder)
    return found


def test_the_page(folders: list[Path], tmp_path: Path) -> None:
    to = tmp_path / "both.html"
    result = CliRunner().invoke(main, ["compare", *map(str, folders), "--to", str(to)])
    assert result.exit_code == 0, result.output
    page = Page(to)
    assert {"Test accuracy", "Test loss", "Residual of the mean, last inference"} <= page.figures
    assert "Prequential accuracy, faded" not in page.figures  # no stream is among them
    drawn = series(page.svg("Test accuracy"))
    assert set(drawn) == {"a", "b"}
    text = " ".join(re.sub("<[^>]+>", " ", page.text).split())
    assert "rule.beta 0.5 1.0" in text
    assert "seed 0" not in text  # it is the same
    assert "Test accuracy 25.00 % 50.00 %" in text


def test_what_differs_is_said_in_words(folders: list[Path], tmp_path: Path) -> None:
    """No None, no brackets of Python; a section that only one of them has is one row."""
    said = (
        "rule: {kind: lpom}\nrecord: null\nprobes: [accuracy]\n",
        "rule: {kind: chl, free: 3}\nrecord: {states: {h1: [0, 5]}, every: 2}\nprobes: []\n",
    )
    copies = [Path(shutil.copytree(f, tmp_path / f.name)) for f in folders]
    for folder, text in zip(copies, said, strict=True):
        (folder / "scenario.yaml").write_text(f"name: x\n{text}")
    to = tmp_path / "both.html"
    result = CliRunner().invoke(main, ["compare", *map(str, copies), "--to", str(to)])
    assert result.exit_code == 0, result.output
    text = " ".join(re.sub("<[^>]+>", " ", Page(to).text).split())
    assert "rule lpom chl, free: 3 record – states: h1: (0, 5), every: 2 probes" in text
    assert "probes accuracy none" in text
    assert "None" not in text


def test_a_damaged_run_is_named(folders: list[Path], tmp_path: Path) -> None:
    torn = Path(shutil.copytree(folders[1], tmp_path / "torn"))
    with (torn / "metrics.jsonl").open("a") as file:
        file.write('{"event": "st')
    to = tmp_path / "both.html"
    result = CliRunner().invoke(main, ["compare", *map(str, (folders[0], torn)), "--to", str(to)])
    assert "torn: metrics.jsonl: its last line is torn" in result.stderr


def test_what_cannot_be_compared(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match="two runs or more; a is given, and no other"):
        ns.compare(folders[0], folders[0])
    with pytest.raises(ns.DataError, match="is not a run folder"):
        ns.compare(folders[0], tmp_path)
    with pytest.raises(ns.ConfigurationError, match=r"\*runs in place of a list"):
        ns.compare(folders)  # type: ignore[arg-type]
    with pytest.raises(ns.DataError, match="there is no such folder"):
        ns.compare(folders[0], tmp_path / "nowhere")
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(ns.DataError, match="it is that of a sweep, whose runs have folders"):
        ns.compare(folders[0], tmp_path)
    with pytest.raises(ns.DataError, match=r"folder of a run, which ns\.load_run reads"):
        ns.load_sweep(folders[0])
    assert not Path("comparison.html").exists()


@pytest.mark.parametrize(("last", "scale"), [(0.1, "linear"), (0.001, "log")])
def test_losses_far_apart_are_on_a_logarithmic_axis(
    last: float, scale: str, tmp_path: Path
) -> None:
    for name in "ab":
        losses = enumerate((1.0, 0.5, last), 1)
        lines = [{"event": "epoch", "epoch": n, "step": n, "test_loss": loss} for n, loss in losses]
        run_folder(tmp_path / name, lines)
    to = ns.compare(tmp_path / "a", tmp_path / "b", to=tmp_path / "both.html")
    assert Page(to).svg("Test loss").get("data-y", "").endswith(scale)


def test_the_angle_is_named_by_what_the_runs_compared_with(
    folders: list[Path], tmp_path: Path
) -> None:
    """As on the page of each run: one word for one thing, and both where they differ."""
    other = Path(shutil.copytree(folders[0], tmp_path / "settled"))
    lines = (other / "metrics.jsonl").read_text().splitlines()
    said = [
        json.dumps(found | {"reference": "settled"} if "total_angle" in found else found)
        for found in map(json.loads, lines)
    ]
    (other / "metrics.jsonl").write_text("\n".join(said))
    settled = "the gradient of the settled network"
    for others, truth in (
        (folders, "back-propagation"),
        ([folders[1], other], f"back-propagation or {settled}"),
    ):
        to = tmp_path / "both.html"
        result = CliRunner().invoke(main, ["compare", *map(str, others), "--to", str(to)])
        assert result.exit_code == 0, result.output
        page = Page(to)
        title = f"Angle to {truth}, last inference"
        assert title in page.figures
        svg = ET.tostring(page.svg(title), encoding="unicode")
        assert f"angle to {truth} (°)" in svg
        assert "true gradient" not in page.text
    assert f"Angle to {settled}" in Page(write_report(other)).figures


def test_a_single_step_has_no_parts_of_steps_around_it(tmp_path: Path) -> None:
    for name in "ab":
        run_folder(tmp_path / name, [{"event": "step", "epoch": 0, "step": 4, "loss": 0.5}])
    to = ns.compare(tmp_path / "a", tmp_path / "b", to=tmp_path / "both.html")
    texts = [one.text for one in Page(to).svg("Training loss, single steps").iter()]
    assert "4" in texts
    assert not any(text and text.startswith(("3.", "4.")) for text in texts)
