"""A picture of a table: one row per system, its seeds, and what was published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter

from neurosim.base import cut
from neurosim.reports.plots.canvas import Canvas, Chart, Line, Ticks, colours, style
from neurosim.reports.plots.sweeps import LOG_RATIO, WORDS, Cell, Quantity, seeds_of

Scale = Literal["linear", "log", "focus"]
FAR = 12.0  # median deviations from the median, which rows out of the axis exceed
Reference = tuple[float, float] | None  # a mean and its standard deviation


def row_chart(
    key: str,
    quantity: Quantity,
    labels: Sequence[str],
    cells: Sequence[Cell],
    published: Sequence[Reference],
    scale: Scale = "linear",
) -> Chart | None:
    """Mean and range of the seeds of every row, the first row on top; None without a value.

    ``published`` has mean and standard deviation of those rows that have them. ``log`` takes a
    logarithmic axis if the values are far apart; ``focus`` leaves rows that are far off all others
    out of the axis and writes their value at its end, or small differences could not be seen.
    """
    if not any(cell.values for cell in cells):
        return None
    ours, theirs = colours(2)
    several = any(seeds_of(cell) > 1 for cell in cells)
    legend = [Line("mean over the seeds" if several else "one seed", colour=ours)]
    notes = ["Bars: from the least to the greatest seed."] if several else []
    with style():
        canvas = Canvas(key, quantity.label, "", height=0.8 + 0.27 * len(labels))
        outside = _far_off(cells) if scale == "focus" else {}
        for row, (label, cell, reference) in enumerate(zip(labels, cells, published, strict=True)):
            if reference is not None:
                mean, std = reference
                beside = np.array([row + 0.25, row + 0.25])
                ends = np.array([mean - std, mean + std])
                canvas.plot(f"{label}, published", theirs, ends, beside, linewidth=1.0)
                at = np.array([mean]), beside[:1]
                canvas.plot(
                    f"{label}, published: {quantity.show(mean)}",
                    theirs,
                    *at,
                    marker="D",
                    markersize=4,
                )
            if cell.mean is None:
                continue
            if row in outside:
                left = outside[row]
                canvas.axes.text(
                    0.01 if left else 0.99,
                    row,
                    f"← {quantity.show(cell.mean)}" if left else f"{quantity.show(cell.mean)} →",
                    transform=canvas.axes.get_yaxis_transform(),
                    ha="left" if left else "right",
                    va="center",
                    fontsize=9,
                )
                continue
            ends = np.array([min(cell.values), max(cell.values)])
            place = np.array([row, row], dtype=np.float64)
            canvas.plot(label, ours, ends, place, linewidth=1.2)
            told = f"{label}: {quantity.show(cell.mean)} {quantity.unit}"
            at = np.array([cell.mean]), place[:1]
            canvas.plot(told, ours, *at, marker="o", markersize=5)
        lacking = [(i, cell) for i, cell in enumerate(cells) if cell.lacking]
        if lacking:
            canvas.plot(
                "without a value",
                "var(--bad)",
                np.full(len(lacking), 0.0),
                np.array([row for row, _ in lacking], dtype=np.float64),
                transform=canvas.axes.get_yaxis_transform(),
                linestyle="none",
                marker="x",
                markersize=6,
                clip_on=False,
            )
            told = ", ".join(
                f"{labels[row]} ({WORDS[cell.state]}, {len(cell.lacking)} of {seeds_of(cell)})"
                for row, cell in lacking
            )
            notes.append(f"×\u00a0without a value: {told}.")
        if any(reference is not None for reference in published):
            legend.append(Line("published, ± standard deviation", colour=theirs))
        values = [value for cell in cells for value in cell.values]
        if scale == "log" and min(values) > 0 and max(values) / min(values) > LOG_RATIO:
            canvas.axes.set_xscale("log")
            canvas.axes.xaxis.set_minor_formatter(NullFormatter())
            canvas.axes.xaxis.set_major_formatter(Ticks())
            notes.append("The axis is logarithmic.")
        else:  # steps of 25 would need another digit
            canvas.axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        canvas.axes.set_yticks(range(len(labels)), [cut(label, 30) for label in labels])
        canvas.axes.set_ylim(len(labels) - 0.4, -0.6)
        return Chart(canvas.svg(), tuple(legend), " ".join(notes))


def _far_off(cells: Sequence[Cell]) -> dict[int, bool]:
    """The rows that are far off the others, and whether they are below them."""
    means = {row: mean for row, cell in enumerate(cells) if (mean := cell.mean) is not None}
    values = np.array(list(means.values()))
    middle = float(np.median(values))
    deviation = float(np.median(np.abs(values - middle)))
    if not deviation:  # most are alike, so that anything else would be far off
        return {}
    return {
        row: mean < middle for row, mean in means.items() if abs(mean - middle) > FAR * deviation
    }
