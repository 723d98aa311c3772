"""Draws a raster of wakes: time × neuron."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from neurosim.base import cut
from neurosim.records import Entry, Traces, moment_text
from neurosim.reports.plots.canvas import INK, TIME, Canvas, Chart, Values, colours, plain, style

MAX_STROKES = 20_000  # about half a megabyte


def wake_chart(
    traces: Traces, sizes: Mapping[str, int] | None, begins: Sequence[float] = ()
) -> Chart | None:
    """Draws the last inference, populations stacked in the order of ``sizes``.

    Neighbours that wake together are one stroke; of too many strokes a fixed random choice is
    drawn. Where sizes are not given they are as large as the largest index. ``begins`` are the
    times at which phases do.
    """
    if not traces:
        return None
    moment = max(traces)
    counted, strokes = _strokes(traces[moment], sizes)
    if not len(strokes):
        return None
    note = f"Inference at {moment_text(moment)}."
    if sizes is None:
        note += " Sizes are those seen here, as the network was not given."
    if len(strokes) > MAX_STROKES:
        note += f" Of {len(strokes):,} strokes {MAX_STROKES:,} are drawn, chosen at random."
        chosen = np.random.default_rng(0).choice(len(strokes), MAX_STROKES, replace=False)
        strokes = strokes[np.sort(chosen)]
    # A band is as high as its share of the neurons, but at least as high as its label.
    counts = np.array(list(counted.values()), dtype=np.float64)
    least = 1.0 / max(14, len(counted))
    shares = np.maximum(counts / counts.sum(), least)
    if shares.sum() > 1.0 + 1e-9:
        note += " Small populations are drawn higher than their share of the neurons."
    edges = np.r_[0.0, np.cumsum(shares / shares.sum())]
    inches = 0.6 + max(2.6, 0.19 * shares.sum() / least)
    with style(**{"path.simplify": False}):  # it would join strokes
        canvas = Canvas("wakes", TIME, "neuron (flat index, by population)", inches)
        wide = min(4.0, max(0.6, 120.0 / len(np.unique(strokes[:, 1]))))
        tall = 0.7 / (72 * (inches - 0.6))  # the least that can be seen
        for index, (name, hue) in enumerate(zip(counted, colours(len(counted)), strict=True)):
            time, *ends = strokes[strokes[:, 0] == index, 1:].T
            scale = (edges[index + 1] - edges[index]) / counts[index]
            low, high = (edges[index] + scale * end for end in ends)
            gap = np.full_like(time, np.nan)
            x = np.column_stack([time, time, gap]).ravel()
            y = np.column_stack([low, np.maximum(high, low + tall), gap]).ravel()
            canvas.plot(name, hue, x, y, linewidth=wide, solid_capstyle="butt")
        canvas.mark(begins)
        labels = [f"{cut(plain(name), 16)} ({size:,})" for name, size in counted.items()]
        canvas.axes.set_yticks((edges[1:] + edges[:-1]) / 2, labels)
        canvas.axes.tick_params(axis="y", length=0)
        canvas.axes.grid(visible=False, axis="y")
        for edge in edges:
            canvas.axes.axhline(edge, color=INK, alpha=0.3, linewidth=0.5)
        canvas.axes.set_ylim(0.0, 1.0)
        canvas.scales = "linear", "none"
        return canvas.chart(note=note)


def _strokes(
    entries: Sequence[Entry], sizes: Mapping[str, int] | None
) -> tuple[dict[str, int], Values]:
    """Returns the sizes of populations, and rows (index of the population, time, from, to)."""
    wakes = []
    counted = dict(sizes or {})
    for entry in entries:
        name, indices = str(entry.get("population")), _indices(entry)
        if sizes is not None and name not in sizes:
            continue
        if indices is not None:
            indices = indices if sizes is None else indices[indices < sizes[name]]
            if not indices.size:
                continue
            counted[name] = max(counted.get(name, 1), int(indices[-1]) + 1)
        counted.setdefault(name, 1)
        wakes.append((entry["time"], name, indices))
    places = {name: place for place, name in enumerate(counted)}
    parts = [np.empty((0, 4))]
    for time, name, indices in wakes:
        first, last = np.array([0]), np.array([counted[name]])
        if indices is not None:
            cuts = np.flatnonzero(np.diff(indices) > 1)
            first, last = indices[np.r_[0, cuts + 1]], indices[np.r_[cuts, -1]] + 1
        parts.append(np.column_stack(np.broadcast_arrays(places[name], time, first, last)))
    return counted, np.concatenate(parts)


def _indices(entry: Entry) -> npt.NDArray[np.int64] | None:
    """Returns the flat indices of a wake, ascending; None for all neurons."""
    value = entry.get("indices")
    try:
        indices = np.unique(np.asarray([] if value is None else value, dtype=np.int64))
    except (TypeError, ValueError, OverflowError):
        return np.empty(0, dtype=np.int64)
    return None if value is None else indices[indices >= 0]
