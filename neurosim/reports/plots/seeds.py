"""Draws what seeds came to: curves over one axis of a sweep, and the rows of a table."""

from collections.abc import Sequence
from itertools import pairwise
from math import log10
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.ticker import MaxNLocator, NullFormatter

from neurosim.base import cut, number
from neurosim.records import LACKING, Quantity, Seeds
from neurosim.reports.plots.canvas import (
    LOG_RATIO,
    LOOKS,
    Canvas,
    Chart,
    Curve,
    Ticks,
    Values,
    colours,
    plain,
    style,
)

FAR = 12.0  # median deviations from the median, which rows out of the axis exceed
BARS = 2.0  # and median lengths of a bar
LINE = 34  # letters of a name beside a row, which has two lines

_SINGLE: dict[str, Any] = {"linestyle": "none", "clip_on": False}


def _several(seeds: Sequence[Seeds]) -> bool:
    return any(one.runs > 1 for one in seeds)


def _legend(seeds: Sequence[Seeds], hue: str) -> list[Curve]:
    """Says what is drawn; in the legend, which every form of a picture has."""
    several = "mean over the seeds; bars: least to greatest"
    return [Curve(several if _several(seeds) else "one seed", colour=hue)]


def spread_out(axis: XAxis | YAxis, values: Sequence[float], zero: bool = False) -> bool:
    """Makes an axis logarithmic if the values are far apart, or of x in steps of one factor, as
    ``log(1e-3,3e-2,3)`` are; returns True if it did.

    With ``zero`` there may be zeros among the values; they get a place of their own.
    """
    positive = [value for value in values if value > 0]
    ratio = max(positive, default=1.0) / min(positive, default=1.0)
    far = ratio > LOG_RATIO or (axis.axis_name == "x" and _in_factors(positive))
    if min(values) < 0 or not far or (len(positive) < len(values) and not zero):
        return False
    scale: Any = {"value": "log"}
    if len(positive) < len(values):  # a quarter of the axis below all others
        scale = {"value": "symlog", "linthresh": min(positive), "linscale": 0.225 * log10(ratio)}
    getattr(axis.axes, f"set_{axis.axis_name}scale")(**scale)
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(Ticks())
    return True


def _in_factors(values: Sequence[float]) -> bool:
    """Whether three values or more are each the one before times a factor, within 5 %."""
    found = sorted(set(values))
    factors = [b / a for a, b in pairwise(found)]
    return len(factors) > 1 and max(factors) <= 1.05 * min(factors) and min(factors) > 1.5


# ---- over one axis -----------------------------------------------------------------------------


def seed_chart(
    quantity: Quantity,
    x_label: str,
    values: Sequence[Any],
    texts: Sequence[str],
    seeds: Sequence[Seeds],
) -> Chart | None:
    """Draws means against one axis, with a band from the least to the greatest value.

    Numbers stand where they belong, on a logarithmic axis if they are far apart. Anything else is
    rows below each other, which have room for names. Returns None without a single value.
    """
    numbers = [n for value in values if (n := number(value)) is not None]
    if len(numbers) < len(values):
        return row_chart(quantity.key, quantity, texts, seeds, label=x_label)
    at, notes = np.array(numbers), []
    order = [int(i) for i in np.argsort(at, kind="stable") if seeds[int(i)].values]
    if not order:
        return None
    hue, x, found = colours(1)[0], at[order], [seeds[i].values for i in order]
    low, mean, high = (np.array([of(some) for some in found]) for of in (min, np.mean, max))
    with style():
        canvas = Canvas(quantity.key, plain(x_label), quantity.label)
        axes = canvas.axes
        if spread_out(axes.xaxis, numbers, zero=True):
            zero = "" if min(numbers) > 0 else ", with a place of its own for 0"
            notes.append(f"The horizontal axis is logarithmic{zero}.")
        if _several(seeds):
            axes.fill_between(x, low, high, color=canvas.ink(hue), alpha=0.2, linewidth=0)
            for place, least, most in zip(x, low, high, strict=True):
                canvas.plot("all seeds", hue, [place, place], [least, most], linewidth=1.0)
        canvas.plot(quantity.title, hue, x, mean)
        for i, place, height in zip(order, x, mean, strict=True):
            told = f"{plain(x_label)} {texts[i]}: {_told(quantity, seeds[i])}"
            canvas.plot(told, hue, [place], [height], marker="o", markersize=4.5)
        used = [lack for lack in LOOKS if any(lack in one.lacking for one in seeds)]
        for row, lack in enumerate(used):
            look = LOOKS[lack]
            counts = {i: n for i, one in enumerate(seeds) if (n := one.lacking.count(lack))}
            # In one place there may be several, one below the other.
            x, y = at[list(counts)], [0.97 - 0.07 * row] * len(counts)
            more = {"transform": axes.get_xaxis_transform(), "marker": look.marker, **_SINGLE}
            canvas.plot(LACKING[lack], look.colour, x, y, **more)
            told = ", ".join(f"{texts[i]} ({n} of {seeds[i].runs})" for i, n in counts.items())
            notes.append(f"{look.sign}\u00a0{LACKING[lack]}: {told}.")
        _mark(axes, at, texts)
        if not quantity.bounded and spread_out(axes.yaxis, [*low, *high]):
            notes.append("The vertical axis is logarithmic.")
        elif low.min() == high.max():  # matplotlib would zoom in on nothing
            margin = 0.1 * abs(low.min()) or 1.0
            axes.set_ylim(low.min() - margin, high.max() + margin)
        axes.yaxis.set_major_formatter(Ticks())
        # Room above for the signs: the part of the axis that they take, whatever its scale.
        axes.margins(y=0.05)
        above = axes.transLimits.inverted().transform((0, 1 + 0.09 * len(used)))
        axes.set_ylim(top=axes.transScale.inverted().transform(above)[1])
        return canvas.chart(_legend(seeds, hue), " ".join(notes))


def _told(quantity: Quantity, one: Seeds) -> str:
    """Says what seeds came to: their mean, and their ends where there are several."""
    text = f"{quantity.show(one.mean or 0.0)} {quantity.unit}".rstrip()
    if len(one.values) > 1:
        ends = map(quantity.show, (min(one.values), max(one.values)))
        text += f" ({' to '.join(ends)}, {len(one.values)} seeds)"
    return text


def _mark(axes: Axes, at: Values, texts: Sequence[str]) -> None:
    """Marks the swept values; of those whose names would overlap, the first one is named."""
    places = axes.xaxis.get_transform().transform(at)
    signs = 62  # that fit side by side below the axis
    width = float(np.ptp(places)) / signs or 1.0
    names = [cut(plain(text), 12) for text in texts]
    taken = -np.inf  # where the name before ends
    for i in np.argsort(places, kind="stable"):
        half = (len(names[i]) + 1) / 2 * width
        if places[i] - half >= taken:
            taken = places[i] + half
        else:
            names[i] = ""
    axes.set_xticks(at, names)
    axes.set_xticks([], minor=True)
    axes.margins(x=0.06)


# ---- a table -----------------------------------------------------------------------------------


def row_chart(
    key: str,
    quantity: Quantity,
    labels: Sequence[str],
    seeds: Sequence[Seeds],
    published: Sequence[tuple[float, float] | None] = (),
    label: str = "",
) -> Chart | None:
    """Draws mean and range of the seeds of every row, the first row on top.

    ``published`` has mean and standard deviation of those rows that have them; ``label`` names what
    the rows are. On a ``focus`` axis
    the value of a row far off all others stands at its end, or small differences could not be seen.
    Returns None without a single value.
    """
    values = [value for one in seeds for value in one.values]
    if not values:
        return None
    ours, theirs = colours(2)
    published = published or [None] * len(labels)
    legend, notes = _legend(seeds, ours), list[str]()
    if any(published):
        legend.append(Curve("published, ± standard deviation", colour=theirs))
    with style():
        names = _fitting(labels)
        row_height = 0.37 if any("\n" in name for name in names) else 0.27
        canvas = Canvas(key, quantity.label, plain(label), height=0.8 + row_height * len(labels))
        axes = canvas.axes
        outside = _far_off(seeds) if quantity.axis == "focus" else {}
        for row, (name, one, reference) in enumerate(zip(labels, seeds, published, strict=True)):
            if reference is not None:
                (middle, std), at, told = reference, row + 0.25, f"{name}, published"
                canvas.plot(told, theirs, [middle - std, middle + std], [at, at], linewidth=1.0)
                told += f": {quantity.show(middle)}"
                canvas.plot(told, theirs, [middle], [at], marker="D", markersize=4)
            if (mean := one.mean) is None:
                continue
            shown = quantity.show(mean)
            if row in outside:
                x, side, text = (0.99, "right", f"{shown} →")
                if outside[row]:
                    x, side, text = (0.01, "left", f"← {shown}")
                place: Any = {"transform": axes.get_yaxis_transform(), "ha": side, "va": "center"}
                axes.text(x, row, text, fontsize=9, **place)
                continue
            canvas.plot(name, ours, [min(one.values), max(one.values)], [row, row], linewidth=1.2)
            canvas.plot(f"{name}: {_told(quantity, one)}", ours, [mean], [row], marker="o")
        if lacking := {row: one for row, one in enumerate(seeds) if one.lacking}:
            more = {"transform": axes.get_yaxis_transform(), "marker": "x", **_SINGLE}
            nowhere, rows = [0.0] * len(lacking), list(lacking)
            canvas.plot("without a value", "var(--bad)", nowhere, rows, **more)
            words = (
                f"{labels[row]} ({LACKING[one.lack]}, {len(one.lacking)} of {one.runs})"
                for row, one in lacking.items()
            )
            notes.append(f"×\u00a0without a value: {', '.join(words)}.")
        if quantity.axis == "log" and not quantity.bounded and spread_out(axes.xaxis, values):
            notes.append("The axis is logarithmic.")
        else:  # steps of 25 would need another digit
            axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        axes.set_yticks(range(len(labels)), names)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        return canvas.chart(legend, " ".join(notes))


def _fitting(labels: Sequence[str]) -> list[str]:
    """Returns every name in a line, or in two: of what is longer still the end is left out, or the
    middle, where that tells it from others better."""
    names = [plain(label) for label in labels]
    for middle in (False, True):
        short = [name if len(name) <= LINE else _two_lines(name, middle) for name in names]
        if len(set(short)) == len(set(names)):
            break
    return short


def _two_lines(name: str, middle: bool) -> str:
    parts = wrap(name.replace(": ", ":\u00a0"), LINE)  # a key stays with its value
    first, *rest = (part.replace("\u00a0", " ") for part in parts)
    second = " ".join(rest)
    if len(second) > LINE:
        second = f"…{second[1 - LINE :]}" if middle else cut(second, LINE)
    return f"{first}\n{second}"


def _far_off(seeds: Sequence[Seeds]) -> dict[int, bool]:
    """Returns the rows that are far off the others: True for those below them."""
    means = {row: mean for row, one in enumerate(seeds) if (mean := one.mean) is not None}
    values = np.array(list(means.values()))
    middle = float(np.median(values))
    # Where most are alike, anything else would be far off; where seeds differ, what does as much
    # takes no more room than their bars.
    bars = [max(one.values) - min(one.values) for one in seeds if one.values]
    far = max(FAR * float(np.median(np.abs(values - middle))), BARS * float(np.median(bars)))
    far = far or np.inf
    return {row: mean < middle for row, mean in means.items() if abs(mean - middle) > far}
