"""The figures of a convergence study: from its records to the lines of a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from neurosim.base import number
from neurosim.records import Record, group, time_of
from neurosim.reports.plots.canvas import Chart, Line, colours, line_chart
from neurosim.reports.plots.charts import TIME, Place, points

Against = Literal["time", "wakes", "messages"]
AXES: dict[Against, str] = {
    "time": TIME,
    "wakes": "wakes (count of dyads)",
    "messages": "messages sent (count, all samples)",
}
DASHES = {"weight": "solid", "bias": "dashed"}


def _total(key: str) -> Place:
    return lambda record: number(record.get(key))


def _of(part: str, name: str, key: str) -> Place:
    return lambda record: number(group(group(record, part), name).get(key))


def names_of(records: Sequence[Record], part: str) -> list[str]:
    """The names of the populations or parameters of the records, in their order."""
    found: dict[str, None] = {}
    for record in records:
        found |= dict.fromkeys(group(record, part))
    return list(found)


def population_chart(records: Sequence[Record], key: str, label: str, note: str) -> Chart | None:
    """A measure by population against simulated time, on a log axis."""
    names = names_of(records, "populations")
    lines = [
        Line("all populations", *points(records, time_of, _total(key)), width=2.6),
        *(
            Line(name, *points(records, time_of, _of("populations", name, key)), colour)
            for name, colour in zip(names, colours(len(names)), strict=True)
        ),
    ]
    return line_chart(key.replace("_", "-"), lines, TIME, label, note, scale="log")


def parameter_chart(
    records: Sequence[Record], key: str, label: str, scale: Literal["log", "degrees", "linear"]
) -> Chart | None:
    """A measure by parameter against simulated time; parameters of one owner share a colour."""
    names = names_of(records, "parameters")
    owners = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    hues = dict(zip(owners, colours(len(owners)), strict=True))
    lines = [Line("all parameters", *points(records, time_of, _total(key)), width=2.6)]
    for name in names:
        owner, _, kind = name.rpartition(".")
        x, y = points(records, time_of, _of("parameters", name, key))
        lines.append(Line(name, x, y, hues[owner], DASHES.get(kind, "dotted")))
    return line_chart(key.replace("_", "-"), lines, TIME, label, scale=scale)


def total_chart(records: Sequence[Record], what: str, label: str, against: Against) -> Chart | None:
    """Mean and difference of the whole network against time, wakes or messages, on a log axis."""
    place = time_of if against == "time" else _total(against)
    lines = [
        Line(kind, *points(records, place, _total(f"{what}_{kind}")), colour)
        for kind, colour in zip(("mean", "difference"), colours(2), strict=True)
    ]
    return line_chart(f"{what}-{against}", lines, AXES[against], label, scale="log")


def angle_chart_against(records: Sequence[Record], against: Against) -> Chart | None:
    """The angles of the whole gradient to both references against wakes or messages."""
    place = time_of if against == "time" else _total(against)
    labels = {"gradient_angle": "back-propagation", "fixed_point_angle": "the fixed point"}
    lines = [
        Line(f"to {label}", *points(records, place, _total(key)), colour)
        for (key, label), colour in zip(labels.items(), colours(2), strict=True)
    ]
    key = f"angles-{against}"
    return line_chart(key, lines, AXES[against], "angle of the gradient (°)", scale="log")


def objective_chart(records: Sequence[Record], key: str, label: str) -> Chart | None:
    """An objective against simulated time."""
    line = Line(label, *points(records, time_of, _total(key)), colours(1)[0])
    chart = line_chart(key.replace("_", "-"), [line], TIME, "objective (mean per sample)")
    return chart if chart is None else chart._replace(legend=())
