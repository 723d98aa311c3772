"""Drawings of networks: arrows join their boxes and cross no other."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from report_pages import (
    SVG,
    graph,
    series,
    vgg16,
)

from neurosim.network.network import Network
from neurosim.reports import draw_network
from neurosim.reports.drawing import LEVELS, Frame, draw_for_page, weights_of

ROOT = Path(__file__).parents[1]


def boxes(svg: ET.Element) -> dict[str, tuple[float, float, float, float]]:
    found = {}
    for group in svg.iter(f"{SVG}g"):
        rect, title = group.find(f"{SVG}rect"), group.find(f"{SVG}title")
        if rect is not None and title is not None:
            x, y, width, height = (float(rect.get(k, "")) for k in ("x", "y", "width", "height"))
            found[(title.text or "").split(",")[0]] = (x, y, x + width, y + height)
    return found


def curve(path: str) -> Iterator[tuple[float, float]]:
    """Points along a path of M, L, Q and C commands with absolute coordinates."""
    here = np.zeros(2)
    for command, text in re.findall(r"([MLQC])([^MLQC]*)", path):
        ends = np.array([float(n) for n in text.split()]).reshape(-1, 2)
        control = [here, *ends] if command != "M" else [ends[-1]]
        for t in np.linspace(0, 1, 60):
            level = [np.asarray(p) for p in control]
            while len(level) > 1:  # de Casteljau
                level = [(1 - t) * a + t * b for a, b in pairwise(level)]
            yield float(level[0][0]), float(level[0][1])
        here = ends[-1]


SKIPS = graph(
    {"input": 9, "a": 8, "b": 7, "side": 5, "c": 6, "output": 3},
    [
        "input a",
        "a b",
        "a side",
        "b c",
        "c output",
        "input output",
        "input c",
        "side output",
        "a c",
    ],
)
CYCLE = graph(
    {"input": 9, "a": 8, "b": 7, "output": 3},
    ["input a", "a b", "b output", "b a", "b b", "output a", "input output"],
)
LONG = graph(
    {"input": 9, **{f"h{i}": 4 for i in range(16)}, "output": 3},
    ["input h0", "h15 output", "h0 h9", "h2 output", *(f"h{i} h{i + 1}" for i in range(15))]
    + [f"h{i} h{i + 2}" for i in range(14)],
)


@pytest.mark.parametrize("levels", [LEVELS, 3, 2, 1])
@pytest.mark.parametrize("network", [SKIPS, CYCLE, LONG], ids=["skips", "cycle", "long"])
def test_arrows_join_their_boxes_and_cross_no_other(network: Network, levels: int) -> None:
    svg = ET.fromstring(draw_network(network, levels=levels))
    places = boxes(svg)
    assert set(places) == {p.name for p in network.populations}
    width, height = float(svg.get("width", "")), float(svg.get("height", ""))
    for box in places.values():
        assert min(box) >= 0
        assert box[2] <= width
        assert box[3] <= height
    paths = {name.split(":")[0]: paths[0] for name, paths in series(svg).items() if paths}
    assert len(paths) == len(network.projections)
    for q in network.projections:
        way = list(curve(paths[q.name]))
        assert way[0][0] == pytest.approx(places[q.pre][2], abs=0.2)
        assert way[-1][0] == pytest.approx(places[q.post][0], abs=0.2)
        for (name, (left, top, right, bottom)), (x, y) in (
            (place, point) for place in places.items() for point in way
        ):
            inside = left + 0.5 < x < right - 0.5 and top + 0.5 < y < bottom - 0.5
            assert not inside, f"{q.name} crosses {name}"
        assert all(0 <= x <= width and 0 <= y <= height for x, y in way)


@pytest.mark.parametrize("levels", [LEVELS, 2, 1])
@pytest.mark.parametrize("network", [SKIPS, CYCLE, LONG], ids=["skips", "cycle", "long"])
def test_words_stand_at_their_arrows(network: Network, levels: int) -> None:
    svg = ET.fromstring(draw_network(network, levels=levels))
    paths = {name.split(":")[0]: paths[0] for name, paths in series(svg).items() if paths}
    for text in svg.iter(f"{SVG}text"):
        if name := text.get("data-arrow"):
            x, y, half = (
                float(text.get("x", "")),
                float(text.get("y", "")),
                3 * len(text.text or ""),
            )
            # The words are in a box with edges x ± half and y − 10 and y + 3.
            away = [
                max(abs(a - x) - half, b - y - 3, y - 10 - b, 0.0) for a, b in curve(paths[name])
            ]
            assert min(away) < 14, (name, text.text)


def test_a_page_has_a_second_drawing_for_phones() -> None:
    """A page scales a drawing down to four fifths; of a phone of 390 pixels it has 337."""
    for network in (
        SKIPS,
        CYCLE,
        LONG,
        vgg16(),
        Network.from_yaml(ROOT / "networks/resnet20.yaml"),
    ):
        page = ET.fromstring(f"<p>{draw_for_page(network)}</p>")
        (broad, slim) = page.iter(f"{SVG}svg")
        assert 0.8 * float(broad.get("width", "")) <= 1070
        assert 0.8 * float(slim.get("width", "")) <= 337
        assert set(boxes(broad)) == set(boxes(slim)) == {p.name for p in network.populations}
    small = graph({"input": 9, "output": 3}, ["input output"])
    assert draw_for_page(small) == draw_network(small)


def test_all_moments_have_the_same_boxes() -> None:
    """However long what is said in them: the script of a page shows all of them in the first."""
    names = ["input", "h", "output"]
    network = graph(dict.fromkeys(names, 3), ["input h", "h output"])
    arrows = dict.fromkeys((q.name for q in network.projections), (1.0, ""))
    short, long = (
        Frame(dict.fromkeys(names, (0.5, f"activity {a:.2g}", "residual 1e-05")), arrows)
        for a in (1.0, 1.23e-5)
    )
    drawn = [ET.fromstring(draw_network(network, frame)) for frame in (short, long)]
    assert boxes(drawn[0]) == boxes(drawn[1])


def test_boxes_go_left_to_right_by_level_and_tell_shape_and_dyads() -> None:
    network = vgg16()
    svg = ET.fromstring(draw_network(network))
    places = boxes(svg)
    order = sorted(places, key=lambda name: (places[name][1], places[name][0]))
    assert order == [p.name for p in network.populations]
    texts = [element.text for element in svg.iter(f"{SVG}text")]
    assert {"conv1", "64 × 32 × 32", "65,536 dyads", "3,072 inputs", "1,728", "16.8 M"} <= set(
        texts
    )
    sized = [float(element.get("font-size", "0")) for element in svg.iter(f"{SVG}text")]
    assert min(sized) >= 10
    assert float(svg.get("width", "")) < 1000  # as wide as the page: nothing is scaled down


def test_arrows_name_their_operators_and_boxes_their_activations() -> None:
    """Beside a lateral and on sloping arrows, too."""
    for network in (SKIPS, CYCLE, vgg16()):
        svg = ET.fromstring(draw_network(network))
        activations = {p.name: str(p.activation) for p in network.populations}
        texts = [(e.get("data-arrow"), e.text or "") for e in svg.iter(f"{SVG}text")]
        for q in network.projections:
            said = " ".join(text for arrow, text in texts if arrow == q.name)
            weights = weights_of(q)[1] or 0
            assert weights >= 10_000 or f"{weights:,}" in said, q.name
            assert ("conv 3×3" if "conv" in q.post else "dense") in said
        for group in svg.iter(f"{SVG}g"):
            if (name := group.get("data-box")) and name != "input":
                last = [e.text for e in group.iter(f"{SVG}text")][-1]
                assert last == activations[name]
