"""Makes the report of a sweep, with links to those of its runs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from urllib.parse import quote

import numpy as np
import yaml
from markupsafe import Markup

from neurosim import documents
from neurosim.base import DocumentError, flat, plus_minus, spoken
from neurosim.records import Quantity, Results, Row, Seeds, quantities, shown_in
from neurosim.reports.page import Block, Figure, Listing, Report, Section, listed
from neurosim.reports.plots import (
    Choice,
    Curve,
    colours,
    heat_map,
    limits_of,
    line_chart,
    pareto_chart,
    seed_chart,
)

ENERGY, TRIPS = "energy", "trips_per_hold"
_Names = Sequence[Mapping[str, str]]  # what the values of each axis are called
_TAUGHT = ("cumulative_accuracy", "test_accuracy")  # what depends on how late messages are
MAX_MAPS = 12  # per quantity, where more than two axes are swept
MAX_ROWS = 2_000  # of a table; results.csv has them all
MAX_CELLS = 2_500  # of all maps of a quantity

_TEXT = Path(__file__).with_name("units.yaml").read_text(encoding="utf-8")
_UNITS = yaml.safe_load(_TEXT)


def axis_label(key: str) -> str:
    """Returns the key of an axis with its unit, where it has one."""
    unit = next((unit for pattern, unit in _UNITS.items() if re.fullmatch(pattern, key)), "")
    return f"{key} ({unit})" if unit else key


def report_of_sweep(results: Results) -> Report:
    """Returns the report of a sweep."""
    keys, total = results.keys, len(results.rows)
    maps = _drawn(results)
    means = [*maps, *(one for one in shown_in("mean") if one.key in keys and one not in maps)]
    groups = results.groups()
    counts = {"runs": total, "combinations": len(groups)}
    counts |= {status: results.count(status) for status in ("finished", "failed")}
    failed, left = counts["failed"], total - counts["finished"] - counts["failed"]
    counts |= {"not run to the end": left} if left else {}
    axes = [
        (axis_label(key), len(values), _listed(texts))
        for (key, values), texts in zip(results.axes, results.texts(), strict=True)
    ]
    tiles = [(title, f"{count:,}") for title, count in counts.items()]
    varied = Listing("What was varied", ("key", "values", "which"), axes)
    sections = [Section("Result", [("tiles", tiles), ("table", varied)])]
    if axes:
        figures = _figures(results, maps)
        none = "absent", ("Figures", "no run has a quantity to draw")
        drawn = ("figures", figures) if figures else none
        sections.append(Section("Curves" if len(axes) == 1 else "Maps", [drawn]))
    sections.append(Section("Means", _means(results, means)))
    if failed:
        sections.append(Section("Failures", [("table", _failures(results))]))
    runs = "details", (f"All {total:,} runs", _shown(_runs(results, means), total))
    sections += [Section("Runs", [runs]), Section("Command", [("table", _asked(results))])]
    css = "interrupted" if left else "failed" if failed else "finished"
    status = "not finished" if left else f"{failed} failed" if failed else "finished"
    notes = [f"{row.problem}." for row in results.rows[:MAX_ROWS] if row.problem]
    return Report(results.name, f"sweep of {total:,} runs", status, css, sections, notes=notes)


# ---- figures -----------------------------------------------------------------------------------


def labels_of(texts: Sequence[str]) -> list[str]:
    """Returns what tells the values of an axis apart: of sections, the keys that differ."""
    sections = [_section(text) for text in texts]
    keys = {key: None for one in sections for key in one or ()}
    apart = [k for k in keys if len({str((one or {}).get(k)) for one in sections if one}) > 1]
    found = []
    for text, one in zip(texts, sections, strict=True):
        said = {key.removesuffix(".kind"): one[key] for key in apart if key in one} if one else {}
        found.append(spoken(said) if said else _spoken(text))
    return found if len(set(found)) == len(set(texts)) else [_spoken(text) for text in texts]


def _spoken(text: str) -> str:
    """Says a value of an axis in words, if it is a section or a list."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return spoken(documents.loads(text, "").value)
    except DocumentError:
        return text


def _listed(texts: Sequence[str]) -> str:
    """Says all values of an axis."""
    said = [_spoken(text) for text in texts]
    return ("; " if any("," in one for one in said) else ", ").join(said)


def _section(text: str) -> dict[str, str] | None:
    """Returns the keys of a section with their values as text; None for anything else."""
    if not text.startswith("{"):
        return None
    try:
        found = documents.loads(text, "").value
    except DocumentError:
        return None
    return {key: spoken(value) for key, value in flat(found).items()}


def _names(results: Results) -> list[dict[str, str]]:
    """Returns what the values of each axis are called."""
    return [dict(zip(texts, labels_of(texts), strict=True)) for texts in results.texts()]


def _called(names: _Names, values: Sequence[str]) -> list[str]:
    return [of[value] for of, value in zip(names, values, strict=True)]


def _drawn(results: Results) -> list[Quantity]:
    """Returns what is drawn; the loss stands for an accuracy that no run has."""
    known = quantities()
    accuracy, loss = known["test_accuracy"], known["test_loss"]
    maps = [one for one in shown_in("map") if one.key in results.keys]
    had, there = (
        any(row.value(one) is not None for row in results.rows) for one in (accuracy, loss)
    )
    return [loss if one is accuracy and there and not had else one for one in maps]


def _figures(results: Results, quantities: Sequence[Quantity]) -> list[Figure]:
    found = []
    # Of the first two axes, which are drawn, a reader wants to know the unit.
    keys = [axis_label(key) if place < 2 else key for place, (key, _) in enumerate(results.axes)]
    names = _names(results)
    axes = [(key, list(found.values())) for key, found in zip(keys, names, strict=True)]
    for one in quantities:
        seeds = {
            tuple(found[text] for found, text in zip(names, values, strict=True)): Seeds.of(r, one)
            for values, r in results.groups().items()
        }
        if len(axes) > 1:
            found += maps_of(one, axes, seeds)
            continue
        (label, some), (_, values) = axes[0], results.axes[0]
        chart = seed_chart(one, label, values, some, [seeds[text,] for text in some])
        found.append(Figure(one.heading, chart, _why_not(one)))
    if ENERGY in results.keys:
        every = range(len(axes))
        named = {_legend(results, names, v, every): r for v, r in results.groups().items()}
        found.append(trade_off(named))
    if TRIPS in results.keys:
        found += [_by_trips(results, names, one) for one in quantities if one.key in _TAUGHT]
    return found


def _legend(results: Results, names: _Names, values: Sequence[str], places: Iterable[int]) -> str:
    """Names a combination by its values on some of the axes."""
    keys, called = [key.rpartition(".")[2] for key, _ in results.axes], _called(names, values)
    return ", ".join(f"{keys[place]} {called[place]}" for place in places)


def trade_off(rows: Mapping[str, Sequence[Row]]) -> Figure:
    """Draws accuracy against energy for the runs of each label: of streams the prequential one."""
    known = quantities()
    energy, accuracy = known[ENERGY], known["test_accuracy"]
    if all("cumulative_accuracy" in run.summary for runs in rows.values() for run in runs):
        accuracy = known["cumulative_accuracy"]
    choices = [
        Choice(label, Seeds.of(runs, energy), Seeds.of(runs, accuracy))
        for label, runs in rows.items()
    ]
    chart = pareto_chart(energy, accuracy, choices)
    return Figure("Accuracy against energy", chart, "no run has both")


def _by_trips(results: Results, names: _Names, one: Quantity) -> Figure:
    """Draws a quantity of streams against hold / (1 + hops × delay), a curve for each combination
    of those axes that do not change that."""
    trips, groups = quantities()[TRIPS], results.groups()
    at = {values: Seeds.of(rows, trips).mean for values, rows in groups.items()}
    curves: dict[str, dict[float, Seeds]] = {}
    places = range(len(results.axes))
    moving = {
        n
        for n in places
        for a, b in product(at, at)
        if a[:n] == b[:n] and a[n + 1 :] == b[n + 1 :] and at[a] != at[b]
    }
    for values, x in at.items():
        label = _legend(results, names, values, (n for n in places if n not in moving))
        if x is not None:
            curves.setdefault(label, {})[x] = Seeds.of(groups[values], one)
    drawn = []
    for hue, (label, found) in zip(colours(len(curves)), curves.items(), strict=True):
        known = sorted((x, seeds.values) for x, seeds in found.items() if seeds.values)
        at_x = np.array([x for x, _ in known])
        for of, faint in ((min, True), (max, True), (fmean, False)):
            y = np.array([of(some) for _, some in known])
            drawn.append(Curve(label, at_x, y, hue, faint=faint, marked=not faint))
    several = any(len(seeds.values) > 1 for found in curves.values() for seeds in found.values())
    note = "Faint: the least and the greatest seed." if several else ""
    chart = line_chart(f"{one.key}-{TRIPS}", drawn, trips.label, one.label, note)
    return Figure(f"{one.heading} against {trips.title}", chart, "no run has both")


def _why_not(quantity: Quantity) -> str:
    return "no run reached the tolerance" if quantity.absent == "never" else "no run has it"


def maps_of(
    quantity: Quantity,
    axes: Sequence[tuple[str, Sequence[str]]],
    seeds: Mapping[tuple[str, ...], Seeds],
) -> list[Figure]:
    """Draws a map over the first two axes for each combination of the others, with one scale.

    ``axes`` are at least two labels with values, ``seeds`` are by the values on all axes.
    """
    title, (x, y, *others) = quantity.heading, axes
    if not any(one.values for one in seeds.values()):
        return [Figure(title, None, _why_not(quantity))]
    limits = limits_of(quantity, seeds.values())
    combinations = list(product(*(texts for _, texts in others)))
    most = max(1, min(MAX_MAPS, MAX_CELLS // (len(x[1]) * len(y[1]))))
    found = []
    for number, rest in enumerate(combinations[:most]):
        places = product(enumerate(x[1]), enumerate(y[1]))
        cells = {(i, j): seeds.get((a, b, *rest), Seeds()) for (i, a), (j, b) in places}
        chart = heat_map(f"{quantity.key}-{number}", quantity, x, y, cells, limits)
        where = ", ".join(f"{name} = {v}" for (name, _), v in zip(others, rest, strict=True))
        found.append(Figure(title, chart, "no run has it", where))
    if (left := len(combinations) - len(found)) > 0:
        found.append(Figure(title, None, f"{left} more maps; results.csv has all values"))
    return found


# ---- tables ------------------------------------------------------------------------------------


def _shown(listing: Listing, count: int) -> list[Block]:
    """Returns a table, and how many of its rows are shown if it is not all of them."""
    shown = len(listing.rows)
    first = Markup("<p>The first {:,} of {:,}.</p>").format(shown, count)
    return [("table", listing), ("html", first if shown < count else "")]


def _means(results: Results, quantities: Sequence[Quantity]) -> list[Block]:
    """Lists mean ± sample standard deviation over the seeds of every combination."""
    groups = results.groups()
    columns = {}
    for one in quantities:
        seeds = [Seeds.of(rows, one) for rows in groups.values()]
        if means := [mean for s in seeds if (mean := s.mean) is not None]:
            best = max(means) if one.better == "higher" else min(means)
            marked = one.better and min(means) < max(means)
            columns[one.label] = seeds, best if marked else None
    if not columns:
        return [("absent", ("Table", "no run has finished"))]
    rows, names = [], _names(results)
    for number, (values, members) in enumerate(list(groups.items())[:MAX_ROWS]):
        finished = sum(row.status == "finished" for row in members)
        cells: list[object] = [*_called(names, values), f"{finished} of {len(members)}"]
        for seeds, mark in columns.values():
            text = plus_minus(seeds[number].values, len(members))
            bold = mark is not None and seeds[number].mean == mark
            cells.append(Markup("<strong>{}</strong>").format(text) if bold else text)
        rows.append(cells)
    header = [*(axis_label(key) for key, _ in results.axes), "finished", *columns]
    caption = (
        "Mean ± sample standard deviation over the seeds; in brackets how many have a value, where "
        "it is not all of them; the best in bold"
    )
    return _shown(Listing(caption, header, rows), len(groups))


def _failures(results: Results) -> Listing:
    found: dict[str, list[Row]] = {}
    for row in results.rows:
        if row.status == "failed":
            found.setdefault(str(row.summary.get("error")), []).append(row)
    rows = [(len(rows), _link(rows[0]), error) for error, rows in list(found.items())[:MAX_ROWS]]
    return Listing("Why runs failed", ("runs", "first", "error"), rows)


def _runs(results: Results, quantities: Sequence[Quantity]) -> Listing:
    rows, names = [], _names(results)
    for row in results.rows[:MAX_ROWS]:
        values = ((one.factor, row.value(one)) for one in quantities)
        shown = (None if value is None else factor * value for factor, value in values)
        rows.append((_link(row), *_called(names, row.values), row.seed, row.status, *shown))
    header = ["run", *(key for key, _ in results.axes), "seed", "status"]
    return Listing("Every run", [*header, *(one.label for one in quantities)], rows)


def _link(row: Row) -> str:
    name = row.folder.rpartition("/")[2]
    link = Markup('<a href="{}/report.html">{}</a>')
    return link.format(quote(row.folder), name) if row.summary else name


def _asked(results: Results) -> Listing:
    about = dict(results.about)
    arguments = "  ".join(map(str, about.pop("arguments", [])))
    said = {"scenario": str(about.pop("scenario", "")), "arguments": arguments}
    return listed("What was asked", {key: text for key, text in said.items() if text} | about)
