"""Draws curves with matplotlib, without its global state, as an SVG element for any page.

The colours of text and curves are CSS: `currentColor` and the variables of `palette_css`. All that
relies on how matplotlib writes SVG is `Canvas.chart`.
"""

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from math import ceil, floor, log10
from pathlib import Path
from textwrap import fill
from typing import Any, Literal, NamedTuple
from xml.dom import minidom

import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawn
from matplotlib.style import context
from matplotlib.ticker import Formatter, MaxNLocator

from neurosim.base import compact
from neurosim.records import Lack

Values = npt.NDArray[np.float64]

TIME = "simulated time (time units)"
RAMP = 24
TURNS, ALIKE = 40, 20  # of a curve that is drawn as a band; beside one that is
BAND = "A band: the value goes up and down between its edges all the time."
FALLS = "Of what falls to zero all the time the upper edge is drawn."
SEEN, STRIPE = 0.005, 3.0  # parts of an axis that can be told apart; in widths of a line
LOG_RATIO = 30.0  # values that differ by more are on a logarithmic axis
LETTERS = 13  # of the name of a vertical axis, in an inch of the chart's height
INK = "#010203"  # a colour that nothing else has, to be replaced by currentColor

# Okabe and Ito's hues, darkened or lightened until each has a contrast of 3 with its background.
_LIGHT = ("#0072b2", "#d55e00", "#00845f", "#b0578d", "#a06f00", "#3287c4")
_DARK = ("#58b5ec", "#ff8a3d", "#1fc596", "#e39cc5", "#f0b429", "#9fc9ff")


class Curve(NamedTuple):
    """Describes a line of a chart, and its entry in the legend if it has a label."""

    label: str
    x: Values = np.empty(0)
    y: Values = np.empty(0)
    colour: str = "currentColor"
    dash: str = "solid"
    width: float = 1.8
    faint: bool = False
    marked: bool = False


class Chart(NamedTuple):
    """Holds an SVG element, its size in points, and what the page says about it."""

    svg: Markup
    size: tuple[float, float]
    legend: Sequence[Curve] = ()
    note: str = ""
    scrolls: bool = False  # on a narrow page
    canvas: Any = None  # what it was drawn on, for `paper`


class Ticks(Formatter):
    """Writes ticks like `compact`, or with the digits that tell those of a narrow axis apart."""

    def __call__(self, value: float, pos: int | None = None) -> str:
        del pos
        assert self.axis is not None
        low, high = self.axis.get_view_interval()
        span = abs(high - low)
        if not span or max(abs(low), abs(high)) < 500 * span:
            return compact(value)
        return f"{value:.{min(12, max(0, 1 - floor(log10(span))))}f}"


def colours(count: int) -> list[str]:
    """Returns distinct hues for a few series, an ordered ramp for many."""
    if count <= len(_LIGHT):
        return [f"var(--q{i})" for i in range(count)]
    return [f"var(--r{round(i * (RAMP - 1) / (count - 1))})" for i in range(count)]


class Look(NamedTuple):
    """Describes how runs without a value are shown."""

    colour: str
    marker: str  # of matplotlib
    sign: str  # the same as a note writes it
    cell: dict[str, Any]  # hatching and dashes, which read on any background


LOOKS: dict[Lack, Look] = {
    "failed": Look("var(--bad)", "x", "×", {"hatch": "////"}),
    "diverged": Look("var(--bad)", "D", "◆", {"hatch": "xxxx"}),
    "never": Look("currentColor", "^", "▲", {"hatch": "---"}),
    "absent": Look("currentColor", "_", "–", {"linestyle": (0, (1, 3))}),
    "missing": Look("currentColor", "|", "|", {"linestyle": (0, (4, 3))}),
}


def palette_css(dark: bool) -> str:
    """Declares the variables that `colours` names."""
    names = [f"--q{i}:{colour}" for i, colour in enumerate(_DARK if dark else _LIGHT)]
    # Viridis without the end that the background would swallow.
    low, high = (0.3, 1.0) if dark else (0.1, 0.82)
    for i, colour in enumerate(matplotlib.colormaps["viridis"](np.linspace(low, high, RAMP))):
        names.append(f"--r{i}:{matplotlib.colors.to_hex(colour)}")
    return ";".join(names)


def style(**extra: object) -> AbstractContextManager[None]:
    """Sets matplotlib up our way, whatever the user's matplotlibrc says, and back afterwards."""
    return context([Path(__file__).with_name("page.mplstyle"), extra], after_reset=True)


class Canvas:
    """Holds one figure, to be used within `style`. Its key makes its ids unique in a page."""

    def __init__(self, key: str, x_label: str, y_label: str, height: float = 3.1) -> None:
        self.key, self.label = key, f"Chart of {y_label} against {x_label}"
        self.figure = Drawn(figsize=(5.0, height), layout="constrained")
        self.axes: Axes = self.figure.add_subplot()
        self.axes.set(xlabel=x_label, ylabel=fill(y_label, max(12, int(LETTERS * height))))
        self.axes.xaxis.set_major_formatter(Ticks())
        self.axes.spines[["top", "right"]].set_visible(False)
        self.scales: tuple[str, str] | None = None  # of x and y, as the page's script reads values
        self._names: dict[str, str] = {}
        self.inks = {"currentColor": INK}

    def plot(self, name: str, colour: str, x: Any, y: Any, **options: Any) -> None:
        """Draws a line. The name is its tooltip, the colour CSS."""
        (artist,) = self.axes.plot(x, y, color=self.ink(colour), **options)
        self.name(artist, name)

    def name(self, artist: Artist, name: str) -> None:
        """Gives an artist a tooltip."""
        gid = f"named-{len(self._names)}"
        artist.set_gid(gid)
        self._names[gid] = name

    def ink(self, css: str) -> str:
        """Returns a colour for matplotlib that nothing else has, which becomes the CSS."""
        return self.inks.setdefault(css, f"#fe{len(self.inks):04x}")

    def mark(self, begins: Sequence[float]) -> None:
        """Draws dotted lines where something begins."""
        for x in begins:
            self.axes.axvline(x, color=INK, alpha=0.5, linewidth=0.8, linestyle="dotted")

    def chart(self, legend: Sequence[Curve] = (), note: str = "", **options: Any) -> Chart:
        """Writes the SVG element: ids begin with the key, nothing leaks into the page."""
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # or equal runs would differ
        self.figure.savefig(buffer, format="svg", transparent=True, metadata=nothing, **options)
        document: Any = minidom.parseString(buffer.getvalue())
        root = document.documentElement
        width, height = (float(root.getAttribute(side)[:-2]) for side in ("width", "height"))
        root.removeAttribute("width")
        root.removeAttribute("height")
        root.setAttribute("role", "img")
        root.setAttribute("aria-label", self.label)
        if self.scales is not None:
            place, sizes = self.axes.get_position(), (width, height)
            ends = [(place.x0, place.x1), (1 - place.y0, 1 - place.y1)]
            limits = self.axes.get_xlim(), self.axes.get_ylim()
            for axis, scale, size, end, limit in zip(
                "xy", self.scales, sizes, ends, limits, strict=True
            ):
                where = [*(f"{size * part:.2f}" for part in end), *map(repr, map(float, limit))]
                root.setAttribute(f"data-{axis}", " ".join([*where, scale]))
        for element in root.getElementsByTagName("*"):
            if element.tagName == "style":
                element.parentNode.removeChild(element)
            gid = element.getAttribute("id")
            if gid in self._names and element.firstChild:  # something was drawn
                title = document.createElement("title")
                title.appendChild(document.createTextNode(self._names[gid]))
                element.insertBefore(title, element.firstChild)
            for name, value in element.attributes.items():
                element.setAttribute(name, self._value(name, value))
        svg = re.sub(r">\s+<", ">\n<", clean(root.toxml()))
        return Chart(Markup(svg), (width, height), legend, note, canvas=self)

    def _value(self, name: str, value: str) -> str:
        match name:
            case "id":
                return f"{self.key}-{value}"
            case "xlink:href" if value.startswith("#"):
                return f"#{self.key}-{value[1:]}"
            case "d":  # to a hundredth of a point
                short = re.sub(r"\d+\.\d+", lambda found: f"{round(float(found[0]), 2):g}", value)
                return " ".join(short.split())
            case "style" | "clip-path":
                css = {ink: css for css, ink in self.inks.items()}
                value = re.sub("#[0-9a-f]{6}", lambda found: css.get(found[0], found[0]), value)
                return value.replace("url(#", f"url(#{self.key}-")
        return value


def line_chart(
    key: str,
    curves: Sequence[Curve],
    x_label: str,
    y_label: str,
    note: str = "",
    scale: Literal["linear", "log", "degrees"] = "linear",
    whole: bool = False,
    begins: Sequence[float] = (),
) -> Chart | None:
    """Draws curves; returns None if there is nothing to draw.

    Args:
        key: makes the ids of the SVG element unique in a page.
        scale: of y. ``degrees`` begins at 0, ``log`` has a place of its own for zeros.
        whole: marks x at whole numbers only.
        begins: places on x where something begins.
    """
    drawn = curves = [curve for curve in curves if len(curve.x)]
    zero: float | None = None
    if not drawn:
        return None
    with style():
        canvas = Canvas(key, x_label, y_label)
        canvas.scales = "linear", "linear"
        if scale == "log":
            drawn, zero = _log_axis(canvas.axes, curves)
            canvas.scales = "linear", "log" if zero is None else f"log {zero!r}"
        else:
            canvas.axes.yaxis.set_major_formatter(Ticks())
        if not drawn:
            return None
        said, stripes = dict[str, None](), _stripes(drawn)
        # Where one of them is a band, so are those that turn as often but a few times.
        turns = ALIKE if any(_edges(curve.y, TURNS) for curve in drawn) else TURNS
        for place, curve in sorted(enumerate(drawn), key=lambda item: not item[1].faint):
            parts = {"": curve.y}
            if (edges := _edges(curve.y, turns)) is None:
                pass
            elif zero is not None and np.mean(edges[0] == zero) > 0.5:
                # It would fill the chart, down to where there is a place for zero.
                parts = {", upper edge": edges[1]}
                said[FALLS] = None
            else:
                hue, alpha = canvas.ink(curve.colour), 0.1 if curve.faint else 0.25
                band = np.r_[curve.x, curve.x[::-1]], np.r_[edges[0], edges[1][::-1]]
                canvas.axes.fill(*band, color=hue, alpha=alpha, linewidth=0)
                parts = dict(zip((", lower edge", ", upper edge"), edges, strict=True))
                said[BAND] = None
            for part, y in parts.items():
                canvas.plot(
                    curve.label + part,
                    curve.colour,
                    curve.x,
                    y,
                    linestyle=stripes.get(place, curve.dash),
                    linewidth=curve.width * (0.6 if curve.faint or len(parts) > 1 else 1.0),
                    alpha=0.4 if curve.faint else 1.0,
                    marker="o" if curve.marked or len(curve.x) == 1 else "",
                    markersize=3.5,
                )
        canvas.mark(begins)
        if whole:
            canvas.axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        if scale == "degrees":
            most = max(float(curve.y.max()) for curve in curves)
            canvas.axes.set_ylim(0.0, 1.05 * most or 1.0)
        elif scale == "linear" and not any(curve.y.any() for curve in curves):
            canvas.axes.set_ylim(0.0, 1.0)  # of what is always zero nothing is below
        if stripes:
            alike = "; ".join(drawn[place].label for place in sorted(stripes))
            said[f"In stripes, one over the other: {alike}."] = None
        legend = [c for c in curves if c.label and not c.faint]
        return canvas.chart(legend, " ".join(filter(None, [note, *said])))


def _stripes(curves: Sequence[Curve]) -> dict[int, Any]:
    """Returns by place in the list how curves are dashed that nobody could see beneath others: all
    of those that lie over each other show, one stripe after the other."""
    values = np.concatenate([curve.y for curve in curves])
    near = SEEN * float(np.ptp(values))
    groups: list[list[int]] = []
    for place, curve in enumerate(curves):
        if curve.faint or len(curve.x) < 2 or curve.dash != "solid":
            continue
        for group in groups:
            other = curves[group[0]]
            same = curve.width == other.width and np.array_equal(curve.x, other.x)
            if same and bool(np.all(np.abs(curve.y - other.y) <= near)):
                group.append(place)
                break
        else:
            groups.append([place])
    return {
        place: (STRIPE * turn, (STRIPE, STRIPE * (len(group) - 1)))
        for group in groups
        if len(group) > 1
        for turn, place in enumerate(group)
    }


def _edges(values: Values, least: int) -> tuple[Values, Values] | None:
    """Returns the least and the greatest of five neighbours, for values that turn at every second
    place or more often, and so many times at least: a line through so many is a solid block. None
    for any others."""
    steps = np.sign(np.diff(values))
    turns = np.count_nonzero(steps[1:] * steps[:-1] < 0)
    if turns < max(least, len(values) / 2):
        return None
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, 2, mode="edge"), 5)
    return windows.min(1), windows.max(1)


def clean(text: str) -> str:
    """Replaces what XML and HTML cannot hold, and half of a character, which UTF-8 cannot."""
    allowed = r"\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff"
    return re.sub(f"[^{allowed}]", "\ufffd", text)


def plain(text: str) -> str:
    """Returns a text in signs that any font can show."""
    return re.sub(r"[^\x20-\x7e°]", "?", text)


def _log_axis(axes: Axes, curves: Sequence[Curve]) -> tuple[list[Curve], float | None]:
    """Makes a logarithmic axis of whole decades; returns the curves on it, none if all are zero,
    and where zero is.

    It is a linear axis of exponents: matplotlib's own ones cannot hold all floats and a zero.
    """
    values = np.concatenate([np.empty(0), *(curve.y for curve in curves)])
    positive = values[values > 0]
    if not positive.size:
        return [], None
    low = floor(log10(positive.min()))
    high = max(ceil(log10(positive.max())), low + 1)
    step = ceil((high - low) / 6)
    ticks = [float(decade) for decade in range(low, high + 1) if decade % step == 0]
    superscripts = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    names = ["10" + f"{tick:.0f}".translate(superscripts) for tick in ticks]
    bottom = float(low)
    if len(positive) < len(values):
        bottom = low - max(0.5, 0.12 * (high - low))
        ticks, names = [bottom, *ticks], ["0", *names]
    axes.set_yticks(ticks, names)
    if step == 1:
        minor = [decade + log10(k) for decade in range(low, high) for k in range(2, 10)]
        axes.set_yticks(minor, minor=True)
    margin = 0.02 * (high - bottom)
    axes.set_ylim(bottom - margin, high + margin)
    shown = (np.full_like(curve.y, bottom) for curve in curves)
    on_it = [
        curve._replace(y=np.log10(curve.y, out=there, where=curve.y > 0))
        for curve, there in zip(curves, shown, strict=True)
    ]
    return on_it, bottom if len(positive) < len(values) else None
