"""What each figure of a report shows: from the records of a run to the lines of a chart."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from neurosim.plots.canvas import INK, Canvas, Chart, Floats, Line, colours, compact, line_chart
from neurosim.plots.canvas import number, style

Record = Mapping[str, Any]
Moment = tuple[int, int]  # the (epoch, step) of the inference that a trace belongs to
Traces = Mapping[Moment, Sequence[Record]]
Wake = tuple[float, str, npt.NDArray[np.int64] | None]  # time, population, flat indices or all
Place = Callable[[Record], float | None]

MAX_SEGMENTS = 20_000  # of a raster: about half a megabyte
MAX_POINTS = 600  # of one line: more than a screen has pixels for
TIME = "simulated time (time units)"
EPOCHS = "training (epochs)"


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
    scale: Literal["log", "linear"] = "log" if wide else "linear"
    return line_chart("loss", lines, x_label, "loss (mean per sample)", scale=scale, whole=True)


def accuracy_chart(epochs: Sequence[Record]) -> Chart | None:
    """Test and validation accuracy in percent against epochs."""
    lines = []
    for name, colour in zip(("test", "validation"), colours(3)[1:], strict=True):
        x, y = _points(epochs, _value("epoch"), _value(f"{name}_accuracy"))
        lines.append(Line(name, x, 100.0 * y, colour, marked=len(x) <= 40))
    return line_chart("accuracy", lines, EPOCHS, "accuracy (%)", whole=True)


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
    return line_chart(f"residual-{kind}", lines, TIME, label, note, scale="log")


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
    return line_chart("angle", lines, TIME, "angle to back-propagation (°)", note, scale="degrees")


def count_chart(traces: Traces, key: str, label: str, series: Mapping[str, str]) -> Chart | None:
    """Counts since the start of the inference; ``series`` maps keys of the records to labels."""
    hues = colours(len(series))
    wanted = [
        (Line(name, colour=hue), _value(field))
        for (field, name), hue in zip(series.items(), hues, strict=True)
    ]
    lines, note = _traced(traces, wanted)
    return line_chart(key, lines, TIME, f"{label} (count since start)", note)


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
    with style(**{"path.simplify": False}):  # it would join strokes
        canvas = Canvas("wakes", TIME, "neuron (flat index, by population)", inches)
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
            canvas.axes.axhline(edge, color=INK, alpha=0.3, linewidth=0.5)
        canvas.axes.set_ylim(0.0, 1.0)
        return Chart(canvas.svg(), (), note)


def _plain(name: str) -> str:
    """A name that any font can show, and that leaves room for the axes."""
    name = re.sub(r"[^\w .>-]", "?", name, flags=re.ASCII)
    return name if len(name) <= 16 else name[:15] + "…"
