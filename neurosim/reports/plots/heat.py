"""Heat maps over two axes of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log10

import matplotlib
import numpy as np

from neurosim.base import cut
from neurosim.reports.plots.canvas import RAMP, Chart
from neurosim.reports.plots.sweeps import LOG_RATIO, WORDS, Cell, Quantity, State, seeds_of

HEIGHT = 34.0  # of a cell
BAR = 240.0  # width of the scale of colours
FONT = 11


def heat_css() -> str:
    """The colours of cells, dark to bright: the same on a light and a dark page."""
    return ";".join(f"--h{i}:{colour}" for i, (colour, _) in enumerate(_ramp()))


def heat_map(
    key: str,
    quantity: Quantity,
    x: tuple[str, Sequence[str]],
    y: tuple[str, Sequence[str]],
    cells: Mapping[tuple[int, int], Cell],
    limits: tuple[float, float] | None = None,
) -> Chart | None:
    """A map of means, ``cells`` by (column, row); None without a single value.

    ``x`` and ``y`` are the axes: a name with its unit, and the values. ``limits`` are what the ends
    of the colour scale stand for, where several maps share one.
    """
    means = [mean for cell in cells.values() if (mean := cell.mean) is not None]
    if not means:
        return None
    scale = _Scale(*(limits or (min(means), max(means))))
    columns, rows = [cut(v, 22) for v in x[1]], [cut(v, 22) for v in y[1]]
    shown = [quantity.show(mean) for mean in means]
    wide = max(_width(text) for text in (*columns, *shown, "00 of 00")) + 14
    wide = max(wide, BAR / len(columns))  # as wide as the scale of colours at least
    left = 4 + max(map(_width, rows)) + 8
    middle = max(left + wide * len(columns) / 2, _width(x[0]) / 2 + 4)
    width = 12 + max(
        left + max(wide * len(columns), BAR, _width(quantity.label)),
        middle + _width(x[0]) / 2,
        _width(y[0]),
    )
    top = 24.0  # the name of the vertical axis lies flat: it is longer than most maps are high
    bottom = top + HEIGHT * len(rows)
    parts = []
    for i in range(len(columns)):
        for j in range(len(rows)):
            # The first row is the lowest, as on any vertical axis.
            box = (left + wide * i, bottom - HEIGHT * (j + 1), wide)
            where = f"{x[0]} {x[1][i]}, {y[0]} {y[1][j]}"
            parts.append(_cell(key, cells.get((i, j), Cell()), quantity, scale, box, where))
    for i, name in enumerate(columns):
        parts.append(_text(left + wide * (i + 0.5), bottom + 16, name, full=x[1][i]))
    for j, name in enumerate(rows):
        at = bottom - HEIGHT * (j + 0.5) + 4
        parts.append(_text(left - 8, at, name, "end", full=y[1][j]))
    parts.append(_text(middle, bottom + 36, x[0]))
    parts.append(_text(4, 13, y[0], "start"))
    bar, height = _bar(scale, quantity, left, bottom + 54)
    parts.append(bar)
    used = dict.fromkeys(cell.state for cell in cells.values() if cell.mean is None)
    used |= {"missing": None} if len(cells) < len(columns) * len(rows) else {}
    legend, height = _legend(key, list(used), left, height)
    parts.append(legend)
    label = escape(f"{quantity.label} over {x[0]} and {y[0]}")
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Heat map of {label}" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="min-width:{0.8 * width:.0f}px" font-family="system-ui, sans-serif">'
        f"<defs>{_patterns(key)}</defs>\n" + "\n".join(parts) + "\n</svg>"
    )
    note = "Mean over the seeds." if any(seeds_of(cell) > 1 for cell in cells.values()) else ""
    if any(cell.values and cell.lacking for cell in cells.values()):
        note += " “2 of 3”: the mean is over these seeds only, as the others have no value."
    return Chart(svg, (), f"{note} {scale.note}".strip())


class _Scale:
    """From values to the colours of the ramp."""

    def __init__(self, low: float, high: float) -> None:
        # What prints alike, or nearly so, must not look like opposite ends.
        same = high - low <= 5e-3 * max(abs(low), abs(high))
        self.low, self.high = low, low if same else high
        self.log = low > 0 and high / low > LOG_RATIO
        self.note = "Colours are on a logarithmic scale." if self.log else ""

    def level(self, value: float) -> int:
        low, high = (log10(self.low), log10(self.high)) if self.log else (self.low, self.high)
        part = ((log10(value) if self.log else value) - low) / (high - low) if high > low else 0.5
        return round(min(1.0, max(0.0, part)) * (RAMP - 1))


def _ramp() -> list[tuple[str, str]]:
    """The colours, each with that of the text on it which has the greater contrast."""
    found = []
    for red, green, blue, _ in matplotlib.colormaps["viridis"](np.linspace(0.0, 1.0, RAMP)):
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)
        ]
        light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        colour = "#" + "".join(f"{round(255 * part):02x}" for part in (red, green, blue))
        found.append((colour, "#fff" if light < 0.179 else "#000"))
    return found


def _cell(
    key: str,
    cell: Cell,
    quantity: Quantity,
    scale: _Scale,
    box: tuple[float, float, float],
    where: str,
) -> str:
    x, y, wide = box
    rect = f'<rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{wide - 2:.1f}" height="{HEIGHT - 2:.1f}"'
    count = f"{len(cell.values)} of {seeds_of(cell)}"
    mean = cell.mean
    if mean is None:
        told = escape(f"{where}: {WORDS[cell.state]}")
        return f"<g><title>{told}</title>{rect} {_hatched(key, cell.state)}/></g>"
    ink = _ramp()[scale.level(mean)][1]
    told = escape(f"{where}: {quantity.show(mean)} {quantity.unit}, {count} seeds")
    middle, base = x + wide / 2, y + HEIGHT / 2 + 4
    texts = _text(middle, base - 6 if cell.lacking else base, quantity.show(mean), ink=ink)
    if cell.lacking:
        texts += _text(middle, base + 7, count, ink=ink, size=9)
    return f'<g><title>{told}</title>{rect} fill="var(--h{scale.level(mean)})"/>{texts}</g>'


def _hatched(key: str, state: State) -> str:
    if state in ("missing", "absent"):
        dash = "4 3" if state == "missing" else "1 3"
        return f'fill="none" stroke="currentColor" stroke-opacity="0.6" stroke-dasharray="{dash}"'
    return f'fill="url(#{key}-{state})" stroke="currentColor" stroke-opacity="0.6"'


def _patterns(key: str) -> str:
    slashes, backslashes = "M0 8L8 0M-2 2L2 -2M6 10L10 6", "M0 0L8 8M-2 6L2 10M6 -2L10 2"
    strokes = {"failed": slashes, "diverged": slashes + backslashes, "never": "M0 4H8"}
    ink = {"failed": "var(--bad)", "diverged": "var(--bad)", "never": "currentColor"}
    return "".join(
        f'<pattern id="{key}-{state}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<path d="{path}" stroke="{ink[state]}" stroke-width="1.6" stroke-opacity="0.8"/>'
        "</pattern>"
        for state, path in strokes.items()
    )


def _bar(scale: _Scale, quantity: Quantity, left: float, top: float) -> tuple[str, float]:
    """The bar of colours with the values at its ends; and the height below it."""
    # Where all values are the same, one colour is all there is to show.
    one = scale.low == scale.high
    levels = [scale.level(scale.low)] if one else range(RAMP)
    parts = [
        f'<rect x="{left + BAR / RAMP * i:.1f}" y="{top:.1f}" width="{BAR / RAMP + 0.3:.1f}" '
        f'height="10" fill="var(--h{level})"/>'
        for i, level in enumerate(levels)
    ]
    parts.append(_text(left, top + 24, quantity.show(scale.low), "start"))
    if not one:
        parts.append(_text(left + BAR, top + 24, quantity.show(scale.high), "end"))
    parts.append(_text(left, top + 40, quantity.label, "start"))
    return "\n".join(parts), top + 52


def _legend(key: str, states: Sequence[State], left: float, top: float) -> tuple[str, float]:
    """What the cells without a number mean, one beneath the other."""
    parts = []
    for index, state in enumerate(states):
        y = top + 20 * index
        parts.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="26" height="14" {_hatched(key, state)}/>'
            + _text(left + 34, y + 11, WORDS[state], "start")
        )
    return "\n".join(parts), top + 20 * len(states) + 2


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str = "middle",
    ink: str = "currentColor",
    size: int = FONT,
    full: str = "",
) -> str:
    told = f"<title>{escape(full)}</title>" if full and full != text else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{ink}">'
        f"{told}{escape(text)}</text>"
    )


def _width(text: str) -> float:
    """About what a text takes in a sans-serif font, rather too much than too little."""
    return 0.6 * FONT * len(text)
