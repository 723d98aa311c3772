"""Turns the records of a run or a study into the curves of charts."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any, Literal

import numpy as np

from neurosim.base import number
from neurosim.records import Entry, Traces, moment_text, value_at
from neurosim.reports.plots.canvas import Chart, Curve, colours, line_chart

Series = list[tuple[Curve, Sequence[str]]]  # what is drawn, and the keys that lead to its values

MAX_POINTS = 600  # of one line: more than a screen has pixels for
MAX_MARKS = 40
AXES = {
    "time": "simulated time (time units)",
    "wakes": "wakes (count of dyads)",
    "messages": "messages sent (count, all samples)",
    "epoch": "training (epochs)",
    "step": "training (steps)",
}
_DASHES = {"weight": "solid", "bias": "dashed", "feedback": "dotted"}


def drawn(entries: Iterable[Entry], series: Series, x: str, factor: float = 1.0) -> list[Curve]:
    """Returns curves with the points of entries that have x and y, thinned to what can be seen."""
    found = []
    for curve, path in series:
        both = ((value_at(entry, (x,)), value_at(entry, path)) for entry in entries)
        pairs = [pair for pair in both if None not in pair]
        kept = pairs[:: -max(1, ceil(len(pairs) / MAX_POINTS))][::-1]  # the last one stays
        at, values = np.array(kept, dtype=np.float64).reshape(-1, 2).T
        marked = x == "epoch" and len(at) <= MAX_MARKS
        found.append(curve._replace(x=at, y=factor * values, marked=marked))
    return found


def chart(
    key: str,
    entries: Sequence[Entry],
    series: Series,
    label: str,
    x: str = "time",
    factor: float = 1.0,
    **more: Any,
) -> Chart | None:
    """Draws a series against time, wakes, messages or epochs."""
    curves = drawn(entries, series, x, factor)
    return line_chart(key, curves, AXES[x], label, whole=x == "epoch", **more)


# ---- which curves ------------------------------------------------------------------------------


def labelled(labels: Mapping[str, str]) -> Series:
    """Returns a hue for each key of the entries; ``labels`` are by key."""
    hues = colours(len(labels))
    return [
        (Curve(label, colour=hue), (key,))
        for (key, label), hue in zip(labels.items(), hues, strict=True)
    ]


def by_name(names: Sequence[str], path: Sequence[str | None], of: str, total: str) -> Series:
    """Returns all together, under the key ``of`` (first, that it hides no other), and each name.

    ``path`` are the keys that lead to the value of a name, with None in the place of the name.
    Parameters of one owner share a hue, the dash tells them apart.
    """
    owners = {name: _owner(name) for name in names}
    distinct = list(dict.fromkeys(owners.values()))
    hues = dict(zip(distinct, colours(len(distinct)), strict=True))
    series: Series = [(Curve(total, width=2.6), (of,))]
    for name, owner in owners.items():
        dash = "solid" if owner == name else _DASHES[name.rpartition(".")[2]]
        keys = [name if key is None else key for key in path]
        series.append((Curve(name, colour=hues[owner], dash=dash), keys))
    return series


def _owner(name: str) -> str:
    owner, _, kind = name.rpartition(".")
    return owner if kind in _DASHES else name


# ---- a training and its inferences -------------------------------------------------------------


def loss_chart(steps: Sequence[Entry], epochs: Sequence[Entry]) -> Chart | None:
    """Draws training and test loss against epochs, or against steps until an epoch has ended."""
    ends = [(0.0, 0.0)]
    for entry in epochs:
        step, epoch = number(entry.get("step")), number(entry.get("epoch"))
        if step is not None and epoch is not None and step > ends[-1][0]:
            ends.append((step, epoch))
    x = "epoch" if len(ends) > 1 else "step"
    single = Curve("training, single steps", colour=colours(1)[0], width=0.7)
    (curve,) = drawn(steps, [(single, ("loss",))], "step")
    curves = [curve]
    if x == "epoch":
        at = np.array(ends)
        # Steps of an epoch that has not ended: at the pace of the one before.
        pace = (at[-1, 1] - at[-2, 1]) / (at[-1, 0] - at[-2, 0])
        after = np.maximum(0.0, curve.x - at[-1, 0]) * pace
        means = labelled({"train_loss": "training, mean of the epoch", "test_loss": "test"})
        curves = [curve._replace(x=np.interp(curve.x, *at.T) + after)]
        curves += drawn(epochs, means, "epoch")
    values = np.concatenate([curve.y for curve in curves])
    wide = bool(values.size and values.min() > 0 and values.max() / 100 > values.min())
    scale: Literal["log", "linear"] = "log" if wide else "linear"
    return line_chart("loss", curves, AXES[x], "loss (mean per sample)", scale=scale, whole=True)


def trace_chart(
    key: str,
    traces: Traces,
    series: Series,
    label: str,
    note: str = "",
    owners: bool = False,
    **more: Any,
) -> Chart | None:
    """Draws a series against simulated time at the last inference that was recorded.

    A few inferences before it are drawn faintly: what learning has changed. With ``owners`` the
    legend names those of parameters.
    """
    found: dict[tuple[int, int], list[Curve]] = {}
    *earlier, last = sorted(traces) or [(0, 0)]
    # Many series: the first inference is enough.
    stride = max(1, ceil(len(earlier) / (3 if len(series) <= 6 else 1)))
    for moment in (*earlier[::stride], last):
        curves = [c for c in drawn(traces.get(moment, ()), series, "time") if len(c.x)]
        if curves:
            found[moment] = curves
    if not found:
        return None
    *before, strong = found
    faint = [curve._replace(faint=True) for moment in before for curve in found[moment]]
    note += f" Inference at {moment_text(strong)}."
    if before:
        note += f" Faint: at {'; '.join(map(moment_text, before))}."
    curves = [*faint, *found[strong]]
    chart = line_chart(key, curves, AXES["time"], label, note.strip(), **more)
    if chart is None or not owners:
        return chart
    kinds = dict.fromkeys(f"{c.label.rpartition('.')[2]} {c.dash}" for c in found[strong][1:])
    shown = {curve.colour: curve._replace(dash="solid") for curve in chart.legend}
    legend = [curve._replace(label=_owner(curve.label)) for curve in shown.values()]
    return chart._replace(legend=legend, note=f"{chart.note} Lines: {', '.join(kinds)}.")
