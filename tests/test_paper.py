"""Charts for a paper: their size, their letters, and what is refused."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest

import neurosim as ns
from neurosim.records import Seeds, quantities
from neurosim.records.sweep import Results, Row
from neurosim.reports.drawing import Frame, scene_of
from neurosim.reports.page import Figure, named
from neurosim.reports.plots import Curve, colours, heat_map, line_chart
from neurosim.reports.plots.paper import inches, on_paper
from neurosim.reports.plots.scene import scene_on_paper
from neurosim.reports.printed import _drawn

pytestmark = pytest.mark.drawn


def test_a_chart_is_as_wide_as_was_asked_for() -> None:
    x = np.arange(5.0)
    curves = [Curve(name, x, x**2, hue) for name, hue in zip("ab", colours(2), strict=True)]
    label = "a name of the vertical axis that is longer than the chart is high"
    chart = line_chart("k", curves, "time", label)
    assert chart is not None
    content, letters = on_paper(chart, inches("85mm"), "png")
    assert struct.unpack(">I", content[16:20])[0] == pytest.approx(85 / 25.4 * 300, abs=2)
    assert letters == pytest.approx(7.2)
    assert "\n" in chart.canvas.axes.get_ylabel()
    inks = {line.get_color() for line in chart.canvas.axes.lines}
    assert len(inks) == 2
    assert not any(str(ink).startswith("#fe") for ink in inks)  # those that CSS takes the place of


@pytest.mark.parametrize(("columns", "readable"), [(2, True), (14, False)])
def test_a_map_is_too(columns: int, readable: bool) -> None:
    cells = {(i, 0): Seeds((50.0 + i, 51.0)) for i in range(columns)}
    axis = "a", [str(i) for i in range(columns)]
    chart = heat_map("k", quantities()["test_accuracy"], axis, ("b", ["1"]), cells)
    assert chart is not None
    content, letters = on_paper(chart, 3.0, "png")
    assert struct.unpack(">I", content[16:20])[0] == pytest.approx(900, abs=2)
    assert (letters >= 5) == readable


@pytest.mark.parametrize("width", ["85", "-3mm", "0mm", "3 miles", "1e9mm"])
def test_a_width_says_its_unit(width: str, tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match="such as 85mm"):
        ns.figures(tmp_path, width=width)


def test_a_width_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match=r"between 12\.7mm and 1016mm, .* not '3mm'"):
        ns.figures(tmp_path, width="3mm")
    with pytest.raises(ns.ConfigurationError, match="width is 85; give its unit too"):
        ns.figures(tmp_path, width=85)  # type: ignore[arg-type]


def test_that_nothing_is_drawn_is_said(tmp_path: Path) -> None:
    Results("demo", [], [Row((), 0, "x/a", None)]).write(tmp_path)
    with pytest.warns(ns.NeurosimWarning, match="no figure is written"):
        assert ns.figures(tmp_path, to=tmp_path / "figures") == []


def test_what_is_no_format(tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match="did you mean 'pdf'"):
        ns.figures(tmp_path, format="pfd")  # type: ignore[arg-type]


def test_every_chart_of_a_run_is_a_file(tmp_path: Path) -> None:
    run = ns.run("parallel", {"training.epochs": 1, "data.limit": 50}, out=tmp_path)
    one = ns.figures(run, to=tmp_path / "a")
    two = ns.figures(run.folder, to=tmp_path / "b")
    assert {path.name for path in one} >= {"loss.pdf", "accuracy.pdf"}
    assert all(path.read_bytes().startswith(b"%PDF") for path in one)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert "network.pdf" in {path.name for path in one}


def test_the_files_of_plus_and_minus_are_told_apart() -> None:
    chart = line_chart("k", [Curve("a", np.arange(2.0), np.arange(2.0), colours(1)[0])], "x", "y")
    titles = "Dyads: s⁺", "Dyads: s⁻", "Dyads: difference s⁺ − s⁻"
    names = [name for name, *_ in named(Figure(title, chart) for title in titles)]
    assert names == ["dyads-s-plus", "dyads-s-minus", "dyads-difference-s-plus-s-minus"]


def test_words_that_are_cut_off_are_told(tmp_path: Path) -> None:
    run = ns.run("parallel", {"training.epochs": 2, "data.limit": 50}, out=tmp_path)
    with pytest.warns(ns.NeurosimWarning, match="or cut off, in loss, accuracy"):
        ns.figures(run, to=tmp_path / "narrow", width="35mm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ns.figures(run, to=tmp_path / "wide", width="85mm")


def test_rows_are_so_short_that_letters_can_be_read() -> None:
    layers = [*({"dense": 100} for _ in range(6)), {"dense": 2}]
    network = ns.Network.from_dict({"input": 4, "layers": layers})
    shapes = []
    for width in ("85mm", "300mm"):
        content, letters = _drawn(network, None, inches(width), "png")
        wide, tall = struct.unpack(">II", content[16:24])
        shapes.append(tall / wide)
        assert letters >= 5
    assert shapes[0] > 2 * shapes[1]


def test_a_drawing_has_the_width_and_all_words() -> None:
    layers = [{"name": "h1", "dense": 8}, {"name": "h2", "dense": 8}, {"dense": 2}]
    network = ns.Network.from_dict({"input": 4, "layers": layers})
    frame = Frame({p.name: (0.5, "half", "") for p in network.populations}, _silent(network))
    for moment, words in ((None, "8 dyads"), (frame, "half")):
        scene = scene_of(network, moment, levels=3)
        content, letters = scene_on_paper(scene, inches("85mm"), "png")
        assert struct.unpack(">I", content[16:20])[0] == pytest.approx(85 / 25.4 * 300, abs=2)
        assert 3 < letters < scene_on_paper(scene, inches("170mm"), "png")[1] <= 11
        svg = scene_on_paper(scene, inches("85mm"), "svg")[0].decode()
        assert svg.count(f"<!-- {words} -->") >= 2
        assert svg == scene_on_paper(scene, inches("85mm"), "svg")[0].decode()


def _silent(network: ns.Network) -> dict[str, tuple[float, str]]:
    return {q.name: (0.6, "") for q in network.projections}


def test_a_study_gives_moments_of_its_inference(tmp_path: Path) -> None:
    said = ["study={kind: convergence, samples: 4}", "data.limit=60", "schedule.ticks=6"]
    run = ns.run("parallel", said, out=tmp_path)
    names = [path.name for path in ns.figures(run, to=tmp_path / "a", format="svg", width="170mm")]
    assert names[-5] == "network.svg"
    assert all(name.startswith("inference-tick-") for name in names[-4:])
