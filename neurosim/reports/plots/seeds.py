"""Draws what seeds came to: curves over one axis of a sweep, and the rows of a table."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from neurosim.base import cut, number
from neurosim.records import LACKING, Lack, Quantity, Seeds
from neurosim.reports.plots.canvas import (
    LOG_RATIO,
    Canvas,
    Chart,
    Curve,
    Ticks,
    Values,
    colours,
    exponents,
    plain,
    spread_out,
    style,
)

FAR = 12.0  # median deviations from the median, which rows out of the axis exceed

# Of matplotlib, and as the note writes it.
_SIGNS: dict[Lack, tuple[str, str]] = {
    "failed": ("x", "×"),
    "diverged": ("D", "◆"),
    "never": ("^", "▲"),
    "absent": ("_", "–"),
    "missing": ("|", "|"),
}


def _legend(seeds: Sequence[Seeds], hue: str) -> list[Curve]:
    several = any(one.runs > 1 for one in seeds)
    return [Curve("mean over the seeds" if several else "one seed", colour=hue)]


# ---- over one axis -----------------------------------------------------------------------------


def seed_chart(
    quantity: Quantity,
    x_label: str,
    values: Sequence[Any],
    texts: Sequence[str],
    seeds: Sequence[Seeds],
) -> Chart | None:
    """Draws means against one axis, with a band from the least to the greatest value.

    Numbers stand where they belong, on a logarithmic axis if they are far apart; anything else is
    evenly spaced, without lines between.

    Returns:
        The chart, or None without a single value.
    """
    numbers = [n for value in values if (n := number(value)) is not None]
    numeric = len(numbers) == len(values)
    at, note = _places(numbers) if numeric else (np.arange(len(texts), dtype=np.float64), "")
    order = [int(i) for i in np.argsort(at, kind="stable") if seeds[int(i)].values]
    if not order:
        return None
    hue = colours(1)[0]
    found = [seeds[i].values for i in order]
    low, high = np.array([min(v) for v in found]), np.array([max(v) for v in found])
    several = any(one.runs > 1 for one in seeds)
    with style():
        canvas = Canvas(quantity.key, plain(x_label), quantity.label)
        axes, x = canvas.axes, at[order]
        if several:
            if numeric:
                axes.fill_between(x, low, high, color=canvas.ink(hue), alpha=0.2, linewidth=0)
            for place, least, most in zip(x, low, high, strict=True):
                canvas.plot("all seeds", hue, [place, place], [least, most], linewidth=1.0)
            words = "Band and bars" if numeric else "Bars"
            note = f"{words}: from the least to the greatest seed. {note}"
        dash, mean = "solid" if numeric else "none", [np.mean(v) for v in found]
        canvas.plot(quantity.title, hue, x, mean, linestyle=dash, marker="o", markersize=4.5)
        used = [lack for lack in _SIGNS if any(lack in one.lacking for one in seeds)]
        for row, lack in enumerate(used):
            marker, sign = _SIGNS[lack]
            counts = {
                i: one.lacking.count(lack) for i, one in enumerate(seeds) if lack in one.lacking
            }
            canvas.plot(
                LACKING[lack],
                "var(--bad)" if lack in ("failed", "diverged") else "currentColor",
                at[list(counts)],
                [0.97 - 0.07 * row] * len(counts),  # in one place there may be several
                transform=axes.get_xaxis_transform(),
                linestyle="none",
                marker=marker,
            )
            told = (f"{texts[i]} ({count} of {seeds[i].runs})" for i, count in counts.items())
            note += f" {sign}\u00a0{LACKING[lack]}: {', '.join(told)}."
        _mark(canvas, at, texts, numeric)
        if spread_out(axes, "y", [*low, *high]):
            note += " The vertical axis is logarithmic."
        elif low.min() == high.max():  # matplotlib would zoom in on nothing
            margin = 0.1 * abs(low.min()) or 1.0
            axes.set_ylim(low.min() - margin, high.max() + margin)
        axes.yaxis.set_major_formatter(Ticks())
        # Room above for the signs: the part of the axis that they take, whatever its scale.
        axes.margins(y=0.05)
        above = axes.transLimits.inverted().transform((0, 1 + 0.09 * len(used)))
        axes.set_ylim(top=axes.transScale.inverted().transform(above)[1])
        return canvas.chart(_legend(seeds, hue), note.strip())


def _places(numbers: Sequence[float]) -> tuple[Values, str]:
    """Returns where numbers stand on the axis, and what is to be said about it."""
    values = np.array(numbers)
    positive = values[values > 0]
    if (values < 0).any() or not positive.size or positive.max() / positive.min() <= LOG_RATIO:
        return values, ""
    low, high = np.log10(positive.min()), np.log10(positive.max())
    zero = ", with a place of its own for 0" if positive.size < values.size else ""
    places = exponents(values, float(low - 0.25 * (high - low)))
    return places, f"The horizontal axis is logarithmic{zero}."


def _mark(canvas: Canvas, at: Values, texts: Sequence[str], numeric: bool) -> None:
    """Marks the swept values; of those whose names would overlap, the first one is named."""
    span = float(at.max() - at.min()) or 1.0
    signs = 62  # that fit side by side below the axis
    long = 12 if numeric else max(6, signs // len(texts))
    names = [_lines(text, long) for text in texts]
    taken = -np.inf  # where the name before ends
    for i in np.argsort(at, kind="stable"):
        half = (max(map(len, names[i].splitlines())) + 1) / 2 / signs * span
        if at[i] - half >= taken:
            taken = at[i] + half
        else:
            names[i] = ""
    canvas.axes.set_xticks(at, names)
    margin = 0.06 * span if len(texts) > 1 else 1.0
    canvas.axes.set_xlim(at.min() - margin, at.max() + margin)


def _lines(text: str, long: int) -> str:
    """Breaks a name into at most three lines."""
    lines = wrap(plain(text), long, break_long_words=True) or [" "]
    return "\n".join(lines if len(lines) <= 3 else [*lines[:2], cut(lines[2] + "…", long)])


# ---- a table -----------------------------------------------------------------------------------


def row_chart(
    key: str,
    quantity: Quantity,
    labels: Sequence[str],
    seeds: Sequence[Seeds],
    published: Sequence[tuple[float, float] | None],
) -> Chart | None:
    """Draws mean and range of the seeds of every row, the first row on top.

    ``published`` has mean and standard deviation of those rows that have them. On a ``focus`` axis
    the value of a row far off all others stands at its end, or small differences could not be seen.

    Returns:
        The chart, or None without a single value.
    """
    if not any(one.values for one in seeds):
        return None
    ours, theirs = colours(2)
    legend, notes = _legend(seeds, ours), []
    if any(one.runs > 1 for one in seeds):
        notes.append("Bars: from the least to the greatest seed.")
    if any(published):
        legend.append(Curve("published, ± standard deviation", colour=theirs))
    with style():
        canvas = Canvas(key, quantity.label, "", height=0.8 + 0.27 * len(labels))
        axes = canvas.axes
        outside = _far_off(seeds) if quantity.axis == "focus" else {}
        for row, (label, one, reference) in enumerate(zip(labels, seeds, published, strict=True)):
            if reference is not None:
                middle, std = reference
                told, at = f"{label}, published", row + 0.25
                canvas.plot(told, theirs, [middle - std, middle + std], [at, at], linewidth=1.0)
                told += f": {quantity.show(middle)}"
                canvas.plot(told, theirs, [middle], [at], marker="D", markersize=4)
            if (mean := one.mean) is None:
                continue
            shown = quantity.show(mean)
            if row in outside:
                left = outside[row]
                axes.text(
                    0.01 if left else 0.99,
                    row,
                    f"← {shown}" if left else f"{shown} →",
                    transform=axes.get_yaxis_transform(),
                    ha="left" if left else "right",
                    va="center",
                    fontsize=9,
                )
                continue
            canvas.plot(label, ours, [min(one.values), max(one.values)], [row, row], linewidth=1.2)
            canvas.plot(f"{label}: {shown} {quantity.unit}", ours, [mean], [row], marker="o")
        if lacking := {row: one for row, one in enumerate(seeds) if one.lacking}:
            canvas.plot(
                "without a value",
                "var(--bad)",
                [0.0] * len(lacking),
                list(lacking),
                transform=axes.get_yaxis_transform(),
                linestyle="none",
                marker="x",
                clip_on=False,
            )
            words = (
                f"{labels[row]} ({LACKING[one.lack]}, {len(one.lacking)} of {one.runs})"
                for row, one in lacking.items()
            )
            notes.append(f"×\u00a0without a value: {', '.join(words)}.")
        values = [value for one in seeds for value in one.values]
        if quantity.axis == "log" and spread_out(axes, "x", values):
            notes.append("The axis is logarithmic.")
        else:  # steps of 25 would need another digit
            axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        axes.set_yticks(range(len(labels)), [cut(label, 30) for label in labels])
        axes.set_ylim(len(labels) - 0.4, -0.6)
        return canvas.chart(legend, " ".join(notes))


def _far_off(seeds: Sequence[Seeds]) -> dict[int, bool]:
    """Returns the rows that are far off the others: True for those below them."""
    means = {row: mean for row, one in enumerate(seeds) if (mean := one.mean) is not None}
    values = np.array(list(means.values()))
    middle = float(np.median(values))
    # Where most are alike, anything else would be far off.
    far = FAR * float(np.median(np.abs(values - middle))) or np.inf
    return {row: mean < middle for row, mean in means.items() if abs(mean - middle) > far}
