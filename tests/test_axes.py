"""Which axes of pictures are logarithmic."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from neurosim.reports.plots.seeds import spread_out

pytestmark = pytest.mark.drawn


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ((1e-3, 5.477e-3, 3e-2), True),
        ((1, 2, 4, 8), True),
        ((1.0, 1.2, 1.44), False),  # which look evenly spread anyway
        ((1, 2, 3, 4), False),
        ((0.1, 1.0), False),
        ((0.001, 0.1), True),
    ],
)
def test_an_axis_of_values_in_factors_is_logarithmic(values: tuple[float, ...], log: bool) -> None:
    axes = Figure().subplots()
    assert spread_out(axes.xaxis, values) is log
    assert axes.get_xscale() == ("log" if log else "linear")
