"""What axes and numbers of a sweep are called on its page."""

import pytest
from markupsafe import Markup

from neurosim.base.words import spread
from neurosim.records.summary import brief
from neurosim.reports.page import Listing, Report, Section
from neurosim.reports.sweep import axis_label


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("channels.mean.delay", "channels.mean.delay (time units)"),
        ("channels.overrides.h.threshold", "channels.overrides.h.threshold (units of the message)"),
        ("channels.mean.loss", "channels.mean.loss (probability)"),
        ("loss", "loss"),
        ("schedule.passes", "schedule.passes (count)"),
        ("schedule.duration", "schedule.duration (time units)"),
        ("rule.beta", "rule.beta (dimensionless)"),
        ("rule.variant", "rule.variant"),
    ],
)
def test_units_of_axes(key: str, label: str) -> None:
    assert axis_label(key) == label


def test_spread() -> None:
    assert spread([3.0]) == (3.0, None)
    assert spread([1.0, 2.0, 3.0]) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012345, "0.0123"),
        (589_824, "590 k"),
        (2765, "2765"),
        (1000.4, "1000"),
        (-2765.4, "-2765"),
    ],
)
def test_what_looks_exact_is(value: float, text: str) -> None:
    """2765 wakes are not 2760: four digits without a unit are read as all of them."""
    assert brief(value) == text


@pytest.mark.parametrize(
    ("cell", "whole"),
    [
        ("1.399e-07", True),
        (Markup("<strong>(4.1 ± 2.3)·10⁻⁶</strong>"), True),
        ("135,744 ± 0 (2)", True),
        ("2 of 2", False),
        ("random_order, passes: 6", False),
        (7, False),
    ],
)
def test_no_line_breaks_in_a_number(cell: object, whole: bool) -> None:
    """At the hyphen of an exponent, that is."""
    report = Report(
        "x", "run", "ok", "ok", [Section("A", [("table", Listing("c", "ab", [("a", cell)]))])]
    )
    assert ('class="w"' in report.html()) == whole
