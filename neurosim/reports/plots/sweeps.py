"""What the figures of a sweep show, and curves with a band of seeds over one axis."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.ticker import NullFormatter

from neurosim.base import cut, number
from neurosim.reports.plots.canvas import Canvas, Chart, Floats, Line, Ticks, colours, style

LOG_RATIO = 30.0  # values that differ by more are on a logarithmic axis
State = Literal["failed", "diverged", "never", "absent", "missing"]
WORDS: dict[State, str] = {
    "failed": "failed",
    "diverged": "diverged",
    "never": "never reached",
    "absent": "not measured",
    "missing": "not run",
}

# Of matplotlib, and as the note writes it.
_SIGNS: dict[State, tuple[str, str]] = {
    "failed": ("x", "×"),
    "diverged": ("D", "◆"),
    "never": ("^", "▲"),
    "absent": ("_", "–"),
    "missing": ("|", "|"),
}


class Cell(NamedTuple):
    """What the seeds of one combination came to: the values there are, and why others are not."""

    values: tuple[float, ...] = ()
    lacking: tuple[State, ...] = ()

    @property
    def mean(self) -> float | None:
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def state(self) -> State:
        """Why there is no value: the gravest reason."""
        return next((s for s in WORDS if s in self.lacking), "missing")


class Quantity(NamedTuple):
    """A measure of a run: its name and unit, and how a value is written."""

    title: str
    unit: str
    show: Callable[[float], str]

    @property
    def label(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title


def seeds_of(cell: Cell) -> int:
    """How many runs a cell is of."""
    return len(cell.values) + len(cell.lacking)


def seed_chart(
    key: str,
    quantity: Quantity,
    x_label: str,
    values: Sequence[Any],
    texts: Sequence[str],
    cells: Sequence[Cell],
) -> Chart | None:
    """Mean over the seeds against one axis, with a band from the least to the greatest value.

    Numbers stand where they belong, on a logarithmic axis if they are far apart; anything else is
    evenly spaced, without lines between. None without a single value.
    """
    numbers = [number(value) for value in values]
    numeric = all(n is not None for n in numbers)
    places, note = _places([n for n in numbers if n is not None]) if numeric else (None, "")
    at = np.arange(len(texts), dtype=np.float64) if places is None else places
    order = [int(i) for i in np.argsort(at, kind="stable") if cells[int(i)].values]
    if not order:
        return None
    hue, bad = colours(1)[0], "var(--bad)"
    mean = np.array([np.mean(cells[i].values) for i in order])
    low = np.array([min(cells[i].values) for i in order])
    high = np.array([max(cells[i].values) for i in order])
    several = max(map(seeds_of, cells)) > 1
    legend = [Line("mean over the seeds" if several else "one seed", colour=hue)]
    with style():
        canvas = Canvas(key, _plain(x_label), quantity.label)
        x = at[order]
        if several:
            if numeric:
                canvas.band(hue, x, low, high)
            for place, least, most in zip(x, low, high, strict=True):
                pair = np.array([least, most])
                canvas.plot("all seeds", hue, np.array([place, place]), pair, linewidth=1.0)
            words = "band and bars" if numeric else "bars"
            note = f"{words.capitalize()}: from the least to the greatest seed. {note}"
        canvas.plot(
            quantity.title,
            hue,
            x,
            mean,
            linestyle="solid" if numeric else "none",
            marker="o",
            markersize=4.5,
            linewidth=1.8,
        )
        used = [state for state in _SIGNS if any(state in cell.lacking for cell in cells)]
        for row, state in enumerate(used):
            marker, sign = _SIGNS[state]
            lacking = [i for i, cell in enumerate(cells) if state in cell.lacking]
            top = np.full(len(lacking), 0.97 - 0.07 * row)  # in one place there may be several
            canvas.plot(
                WORDS[state],
                bad if state in ("failed", "diverged") else "currentColor",
                at[lacking],
                top,
                transform=canvas.axes.get_xaxis_transform(),
                linestyle="none",
                marker=marker,
                markersize=6,
            )
            told = ", ".join(
                f"{texts[i]} ({cells[i].lacking.count(state)} of {seeds_of(cells[i])})"
                for i in lacking
            )
            note += f" {sign}\u00a0{WORDS[state]}: {told}."
        _mark(canvas, at, texts, numeric)
        if low.min() > 0 and high.max() / low.min() > LOG_RATIO:
            canvas.axes.set_yscale("log")
            canvas.axes.yaxis.set_minor_formatter(NullFormatter())
            note += " The vertical axis is logarithmic."
        elif low.min() == high.max():  # matplotlib would zoom in on nothing
            margin = 0.1 * abs(low.min()) or 1.0
            canvas.axes.set_ylim(low.min() - margin, high.max() + margin)
        canvas.axes.yaxis.set_major_formatter(Ticks())
        # Room above for the signs: the part of the axis that they take, whatever its scale.
        canvas.axes.margins(y=0.05)
        to_axes = canvas.axes.transLimits.inverted()
        scaled = canvas.axes.transScale.inverted()
        canvas.axes.set_ylim(top=scaled.transform(to_axes.transform((0, 1 + 0.09 * len(used))))[1])
        return Chart(canvas.svg(), tuple(legend), note.strip())


def _places(numbers: Sequence[float]) -> tuple[Floats, str]:
    """Where numbers stand on the axis, and what is to be said about it."""
    values = np.array(numbers)
    positive = values[values > 0]
    if (values < 0).any() or not positive.size or positive.max() / positive.min() <= LOG_RATIO:
        return values, ""
    places = np.full_like(values, 0.0)
    np.log10(values, out=places, where=values > 0)
    if positive.size == values.size:
        return places, "The horizontal axis is logarithmic."
    exponents = np.log10(positive)
    places[values == 0] = exponents.min() - 0.25 * (exponents.max() - exponents.min())
    return places, "The horizontal axis is logarithmic, with a place of its own for 0."


def _mark(canvas: Canvas, at: Floats, texts: Sequence[str], numeric: bool) -> None:
    """The swept values as marks; of those whose names would overlap, the first one is named."""
    span = float(at.max() - at.min()) or 1.0
    signs = 62  # that fit side by side below the axis
    long = 12 if numeric else max(6, signs // len(texts))
    names = ["\n".join(_lines(text, long)) for text in texts]
    taken = -np.inf  # where the name before ends
    labels = []
    for i in np.argsort(at, kind="stable"):
        half = (max(map(len, names[i].splitlines())) + 1) / 2 / signs * span
        fits = at[i] - half >= taken
        labels.append((float(at[i]), names[i] if fits else ""))
        taken = at[i] + half if fits else taken
    canvas.axes.set_xticks([place for place, _ in labels], [text for _, text in labels])
    margin = 0.06 * span if len(texts) > 1 else 1.0
    canvas.axes.set_xlim(at.min() - margin, at.max() + margin)


def _lines(text: str, long: int) -> list[str]:
    """A name on at most three lines, in signs that any font can show."""
    lines = wrap(_plain(text), long, break_long_words=True) or [""]
    return lines if len(lines) <= 3 else [*lines[:2], cut(lines[2] + "…", long)]


def _plain(text: str) -> str:
    return re.sub(r"[^\x20-\x7e°]", "?", text)
