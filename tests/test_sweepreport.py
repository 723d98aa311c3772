"""The report of a sweep: it holds what the runs came to, and its pictures overlap nowhere."""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from report_pages import HOSTILE, SVG, Page

from neurosim.records.summary import Quantity
from neurosim.records.sweep import Lack, Results, Row, Seeds
from neurosim.reports import plots
from neurosim.reports.report import write_report

pytestmark = pytest.mark.drawn

DELAY, NOISE = "channels.difference.delay", "channels.mean.noise.std"
Summary = dict[str, Any] | None
ANGLE = Quantity("angle", "angle", "°", show="{:.1f}".format)


class SweepPage(Page):
    """The same checks; links lead to the reports of runs beside it."""

    def __init__(self, path: Path) -> None:
        self.folder, self.links = path.parent, list[str]()
        super().__init__(path)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            ((name, link),) = attrs
            assert name == "href"
            assert link is not None
            assert (self.folder / unquote(link)).parent.is_dir()
            self.links.append(link)
            attrs = []
        super().handle_starttag(tag, attrs)

    def svg(self, title: str) -> ET.Element:
        after = self.text.split(f"<h3>{title}</h3>")[1]
        return ET.fromstring(after[after.index("<svg") : after.index("</svg>") + 6])


def finished(**numbers: float | None) -> Summary:
    return {"status": "finished", **numbers}


def failed(why: str) -> Summary:
    return {"status": "failed", "error": why}


def page(
    folder: Path,
    axes: Sequence[tuple[str, Sequence[Any]]],
    seeds: int,
    summary: Callable[[tuple[Any, ...], int], Summary],
) -> SweepPage:
    """The report of a sweep whose runs came to what ``summary`` says."""
    rows = []
    digest = hashlib.sha256(b"name: x\n").hexdigest()
    for number, values in enumerate(product(*(values for _, values in axes))):
        for seed in range(seeds):
            name = f"x/{number} seed {seed}"
            (folder / name).mkdir(parents=True)
            (folder / name / "scenario.yaml").write_text("name: x\n")
            if (found := summary(values, seed)) is not None:
                (folder / name / "summary.json").write_text(json.dumps(found))
            texts = tuple(v if isinstance(v, str) else json.dumps(v) for v in values)
            rows.append(Row(texts, seed, name, digest))
    results = Results("demo", [(key, list(values)) for key, values in axes], rows)
    results.write(folder)
    return SweepPage(write_report(folder))


def texts(svg: ET.Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}text")]


def placed(text: ET.Element) -> tuple[float, float, float, str]:
    """Where a text stands: x, y, the size of its letters, and which part of it is there."""
    style = dict(part.split(": ") for part in text.get("style", "").split("; "))
    size, anchor = float(style["font-size"][:-2]), style.get("text-anchor", "start")
    if (moved := re.match(r"translate\((\S+) (\S+)\)", text.get("transform", ""))) is not None:
        return float(moved[1]), float(moved[2]), size, anchor
    return float(text.get("x", 0)), float(text.get("y", 0)), size, anchor


def tooltips(svg: ET.Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}title")]


# ---- two axes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> SweepPage:
    def summary(values: tuple[Any, ...], seed: int) -> Summary:
        delay, noise = values
        if delay == 2 and noise:
            return failed("it diverged")
        if delay == 1 and noise and seed == 1:
            return failed("it was killed")
        time = None if noise else 10.0 * (delay + 1) + seed
        return finished(gradient_angle=20.0 + delay + 2 * seed, time_to_tolerance=time)

    axes = [(DELAY, [0, 1, 2]), (NOISE, [0, 0.1])]
    return page(tmp_path_factory.mktemp("maps"), axes, 2, summary)


def test_maps_hold_the_means(maps: SweepPage) -> None:
    assert maps.figures == {"Gradient angle", "Time to tolerance"}
    angle = maps.svg("Gradient angle")
    assert {"21.0", "22.0", "23.0", "1 of 2"} <= set(texts(angle))
    names = ["channels.difference.delay (time units)"]
    names += ["channels.mean.noise.std (units of the message)", "gradient angle (°)"]
    assert set(names) <= set(texts(angle))
    told = tooltips(angle)
    assert f"{names[0]} 2, {names[1]} 0.1: failed" in told
    assert f"{names[0]} 1, {names[1]} 0.1: 21.0 °, 1 of 2 seeds" in told


def test_maps_tell_apart_what_has_no_value(maps: SweepPage) -> None:
    time = maps.svg("Time to tolerance")
    assert {"never reached", "failed"} <= set(texts(time))
    assert {"10.5", "20.5", "30.5"} <= set(texts(time))
    assert len(list(time.iter(f"{SVG}pattern"))) == 2
    told = tooltips(time)
    assert sum(text.endswith(": failed") for text in told) == 2
    assert sum(text.endswith(": never reached") for text in told) == 1
    assert "not run" not in texts(time)


def test_the_low_values_are_at_the_bottom_left(maps: SweepPage) -> None:
    place = {
        element.text: placed(element)[:2]
        for element in maps.svg("Time to tolerance").iter(f"{SVG}text")
    }
    assert place["10.5"][0] < place["20.5"][0] < place["30.5"][0]
    assert place["0.1"][1] < place["10.5"][1]


def test_what_the_page_says(maps: SweepPage) -> None:
    assert maps.words["h1"] == ["demo"]
    assert maps.words["h2"] == ["Result", "Maps", "Means", "Failures", "Runs", "Command"]
    assert "3 failed" in maps.text
    assert "21.0\u00a0±\u00a01.4" in maps.words["strong"]
    assert "21 (1)" in maps.words["strong"]
    assert {"it diverged", "it was killed"} <= set(maps.words["td"])
    assert len(maps.links) == 12 + 2
    assert "prefers-color-scheme:dark" in maps.text


def test_the_same_sweep_gives_the_same_bytes(maps: SweepPage) -> None:
    assert write_report(maps.folder).read_text(encoding="utf-8") == maps.text


LABELS = st.lists(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40),
    min_size=1,
    max_size=4,
)


@settings(max_examples=25, phases=[Phase.explicit, Phase.generate])  # each takes 0.1 s
@given(
    LABELS, LABELS, st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=16), st.text(max_size=60)
)
def test_nothing_in_a_map_overlaps(
    columns: list[str], rows: list[str], values: list[float], name: str
) -> None:
    """By the width that letters have at most in a sans-serif font, on average."""
    states: list[Lack] = ["failed", "diverged", "never", "absent", "missing"]
    places = list(product(range(len(columns)), range(len(rows))))
    cells = {
        place: Seeds((values[i],), (states[i % 5],))
        if i < len(values)
        else Seeds((), (states[i % 5],))
        for i, place in enumerate(places)
    }
    chart = plots.heat_map("key", ANGLE, (f"x {name}", columns), (f"y {name}", rows), cells)
    assert chart is not None
    svg = ET.fromstring(chart.svg)
    _, _, width, height = map(float, svg.get("viewBox", "").split())
    boxes = []
    for element in svg.iter(f"{SVG}text"):
        words, (x, y, size, anchor) = element.text or "", placed(element)
        long = 0.6 * size * len(words)
        x -= {"start": 0.0, "middle": long / 2, "end": long}[anchor]
        boxes.append((x, y - 8, x + long, y + 1, words))
    for x, y, right, bottom, words in boxes:
        assert x >= -0.1, words
        assert y >= 0, words
        assert right <= width + 0.1, words
        assert bottom <= height, words
    for one, other in combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)


def test_text_on_cells_can_be_read() -> None:
    """A contrast of 4.5 at least, whatever the colour."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for value in range(24):
        cells = {(0, 0): Seeds((float(value),))}
        chart = plots.heat_map("k", ANGLE, ("x", ["1"]), ("y", ["1"]), cells, (0.0, 23.0))
        assert chart is not None
        cell = re.search(r"</title>\s*<path[^>]*fill: (#\w{6})", chart.svg)
        ink = re.search(r"fill: (#\w{6})[^>]*>\d", chart.svg)
        assert cell is not None
        paper, text = light(cell[1]), 0.0 if ink is None else light(ink[1])  # black is not written
        assert (max(paper, text) + 0.05) / (min(paper, text) + 0.05) >= 4.5


# ---- other numbers of axes ---------------------------------------------------------------------


def test_more_axes_make_more_maps(tmp_path: Path) -> None:
    axes: list[tuple[str, list[Any]]] = [(DELAY, [0, 1]), (NOISE, [0, 0.1])]
    axes += [("init", ["zero", "feedforward"]), ("seed_of_data", list(range(10)))]
    found = page(tmp_path, axes, 1, lambda v, _: finished(gradient_angle=1.0 + v[0] + v[3]))
    assert len(found.svgs) == 12
    assert "init = zero, seed_of_data = 0" in found.text
    assert "left out, 8 more maps; results.csv has all values" in found.text
    # All maps share one scale of colours, so that they can be compared.
    assert all({"1.00", "11.0"} <= set(texts(svg)) for svg in found.svgs)


def test_curves_over_one_axis(tmp_path: Path) -> None:
    def summary(values: tuple[Any, ...], seed: int) -> Summary:
        (delay,) = values
        if delay == 8:
            return failed("x") if seed else finished(time_to_tolerance=None, gradient_angle=9.0)
        return finished(time_to_tolerance=10.0 + delay + seed, gradient_angle=9.0)

    found = page(tmp_path, [(DELAY, [0, 1, 2, 4, 8])], 3, summary)
    assert found.words["h2"][:2] == ["Result", "Curves"]
    time = found.svg("Time to tolerance")
    assert {"channels.difference.delay (time units)", "time to tolerance (time units)"} <= (
        set(texts(time))
    )
    assert {"0", "1", "2", "4", "8"} <= set(texts(time))
    assert {"time to tolerance", "failed", "never reached"} <= set(tooltips(time))
    assert "mean over the seeds; bars: least to greatest" in found.text
    assert "×\u00a0failed: 8 (2 of 3)." in found.text
    assert "▲\u00a0never reached: 8 (1 of 3)." in found.text
    assert "var(--bad)" in ET.tostring(time, encoding="unicode")


def test_numbers_that_are_far_apart_and_a_zero(tmp_path: Path) -> None:
    axes = [(NOISE, [0, 0.001, 0.01, 0.1, 1])]
    found = page(tmp_path, axes, 1, lambda v, _: finished(time_to_tolerance=1 + 80 * v[0]))
    assert "logarithmic, with a place of its own for 0" in found.text
    assert "The vertical axis is logarithmic." in found.text
    assert "one seed" in found.text


@pytest.mark.parametrize("axes", [[(NOISE, [1, 2])], [(NOISE, [1, 2]), (DELAY, [0, 1])]])
def test_the_loss_is_drawn_where_there_is_no_accuracy(
    axes: list[tuple[str, list[Any]]], tmp_path: Path
) -> None:
    none: dict[str, Any] = {"test_accuracy": None}
    found = page(tmp_path, axes, 2, lambda v, s: finished(**none, test_loss=v[0] + 0.1 * s))
    assert found.figures == {"Test loss"}
    assert found.text.count(">test loss (per sample)</th>") == 2  # of means and of runs, once each
    assert "Test accuracy" not in found.text


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    values = [
        "null",
        "{kind: additive, std: 0.01}",
        HOSTILE.replace("\x00", "").replace("\ud800", ""),
    ]
    found = page(
        tmp_path, [("channels.mean.noise", values)], 2, lambda *_: finished(gradient_angle=5)
    )
    assert "additive, std: 0.01" in texts(found.svg("Gradient angle"))


def test_every_row_of_what_is_no_number_is_named(tmp_path: Path) -> None:
    names = [f"system {n}, with more to say" for n in range(15)]
    found = page(
        tmp_path, [("system", names)], 2, lambda v, seed: finished(gradient_angle=5 + seed)
    )
    assert set(names) <= set(texts(found.svg("Gradient angle")))


def test_colours_show_no_differences_below_the_spread_of_the_seeds(tmp_path: Path) -> None:
    """Cells whose means differ by a twentieth of the spread look alike; nine times it does not."""

    def map_of(step: float) -> tuple[SweepPage, int]:
        axes: list[tuple[str, list[Any]]] = [(DELAY, [0, 1]), (NOISE, [0, 0.1])]
        ends = (50.0, 52.0)  # a standard deviation of √2

        def summary(values: tuple[Any, ...], seed: int) -> Summary:
            return finished(gradient_angle=ends[seed] + step * values[0])

        found = page(tmp_path / str(step), axes, 2, summary)
        hues = re.findall(r"</title>\s*<path[^>]*fill: #(\w\w)(\w\w)(\w\w)", found.text)
        assert len(hues) == 4
        red, green, blue = (
            max(p) - min(p) for p in zip(*(map(_hex, h) for h in hues), strict=True)
        )
        return found, red + green + blue

    near, far = map_of(0.07), map_of(13.0)
    assert near[1] < 60 < 150 < far[1]
    assert "± 1.4" in " ".join(texts(near[0].svg("Gradient angle")))


def _hex(text: str) -> int:
    return int(text, 16)


def test_sections_are_named_in_words_and_their_labels_fit(tmp_path: Path) -> None:
    """Everywhere on the page; labels of columns are broken, and broad maps take a whole row."""
    schedules = [f"{{kind: poisson, duration: {n}, rate: 1.0}}" for n in (4, 8)]
    schedules += ["{kind: parallel, ticks: 8}"]
    axes = [("schedule", schedules), ("rule.beta", ["0.1", "1"])]
    found = page(tmp_path, axes, 2, lambda *_: finished(gradient_angle=5.0))
    assert "{kind" not in found.text.partition("What was asked")[0]
    assert "poisson, duration: 4, rate: 1.0" in found.text
    said = texts(found.svg("Gradient angle"))
    assert {"duration: 4,", "rate: 1.0", "ticks: 8"} <= set(said)
    assert 'class="wide"' not in found.text
    many = [("rule.alpha", [f"0.{n}" for n in range(10, 30)]), axes[1]]
    broad = page(tmp_path / "b", many, 1, lambda *_: finished(gradient_angle=5.0))
    assert 'class="wide"' in broad.text


def test_percents_and_degrees_are_never_on_a_logarithmic_axis(tmp_path: Path) -> None:
    angles = [6e-6, 10.0, 80.0]
    found = page(
        tmp_path, [(DELAY, [0, 1, 2])], 1, lambda v, _: finished(gradient_angle=angles[v[0]])
    )
    assert "logarithmic" not in found.text


def test_points_tell_their_values(tmp_path: Path) -> None:
    found = page(
        tmp_path, [(DELAY, [0, 4])], 3, lambda v, s: finished(gradient_angle=9.0 + v[0] + s)
    )
    said = "channels.difference.delay (time units) 4: 14.0 ° (13.0 to 15.0, 3 seeds)"
    assert said in tooltips(found.svg("Gradient angle"))


def test_seeds_alone(tmp_path: Path) -> None:
    found = page(tmp_path, [], 3, lambda _, seed: finished(test_accuracy=0.9 + 0.01 * seed))
    assert found.words["h2"] == ["Result", "Means", "Runs", "Command"]
    assert found.svgs == []
    assert "91.0\u00a0±\u00a01.0" in found.text


def test_a_sweep_in_which_everything_failed(tmp_path: Path) -> None:
    found = page(tmp_path, [(DELAY, [0, 1]), (NOISE, [0, 1])], 1, lambda *_: failed("no"))
    assert found.svgs == []
    assert "Figures: left out, no run has a quantity to draw" in found.text
    assert "Table: left out, no run has finished" in found.text


def test_what_no_run_reached(tmp_path: Path) -> None:
    found = page(tmp_path, [(DELAY, [0, 1])], 1, lambda *_: finished(time_to_tolerance=None))
    assert "Time to tolerance: left out, no run reached the tolerance" in found.text


def test_a_sweep_that_has_not_begun(tmp_path: Path) -> None:
    found = page(tmp_path, [(DELAY, [0, 1]), (NOISE, [0, 1])], 1, lambda *_: None)
    assert "not finished" in found.text
    assert found.links == []


def test_a_stream_is_drawn_against_how_often_an_error_gets_through(tmp_path: Path) -> None:
    """A curve for each schedule: its mean, its least and its greatest seed."""

    def summary(values: tuple[Any, ...], seed: int) -> Summary:
        found = (0.5 if values[0] == "sweep" else 0.8) + 0.01 * (seed - values[1])
        numbers = {"cumulative_accuracy": found, "trips_per_hold": 20 / (1 + 3 * values[1])}
        return finished(energy=1e-6, test_accuracy=0.25, **numbers)

    axes = [("schedule", ["sweep", "parallel"]), (DELAY, [1, 3])]
    found = page(tmp_path, axes, 2, summary)
    svg = found.svg("Prequential accuracy against hold / (1 + hops × delay)")
    assert sum(text == "schedule sweep" for text in tooltips(svg)) == 3
    assert "prequential accuracy (%)" in texts(found.svg("Accuracy against energy"))
