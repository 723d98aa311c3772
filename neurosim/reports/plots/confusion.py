"""Draws which classes were taken for which."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from neurosim.reports.plots.canvas import RAMP, Canvas, Chart, Values, style
from neurosim.reports.plots.heat import WHITE

FEW = 12  # classes, whose cells have room for numbers
MOST = 200  # whose cells can be seen


def confusion_chart(key: str, counts: Values) -> Chart:
    """Draws how many samples of each class (row) were predicted as each class (column).

    Colours are portions of a row, so that a rare class is as bright as a frequent one; a cell
    without samples has none.
    """
    classes, of_class = len(counts), counts.sum(1, keepdims=True)
    portions = counts / np.maximum(of_class, 1.0)
    norm = PowerNorm(0.5, 0.0, 1.0)  # errors are few, and what the chart is for
    ramp: Any = ScalarMappable(norm, matplotlib.colormaps["viridis"].resampled(RAMP))
    with style(**{"axes.grid": False}):
        canvas = Canvas(key, "predicted class", "class", 4.2)
        canvas.label = "Confusion matrix: classes against predictions"
        axes = canvas.axes
        axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5), aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(classes if classes <= FEW else 6, integer=True))
            axis.set_major_formatter("{x:.0f}")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for i, j in np.argwhere(counts > 0):
            cell = Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=ramp.to_rgba(portions[i, j]))
            axes.add_patch(cell)
            if classes > FEW:
                continue
            told = f"{counts[i, j]:,.0f} of {of_class[i, 0]:,.0f} of class {i}: predicted {j}"
            canvas.name(cell, told)
            more: Any = {"ha": "center", "va": "center_baseline", "fontsize": 7}
            more["color"] = "#ffffff" if norm(portions[i, j]) < WHITE else "#000000"
            axes.text(j, i, f"{counts[i, j]:.0f}", **more)
        how: Any = {"ticks": [0, 0.01, 0.1, 0.25, 0.5, 1], "format": PercentFormatter(1.0, 0)}
        bar = canvas.figure.colorbar(ramp, ax=axes, shrink=0.8, label="of the class", **how)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
        return canvas.chart(note="An empty cell: no sample. Colours: portions of a row.")
