"""Draws which classes were taken for which."""

from collections.abc import Sequence
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
LONG = 14  # signs of a name, of which the rest is left out
ROOM = 36  # signs side by side; more are written aslant
_SLANTED: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
MOST = 200  # whose cells can be seen


def confusion_chart(key: str, counts: Values, classes: Sequence[str] = ()) -> Chart:
    """Draws how many samples of each class (row) were predicted as each class (column). ``classes``
    are their names, if they have any.

    Colours are portions of a row, so that a rare class is as bright as a frequent one; a cell
    without samples has none.
    """
    of_class, few = counts.sum(1, keepdims=True), len(counts) <= FEW
    classes = classes or list(map(str, range(len(counts))))
    portions = counts / np.maximum(of_class, 1.0)
    norm = PowerNorm(0.5, 0.0, 1.0)  # errors are few, and what the chart is for
    ramp: Any = ScalarMappable(norm, matplotlib.colormaps["viridis"].resampled(RAMP))
    with style(**{"axes.grid": False}):
        canvas = Canvas(key, "predicted class", "class", 4.2)
        canvas.label = "Confusion matrix: classes against predictions"
        axes = canvas.axes
        end = len(counts) - 0.5
        axes.set(xlim=(-0.5, end), ylim=(end, -0.5), aspect="equal")
        if few:
            said = [one if len(one) <= LONG else f"{one[: LONG - 1]}…" for one in classes]
            crowded = len(said) * max(map(len, said)) > ROOM
            plain: Any = {"parse_math": False}  # names are the user's
            axes.set_xticks(range(len(said)), said, **plain, **(_SLANTED if crowded else {}))
            axes.set_yticks(range(len(said)), said, **plain)
        else:
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(6, integer=True))
                axis.set_major_formatter("{x:.0f}")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for i, j in np.argwhere(counts > 0):
            cell = Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=ramp.to_rgba(portions[i, j]))
            axes.add_patch(cell)
            if not few:
                continue
            told = f"{counts[i, j]:,.0f} of {of_class[i, 0]:,.0f} of class {classes[i]}"
            told += f": predicted {classes[j]}"
            canvas.name(cell, told)
            more: Any = {"ha": "center", "va": "center_baseline", "fontsize": 7}
            more["color"] = "#ffffff" if norm(portions[i, j]) < WHITE else "#000000"
            axes.text(j, i, f"{counts[i, j]:.0f}", **more)
        how: Any = {"ticks": [0, 0.01, 0.1, 0.25, 0.5, 1], "format": PercentFormatter(1.0, 0)}
        bar = canvas.figure.colorbar(ramp, ax=axes, shrink=0.8, label="of the class", **how)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
        return canvas.chart(note="An empty cell: no sample. Colours: portions of a row.")
