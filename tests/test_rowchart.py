"""Pictures of the rows of a table, and the map that goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from neurosim.records.summary import Quantity
from neurosim.records.sweep import Seeds
from neurosim.reports.plots import Chart, heat_map, row_chart

pytestmark = [pytest.mark.drawn, pytest.mark.slow]

ACCURACY = Quantity("test_accuracy", "test accuracy", "%", show="{:.2f}".format)


def chart_of(cells: Sequence[Seeds], axis: str = "linear", unit: str = "%") -> Chart:
    published: list[tuple[float, float] | None] = [(98.45, 0.04), *[None] * (len(cells) - 1)]
    labels = [f"row {n}" for n in range(len(cells))]
    chart = row_chart("key", replace(ACCURACY, axis=axis, unit=unit), labels, cells, published)
    assert chart is not None
    return chart


def test_a_picture_of_rows() -> None:
    cells = [Seeds((98.4, 98.5)), Seeds((98.3,), ("diverged",)), Seeds((), ("failed", "failed"))]
    chart = chart_of(cells)
    ElementTree.fromstring(chart.svg)
    for title in (
        "row 0: 98.45 % (98.40 to 98.50, 2 seeds)",
        "row 0, published: 98.45",
        "row 1: 98.30 %",
    ):
        assert f"<title>{title}</title>" in chart.svg
    assert "row 1 (diverged, 1 of 2), row 2 (failed, 2 of 2)." in chart.note
    assert [line.label for line in chart.legend] == [
        "mean over the seeds; bars: least to greatest",
        "published, ± standard deviation",
    ]


def test_a_row_far_off_does_not_hide_the_others() -> None:
    cells = [Seeds((98.4 + n / 50,)) for n in range(5)] + [Seeds((9.8,))]
    assert "← 9.80" in chart_of(cells, "focus").svg
    assert "←" not in chart_of(cells).svg
    assert "→" not in chart_of(cells[:5], "focus").svg


def test_rows_far_apart_are_on_a_logarithmic_axis() -> None:
    far, near = [Seeds((1.0,)), Seeds((1000.0,))], [Seeds((1.0,)), Seeds((2.0,))]
    assert "logarithmic" in chart_of(far, "log", unit="").note
    assert "logarithmic" not in chart_of(near, "log", unit="").note
    assert "logarithmic" not in chart_of(far, "log").note  # percent have ends of their own


def test_nothing_to_draw() -> None:
    assert row_chart("key", ACCURACY, ["one"], [Seeds((), ("diverged",))], [None]) is None


def test_a_map_shows_what_diverged() -> None:
    cells = {(0, 0): Seeds((1.0,)), (1, 0): Seeds((), ("diverged",))}
    chart = heat_map("key", ACCURACY, ("alpha", ["0", "1"]), ("beta", ["1"]), cells)
    assert chart is not None
    texts = {"".join(e.itertext()) for e in ElementTree.fromstring(chart.svg).iter()}
    assert {"diverged", "alpha 1, beta 1: diverged"} <= texts


def test_a_row_is_not_far_off_where_seeds_differ_as_much() -> None:
    """Then there is room for it: no seed is hidden for the sake of differences of no meaning."""
    alike = [Seeds((75.0 + n / 9, 85.4)) for n in range(3)]
    assert "→" not in chart_of([*alike, Seeds((85.6, 95.0))], "focus").svg
    assert "500.00 →" in chart_of([*alike, Seeds((500.0,))], "focus").svg


def test_long_names_take_two_lines() -> None:
    names = [
        "random_order, passes: 6, unit: neuron, groups: 8",
        "parallel, ticks: 12",
        "poisson, unit: neuron, rate: 1.0, tick: 0.25, duration: 8",
        f"{'the same ' * 9}one",
        f"{'the same ' * 9}two",
    ]
    chart = row_chart("key", ACCURACY, names, [Seeds((1.0,))] * 5)
    assert chart is not None
    shown = [label.get_text() for label in chart.canvas.axes.get_yticklabels()]
    assert shown[:2] == ["random_order, passes: 6,\nunit: neuron, groups: 8", names[1]]
    assert shown[2] == "poisson, unit: neuron, rate: 1.0,\ntick: 0.25, duration: 8"
    assert len(set(shown)) == 5
    chart.canvas.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in chart.canvas.axes.get_yticklabels()]
    whole = chart.canvas.figure.bbox
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes)
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))
