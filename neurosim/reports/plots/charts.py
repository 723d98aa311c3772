"""What each figure of a report shows: from the records of a run to the lines of a chart."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Literal

import numpy as np
import numpy.typing as npt

from neurosim.base import number
from neurosim.records import Moment, Record, Traces, group, moment_text, names_in, time_of
from neurosim.reports.plots.canvas import (
    INK,
    Canvas,
    Chart,
    Floats,
    Line,
    colours,
    line_chart,
    style,
)

Ints = npt.NDArray[np.int64]
Place = Callable[[Record], float | None]

MAX_SEGMENTS = 20_000  # of a raster: about half a megabyte
MAX_POINTS = 600  # of one line: more than a screen has pixels for
TIME = "simulated time (time units)"
EPOCHS = "training (epochs)"


def points(records: Sequence[Record], x: Place, y: Place) -> tuple[Floats, Floats]:
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

    hues, few = colours(2), len(epochs) <= 40
    single = points(steps, epoch_of, _value("loss"))
    lines = [Line("training, single steps", *single, hues[0], width=0.7)]
    if len(ends) > 1:
        means = {"train_loss": "training, mean of the epoch", "test_loss": "test"}
        for (key, label), hue in zip(means.items(), hues, strict=True):
            place = points(epochs, _value("epoch"), _value(key))
            lines.append(Line(label, *place, hue, marked=few))
    values = np.concatenate([line.y for line in lines])
    wide = bool(values.size and values.min() > 0 and values.max() / 100 > values.min())
    x_label = EPOCHS if len(ends) > 1 else "training (steps)"
    scale: Literal["log", "linear"] = "log" if wide else "linear"
    return line_chart("loss", lines, x_label, "loss (mean per sample)", scale=scale, whole=True)


def accuracy_chart(epochs: Sequence[Record]) -> Chart | None:
    """Test and validation accuracy in percent against epochs."""
    lines = []
    for name, colour in zip(("test", "validation"), colours(3)[1:], strict=True):
        x, y = points(epochs, _value("epoch"), _value(f"{name}_accuracy"))
        lines.append(Line(name, x, 100.0 * y, colour, marked=len(x) <= 40))
    return line_chart("accuracy", lines, EPOCHS, "accuracy (%)", whole=True)


# ---- one inference -----------------------------------------------------------------------------


def _traced(traces: Traces, series: Sequence[tuple[Line, Place]]) -> tuple[list[Line], str]:
    """Every series at the last inference, and faintly at a few before it: what learning changed."""
    drawn: dict[Moment, list[Line]] = {}
    *earlier, last = sorted(traces) or [(0, 0)]
    # Many series: the first inference is enough.
    stride = max(1, ceil(len(earlier) / (3 if len(series) <= 6 else 1)))
    for moment in (*earlier[::stride], last):
        for line, value in series:
            x, y = points(traces.get(moment, ()), time_of, value)
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


def _within(key: str, name: str) -> Place:
    return lambda record: number(group(record, key).get(name))


def _with_total(
    traces: Traces, kind: str, order: Sequence[str], total: str
) -> tuple[list[Line], str]:
    """The ``kind`` by name, and all together: first, that it does not hide one which equals it."""
    names = names_in(traces, kind, order)
    series = [(Line(total, width=2.6), _value(f"total_{kind}"))]
    for name, colour in zip(names, colours(len(names)), strict=True):
        series.append((Line(name, colour=colour), _within(kind, name)))
    return _traced(traces, series)


def phases_of(traces: Traces) -> list[tuple[str, float]]:
    """The phases of the last inference by name, and when each began."""
    records = traces[max(traces)] if traces else ()
    return [(str(r.get("phase")), time) for r in records if (time := time_of(r)) is not None]


def residual_chart(
    traces: Traces, kind: str, order: Sequence[str], begins: Sequence[float] = ()
) -> Chart | None:
    """The residual of the ``kind`` (mean or difference) on a log axis, by population; ``begins``
    are the times at which phases do."""
    lines, note = _with_total(traces, kind, order, "all populations")
    note = f"‖s − T(s)‖ / ‖s‖, where T is one parallel wake of all dyads. {note}"
    label = f"residual of the {kind} (relative)"
    return line_chart(f"residual-{kind}", lines, TIME, label, note, scale="log", begins=begins)


def flight_chart(traces: Traces, kind: str, order: Sequence[str]) -> Chart | None:
    """Messages of the ``kind`` (mean or difference) on their way, by projection."""
    lines, note = _with_total(traces, kind, order, "all projections")
    note = f"Sent and not yet arrived, all samples of the batch; lost ones do not count. {note}"
    label = f"{kind} messages in flight (count)"
    return line_chart(f"flight-{kind}", lines, TIME, label, note)


STALENESS = {
    "lag": (
        "lag (time units)",
        "By how much time what is seen was sent before what was sent last; mean over senders.",
    ),
    "error": (
        "error (relative)",
        "‖what is seen − present state of the senders‖ / ‖present state‖.",
    ),
}


def staleness_chart(traces: Traces, kind: str, measure: str, order: Sequence[str]) -> Chart | None:
    """How far behind what populations see of the ``kind`` is: its ``lag`` or its ``error``."""
    key = f"{kind}_{measure}"
    names = names_in(traces, key, order)
    series = [
        (Line(name, colour=colour), _within(key, name))
        for name, colour in zip(names, colours(len(names)), strict=True)
    ]
    lines, note = _traced(traces, series)
    label, meaning = STALENESS[measure]
    return line_chart(
        f"stale-{kind}-{measure}", lines, TIME, f"{kind}: {label}", f"{meaning} {note}"
    )


def of_settled(traces: Traces) -> bool:
    """Whether these angles are to the gradient of the settled network."""
    return any(r.get("reference") == "settled" for records in traces.values() for r in records)


def angle_chart(traces: Traces, order: Sequence[str]) -> Chart | None:
    """The angle of the local gradient to the true one in degrees, by parameter.

    Parameters of the same population or projection share a colour; the dash tells them apart.
    """
    dashes = {"weight": "solid", "bias": "dashed"}
    names = names_in(traces, "angle", order)
    owners = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    hues = dict(zip(owners, colours(len(owners)), strict=True))
    series = [(Line("all parameters", width=2.6), _value("total_angle"))]
    for name in names:
        owner, _, kind = name.rpartition(".")
        line = Line(name, colour=hues[owner], dash=dashes.get(kind, "dotted"))
        series.append((line, _within("angle", name)))
    lines, note = _traced(traces, series)
    label = f"angle to {'the true gradient' if of_settled(traces) else 'back-propagation'} (°)"
    chart = line_chart("angle", lines, TIME, label, note, scale="degrees")
    if chart is None:
        return None
    kinds = dict.fromkeys(f"{line.label.rpartition('.')[2]} {line.dash}" for line, _ in series[1:])
    shown = {line.colour: line._replace(dash="solid") for line in chart.legend}
    legend = [
        line._replace(label=line.label.rpartition(".")[0] or line.label) for line in shown.values()
    ]
    return chart._replace(legend=tuple(legend), note=f"{chart.note} Lines: {', '.join(kinds)}.")


def feedback_chart(traces: Traces, order: Sequence[str]) -> Chart | None:
    """The angle of feedback weights to forward weights against epochs, by projection: as it was at
    the end of each inference that was recorded."""
    names = names_in(traces, "angle", order)
    ends = [{**records[-1], "epoch": epoch} for (epoch, _), records in sorted(traces.items())]
    series = [(Line("all projections", width=2.6), _value("total_angle"))]
    for name, colour in zip(names, colours(len(names)), strict=True):
        series.append((Line(name, colour=colour), _within("angle", name)))
    lines = []
    for line, value in series:
        x, y = points(ends, _value("epoch"), value)
        lines.append(line._replace(x=x, y=y, marked=len(x) <= 40))
    label = "angle to forward weights (°)"
    return line_chart("feedback", lines, EPOCHS, label, scale="degrees", whole=True)


def count_chart(
    traces: Traces, title: str, series: Mapping[str, str], begins: Sequence[float] = ()
) -> Chart | None:
    """Counts since the start of the inference; ``series`` maps keys of the records to labels,
    ``begins`` are the times at which phases do."""
    hues = colours(len(series))
    wanted = [
        (Line(label, colour=hue), _value(key))
        for (key, label), hue in zip(series.items(), hues, strict=True)
    ]
    lines, note = _traced(traces, wanted)
    key = title.replace(" ", "-")
    chart = line_chart(key, lines, TIME, f"{title} (count since start)", note, begins=begins)
    return chart if chart is None or len(series) > 1 else chart._replace(legend=())


def wake_chart(
    traces: Traces, sizes: Mapping[str, int] | None, begins: Sequence[float] = ()
) -> Chart | None:
    """A raster of the last inference: time × neuron, populations stacked in the order of ``sizes``;
    ``begins`` are the times at which phases do.

    Neighbours that wake together are one stroke; of more than `MAX_SEGMENTS` strokes a fixed
    random choice is drawn. Where sizes are not given they are as large as the largest index.
    """
    if not traces:
        return None
    moment = max(traces)
    counted, parts = _strokes(traces[moment], sizes)
    if not parts:
        return None
    strokes = np.concatenate(parts)
    names, note = list(counted), f"Inference at {moment_text(moment)}."
    if sizes is None:
        note += " Sizes are those seen here, as the network was not given."
    if len(strokes) > MAX_SEGMENTS:
        note += f" Of {len(strokes):,} strokes {MAX_SEGMENTS:,} are drawn, chosen at random."
        chosen = np.random.default_rng(0).choice(len(strokes), MAX_SEGMENTS, replace=False)
        strokes = strokes[np.sort(chosen)]
    # A band is as high as its share of the neurons, but at least as high as its label.
    counts = np.array(list(counted.values()), dtype=np.float64)
    least = 1.0 / max(14, len(names))
    shares = np.maximum(counts / counts.sum(), least)
    if shares.sum() > 1.0 + 1e-9:
        note += " Small populations are drawn higher than their share of the neurons."
    edges = np.r_[0.0, np.cumsum(shares / shares.sum())]
    inches = 0.6 + max(2.6, 0.19 * shares.sum() / least)
    with style(**{"path.simplify": False}):  # it would join strokes
        canvas = Canvas("wakes", TIME, "neuron (flat index, by population)", inches)
        wide = min(4.0, max(0.6, 120.0 / len(np.unique(strokes[:, 1]))))
        tall = 0.7 / (72 * (inches - 0.6))  # the least that can be seen
        for index, (name, hue) in enumerate(zip(names, colours(len(names)), strict=True)):
            time, first, last = strokes[strokes[:, 0] == index, 1:].T
            scale = (edges[index + 1] - edges[index]) / counts[index]
            low, high = edges[index] + scale * first, edges[index] + scale * last
            gap = np.full_like(time, np.nan)
            x = np.column_stack([time, time, gap]).ravel()
            y = np.column_stack([low, np.maximum(high, low + tall), gap]).ravel()
            canvas.plot(name, hue, x, y, linewidth=wide, solid_capstyle="butt")
        canvas.mark(begins)
        labels = [f"{_plain(name)} ({size:,})" for name, size in counted.items()]
        canvas.axes.set_yticks((edges[1:] + edges[:-1]) / 2, labels)
        canvas.axes.tick_params(axis="y", length=0)
        canvas.axes.grid(visible=False, axis="y")
        for edge in edges:
            canvas.axes.axhline(edge, color=INK, alpha=0.3, linewidth=0.5)
        canvas.axes.set_ylim(0.0, 1.0)
        return Chart(canvas.svg(), (), note)


def _strokes(
    records: Sequence[Record], sizes: Mapping[str, int] | None
) -> tuple[dict[str, int], list[Floats]]:
    """Sizes of the populations, and arrays of rows (number of the population, time, from, to)."""
    wakes: list[tuple[float, str, Ints | None]] = []
    counted = dict(sizes or {})
    for record in records:
        name, time = str(record.get("population")), time_of(record)
        indices = _indices(record)
        if time is None or (sizes is not None and name not in sizes):
            continue
        if indices is not None:
            if sizes is not None:
                indices = indices[indices < sizes[name]]
            if not indices.size:
                continue
            counted[name] = max(counted.get(name, 1), int(indices[-1]) + 1)
        counted.setdefault(name, 1)
        wakes.append((time, name, indices))
    number_of = {name: index for index, name in enumerate(counted)}
    parts = []
    for time, name, indices in wakes:
        first, last = np.array([0]), np.array([counted[name]])
        if indices is not None:
            cuts = np.flatnonzero(np.diff(indices) > 1)
            first, last = indices[np.r_[0, cuts + 1]], indices[np.r_[cuts, -1]] + 1
        part = np.broadcast_arrays(number_of[name], time, first, last)
        parts.append(np.column_stack(part).astype(np.float64))
    return counted, parts


def _indices(record: Record) -> Ints | None:
    """The flat indices of a wake, ascending; None for all neurons."""
    value = record.get("indices")
    if value is None:
        return None
    try:
        indices = np.unique(np.asarray(value, dtype=np.int64))
    except (TypeError, ValueError, OverflowError):
        return np.empty(0, dtype=np.int64)
    return indices[indices >= 0]


def _plain(name: str) -> str:
    """A name that any font can show, and that leaves room for the axes."""
    name = re.sub(r"[^\w .>-]", "?", name, flags=re.ASCII)
    return name if len(name) <= 16 else name[:15] + "…"
