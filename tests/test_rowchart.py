"""Pictures of the rows of a table, and the map that goes with them."""

from __future__ import annotations

import re
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


def test_a_zero_does_not_take_the_colours_from_numbers_of_many_sizes() -> None:
    """Residuals: without it 2e-7 and 0.4 would be of one colour, as all others are."""
    residual = replace(ACCURACY, unit="", show="{:.1e}".format)
    values = (0.0, 2e-7, 1e-4, 0.4)
    cells = {(n, 0): Seeds((value,)) for n, value in enumerate(values)}
    columns = [str(value) for value in values]
    chart = heat_map("key", residual, ("alpha", columns), ("beta", ["1"]), cells)
    assert chart is not None
    assert chart.note == "Colours are on a logarithmic scale; 0 has the darkest."
    colours = re.findall(r"</title>\s*<path[^>]*fill: (#\w{6})", chart.svg)
    assert len(colours) == 4
    assert len(set(colours)) == 3
    assert colours[0] == colours[1]  # the least number there is
    percent = heat_map("key", ACCURACY, ("alpha", columns), ("beta", ["1"]), cells)
    assert percent is not None
    assert percent.note == ""  # they have ends of their own


def test_columns_are_as_wide_as_what_is_said() -> None:
    """Without spreads of seeds there is no room for them."""
    columns = ("alpha", [str(n) for n in range(9)])
    one = {(n, 0): Seeds((n + 1.0,)) for n in range(9)}
    two = {(n, 0): Seeds((n + 1.0, n + 2.0), ("diverged",)) for n in range(9)}
    narrow, broad = (heat_map("k", ACCURACY, columns, ("b", ["1"]), c) for c in (one, two))
    assert narrow is not None
    assert broad is not None
    assert 2 * narrow.size[0] < broad.size[0]


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
