"""Pages without their charts."""

from collections.abc import Sequence
from typing import Any

import pytest
from markupsafe import Markup

from neurosim.reports.plots.canvas import Canvas, Chart, Curve


def undraw(patch: pytest.MonkeyPatch) -> None:
    """Does what `undrawn` says for as long as the patch holds."""

    def chart(self: Canvas, legend: Sequence[Curve] = (), note: str = "", **options: Any) -> Chart:
        svg = Markup('<svg role="img" aria-label="{}"/>').format(self.label)
        return Chart(svg, (1.0, 1.0), legend, note, canvas=self)

    patch.setattr(Canvas, "chart", chart)
