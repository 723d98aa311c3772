"""The report: it stands alone, holds what was recorded and nothing else, and is always the same."""

from __future__ import annotations

import json
import re
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from report_pages import (
    FIGURES,
    HOSTILE,
    SVG,
    Lines,
    Page,
    learning,
    points,
    run_folder,
    series,
    traces,
    vgg16,
)

from neurosim.base.errors import DataError
from neurosim.base.words import compact, number
from neurosim.network.network import Network
from neurosim.reports import write_report

pytestmark = pytest.mark.drawn


@pytest.fixture(scope="module")
def mlp() -> Network:
    layers = [{"name": name, "dense": n} for name, n in (("h1", 30), ("h2", 20), ("output", 10))]
    return Network.from_dict({"input": 64, "layers": layers})


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, mlp: Network) -> Page:
    lines = learning(3) + traces(mlp, 1) + traces(mlp, 3)
    folder = run_folder(tmp_path_factory.mktemp("full"), lines)
    return Page(write_report(folder, mlp))


# ---- what a report holds -----------------------------------------------------------------------


def test_a_full_run_has_every_figure_and_no_empty_one(full: Page) -> None:
    assert full.figures == FIGURES
    assert "left out" not in full.text
    # The drawing for both widths of a page, and all but Reach, which is a table.
    assert len(full.svgs) == len(FIGURES) + 1
    for title in FIGURES - {"Reach"}:
        drawn = series(full.svg(title))
        assert drawn
        assert all(any(points(path) for path in paths) for paths in drawn.values()), title


def test_series_have_the_names_and_the_number_of_points_of_the_data(full: Page) -> None:
    residual = series(full.svg("Residual of the mean"))
    assert list(residual) == ["all populations", "h1", "h2", "output"]
    assert [points(path) for path in residual["h1"]] == [12, 12]  # faint epoch 1, strong epoch 3
    angle = series(full.svg("Angle to back-propagation"))
    assert {"h1.weight", "h1.bias", "all parameters"} <= set(angle)
    assert set(series(full.svg("Accuracy"))) == {"test"}  # every validation accuracy is null


def test_axes_are_named_with_their_units(full: Page) -> None:
    for title, labels in {
        "Loss": ("training (epochs)", "loss (mean per sample)"),
        "Accuracy": ("training (epochs)", "accuracy (%)"),
        "Residual of the mean": ("simulated time (time units)", "residual of the mean (relative)"),
        "Angle to back-propagation": (
            "simulated time (time units)",
            "angle to back-propagation (°)",
        ),
        "Wakes": ("simulated time (time units)", "neuron (flat index, by population)"),
    }.items():
        texts = [element.text for element in full.svg(title).iter(f"{SVG}text")]
        assert set(labels) <= set(texts), title


def test_numbers_and_headings(full: Page) -> None:
    assert full.words["h1"] == ["demo"]
    sections = ["Result", "Learning", "Network", "Inference", "Scenario", "Environment"]
    assert full.words["h2"] == sections
    assert "91.25 %" in full.words["dd"]
    assert "12 min 34 s" in full.words["dd"]
    assert "1,234,567" in full.words["td"]
    assert "&lt;b&gt;verbatim&lt;/b&gt;" in full.text
    assert full.tags.count("table") == full.tags.count("caption")
    assert all(svg.get("aria-label") and svg.get("role") == "img" for svg in full.svgs)


def test_it_reads_on_light_and_dark_pages_and_on_phones(full: Page) -> None:
    assert "prefers-color-scheme:dark" in full.text
    assert 'name="viewport"' in full.text
    fixed = "".join(ET.tostring(svg, encoding="unicode") for svg in full.svgs)
    colours = set(re.findall(r"#[0-9a-f]{6}\b", fixed))
    assert colours <= {"#3a87c8", "#d55e00"}  # all others are variables or currentColor
    for used in set(re.findall(r"var\((--\w+)\)", full.text)):
        assert full.text.count(f"{used}:") == 2, used


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, mlp: Network) -> None:
    folder = run_folder(tmp_path, learning(2) + traces(mlp, 2))
    first = write_report(folder, mlp).read_bytes()
    with matplotlib.rc_context({"lines.linewidth": 9, "svg.hashsalt": "other", "font.size": 3}):
        before = dict(matplotlib.rcParams)
        assert write_report(folder, mlp).read_bytes() == first
        assert dict(matplotlib.rcParams) == before
    assert [p.name for p in folder.iterdir() if "report" in p.name] == ["report.html"]


# ---- what is not there -------------------------------------------------------------------------


def test_a_run_without_probes_says_so_in_place_of_figures(tmp_path: Path, mlp: Network) -> None:
    page = Page(write_report(run_folder(tmp_path, learning(1)), mlp))
    assert page.figures == {"Loss", "Accuracy"}
    assert "no probe recorded" in page.text


def test_only_the_probes_of_the_scenario_make_figures(tmp_path: Path, mlp: Network) -> None:
    lines = [line for line in traces(mlp, 0) if line["probe"] == "gradient_angle"]
    page = Page(write_report(run_folder(tmp_path, lines), mlp))
    assert page.figures == {"Angle to back-propagation"}
    for absent in ("Loss", "Accuracy", "Residual of the mean", "Messages", "Wakes", "Reach"):
        assert f'<p class="absent">{absent}: left out, ' in page.text


def test_a_run_that_failed_in_its_first_epoch(tmp_path: Path, mlp: Network) -> None:
    lines = [line for line in learning(1) if line["event"] == "step"][:5]
    folder = run_folder(tmp_path, lines, status="failed", error=f"diverged {HOSTILE}")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"event": "step", "st')  # killed while writing
    page = Page(write_report(folder))
    assert page.figures == {"Loss"}
    texts = [element.text for element in page.svg("Loss").iter(f"{SVG}text")]
    assert "training (steps)" in texts
    assert "diverged &lt;script&gt;" in page.text
    assert "metrics.jsonl: its last line is torn" in page.text


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", "\x00\ufffe", '{"name": null}'])
def test_damaged_files_are_notes_not_errors(tmp_path: Path, content: str) -> None:
    for name in ("summary.json", "environment.json", "metrics.jsonl", "scenario.yaml"):
        (tmp_path / name).write_text(content, encoding="utf-8")
    page = Page(write_report(tmp_path))
    assert page.figures == set()
    assert "not finished" in page.text


def test_a_lone_metrics_file_is_enough_and_no_file_is_not(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a run folder"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "metrics.jsonl").write_text('{"event": "epoch", "epoch": 1, "test_accuracy": 1}\n')
    page = Page(write_report(tmp_path))
    assert page.figures == {"Accuracy"}
    assert "summary.json could not be read" in page.text


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    moment = {"event": "trace", "epoch": 0, "step": 0, "tick": 1, "time": 1.0}
    named = {HOSTILE: 0.5, "": 0.1}
    lines = [
        moment | {"probe": "residual", "mean": named, "difference": named},
        moment | {"probe": "gradient_angle", "angle": named, "norm_ratio": [1], "total_angle": "x"},
        moment | {"probe": "reach", "reached": {HOSTILE: True, "late": False}},
        moment | {"probe": "wakes", "population": HOSTILE, "indices": [3, 1, 2]},
        moment | {"probe": "wakes", "population": "h" * 500, "indices": None},
        moment | {"probe": "wakes", "population": "bad", "indices": [[1], "x"]},
        moment | {"probe": HOSTILE},
    ]
    folder = run_folder(tmp_path, lines, name=HOSTILE, status=HOSTILE, **{HOSTILE: [HOSTILE]})
    (folder / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    (folder / "scenario.yaml").write_bytes(b"\xff</pre><script>\x00\n")
    page = Page(write_report(folder))
    assert page.words["h1"][0].startswith("<script>alert")
    assert len(page.svgs) == 4
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", page.text)


# ---- numbers at their limits -------------------------------------------------------------------


def residuals(values: list[float | None]) -> Lines:
    moment = {"event": "trace", "epoch": 1, "step": 1, "probe": "residual", "difference": {}}
    return [
        moment | {"tick": tick, "time": float(tick), "mean": {"h1": value}}
        for tick, value in enumerate(values, 1)
    ]


def test_zeros_and_nulls_have_a_place_on_the_logarithmic_axis(tmp_path: Path) -> None:
    page = Page(write_report(run_folder(tmp_path, residuals([1.0, None, 1e-4, 0.0, 0.0]))))
    svg = page.svg("Residual of the mean")
    texts = [element.text for element in svg.iter(f"{SVG}text")]
    assert {"0", "10⁰", "10⁻⁴"} <= set(texts)
    assert [points(path) for path in series(svg)["h1"]] == [4]


@pytest.mark.parametrize("values", [[0.0, 0.0], [None, None]])
def test_residuals_that_are_all_zero_or_null_are_left_out(
    tmp_path: Path, values: list[float | None]
) -> None:
    page = Page(write_report(run_folder(tmp_path, residuals(values))))
    assert "Residual of the mean: left out, every recorded value is zero or not finite" in page.text


@pytest.mark.parametrize("values", [[5e-324, 1e299], [1.0], [1e-9, 1e-9], [-1.0, 2.0]])
def test_any_positive_residual_can_be_drawn(tmp_path: Path, values: list[float | None]) -> None:
    page = Page(write_report(run_folder(tmp_path, residuals(values))))
    assert list(series(page.svg("Residual of the mean"))) == ["h1"]


def test_a_loss_that_explodes_is_drawn_on_a_logarithmic_axis(tmp_path: Path) -> None:
    losses = [0.5, 30.0, 1e12, float("inf"), float("nan")]
    lines = [{"event": "step", "epoch": 0, "step": i, "loss": v} for i, v in enumerate(losses, 1)]
    page = Page(write_report(run_folder(tmp_path, lines)))
    assert "10¹²" in [element.text for element in page.svg("Loss").iter(f"{SVG}text")]


def test_a_continued_run_repeats_lines_and_the_later_ones_count(tmp_path: Path) -> None:
    again = residuals([0.5, 0.25, 0.125])
    page = Page(write_report(run_folder(tmp_path, residuals([1.0, 0.5]) + again)))
    assert [points(p) for p in series(page.svg("Residual of the mean"))["h1"]] == [3]


def test_number_and_compact() -> None:
    assert [number(v) for v in (1, 2.5, True, "1", None, float("nan"), 10**400)] == [
        *(1.0, 2.5, None, None, None, None, None)
    ]
    assert [compact(v) for v in (0.5, 9999, 589_824, 33_638_218)] == [
        *("0.5", "9999", "589.8 k", "33.64 M")
    ]


# ---- wakes -------------------------------------------------------------------------------------


def test_wakes_are_strokes_of_neighbours(tmp_path: Path, mlp: Network) -> None:
    moment = {"event": "trace", "epoch": 0, "step": 0, "probe": "wakes", "tick": 1, "time": 1.0}
    woken: dict[str, list[int] | None] = {"h1": [0, 1, 2, 7, 29, 30, -1], "h2": None}
    lines = [moment | {"population": p, "indices": i} for p, i in woken.items()]
    lines.append(moment | {"population": "unknown", "indices": None})
    page = Page(write_report(run_folder(tmp_path, lines), mlp))
    svg = page.svg("Wakes")
    drawn = {name: sum(path.count("M") for path in paths) for name, paths in series(svg).items()}
    assert drawn == {"h1": 3, "h2": 1}
    texts = [element.text for element in svg.iter(f"{SVG}text")]
    assert {"h1 (30)", "h2 (20)", "output (10)"} <= set(texts)


def test_a_huge_trace_is_thinned_to_a_small_file_in_a_short_time(tmp_path: Path) -> None:
    network, rng = vgg16(), np.random.default_rng(0)
    lines = learning(10)
    for tick in range(1, 9):
        moment = {"event": "trace", "epoch": 10, "step": 280, "tick": tick, "time": float(tick)}
        for p in network.dyadic:
            woken = np.flatnonzero(rng.random(p.size) < 0.25).tolist()
            lines.append(moment | {"probe": "wakes", "population": p.name, "indices": woken})
    folder = run_folder(tmp_path, lines + [t for t in traces(network, 0) if t["probe"] != "wakes"])
    start = time.process_time()
    path = write_report(folder, network)
    assert time.process_time() - start < 10.0  # 2 s on a laptop
    assert path.stat().st_size < 2_000_000
    page = Page(path)
    drawn = [path for paths in series(page.svg("Wakes")).values() for path in paths]
    assert sum(path.count("M") for path in drawn) == 20_000
    assert "20,000 are drawn" in page.text
    assert write_report(folder, network).read_text(encoding="utf-8") == page.text


def test_one_moment_of_each_inference_is_drawn_over_training(tmp_path: Path, mlp: Network) -> None:
    """A column of points over time would say nothing: how it changes with learning does."""
    lines = [*traces(mlp, 0, 1), *traces(mlp, 1, 1), *traces(mlp, 2, 1)]
    page = Page(write_report(run_folder(tmp_path, lines), mlp))
    svg = page.svg("Angle to back-propagation")
    texts = [element.text for element in svg.iter(f"{SVG}text")]
    assert "training (steps)" in texts
    assert "simulated time (time units)" not in texts
    assert points(series(svg)["h1.weight"][0]) == 3
    assert "Lines: weight solid, bias dashed." in page.text
