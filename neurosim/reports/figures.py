"""Draws the charts of the page of a run or a study: ``figures.yaml`` says which, and of what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import yaml

from neurosim.base import DataError, number
from neurosim.records import Entry, Run, States, Traces, moment_text, names_in, value_at
from neurosim.reports.page import Figure
from neurosim.reports.plots import confusion
from neurosim.reports.plots.canvas import TIME, Chart, Curve, Values, colours, line_chart

if TYPE_CHECKING:  # a report needs no torch
    from neurosim.network import Network

Series = list[tuple[Curve, Sequence[str]]]  # what is drawn, and the keys that lead to its values

MAX_POINTS = 600  # of one line: more than a screen has pixels for
MAX_MARKS = 40
MAX_TICKS = 5000  # of one inference that is drawn tick by tick
AXES = {
    "time": TIME,
    "wakes": "wakes (count of dyads)",
    "messages": "messages sent (count, all samples)",
    "epoch": "training (epochs)",
    "window": "stream (windows of samples)",  # as they are called in a stream
    "step": "training (steps)",
}
DRIFTS = "Dotted: from there on something drifts."
_DASHES = {"weight": "solid", "bias": "dashed", "feedback": "dotted"}


@dataclass(frozen=True)
class Spec:
    """Describes a chart of the traces of a probe, of the record of a study, or of the epochs."""

    title: str  # {truth}: what the gradient was compared with
    key: str  # makes its ids unique in the page; of a study it is what is drawn by name
    label: str  # of the vertical axis
    probe: str = ""
    labels: Mapping[str, str] | None = None  # what is drawn by key, and its entry in the legend
    names: str = ""  # or a curve for each of the populations, projections or parameters
    of: str = ""  # the key under which traces have values by name
    total: bool = True  # and one curve for all of them together
    x: str = "time"
    scale: Literal["linear", "log", "degrees"] = "linear"
    spread: bool = False  # a logarithmic scale where values are far apart, see `scale_of`
    factor: float = 1.0  # from what was recorded to the unit of the axis
    phases: bool = False  # marks where they begin
    owners: bool = False  # the legend names the owners of parameters, not every parameter
    optional: bool = False  # no word of it where the probe was not there
    silent: bool = False  # or where nothing of it was recorded
    note: str = ""
    why: str = "every recorded value is zero or not finite"  # it may be left out


_TEXT = Path(__file__).with_name("figures.yaml").read_text(encoding="utf-8")
SPECS = {name: [Spec(**one) for one in found] for name, found in yaml.safe_load(_TEXT).items()}


def figures_of(section: str, run: Run, network: Network | None = None) -> list[Figure]:
    """Draws the charts of a section; the network gives the order of populations and the like."""
    specs = [spec for spec in SPECS[section] if run.of(spec.probe) or not spec.optional]
    found = ((spec, _figure(spec, run, network)) for spec in specs)
    return [figure for spec, figure in found if figure.content or not spec.silent]


def none_of(probe: str) -> str:
    """Says why there is no figure of a probe."""
    return f"nothing was recorded; probes: [{probe}] in the scenario asks for it"


def truth_of(*runs: Run) -> str:
    """Names the gradient that gradient angles are to: of several runs each one that there is."""
    names = dict[str, None]()
    for run in runs:
        angles = [*run.all("gradient_angle"), *run.convergence]
        settled = any(entry.get("reference") == "settled" for entry in angles)
        if angles or len(runs) == 1:
            names["the gradient of the settled network" if settled else "back-propagation"] = None
    return " or ".join(names)


def begins_of(run: Run) -> list[float]:
    """Returns when the phases after the first one began; of a study, when the one before ended."""
    if run.convergence:
        pairs = pairwise(run.convergence)
        return [one["time"] for one, other in pairs if one.get("phase") != other.get("phase")]
    return [entry["time"] for entry in run.last("phase")[1:]]


def axis_of(x: str, *runs: Run) -> str:
    """Returns the name of a horizontal axis: an epoch of a stream is a window of it."""
    windows = all("messages_per_sample" in e for run in runs for e in run.epochs.values())
    return AXES["window" if x == "epoch" and windows else x]


def drifts_of(run: Run, x: str) -> list[float]:
    """Returns when a stream began to drift, at once or from one window to the next: in simulated
    time, or on an axis of windows."""
    found, before, length = list[float](), False, None
    for entry in run.epochs.values():
        time, epoch, at = (number(entry.get(key)) for key in ("time", "epoch", "drifted_at"))
        length = length or (time / epoch if time and epoch else None)
        if at is not None and length and not before:
            found.append(at if x == "time" else at / length)
        before = at is not None
    return found


def _figure(spec: Spec, run: Run, network: Network | None) -> Figure:
    truth, traces = truth_of(run), run.of(spec.probe)
    problem = run.summary.get("reference_problem") is not None
    settled = "no fixed point was found" if problem else Spec.why
    title, label, why = (
        text.format(truth=truth, settled=settled) for text in (spec.title, spec.label, spec.why)
    )
    of_epochs = spec.x == "epoch" or spec in SPECS["stream"]
    entries = list(run.epochs.values()) if of_epochs else run.convergence
    if spec.probe:
        entries = run.all(spec.probe)
    if spec.labels:
        series = labelled({key: name.format(truth=truth) for key, name in spec.labels.items()})
    else:
        above, below = ((spec.of,), ()) if spec.probe else ((spec.names,), (spec.key,))
        names = names_in(entries, above[0], _order(spec.names, network))
        total = f"total_{spec.of}" if spec.probe else spec.key
        series = [(Curve(f"all {spec.names}", width=2.6), (total,))] if spec.total else []
        series += [(curve, (*above, curve.label, *below)) for curve in _named(names)]
    x = spec.x
    if spec.probe and x == "time":
        if not 1 < len(traces) == len(entries):
            begins = begins_of(run) if spec.phases else ()
            chart = _trace_chart(spec, traces, series, label, begins)
            return Figure(title, chart, why if traces else none_of(spec.probe))
        x = "step"  # a moment of each inference: no curve over time
    if spec.probe:  # as it was at the end of each inference
        entries = [
            {**found[-1], "epoch": epoch, "step": step}
            for (epoch, step), found in sorted(traces.items())
        ]
    curves = points_of(entries, series, x, spec.factor)
    if x == "step":
        curves = [curve._replace(marked=len(curve.x) <= MAX_MARKS) for curve in curves]
    begins, note = begins_of(run) if x == "time" else [], spec.note
    if of_epochs and (drifts := drifts_of(run, x)):
        begins, note = drifts, f"{note} {DRIFTS}".strip()
    more = axis_of(x, run), label, note, spec.scale, x in ("epoch", "step")
    chart = line_chart(spec.key, curves, *more, begins=begins)
    return Figure(title, _by_owner(chart, series) if spec.owners and spec.probe else chart, why)


# ---- which curves ------------------------------------------------------------------------------


def points_of(entries: Sequence[Entry], series: Series, x: str, factor: float = 1.0) -> list[Curve]:
    """Returns curves with the points of entries that have x and y, thinned to what can be seen."""
    found = []
    for curve, path in series:
        both = ((value_at(entry, (x,)), value_at(entry, path)) for entry in entries)
        pairs = [pair for pair in both if None not in pair]
        at, values = _thinned(np.array(pairs, dtype=np.float64).reshape(-1, 2)).T
        marked = x == "epoch" and len(at) <= MAX_MARKS
        found.append(curve._replace(x=at, y=factor * values, marked=marked))
    return found


def _thinned(points: Values) -> Values:
    """Returns as many points (N, 2) as can be seen: of neighbours the least, the greatest and the
    last, so that nothing that goes up and down is lost."""
    size = ceil(len(points) / (MAX_POINTS // 3)) if len(points) > MAX_POINTS else 1
    if size == 1:
        return points
    kept = set[int]()
    for start in range(0, len(points), size):
        some = points[start : start + size, 1]
        kept |= {start + int(at) for at in (some.argmin(), some.argmax(), len(some) - 1)}
    return points[sorted(kept)]


def labelled(labels: Mapping[str, str]) -> Series:
    """Returns a hue for each key of the entries; ``labels`` are by key."""
    hues = colours(len(labels))
    return [
        (Curve(label, colour=hue), (key,))
        for (key, label), hue in zip(labels.items(), hues, strict=True)
    ]


def _named(names: Sequence[str]) -> list[Curve]:
    """Returns a hue for each name; parameters of one owner share it, the dash tells them apart."""
    owners = {name: _owner(name) for name in names}
    distinct = list(dict.fromkeys(owners.values()))
    hues = dict(zip(distinct, colours(len(distinct)), strict=True))
    curves = []
    for name, owner in owners.items():
        dash = "solid" if owner == name else _DASHES[name.rpartition(".")[2]]
        curves.append(Curve(name, colour=hues[owner], dash=dash))
    return curves


def _owner(name: str) -> str:
    owner, _, kind = name.rpartition(".")
    return owner if kind in _DASHES else name


def _order(names: str, network: Network | None) -> list[str]:
    if network is None or names == "chosen":
        return []
    if names == "parameters":
        return list(network.parameter_shapes())
    return [one.name for one in (network.dyadic if names == "populations" else network.projections)]


def _trace_chart(
    spec: Spec, traces: Traces, series: Series, label: str, begins: Sequence[float]
) -> Chart | None:
    """Draws a series against simulated time at the last inference that was recorded.

    A few inferences before it are drawn faintly: what learning has changed.
    """
    found: dict[tuple[int, int], list[Curve]] = {}
    *earlier, last = sorted(traces) or [(0, 0)]
    # Many series: the first inference is enough.
    stride = max(1, ceil(len(earlier) / (3 if len(series) <= 6 else 1)))
    for moment in (*earlier[::stride], last):
        curves = [
            curve for curve in points_of(traces.get(moment, ()), series, "time") if len(curve.x)
        ]
        if curves:
            found[moment] = curves
    if not found:
        return None
    *before, strong = found
    faint = [curve._replace(faint=True) for moment in before for curve in found[moment]]
    note = f"{spec.note} Inference at {moment_text(strong)}."
    if before:
        note += f" Faint: at {'; '.join(map(moment_text, before))}."
    curves = [*faint, *found[strong]]
    chart = line_chart(spec.key, curves, TIME, label, note.strip(), spec.scale, begins=begins)
    return _by_owner(chart, series) if spec.owners else chart


def _by_owner(chart: Chart | None, series: Series) -> Chart | None:
    """Lets the legend name the owners of parameters; a note says which line is of which kind."""
    if chart is None:
        return None
    kinds = dict.fromkeys(f"{c.label.rpartition('.')[2]} {c.dash}" for c, _ in series[1:])
    shown = {curve.colour: curve._replace(dash="solid") for curve in chart.legend}
    legend = [curve._replace(label=_owner(curve.label)) for curve in shown.values()]
    return chart._replace(legend=legend, note=f"{chart.note} Lines: {', '.join(kinds)}.")


def scale_of(curves: Sequence[Curve]) -> Literal["log", "linear"]:
    """Returns the scale on which losses can be read that may differ by orders of magnitude."""
    values = np.concatenate([curve.y for curve in curves] or [np.array([])])
    wide = values.size and values.min() > 0 and values.max() / 100 > values.min()
    return "log" if wide else "linear"


def loss_figure(run: Run) -> Figure:
    """Draws training and test loss against epochs, or against steps until an epoch has ended."""
    ends, epochs = [(0.0, 0.0)], list(run.epochs.values())
    for entry in epochs:
        step, epoch = number(entry.get("step")), number(entry.get("epoch"))
        if step is not None and epoch is not None and step > ends[-1][0]:
            ends.append((step, epoch))
    x = "epoch" if len(ends) > 1 else "step"
    single = Curve("training, single steps", colour=colours(1)[0], width=0.7)
    (curve,) = points_of(list(run.steps.values()), [(single, ("loss",))], "step")
    curves = [curve]
    if x == "epoch":
        at = np.array(ends)
        # Steps of an epoch that has not ended: at the pace of the one before.
        pace = (at[-1, 1] - at[-2, 1]) / (at[-1, 0] - at[-2, 0])
        after = np.maximum(0.0, curve.x - at[-1, 0]) * pace
        means = labelled({"train_loss": "training, mean of the epoch", "test_loss": "test"})
        curves = [curve._replace(x=np.interp(curve.x, *at.T) + after)]
        curves += points_of(epochs, means, "epoch")
    scale = scale_of(curves)
    drifts = drifts_of(run, x) if x == "epoch" else []
    label, note = "loss (mean per sample)", DRIFTS if drifts else ""
    chart = line_chart("loss", curves, axis_of(x, run), label, note, scale, True, drifts)
    return Figure("Loss", chart, "no step and no epoch was recorded")


def recorded_figures(run: Run) -> list[Figure]:
    """Draws what ``record`` wrote of dyads: at the end of each inference, and in the last one."""
    try:
        return list(_recorded(run.states)) if run.states is not None and len(run.states) else []
    except DataError as error:
        return [Figure("Recorded dyads", None, str(error))]


def _recorded(states: States) -> Iterator[Figure]:
    first, last = (int(states[row]["inference"]) for row in (0, -1))
    shown = np.unique(np.linspace(first, last, min(MAX_POINTS, last - first + 1)).round())
    before, begun = np.zeros(len(shown), dtype=np.int64), 0
    for inferences in states.blocks("inference"):  # in memory one after the other
        before += np.searchsorted(inferences, shown, "right")
        begun += int(np.searchsorted(inferences, last))
    ends = np.unique(np.maximum(before - 1, 0))
    within = slice(max(begun, len(states) - MAX_TICKS), None)
    for spec in (spec for spec in SPECS["inference"] if spec.probe == "states"):
        chosen = [name for name in states.names if name.startswith(f"{spec.of}.")]
        curves = _named([name.removeprefix(f"{spec.of}.") for name in chosen])
        for rows, x, where in (
            (states[ends], "inference", "at the end of each inference"),
            (states[within], "tick", f"in the last inference ({last:,})"),
        ):
            drawn = [
                curve._replace(x=rows[x].astype(np.float64), y=np.array(rows[name]))
                for curve, name in zip(curves, chosen, strict=True)
            ]
            key, label = f"recorded-{spec.key}-{x}", f"{x} (count)"
            chart = line_chart(key, drawn, label, spec.label, whole=True) if len(rows) > 1 else None
            if chart:
                yield Figure(f"{spec.title}, {where}", chart)


def confusion_figures(run: Run) -> list[Figure]:
    """Draws which classes of the test split were taken for which, where a run has measured it."""
    key = "test_confusion_matrix"
    epochs = (entry.get(key) for entry in reversed(run.epochs.values()))
    found = next(filter(None, (run.summary.get(key), *epochs)), None)
    if found is None:
        return []
    try:
        counts = np.array(found, dtype=np.float64)
    except (TypeError, ValueError):  # what is damaged
        counts = np.empty(0)
    chart, why = None, f"the record is no matrix of at most {confusion.MOST} classes"
    if counts.ndim == 2 and 0 < len(counts) == counts.shape[1] <= confusion.MOST:
        counts = np.where(np.isfinite(counts), counts, 0.0).clip(0.0)
        named = run.summary.get("classes")
        words = [str(word) for word in named] if isinstance(named, list) else []
        words = words if len(words) == len(counts) else []
        chart = confusion.confusion_chart("confusion", counts, words)
    return [Figure("Confusion matrix of the test split", chart, why)]
