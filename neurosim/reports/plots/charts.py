"""Turns the records of a run or a study into the curves of charts."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, Literal

import numpy as np

from neurosim.base import number
from neurosim.records import Entry, Traces, group, moment_text, names_in, time_of
from neurosim.reports.plots.canvas import Chart, Curve, colours, line_chart

Reader = Callable[[Entry], float | None]
Series = list[tuple[Curve, Reader]]
Path = tuple[str | None, ...]

MAX_POINTS = 600  # of one line: more than a screen has pixels for
TIME = "simulated time (time units)"
EPOCHS = "training (epochs)"
AXES = {
    "time": TIME,
    "wakes": "wakes (count of dyads)",
    "messages": "messages sent (count, all samples)",
}


def value(*keys: str) -> Reader:
    """Returns what reads a number of an entry: under a key, or by name under a group's key."""
    *groups, last = keys

    def read(entry: Entry) -> float | None:
        for key in groups:
            entry = group(entry, key)
        return number(entry.get(last))

    return read


def drawn(entries: Sequence[Entry], series: Series, x: Reader = time_of) -> list[Curve]:
    """Returns curves with the points of entries that have x and y, thinned to what can be seen."""
    found = []
    for curve, y in series:
        pairs = [(a, b) for e in entries if (a := x(e)) is not None and (b := y(e)) is not None]
        kept = pairs[:: -max(1, ceil(len(pairs) / MAX_POINTS))][::-1]  # the last one stays
        at, values = np.array(kept, dtype=np.float64).reshape(-1, 2).T
        found.append(curve._replace(x=at, y=values))
    return found


# ---- which curves ------------------------------------------------------------------------------


def labelled(labels: Mapping[str, str]) -> Series:
    """Returns a hue for each key of the entries; ``labels`` are by key."""
    hues = colours(len(labels))
    return [
        (Curve(label, colour=hue), value(key))
        for (key, label), hue in zip(labels.items(), hues, strict=True)
    ]


def by_name(names: Sequence[str], path: Path, of: str, total: str) -> Series:
    """Returns all together, under the key ``of`` (first, that it hides no other), and each name.

    ``path`` are the keys that lead to the value of a name, with None in the place of the name.
    """
    hues = colours(len(names))
    first = [(Curve(total, width=2.6), value(of))]
    return first + [(Curve(n, colour=c), _at(path, n)) for n, c in zip(names, hues, strict=True)]


def _at(path: Path, name: str) -> Reader:
    return value(*(name if key is None else key for key in path))


def by_parameter(names: Sequence[str], path: Path, of: str) -> Series:
    """Does the same for parameters: those of one owner share a hue, the dash tells them apart."""
    owners = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    hues = dict(zip(owners, colours(len(owners)), strict=True))
    dashes = {"weight": "solid", "bias": "dashed"}
    series: Series = [(Curve("all parameters", width=2.6), value(of))]
    for name in names:
        owner, _, kind = name.rpartition(".")
        curve = Curve(name, colour=hues[owner], dash=dashes.get(kind, "dotted"))
        series.append((curve, _at(path, name)))
    return series


def in_traces(traces: Traces, key: str, order: Sequence[str] = ()) -> list[str]:
    """Returns the names under ``key`` in all traces, those in ``order`` first."""
    return names_in((entry for entries in traces.values() for entry in entries), key, order)


# ---- learning ----------------------------------------------------------------------------------


def loss_chart(steps: Sequence[Entry], epochs: Sequence[Entry]) -> Chart | None:
    """Draws training and test loss against epochs, or against steps until an epoch has ended."""
    ends = [(0.0, 0.0)]
    for entry in epochs:
        step, epoch = number(entry.get("step")), number(entry.get("epoch"))
        if step is not None and epoch is not None and step > ends[-1][0]:
            ends.append((step, epoch))
    at = np.array(ends)

    def epoch_of(entry: Entry) -> float | None:
        step = number(entry.get("step"))
        if step is None or len(ends) == 1:
            return step
        # Steps of an epoch that has not ended: at the pace of the one before.
        pace = (at[-1, 1] - at[-2, 1]) / (at[-1, 0] - at[-2, 0])
        return float(np.interp(step, at[:, 0], at[:, 1]) + max(0.0, step - at[-1, 0]) * pace)

    single = Curve("training, single steps", colour=colours(1)[0], width=0.7)
    curves = drawn(steps, [(single, value("loss"))], epoch_of)
    if len(ends) > 1:
        means = labelled({"train_loss": "training, mean of the epoch", "test_loss": "test"})
        curves += [
            c._replace(marked=len(epochs) <= 40) for c in drawn(epochs, means, value("epoch"))
        ]
    values = np.concatenate([curve.y for curve in curves])
    wide = bool(values.size and values.min() > 0 and values.max() / 100 > values.min())
    x_label = EPOCHS if len(ends) > 1 else "training (steps)"
    scale: Literal["log", "linear"] = "log" if wide else "linear"
    return line_chart("loss", curves, x_label, "loss (mean per sample)", scale=scale, whole=True)


def epoch_chart(
    key: str, entries: Sequence[Entry], series: Series, label: str, factor: float = 1.0, **more: Any
) -> Chart | None:
    """Draws a series against epochs."""
    curves = [
        curve._replace(y=factor * curve.y, marked=len(curve.x) <= 40)
        for curve in drawn(entries, series, value("epoch"))
    ]
    return line_chart(key, curves, EPOCHS, label, whole=True, **more)


# ---- inference ---------------------------------------------------------------------------------


def trace_chart(
    key: str, traces: Traces, series: Series, label: str, note: str = "", **more: Any
) -> Chart | None:
    """Draws a series against simulated time at the last inference that was recorded.

    A few inferences before it are drawn faintly: what learning has changed.
    """
    found: dict[tuple[int, int], list[Curve]] = {}
    *earlier, last = sorted(traces) or [(0, 0)]
    # Many series: the first inference is enough.
    stride = max(1, ceil(len(earlier) / (3 if len(series) <= 6 else 1)))
    for moment in (*earlier[::stride], last):
        curves = [c for c in drawn(traces.get(moment, ()), series) if len(c.x)]
        if curves:
            found[moment] = curves
    if not found:
        return None
    *before, strong = found
    faint = [curve._replace(faint=True) for moment in before for curve in found[moment]]
    note += f" Inference at {moment_text(strong)}."
    if before:
        note += f" Faint: at {'; '.join(map(moment_text, before))}."
    return line_chart(key, [*faint, *found[strong]], TIME, label, note.strip(), **more)


def of_settled(traces: Traces) -> bool:
    """Returns True if these angles are to the gradient of the settled network."""
    return any(e.get("reference") == "settled" for entries in traces.values() for e in entries)


def angle_chart(traces: Traces, order: Sequence[str]) -> Chart | None:
    """Draws the angle of the local gradient to the true one in degrees, by parameter."""
    names = in_traces(traces, "angle", order)
    series = by_parameter(names, ("angle", None), "total_angle")
    label = f"angle to {'the true gradient' if of_settled(traces) else 'back-propagation'} (°)"
    chart = trace_chart("angle", traces, series, label, scale="degrees")
    if chart is None:
        return None
    kinds = dict.fromkeys(
        f"{curve.label.rpartition('.')[2]} {curve.dash}" for curve, _ in series[1:]
    )
    shown = {curve.colour: curve._replace(dash="solid") for curve in chart.legend}
    legend = [c._replace(label=c.label.rpartition(".")[0] or c.label) for c in shown.values()]
    return chart._replace(legend=legend, note=f"{chart.note} Lines: {', '.join(kinds)}.")


# ---- studies -----------------------------------------------------------------------------------


def study_chart(
    key: str,
    entries: Sequence[Entry],
    series: Series,
    label: str,
    against: str = "time",
    **more: Any,
) -> Chart | None:
    """Draws a series of a convergence study against time, wakes or messages."""
    x = time_of if against == "time" else value(against)
    return line_chart(key, drawn(entries, series, x), AXES[against], label, **more)
