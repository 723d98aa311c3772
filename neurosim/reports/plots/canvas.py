"""From lines to an SVG element, with matplotlib but without any of its global state."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from math import ceil, floor, log10
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, Formatter, MaxNLocator

from neurosim.base import compact

Floats = npt.NDArray[np.float64]

RAMP = 24
INK = "#010203"  # a colour that nothing else has, to be replaced by currentColor

# Okabe and Ito's hues, darkened or lightened until each has a contrast of 3 with its background.
_LIGHT = ("#0072b2", "#d55e00", "#00845f", "#b0578d", "#a06f00", "#3287c4")
_DARK = ("#58b5ec", "#ff8a3d", "#1fc596", "#e39cc5", "#f0b429", "#9fc9ff")


class Line(NamedTuple):
    """One series of a chart; its label, colour and dash are an entry of the legend."""

    label: str
    x: Floats = np.empty(0)
    y: Floats = np.empty(0)
    colour: str = "currentColor"
    dash: str = "solid"
    width: float = 1.8
    faint: bool = False
    marked: bool = False


class Chart(NamedTuple):
    """A figure: an SVG element and what the page says about it."""

    svg: str
    legend: tuple[Line, ...]
    note: str


class Ticks(Formatter):
    """`compact`, or as many digits as tell the ticks of a narrow axis apart."""

    def __call__(self, value: float, pos: int | None = None) -> str:
        del pos
        assert self.axis is not None
        low, high = self.axis.get_view_interval()
        span = abs(high - low)
        if not span or max(abs(low), abs(high)) < 500 * span:
            return compact(value)
        return f"{value:.{min(12, max(0, 1 - floor(log10(span))))}f}"


def colours(count: int) -> list[str]:
    """Distinct hues for a few series; for many an ordered ramp, input side to output side."""
    if count <= len(_LIGHT):
        return [f"var(--q{i})" for i in range(count)]
    return [f"var(--r{round(i * (RAMP - 1) / (count - 1))})" for i in range(count)]


def palette_css(dark: bool) -> str:
    """The declarations of the variables that `colours` names."""
    names = [f"--q{i}:{colour}" for i, colour in enumerate(_DARK if dark else _LIGHT)]
    # Viridis without the end that the background would swallow.
    low, high = (0.3, 1.0) if dark else (0.1, 0.82)
    for i, colour in enumerate(matplotlib.colormaps["viridis"](np.linspace(low, high, RAMP))):
        names.append(f"--r{i}:#" + "".join(f"{round(255 * part):02x}" for part in colour[:3]))
    return ";".join(names)


@contextmanager
def style(**extra: object) -> Iterator[None]:
    """Our settings of matplotlib, whatever the user's matplotlibrc says, and theirs afterwards."""
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    ours: Any = dict.fromkeys((*ink, "grid.color"), INK) | {
        "svg.fonttype": "none",
        "svg.hashsalt": "neurosim",
        "text.parse_math": False,  # a "$" in a name is a "$"
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.alpha": 0.15,
        "axes.linewidth": 0.6,
        "font.size": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(ours | extra)
        yield


class Canvas:
    """One figure with one axes; to be used within `style`. Its key makes its ids unique."""

    def __init__(self, key: str, x_label: str, y_label: str, height: float = 3.1) -> None:
        self.key, self.label = key, f"{y_label} against {x_label}"
        self.figure = Figure(figsize=(5.0, height), layout="constrained")
        self.axes: Axes = self.figure.add_subplot()
        self.axes.set(xlabel=x_label, ylabel=y_label)
        self.axes.xaxis.set_major_formatter(Ticks())
        self.axes.spines[["top", "right"]].set_visible(False)
        self._names: list[str] = []
        self._css = {INK: "currentColor"}

    def plot(self, label: str, colour: str, x: Floats, y: Floats, **options: Any) -> None:
        (artist,) = self.axes.plot(x, y, color=self._sentinel(colour), **options)
        artist.set_gid(f"series-{len(self._names)}-")
        self._names.append(label)

    def band(self, colour: str, x: Floats, low: Floats, high: Floats) -> None:
        """The area between two lines, faintly."""
        self.axes.fill_between(x, low, high, color=self._sentinel(colour), alpha=0.2, linewidth=0)

    def mark(self, begins: Sequence[float]) -> None:
        """Where something begins."""
        for x in begins:
            self.axes.axvline(x, color=INK, alpha=0.5, linewidth=0.8, linestyle="dotted")

    def _sentinel(self, colour: str) -> str:
        """A colour for matplotlib that nothing else has, to be replaced by the CSS ``colour``."""
        sentinel = f"#fe{len(self._css):04x}"
        self._css[sentinel] = colour
        return sentinel

    def svg(self) -> str:
        """The SVG element: ids prefixed with the key, nothing that would leak into the page."""
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # or equal runs would differ
        self.figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
        text = buffer.getvalue()
        text = text[text.index("<svg") :].strip()
        text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
        text = re.sub(r'\bd="([^"]*)"', lambda match: f'd="{_short(match[1])}"', text)
        text = re.sub(r"font-family: [^;\"]*;?", "", text)  # the font of the page
        text = re.sub(r' width="[^"]*pt" height="[^"]*pt"', "", text, count=1)
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.key}-", text)
        for sentinel, css in self._css.items():
            text = text.replace(sentinel, css)
        for index, name in enumerate(self._names):
            group = f'<g id="{self.key}-series-{index}-">'
            text = text.replace(group, f"{group}<title>{escape(name)}</title>")
        return text.replace("<svg ", f'<svg role="img" aria-label="Chart of {self.label}" ', 1)


def _short(path: str) -> str:
    """The same path to a hundredth of a point, with vertical strokes as such."""
    path = re.sub(r"-?\d+\.\d+", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), path)
    path = re.sub(r"M (\S+) (\S+) \nL \1 (\S+) \n(?=M|$)", r"M\1 \2V\3", path)
    return " ".join(path.split())


def line_chart(
    key: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    note: str = "",
    scale: Literal["linear", "log", "degrees"] = "linear",
    whole: bool = False,
    begins: Sequence[float] = (),
) -> Chart | None:
    """None if there is nothing to draw. ``whole``: x is marked at whole numbers only. ``begins``
    are places on x where something begins."""
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return None
    with style():
        canvas = Canvas(key, x_label, y_label)
        drawn = lines
        if scale == "log":
            zero = _log_axis(canvas.axes, np.concatenate([line.y for line in lines]))
            if zero is None:
                return None
            drawn = [line._replace(y=_log(line.y, zero)) for line in lines]
        else:
            canvas.axes.yaxis.set_major_formatter(Ticks())
        for line in sorted(drawn, key=lambda line: not line.faint):  # the strong ones on top
            canvas.plot(
                line.label,
                line.colour,
                line.x,
                line.y,
                linestyle=line.dash,
                linewidth=line.width * (0.6 if line.faint else 1.0),
                alpha=0.4 if line.faint else 1.0,
                marker="o" if line.marked or len(line.x) == 1 else "",
                markersize=3.5,
            )
        canvas.mark(begins)
        if whole:
            canvas.axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if scale == "degrees":
            canvas.axes.set_ylim(0.0, 1.05 * max(float(line.y.max()) for line in lines) or 1.0)
        return Chart(canvas.svg(), tuple(line for line in lines if not line.faint), note)


def _log_axis(axes: Axes, values: Floats) -> float | None:
    """A logarithmic axis of whole decades; returns where zeros are drawn, None if all are zero.

    It is a linear axis of exponents: matplotlib's own log axis has no place for a zero.
    """
    positive = values[values > 0]
    if not positive.size:
        return None
    low = floor(log10(positive.min()))
    high = max(ceil(log10(positive.max())), low + 1)
    step = ceil((high - low) / 6)
    ticks = [float(decade) for decade in range(low, high + 1) if decade % step == 0]
    superscripts = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    names = ["10" + f"{tick:.0f}".translate(superscripts) for tick in ticks]
    bottom = float(low)
    if (values <= 0).any():
        bottom = low - max(0.5, 0.12 * (high - low))
        ticks, names = [bottom, *ticks], ["0", *names]
    axes.set_yticks(ticks, names)
    if step == 1:
        minor = [decade + log10(k) for decade in range(low, high) for k in range(2, 10)]
        axes.yaxis.set_minor_locator(FixedLocator(minor))
    margin = 0.02 * (high - bottom)
    axes.set_ylim(bottom - margin, high + margin)
    return bottom


def _log(values: Floats, zero: float) -> Floats:
    exponents = np.full_like(values, zero)
    np.log10(values, out=exponents, where=values > 0)
    return exponents
