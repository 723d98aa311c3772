"""Draws heat maps over two axes of a sweep."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf, sqrt
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter

from neurosim.base import cut, spread
from neurosim.records import LACKING, Lack, Quantity, Seeds
from neurosim.reports.plots.canvas import LOG_RATIO, LOOKS, RAMP, Canvas, Chart, plain, style

HEIGHT = 26.0  # points, of a cell
SPREADS = 4.0  # of the seeds, on the scale of colours at least
SCALE = 180.0  # width of the scale of colours
WHITE = 0.42  # of the scale: letters are white on the dark colours below, black above
BREAK = 16  # letters of a line of a column's label
LINE = 12.0  # points
_LETTER = 6.0  # about what a letter takes, rather too much than too little


def heat_map(
    key: str,
    quantity: Quantity,
    x: tuple[str, Sequence[str]],
    y: tuple[str, Sequence[str]],
    cells: Mapping[tuple[int, int], Seeds],
    limits: tuple[float, float] | None = None,
) -> Chart | None:
    """Draws means, ``cells`` by (column, row), the first row at the bottom; None without any.

    ``x`` and ``y`` are the names, with units, and the values of the axes; ``limits`` are what the
    ends of the scale of colours stand for, where several maps share one.
    """
    means = [mean for one in cells.values() if (mean := one.mean) is not None]
    if not means:
        return None
    low, high = limits or limits_of(quantity, cells.values())
    # What prints alike, or nearly so, must not look like opposite ends.
    high = low if high - low <= 5e-3 * max(abs(low), abs(high)) else high
    log = low > 0 and high / low > LOG_RATIO and not quantity.bounded
    ramp: Any = ScalarMappable(
        (LogNorm if log else Normalize)(low, high), matplotlib.colormaps["viridis"].resampled(RAMP)
    )
    columns = ["\n".join(cut(line, 22) for line in _lines(plain(text))) for text in x[1]]
    rows = [cut(plain(text), 34) for text in y[1]]
    lines = [line for text in columns for line in text.split("\n")]
    said = [text for one in cells.values() if one.values for text in _texts(one, quantity)]
    longest = max(map(len, (*lines, *said)))
    wide = max(_LETTER * longest + 10, SCALE / len(columns))
    tall = HEIGHT * len(rows)
    with style(**{"axes.grid": False, "hatch.linewidth": 0.8}):
        canvas = Canvas(key, plain(x[0]), "", 1.0)
        canvas.label = f"Heat map of {quantity.label} over {x[0]} and {y[0]}"
        figure, axes = canvas.figure, canvas.axes
        figure.set(layout_engine="none", figwidth=wide * len(columns) / 72, figheight=tall / 72)
        axes.set(position=(0, 0, 1, 1), xlim=(0, len(columns)), ylim=(0, len(rows)))
        axes.set_xticks([i + 0.5 for i in range(len(columns))], columns)
        axes.set_yticks([j + 0.5 for j in range(len(rows))], rows)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        # Flat: the name of the vertical axis is longer than most maps are high.
        side = -(_LETTER * max(map(len, rows)) + 8) / (wide * len(columns))
        axes.text(side, 1 + 10 / tall, plain(y[0]), transform=axes.transAxes)
        below = LINE * max(text.count("\n") for text in columns)  # of labels of several lines
        bar = figure.add_axes((0, -(50 + below) / tall, SCALE / (wide * len(columns)), 8 / tall))
        form = FuncFormatter(lambda value, _: quantity.show(value))
        ends: Any = {"ticks": sorted({low, high}), "format": form, "orientation": "horizontal"}
        figure.colorbar(ramp, bar, label=quantity.label, **ends).outline.set_visible(False)
        bar.tick_params(which="both", length=0)
        whole = {place: cells.get(place, Seeds()) for place in np.ndindex(len(columns), len(rows))}
        for (i, j), one in whole.items():
            where = f"{x[0]} {x[1][i]}, {y[0]} {y[1][j]}"
            _cell(canvas, one, quantity, ramp, (i, j), where)
        lacking = dict.fromkeys(one.lack for one in whole.values() if one.mean is None)
        figure.legend(
            handles=[Patch(label=LACKING[lack], **_look(canvas, lack)) for lack in lacking],
            loc="upper left",
            bbox_to_anchor=(0, -(84 + below) / tall),
            frameon=False,
            borderpad=0,
        )
        note = ""
        if any(one.runs > 1 for one in cells.values()):
            note = "Mean over the seeds, ± their sample standard deviation. The scale of colours "
            note += f"is at least {SPREADS:.0f} of these long: what looks alike may be chance."
        if any(one.values and one.lacking for one in cells.values()):
            note += " “2 of 3”: the mean is over these seeds only, as the others have no value."
        if log:
            zero = "; 0 has the darkest" if min(means) == 0 else ""
            note += f" Colours are on a logarithmic scale{zero}."
        chart = canvas.chart(note=note.strip(), bbox_inches="tight", pad_inches=0.06)
        return chart._replace(scrolls=True)


def _lines(text: str) -> list[str]:
    """Breaks the label of a column after commas, if it is long."""
    found = [""]
    for part in text.split(", "):
        joined = f"{found[-1]}, {part}" if found[-1] else part
        found[-1:] = [joined] if len(joined) <= BREAK else [found[-1] + ",", part]
    return [line for line in found if line not in ("", ",")]


def limits_of(quantity: Quantity, seeds: Iterable[Seeds]) -> tuple[float, float]:
    """Returns what the ends of a scale of colours stand for: the least and the greatest mean, or
    several spreads of the seeds around their middle where that is more. A 0 beside numbers of many
    sizes is left out, as no logarithmic scale has it."""
    cells = [one for one in seeds if one.values]
    means = [one.mean or 0.0 for one in cells]
    low, high = min(means), max(means)
    squares = [deviation**2 for one in cells if (deviation := spread(one.values)[1]) is not None]
    room = SPREADS * sqrt(sum(squares) / len(squares)) if squares else 0.0
    if high - low >= room:
        least = min((mean for mean in means if mean > 0), default=high)
        far = low == 0 and high > LOG_RATIO * least and not quantity.bounded
        return least if far else low, high
    least = 0.0 if low >= 0 else -inf  # no colour for what cannot be
    most = 100.0 if quantity.unit == "%" and high <= 100.0 else inf
    middle = (low + high) / 2
    return max(least, middle - room / 2), min(most, middle + room / 2)


def _cell(
    canvas: Canvas, one: Seeds, quantity: Quantity, ramp: Any, place: tuple[int, int], where: str
) -> None:
    """Draws a cell: its mean on a colour, and over how many seeds that is if not over all."""
    (i, j), mean = place, one.mean
    told, look = LACKING[one.lack], _look(canvas, one.lack)
    if mean is not None:
        shade = max(mean, ramp.norm.vmin)  # of 0 on a logarithmic scale, too
        look = {"facecolor": ramp.to_rgba(shade)}
        told = f"{quantity.show(mean)} {quantity.unit}, {len(one.values)} of {one.runs} seeds"
        texts = _texts(one, quantity)
        more: Any = {"color": "#ffffff" if ramp.norm(shade) < WHITE else "#000000", "ha": "center"}
        for up, text in zip((0.17, -0.23) if texts[1:] else (0.0,), texts, strict=True):
            more |= {"fontsize": 9 if up >= 0 else 7, "va": "center_baseline"}
            canvas.axes.text(i + 0.5, j + 0.5 + up, text, **more)
    box = canvas.axes.add_patch(Rectangle((i + 0.02, j + 0.04), 0.96, 0.92, **look))
    canvas.name(box, f"{where}: {told}")


def _texts(one: Seeds, quantity: Quantity) -> list[str]:
    """Returns the lines in a cell that has values: the mean; spread and seeds where there are."""
    deviation = spread(one.values)[1]
    below = [f"± {quantity.show(deviation)}"] if deviation else []
    below += [f"{len(one.values)} of {one.runs}"] if one.lacking else []
    return [quantity.show(one.mean or 0.0), *([", ".join(below)] if below else [])]


def _look(canvas: Canvas, lack: Lack) -> dict[str, Any]:
    edge = canvas.ink(LOOKS[lack].colour)
    return {"facecolor": "none", "edgecolor": edge, "linewidth": 0.6, **LOOKS[lack].cell}
