"""The report of a sweep: one HTML file that needs nothing but itself, and links to the runs'."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from neurosim.base import plus_minus
from neurosim.records import Results, Row
from neurosim.reports import page, plots
from neurosim.reports.plots import Cell, Chart, Quantity, compact

MAX_MAPS = 12  # per quantity, where more than two axes are swept
MAX_ROWS = 2_000  # of a table; results.csv has them all
MAX_CELLS = 2_500  # of all maps of a quantity


class _Metric(NamedTuple):
    """A number of a summary as a reader wants it: ``factor`` leads to the unit."""

    key: str
    quantity: Quantity
    factor: float = 1.0
    drawn: bool = True


def _brief(value: float) -> str:
    return compact(float(f"{value:.3g}"))


def _degrees(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


_METRICS = (
    _Metric("gradient_angle", Quantity("final gradient angle", "°", _degrees)),
    _Metric("feedback_angle", Quantity("final feedback angle", "°", _degrees)),
    _Metric("time_to_tolerance", Quantity("time to tolerance", "simulated time", _brief)),
    _Metric("test_accuracy", Quantity("test accuracy", "%", lambda v: f"{v:.1f}"), 100.0),
    _Metric(
        "attack_accuracy",
        Quantity("accuracy under attack", "%", lambda v: f"{v:.1f}"),
        100.0,
    ),
    _Metric("lipschitz_bound", Quantity("Lipschitz bound", "product of norms", _brief)),
    _Metric("wakes_to_tolerance", Quantity("wakes to tolerance", "count", _brief)),
    _Metric("messages_to_tolerance", Quantity("messages to tolerance", "count", _brief)),
    _Metric("test_loss", Quantity("test loss", "mean per sample", _brief), drawn=False),
    _Metric("residual_mean", Quantity("residual of the mean", "relative", _brief), drawn=False),
    _Metric(
        "residual_difference",
        Quantity("residual of the difference", "relative", _brief),
        drawn=False,
    ),
    _Metric("distance_mean", Quantity("distance of the mean", "relative", _brief), drawn=False),
    _Metric(
        "distance_difference",
        Quantity("distance of the difference", "relative", _brief),
        drawn=False,
    ),
    _Metric("wakes", Quantity("wakes", "count", _brief), drawn=False),
    _Metric("messages", Quantity("messages", "count", _brief), drawn=False),
)

# What the values of a key are counted in; the first pattern that matches its path.
_UNITS = (
    (r"channels\..*\.loss", "probability"),
    (r"channels\..*\.(std|noise|threshold)", "units of the message"),
    (r"channels\..*\.refresh", "wakes"),
    (r"faults\.(dead|stuck)", "fraction of the dyads"),
    (r"faults\.weight_noise", "relative to the weight"),
    (r"channels\..*\.bits", "bits"),
    (r"channels\..*\.range", "units of the message"),
    (r"schedule\.spread", "fraction of the period"),
    (r"(.*\.)?(delay|duration|period|jitter|tick|low|high|scale)", "simulated time"),
    (r"study\.(tolerance|reference\.residual)", "relative"),
    (r"study\.samples", "count"),
    (r"faults\.stuck_at", "units of the state"),
    (r"schedule\.rate(\..*)?", "wakes per time unit"),
    (r"schedule\.(passes|ticks|groups|updates)|.*\.every|.*nudge_after", "count"),
    (r"training\.(epochs|max_steps)|data\.(limit|batch_size)", "count"),
    (r"rule\.(alpha|beta)|.*\.(momentum|weight_decay|lr)|stop\.residual", "dimensionless"),
)


def write_sweep_report(folder: Path) -> Path:
    """Writes ``report.html`` into the folder of a sweep; returns its path.

    Reads sweep.json and the summaries of the runs. The same files give the same bytes.

    Raises DataError where there is no usable sweep.json.
    """
    results = Results.load(Path(folder))
    path = Path(folder) / "report.html"
    page.write(path, _page(results))
    return path


def axis_label(key: str) -> str:
    """The key of an axis with its unit, where it has one."""
    unit = next((unit for pattern, unit in _UNITS if re.fullmatch(pattern, key)), "")
    return f"{key} ({unit})" if unit else key


def _page(results: Results) -> str:
    metrics = [m for m in _METRICS if m.key in results.keys]
    figures = {0: None, 1: "Curves"}.get(len(results.axes), "Maps")
    sections = {"Result": _result(results)}
    if figures:
        sections[figures] = _figures(results, [m for m in metrics if m.drawn])
    sections["Means"] = _means(results, metrics)
    if results.count("failed"):
        sections["Failures"] = _failures(results)
    sections["Runs"] = _runs(results, metrics)
    sections["Command"] = _command(results)
    failed, total = results.count("failed"), len(results.rows)
    done = results.count("finished") + failed == total
    css, word = ("finished", "finished") if done and not failed else ("failed", f"{failed} failed")
    css, word = (css, word) if done else ("interrupted", "not finished")
    head = f'<p>neurosim sweep of {total:,} runs, <strong class="{css}">{word}</strong></p>\n'
    return page.document(results.name, head, sections, (), f":root{{{plots.heat_css()}}}")


def _result(results: Results) -> str:
    counts = {"Runs": len(results.rows), "Combinations": len(results.groups())}
    counts |= {s.capitalize(): results.count(s) for s in ("finished", "failed")}
    if left := len(results.rows) - counts["Finished"] - counts["Failed"]:
        counts["Not run to the end"] = left
    tiles = "".join(f"<div><dt>{k}</dt><dd>{v:,}</dd></div>" for k, v in counts.items())
    rows = [
        (axis_label(key), len(values), ", ".join(texts))
        for (key, values), texts in zip(results.axes, _texts(results), strict=True)
    ]
    table = page.table("What was varied", ("key", "values", "which"), rows)
    return f'<dl class="tiles">{tiles}</dl>{table}'


def _texts(results: Results) -> list[list[str]]:
    """The values of every axis as they were written, in their order."""
    return [
        list(dict.fromkeys(row.values[index] for row in results.rows))
        for index in range(len(results.axes))
    ]


# ---- figures -----------------------------------------------------------------------------------


def _figures(results: Results, metrics: Sequence[_Metric]) -> str:
    parts = []
    drawing: Callable[[Results, _Metric], list[tuple[str, Chart | None]]]
    drawing = _curve if len(results.axes) == 1 else _maps
    for metric in metrics:
        title = metric.quantity.title.capitalize()
        reason = "no run reached the tolerance" if "tolerance" in metric.key else "no run has it"
        found = drawing(results, metric)
        for where, chart in found:
            whole = f"{title} <small>{escape(where)}</small>" if where else title
            parts.append(page.figure(whole, chart, reason))
        if (left := _map_count(results) - len(found)) > 0:
            parts.append(page.absent(title, f"{left} more maps; results.csv has all values"))
    if not parts:
        return page.absent("Figures", "no run has a quantity to draw")
    return page.grid(parts)


def _cell(rows: Sequence[Row], metric: _Metric) -> Cell:
    values: list[float] = []
    lacking: list[plots.State] = []
    for row in rows:
        value = row.number(metric.key)
        if value is not None:
            values.append(metric.factor * value)
        elif row.status == "failed":
            lacking.append("diverged" if row.diverged else "failed")
        elif row.status != "finished":
            lacking.append("missing")
        else:
            lacking.append("never" if "tolerance" in metric.key else "absent")
    return Cell(tuple(values), tuple(lacking))


def _curve(results: Results, metric: _Metric) -> list[tuple[str, Chart | None]]:
    ((key, values),), (texts,) = results.axes, _texts(results)
    groups = results.groups()
    cells = [_cell(groups[(text,)], metric) for text in texts]
    label = axis_label(key)
    chart = plots.seed_chart(metric.key, metric.quantity, label, values, texts, cells)
    return [("", chart)]


def _others(results: Results) -> list[tuple[str, ...]]:
    """The combinations of the values of all axes after the first two."""
    return list(product(*_texts(results)[2:]))


def _map_count(results: Results) -> int:
    return len(_others(results)) if len(results.axes) > 1 else 1


def _maps(results: Results, metric: _Metric) -> list[tuple[str, Chart | None]]:
    """A map over the first two axes for each combination of the others; the colours are shared."""
    columns, rows, *_ = _texts(results)
    names = [axis_label(key) for key, _ in results.axes]
    cells = {values: _cell(rows, metric) for values, rows in results.groups().items()}
    means = [mean for cell in cells.values() if (mean := cell.mean) is not None]
    if not means:
        return [("", None)]
    most = max(1, min(MAX_MAPS, MAX_CELLS // (len(columns) * len(rows))))
    found = []
    for number, other in enumerate(_others(results)[:most]):
        inner = {
            (i, j): cells[x, y, *other]
            for i, x in enumerate(columns)
            for j, y in enumerate(rows)
            if (x, y, *other) in cells
        }
        chart = plots.heat_map(
            f"{metric.key}-{number}",
            metric.quantity,
            (names[0], columns),
            (names[1], rows),
            inner,
            (min(means), max(means)),
        )
        where = ", ".join(f"{k} = {v}" for (k, _), v in zip(results.axes[2:], other, strict=True))
        found.append((where, _scrolling(chart)))
    return found


def _scrolling(chart: Chart | None) -> Chart | None:
    """A map with many columns scrolls by itself on a narrow page."""
    if chart is None:
        return None
    svg = f'<div class="scroll" tabindex="0" role="region" aria-label="Heat map">{chart.svg}</div>'
    return chart._replace(svg=svg)


# ---- tables ------------------------------------------------------------------------------------


def _means(results: Results, metrics: Sequence[_Metric]) -> str:
    """Mean ± sample standard deviation over the seeds of every combination."""
    metrics = [m for m in metrics if any(row.number(m.key) is not None for row in results.rows)]
    if not metrics:
        return page.absent("Table", "no run has finished")
    rows = []
    groups = results.groups()
    for values, members in list(groups.items())[:MAX_ROWS]:
        cells: list[Any] = [
            *values,
            f"{sum(r.status == 'finished' for r in members)} of {len(members)}",
        ]
        for metric in metrics:
            found = [v * metric.factor for r in members if (v := r.number(metric.key)) is not None]
            cells.append(plus_minus(found, len(members)))
        rows.append(cells)
    header = [*(axis_label(key) for key, _ in results.axes), "finished"]
    header += [metric.quantity.label for metric in metrics]
    caption = "Mean ± sample standard deviation over the seeds; in brackets how many have a value, "
    caption += "where it is not all of them"
    return page.table(caption, header, rows) + _cut_note(len(groups))


def _failures(results: Results) -> str:
    found: dict[str, list[Row]] = {}
    for row in results.rows:
        if row.status == "failed":
            found.setdefault(str(row.summary.get("error")), []).append(row)
    rows = [(len(rows), _link(rows[0]), error) for error, rows in list(found.items())[:MAX_ROWS]]
    return page.table("Why runs failed", ("runs", "first", "error"), rows)


def _runs(results: Results, metrics: Sequence[_Metric]) -> str:
    rows = [
        (_link(row), *row.values, row.seed, row.status, *(row.number(m.key) for m in metrics))
        for row in results.rows[:MAX_ROWS]
    ]
    header = ["run", *(key for key, _ in results.axes), "seed", "status"]
    table = page.table("Every run", [*header, *(m.key.replace("_", " ") for m in metrics)], rows)
    return page.details(f"All {len(results.rows):,} runs", table + _cut_note(len(results.rows)))


def _cut_note(count: int) -> str:
    return f"<p>The first {MAX_ROWS:,} of {count:,}.</p>" if count > MAX_ROWS else ""


def _link(row: Row) -> page.Markup:
    name = escape(row.folder.rpartition("/")[2])
    if not row.summary:
        return page.Markup(name)
    return page.Markup(f'<a href="{escape(quote(row.folder))}/report.html">{name}</a>')


def _command(results: Results) -> str:
    about = dict(results.about)
    arguments = [str(text) for text in about.pop("arguments", [])]
    scenario = str(about.pop("scenario", ""))
    rows: list[tuple[Any, ...]] = [("scenario", scenario), ("arguments", "  ".join(arguments))]
    rows += [(key.replace("_", " "), value) for key, value in about.items()]
    return page.table("What was asked", ("what", "value"), rows)
