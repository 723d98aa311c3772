"""What axes and numbers of a sweep are called on its page."""

import pytest

from neurosim.base.words import spread
from neurosim.reports.sweep import axis_label


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("channels.mean.delay", "channels.mean.delay (simulated time)"),
        ("channels.overrides.h.threshold", "channels.overrides.h.threshold (units of the message)"),
        ("channels.mean.loss", "channels.mean.loss (probability)"),
        ("loss", "loss"),
        ("schedule.passes", "schedule.passes (count)"),
        ("schedule.duration", "schedule.duration (simulated time)"),
        ("rule.beta", "rule.beta (dimensionless)"),
        ("rule.variant", "rule.variant"),
    ],
)
def test_units_of_axes(key: str, label: str) -> None:
    assert axis_label(key) == label


def test_spread() -> None:
    assert spread([3.0]) == (3.0, None)
    assert spread([1.0, 2.0, 3.0]) == (2.0, 1.0)
