"""Pictures of reports as files of their own: whole, readable, with everything they refer to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from undrawn import undraw

import neurosim as ns
from neurosim.cli.main import main
from neurosim.records import Seeds, quantities
from neurosim.reports import Figure, pictures_of
from neurosim.reports.figures import _thinned
from neurosim.reports.plots import Chart, Curve, line_chart, row_chart, seed_chart
from neurosim.reports.plots.paper import on_paper
from neurosim.reports.sweep import labels_of

pytestmark = pytest.mark.drawn

ROOT = Path(__file__).parents[1]
X = np.arange(5.0)


def figure_of(*labels: str) -> Figure:
    lines = [
        Curve(label, X, X + number, f"var(--q{number})", "dashed" if number else "solid")
        for number, label in enumerate(labels)
    ]
    chart = line_chart("key", lines, "time (s)", "height (m)", "A note.")
    assert chart is not None
    return Figure("A title & more", chart)


def check(svg: str) -> ElementTree.Element:
    """It is XML, and all colours and references that it uses are in it."""
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    used, given = set(re.findall(r"var\((--\w+)\)", svg)), set(re.findall(r"(--\w+):", svg))
    assert used <= given
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(ids)
    return root


def texts(root: ElementTree.Element) -> list[str]:
    return [text for element in root.iter() if (text := (element.text or "").strip())]


def test_a_chart_has_its_title_and_legend() -> None:
    (figure,) = pictures_of([figure_of("one", "two < three")])
    assert figure.name == "a-title-more"
    found = texts(check(figure.svg))
    for text in ("A title & more", "one", "two < three", "time (s)", "height (m)"):
        assert text in found
    assert figure.svg.count('stroke-dasharray="6 4"') == 1


def test_a_long_title_is_broken() -> None:
    """It stays within the picture, and what is below makes room for it."""
    title = "Prequential accuracy against hold / (1 + hops × delay)"
    short, long = pictures_of([figure_of("one"), figure_of("one")._replace(title=title, where="")])
    heights = [float(check(figure.svg).get("height", 0)) for figure in (short, long)]
    assert heights[1] - heights[0] == 18
    lines = re.findall(r'<text y="(\d+)" font-size="14"[^>]*>([^<]*)<', long.svg)
    assert [y for y, _ in lines] == ["13", "31"]
    assert " ".join(line for _, line in lines) == title


def test_a_long_legend_is_broken() -> None:
    names = [f"a rather long name {n}" for n in range(6)]
    few, many = pictures_of([figure_of(*names[:2]), figure_of(*names)])
    heights = [float(check(figure.svg).get("height", 0)) for figure in (few, many)]
    assert heights[1] - heights[0] == 2 * 18
    rows = re.findall(r'<text x="([\d.]+)" y="([\d.]+)">a rather', many.svg)
    assert len(set(rows)) == 6


def test_names_are_distinct() -> None:
    figures = pictures_of([figure_of("one")] * 3 + [Figure("Another", None, "there is none")])
    assert [f.name for f in figures] == [f"a-title-more{end}" for end in ("", "-2", "-3")]
    assert pictures_of([]) == []


@pytest.mark.parametrize("kind", ["run", "converge", "sweep"])
def test_every_picture_of_a_report(kind: str, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "runs"), "--quiet"]
    few = ["training.max_steps=2", "data.limit=100"]
    small = ["data.limit=60", "study={kind: convergence, samples: 4, split: train}"]
    arguments = {
        "run": ["run", str(ROOT / "scenarios/delays.yaml"), *few, "--id", "one"],
        "converge": ["converge", str(ROOT / "scenarios/noise.yaml"), *small, "--id", "one"],
        "sweep": [
            *("sweep", str(ROOT / "scenarios/delays.yaml"), *few, "--name", "one", "--jobs", "0"),
            *("channels.mean.delay=1,2", "channels.difference.delay=1,3"),
        ],
    }
    with pytest.MonkeyPatch.context() as patch:
        undraw(patch)  # what is drawn below, and by the runs of the sweep
        result = CliRunner().invoke(main, arguments[kind] + out, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    (folder,) = [p.parent for p in (tmp_path / "runs").glob("**/one/report.html")]
    figures = tmp_path / "figures"
    result = CliRunner().invoke(main, ["report", str(folder), "--figures", str(figures)])
    assert result.exit_code == 0, result.output
    text = (folder / "report.html").read_text(encoding="utf-8")
    written = sorted(figures.glob("*.svg"))
    # All but the drawing of the network, which `neurosim networks --drawing` writes.
    assert (
        len(written)
        == len(
            re.findall(r"<figure><h3>[^<]*(?:<small>[^<]*</small>)?</h3>(?:<div[^>]*>)*<svg", text)
        )
        > 1
    )
    for path in written:
        assert str(path) in result.output
        root = check(path.read_text(encoding="utf-8"))
        assert len(texts(root)) > 5


@pytest.mark.parametrize("step", [1e-9, 1e-5, 0.02, 1.0, 1e6])
def test_ticks_differ(step: float) -> None:
    chart = line_chart("key", [Curve("one", X, 12.76 + step * X)], "time (s)", "height (m)")
    assert chart is not None
    root = ElementTree.fromstring(chart.svg)
    axis = next(
        element for element in root.iter() if "matplotlib.axis_2" in (element.get("id") or "")
    )
    found = [text for text in texts(axis) if any(sign.isdigit() for sign in text)]
    assert len(found) > 2
    assert len(set(found)) == len(found)


def test_nothing_is_below_what_is_always_zero() -> None:
    chart = line_chart("key", [Curve("one", X, 0.0 * X)], "time (s)", "lag (s)")
    assert chart is not None
    low, high = re.findall(r'data-y="\S+ \S+ (\S+) (\S+)', chart.svg)[0]
    assert (float(low), float(high)) == (0.0, 1.0)


def test_what_goes_up_and_down_is_a_band() -> None:
    x = np.arange(200.0)
    zigzag = np.where(x % 2 == 0, 1.0, 1e-4) * 0.98**x
    curves = [Curve("one", x, zigzag), Curve("falls", x, 0.9**x)]
    chart = line_chart("key", curves, "time (s)", "residual", "A note.", "log")
    assert chart is not None
    titles = re.findall(r"<title>([^<]*)</title>", chart.svg)
    assert titles == ["one, lower edge", "one, upper edge", "falls"]
    assert chart.note.startswith("A note. A band:")
    paths = re.findall(r"</title>\s*<path d=\"([^\"]*)\"", chart.svg)
    assert len(paths) == 3
    heights = [[float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", path)] for path in paths]
    for edge in heights:  # no line goes up and down
        steps = np.sign(np.diff(edge))
        assert np.count_nonzero(steps[1:] * steps[:-1] < 0) < 5
    few = line_chart("key", [Curve("one", x[:20], zigzag[:20])], "time (s)", "residual")
    assert few is not None
    assert "<title>one</title>" in few.svg


def test_curves_that_turn_about_as_often_are_bands_together() -> None:
    x = np.arange(56.0)
    often, seldom = np.cos(np.pi * x), np.cos(np.pi * x)
    seldom[:18] = 1.0  # turns 37 times
    both = line_chart("k", [Curve("one", x, often), Curve("two", x, seldom)], "time", "state")
    alone = line_chart("k", [Curve("two", x, seldom)], "time", "state")
    assert both is not None
    assert alone is not None
    assert "<title>two, upper edge</title>" in both.svg
    assert "<title>two</title>" in alone.svg


def test_a_single_epoch_is_a_whole_number() -> None:
    """There are no epochs 0.98 and 1.02."""
    one = np.ones(1)
    chart = line_chart("k", [Curve("test", one, one)], "training (epochs)", "%", whole=True)
    assert chart is not None
    assert all(tick % 1 == 0 for tick in chart.canvas.axes.get_xticks())


def test_nothing_that_goes_up_and_down_is_thinned_away() -> None:
    x = np.arange(10_000.0)
    points = np.stack([x, np.where(x % 2 == 0, 1.0, -1.0)], 1)
    points[7_777, 1] = 9.0
    kept = _thinned(points)
    assert len(kept) <= 600
    assert (kept[:, 1].max(), kept[:, 1].min(), kept[-1, 0]) == (9.0, -1.0, 9_999.0)
    assert np.all(np.diff(kept[:, 0]) > 0)
    assert _thinned(points[:500]) is not None
    assert len(_thinned(points[:500])) == 500


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_picture_says_how_to_read_values_off_it(scale: Any) -> None:
    y = np.array([3.0, 30.0, 0.3, 300.0, 5.0])
    chart = line_chart("key", [Curve("one", X, y)], "time (s)", "height (m)", "", scale)
    assert chart is not None
    root = ElementTree.fromstring(chart.svg)
    path = next(g for g in root.iter() if g.get("id") == "key-named-0").find("{*}path")
    assert path is not None
    places = np.array(re.findall(r"([\d.]+) ([\d.]+)", path.get("d", "")), dtype=float)
    for axis, true, place in zip("xy", (X, y), places.T, strict=True):
        first, last, low, high = map(float, root.get(f"data-{axis}", "").split()[:4])
        read = low + (place - first) / (last - first) * (high - low)
        if axis == "y" and scale == "log":
            read = 10.0**read
        assert read == pytest.approx(true, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["{kind: parallel, ticks: 8}", "{kind: parallel, ticks: 16}"], ["ticks: 8", "ticks: 16"]),
        (
            ["{kind: lazy, unit: {kind: block, size: 4}}", "{kind: poisson, rate: 1}"],
            ["lazy, unit: block, unit.size: 4", "poisson, rate: 1"],
        ),
        (
            ["null", "{loss: 0.1, delay: 2}", "{loss: 0.2, delay: 2}"],
            ["null", "loss: 0.1", "loss: 0.2"],
        ),
        (["{a: 1}", "{a: 1.0}", "{b"], ["a: 1", "a: 1.0", "{b"]),
        (["zero", "feedforward"], ["zero", "feedforward"]),
    ],
)
def test_sections_are_named_by_what_differs(values: list[str], labels: list[str]) -> None:
    assert labels_of(values) == labels


def test_what_falls_to_zero_all_the_time_fills_no_chart() -> None:
    """Half of the layers of an odd-even schedule have just woken: their residual is 0."""
    x = np.arange(200.0)
    values = np.where(x % 2 == 0, 0.98**x, 0.0)
    curves = [Curve("odd", x, values), Curve("all", x, 0.9**x)]
    chart = line_chart("key", curves, "time (s)", "residual", "", "log")
    assert chart is not None
    assert chart.note == "Of what falls to zero all the time the upper edge is drawn."
    assert not chart.canvas.axes.patches  # no band
    drawn = {line.get_label(): line for line in chart.canvas.axes.lines}
    assert len(drawn) == 2
    heights = next(iter(drawn.values())).get_ydata()
    assert np.all(10.0**heights >= 0.97 * 0.98**x)


def test_curves_that_lie_over_each_other_all_show() -> None:
    alike, hues = ["a", "b", "c"], ["red", "green", "blue", "black"]
    curves = [
        Curve(name, X, X**2 + 0.01 * n, hue)
        for n, (name, hue) in enumerate(zip(alike, hues, strict=False))
    ]
    chart = line_chart("key", [*curves, Curve("d", X, X, "black")], "time (s)", "height (m)")
    assert chart is not None
    assert chart.note == "In stripes, one over the other: a; b; c."
    strokes = re.findall(
        r"stroke-dasharray: ([\d.]+),([\d.]+); stroke-dashoffset: ([\d.]+)", chart.svg
    )
    widths = [[float(part) for part in found] for found in strokes]
    assert [gap / on for on, gap, _ in widths] == pytest.approx([2.0] * 3)
    assert len({offset % (on + gap) for on, gap, offset in widths}) == 3
    apart = line_chart("key", [Curve("a", X, X), Curve("b", X, X + 0.1)], "time (s)", "height (m)")
    assert apart is not None
    assert apart.note == ""


def test_the_name_of_an_axis_fits() -> None:
    label = "angle to back-propagation or the gradient of the settled network (°)"
    chart = line_chart("key", [Curve("one", X, X)], "time (s)", label)
    assert chart is not None
    figure = chart.canvas.figure
    figure.draw_without_rendering()
    box = chart.canvas.axes.yaxis.label.get_window_extent()
    assert figure.bbox.y0 <= box.y0
    assert box.y1 <= figure.bbox.y1


def test_a_picture_says_what_its_page_says_below_it() -> None:
    """What bars are, that an axis is logarithmic: a file of its own has no page around it."""
    words, figure = "The axis is logarithmic. " * 8, figure_of("one")
    chart = figure.content
    assert isinstance(chart, Chart)
    (plain,), (noted,) = (
        pictures_of([figure._replace(content=chart._replace(note=note))]) for note in ("", words)
    )
    lines = re.findall(r'<text y="[\d.]+" font-size="11"[^>]*>([^<]*)<', noted.svg)
    assert " ".join(lines) == words.strip()
    heights = [float(check(picture.svg).get("height", 0)) for picture in (plain, noted)]
    assert heights[1] - heights[0] == 16 * len(lines) > 16


def test_seeds_are_explained_in_every_form_of_a_picture() -> None:
    """In the legend, which pages, pictures and paper have."""
    seeds, quantity = [Seeds((1.0, 2.0)), Seeds((3.0, 5.0))], quantities()["test_accuracy"]
    rows = row_chart("rows", quantity, ["a", "b"], seeds)
    curve = seed_chart(quantity, "beta", [1, 2], ["1", "2"], seeds)
    said = "mean over the seeds; bars: least to greatest"
    for chart in (rows, curve):
        assert chart is not None
        assert [entry.label for entry in chart.legend] == [said]
        (picture,) = pictures_of([Figure("Seeds", chart)])
        assert said in texts(check(picture.svg))
        on_paper(chart, 3.3, "png")
        (legend,) = chart.canvas.figure.legends
        assert [text.get_text() for text in legend.get_texts()] == [said]
        box = legend.get_window_extent()
        assert box.x1 <= chart.canvas.figure.bbox.x1


def test_figures_say_what_could_not_be_read(tmp_path: Path) -> None:
    """As the report does: a picture for a paper lacks nothing without a word."""
    short = ["training.max_steps=2", "data.limit=100"]
    run = ns.run(ROOT / "scenarios/parallel.yaml", short, out=tmp_path, run_id="a")
    path = run.folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:-1], lines[-1].replace("epoch", "Epoch")]))
    with pytest.warns(ns.NeurosimWarning, match=r"is damaged: line \d+ is left out"):
        ns.figures(run.folder, to=tmp_path / "pictures", format="svg")
    path.unlink()
    with pytest.warns(ns.NeurosimWarning, match=r"metrics.jsonl could not be read: there is no"):
        ns.figures(run.folder, to=tmp_path / "pictures", format="svg")
