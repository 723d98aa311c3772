"""The figures of a report: pure functions from recorded numbers to inline SVG.

Text and axes are drawn in ``currentColor`` and series in CSS variables (`palette_css`), so that one
figure reads well on a light and on a dark page. Legends are left to the page: there they wrap.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from itertools import pairwise
from math import ceil, floor, isfinite, log10
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

Record = Mapping[str, Any]
Moment = tuple[int, int]  # the (epoch, step) of the inference that a trace belongs to
Traces = Mapping[Moment, Sequence[Record]]
Wake = tuple[float, str, npt.NDArray[np.int64] | None]
Floats = npt.NDArray[np.float64]

MAX_SEGMENTS = 20_000  # of a raster: about half a megabyte
MAX_POINTS = 600  # of one line: more than a screen has pixels for
RAMP = 24
TIME = "simulated time (time units)"
EPOCHS = "training (epochs)"
_TEXT = "#010203"  # a colour that nothing else has, to be replaced by currentColor

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


# ---- numbers and colours -----------------------------------------------------------------------


def number(value: object) -> float | None:
    """The value of a finite number; anything else, and what no axis could hold, is None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 and isfinite(value) else None


def compact(value: float, _: object = None) -> str:
    """``589824`` → ``589.8 k``; small numbers as they are. Also matplotlib's tick formatter."""
    for least, unit, suffix in (
        (1e12, 1e12, "T"),
        (1e9, 1e9, "G"),
        (1e6, 1e6, "M"),
        (1e4, 1e3, "k"),
    ):
        if least <= abs(value) < 1e15:
            return f"{value / unit:.4g} {suffix}"
    return f"{value:.4g}"


def colours(count: int) -> list[str]:
    """Distinct hues for a few series; for many an ordered ramp, input side to output side."""
    if count <= len(_LIGHT):
        return [f"var(--q{i})" for i in range(count)]
    return [f"var(--r{round(i * (RAMP - 1) / (count - 1))})" for i in range(count)]


def palette_css(dark: bool) -> str:
    """The declarations of the variables that `colours` names."""
    names = [f"--q{i}:{colour}" for i, colour in enumerate(_DARK if dark else _LIGHT)]
    # Viridis without the end that the background would swallow.
    low, high = (0.3, 1.0) if dark else (0.0, 0.82)
    for i, colour in enumerate(matplotlib.colormaps["viridis"](np.linspace(low, high, RAMP))):
        names.append(f"--r{i}:#" + "".join(f"{round(255 * part):02x}" for part in colour[:3]))
    return ";".join(names)


# ---- drawing -----------------------------------------------------------------------------------


@contextmanager
def _style() -> Iterator[None]:
    """Our settings of matplotlib, whatever the user's matplotlibrc says, and theirs afterwards."""
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    ours = dict.fromkeys((*ink, "grid.color"), _TEXT) | {
        "svg.fonttype": "none",
        "svg.hashsalt": "neurosim",
        "text.parse_math": False,  # a "$" in a name is a "$"
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.alpha": 0.15,
        "axes.linewidth": 0.6,
        "font.size": 9,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(ours)
        yield


class _Canvas:
    """One matplotlib figure with one axes."""

    def __init__(self, key: str, x_label: str, y_label: str, height: float = 3.1) -> None:
        self.key, self.labels = key, (x_label, y_label)
        self.figure = Figure(figsize=(5.2, height), layout="constrained")
        self.axes: Axes = self.figure.add_subplot()
        self.axes.set(xlabel=x_label, ylabel=y_label)
        self.axes.xaxis.set_major_formatter(FuncFormatter(compact))
        self.axes.spines[["top", "right"]].set_visible(False)
        self._names: list[str] = []
        self._css = {_TEXT: "currentColor"}

    def plot(self, label: str, colour: str, x: Floats, y: Floats, **options: Any) -> None:
        sentinel = f"#fe{len(self._css):04x}"
        self._css[sentinel] = colour
        (artist,) = self.axes.plot(x, y, color=sentinel, **options)
        artist.set_gid(f"series-{len(self._names)}-")
        self._names.append(label)

    def svg(self) -> str:
        """The SVG element, its ids prefixed with the key of the figure and nothing global in it."""
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
        label = "{1} against {0}".format(*self.labels)
        return text.replace("<svg ", f'<svg role="img" aria-label="Chart of {label}" ', 1)


def _short(path: str) -> str:
    """The same path to a hundredth of a point, with vertical strokes as such."""
    path = re.sub(
        r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), path
    )
    path = re.sub(r"M (\S+) (\S+) \nL \1 (\S+) \n(?=M|$)", r"M\1 \2V\3", path)
    return " ".join(path.split())


def _chart(
    key: str, lines: Sequence[Line], x: str, y: str, note: str = "", scale: str = "linear"
) -> Chart | None:
    """A line chart, ``scale`` linear, log or degrees; None if there is nothing to draw."""
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return None
    with _style():
        canvas = _Canvas(key, x, y)
        if scale == "log":
            zero = _log_axis(canvas.axes, np.concatenate([line.y for line in lines]))
            if zero is None:
                return None
            with np.errstate(divide="ignore"):
                lines = [q._replace(y=np.maximum(np.log10(q.y), zero)) for q in lines]
        else:
            canvas.axes.yaxis.set_major_formatter(FuncFormatter(compact))
        for line in sorted(lines, key=lambda line: not line.faint):  # the strong ones on top
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
        if x == EPOCHS:
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
    if (values == 0).any():
        bottom = low - max(0.5, 0.12 * (high - low))
        ticks, names = [bottom, *ticks], ["0", *names]
    axes.set_yticks(ticks, names)
    if step == 1:
        minor = [decade + log10(k) for decade in range(low, high) for k in range(2, 10)]
        axes.yaxis.set_minor_locator(FixedLocator(minor))
    margin = 0.02 * (high - bottom)
    axes.set_ylim(bottom - margin, high + margin)
    return bottom


# ---- learning ----------------------------------------------------------------------------------

Place = Callable[[Record], float | None]


def _points(records: Sequence[Record], x: Place, y: Place) -> tuple[Floats, Floats]:
    """x and y of the records that have both, thinned to what can be seen; the last one stays."""
    pairs = [(a, b) for r in records if (a := x(r)) is not None and (b := y(r)) is not None]
    kept = pairs[:: -max(1, ceil(len(pairs) / MAX_POINTS))][::-1]
    array = np.array(kept, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _value(key: str) -> Place:
    return lambda record: number(record.get(key))


def loss_chart(steps: Sequence[Record], epochs: Sequence[Record]) -> Chart | None:
    """Training and test loss against epochs; against steps as long as no epoch has ended."""
    ends = [(0.0, 0.0)]
    for record in epochs:
        step, epoch = number(record.get("step")), number(record.get("epoch"))
        if step is not None and epoch is not None and step > ends[-1][0]:
            ends.append((step, epoch))
    at = np.array(ends)

    def epoch_of(record: Record) -> float | None:
        step = number(record.get("step"))
        if step is None or len(ends) == 1:
            return step
        # Steps of an epoch that has not ended: at the pace of the one before.
        pace = (at[-1, 1] - at[-2, 1]) / (at[-1, 0] - at[-2, 0])
        return float(np.interp(step, at[:, 0], at[:, 1]) + max(0.0, step - at[-1, 0]) * pace)

    hues = colours(2)
    training, mean, test = (
        _points(steps, epoch_of, _value("loss")),
        _points(epochs, _value("epoch"), _value("train_loss")),
        _points(epochs, _value("epoch"), _value("test_loss")),
    )
    few = len(epochs) <= 40
    lines = [Line("training, single steps", *training, hues[0], width=0.7)]
    if len(ends) > 1:
        lines.append(Line("training, mean of the epoch", *mean, hues[0], marked=few))
        lines.append(Line("test", *test, hues[1], marked=few))
    values = np.concatenate([line.y for line in lines])
    wide = bool(values.size and values.min() > 0 and values.max() / 100 > values.min())
    x_label = EPOCHS if len(ends) > 1 else "training (steps)"
    label = "loss (mean per sample)"
    return _chart("loss", lines, x_label, label, scale="log" if wide else "linear")


def accuracy_chart(epochs: Sequence[Record]) -> Chart | None:
    """Test and validation accuracy in percent against epochs."""
    lines = []
    for name, colour in zip(("test", "validation"), colours(3)[1:], strict=True):
        x, y = _points(epochs, _value("epoch"), _value(f"{name}_accuracy"))
        lines.append(Line(name, x, 100.0 * y, colour, marked=len(x) <= 40))
    return _chart("accuracy", lines, EPOCHS, "accuracy (%)")


# ---- one inference -----------------------------------------------------------------------------


def time_of(record: Record) -> float | None:
    """The simulated time of a record; its tick if it has none."""
    time = number(record.get("time"))
    return number(record.get("tick")) if time is None else time


def moment_text(moment: Moment) -> str:
    return f"epoch {moment[0]:,}, step {moment[1]:,}"


def names_in(traces: Traces, group: str, order: Sequence[str] = ()) -> list[str]:
    """The names under ``group`` of all records, those in ``order`` first."""
    found: dict[str, None] = {}
    for records in traces.values():
        for record in records:
            if isinstance(record.get(group), Mapping):
                found |= dict.fromkeys(record[group])
    return [*(n for n in order if n in found), *(n for n in found if n not in set(order))]


def _traced(traces: Traces, series: Sequence[tuple[Line, Place]]) -> tuple[list[Line], str]:
    """Every series at the last inference, and faintly at a few before it: what learning changed."""
    drawn: dict[Moment, list[Line]] = {}
    *earlier, last = sorted(traces) or [(0, 0)]
    # Many series: the first inference is enough.
    stride = max(1, ceil(len(earlier) / (3 if len(series) <= 6 else 1)))
    for moment in (*earlier[::stride], last):
        for line, value in series:
            x, y = _points(traces.get(moment, ()), time_of, value)
            if len(x):
                drawn.setdefault(moment, []).append(line._replace(x=x, y=y))
    if not drawn:
        return [], ""
    *before, strong = drawn
    faint = [line._replace(faint=True) for moment in before for line in drawn[moment]]
    note = f"Inference at {moment_text(strong)}."
    if before:
        note += f" Faint: at {'; '.join(map(moment_text, before))}."
    return [*faint, *drawn[strong]], note


def _within(group: str, name: str) -> Place:
    def value(record: Record) -> float | None:
        values = record.get(group)
        return number(values.get(name)) if isinstance(values, Mapping) else None

    return value


def residual_chart(traces: Traces, kind: str, order: Sequence[str]) -> Chart | None:
    """The residual of the ``kind`` (mean or difference) on a log axis, by population."""
    names = names_in(traces, kind, order)
    series = [
        (Line(name, colour=colour), _within(kind, name))
        for name, colour in zip(names, colours(len(names)), strict=True)
    ]
    series.append((Line("all populations", width=2.4), _value(f"total_{kind}")))
    lines, note = _traced(traces, series)
    label = f"residual of the {kind}, ‖s − T(s)‖ / ‖s‖ (relative)"
    return _chart(f"residual-{kind}", lines, TIME, label, note, scale="log")


def angle_chart(traces: Traces, order: Sequence[str]) -> Chart | None:
    """The angle of the local gradient to back-propagation in degrees, by parameter.

    Parameters of the same population or projection share a colour; the dash tells them apart.
    """
    dashes = {"weight": "solid", "bias": "dashed", "feedback": "dotted"}
    names = names_in(traces, "angle", order)
    owners = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    hues = dict(zip(owners, colours(len(owners)), strict=True))
    series = []
    for name in names:
        owner, _, kind = name.rpartition(".")
        line = Line(name, colour=hues[owner], dash=dashes.get(kind, "dashdot"))
        series.append((line, _within("angle", name)))
    series.append((Line("all parameters", width=2.4), _value("total_angle")))
    lines, note = _traced(traces, series)
    return _chart("angle", lines, TIME, "angle to back-propagation (°)", note, scale="degrees")


def count_chart(traces: Traces, key: str, label: str, series: Mapping[str, str]) -> Chart | None:
    """Counts since the start of the inference; ``series`` maps keys of the records to labels."""
    hues = colours(len(series))
    wanted = [
        (Line(name, colour=hue), _value(field))
        for (field, name), hue in zip(series.items(), hues, strict=True)
    ]
    lines, note = _traced(traces, wanted)
    return _chart(key, lines, TIME, f"{label} (count since start)", note)


def wake_chart(moment: Moment, wakes: Sequence[Wake], sizes: Mapping[str, int]) -> Chart | None:
    """A raster: time × neuron, populations stacked in the order of ``sizes``.

    Neighbours that wake together are one stroke; of more than `MAX_SEGMENTS` strokes a fixed
    random choice is drawn.
    """
    names = list(sizes)
    parts = []
    for time, name, indices in wakes:
        flat = np.arange(sizes[name]) if indices is None else np.unique(indices)
        cuts = np.flatnonzero(np.diff(flat) > 1)
        first, last = flat[np.r_[0, cuts + 1]], flat[np.r_[cuts, len(flat) - 1]]
        parts.append(np.broadcast_arrays(names.index(name), time, first, last + 1.0))
    if not parts:
        return None
    strokes = np.concatenate([np.column_stack(part) for part in parts])
    note = f"Inference at {moment_text(moment)}."
    if len(strokes) > MAX_SEGMENTS:
        note += f" {MAX_SEGMENTS:,} of {len(strokes):,} strokes are drawn."
        chosen = np.random.default_rng(0).choice(len(strokes), MAX_SEGMENTS, replace=False)
        strokes = strokes[np.sort(chosen)]
    # A band is as high as its share of the neurons, but at least as high as its label.
    counts = np.array(list(sizes.values()), dtype=np.float64)
    shares = np.maximum(counts / counts.sum(), 1.0 / max(14, len(names)))
    if shares.sum() > 1.0 + 1e-9:
        note += " Small populations are drawn higher than their share of the neurons."
    edges = np.r_[0.0, np.cumsum(shares / shares.sum())]
    inches = 0.8 + max(2.6, 0.21 * len(names) / min(1.0, shares.sum()))
    with _style():
        matplotlib.rcParams["path.simplify"] = False  # it would join strokes
        canvas = _Canvas("wakes", TIME, "neuron (flat index, by population)", inches)
        tall = 0.7 / (72 * (inches - 0.8))  # the least that can be seen
        for index, (name, hue) in enumerate(zip(names, colours(len(names)), strict=True)):
            time, first, last = strokes[strokes[:, 0] == index, 1:].T
            scale = (edges[index + 1] - edges[index]) / counts[index]
            low, high = edges[index] + scale * first, edges[index] + scale * last
            gap = np.full_like(time, np.nan)
            x = np.column_stack([time, time, gap]).ravel()
            y = np.column_stack([low, np.maximum(high, low + tall), gap]).ravel()
            canvas.plot(name, hue, x, y, linewidth=1.2, solid_capstyle="butt")
        labels = [f"{_plain(name)} ({compact(size)})" for name, size in sizes.items()]
        canvas.axes.set_yticks((edges[1:] + edges[:-1]) / 2, labels)
        canvas.axes.tick_params(axis="y", length=0)
        canvas.axes.grid(visible=False, axis="y")
        for edge in edges:
            canvas.axes.axhline(edge, color=_TEXT, alpha=0.3, linewidth=0.5)
        canvas.axes.set_ylim(0.0, 1.0)
        return Chart(canvas.svg(), (), note)


def _plain(name: str) -> str:
    """A name that any font can show, and that leaves room for the axes."""
    name = re.sub(r"[^\w .>-]", "?", name, flags=re.ASCII)
    return name if len(name) <= 16 else name[:15] + "…"
