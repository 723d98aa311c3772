"""Shows a table to a reader: on the terminal, as JSON, and as a page with pictures."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table as Shown

from neurosim._version import __version__
from neurosim.base import duration, number, plus_minus, spread, write_atomic, write_json
from neurosim.records import Quantity, Row, RunFiles
from neurosim.reports import Figure, maps_of, pictures_of, plots, render, trade_off
from neurosim.tables.table import Measured, PlannedTable, measured, shown

_FORMAT = "neurosim-table-1"
_OCCASION = ("began", "command")  # of a run's environment: no part of the machine
_SAID = ("name", "status", "error", "diverged")  # of a run, elsewhere


def terminal_table(planned: PlannedTable) -> Shown:
    """Returns the table beside the published figures, for the terminal."""
    header, rows = _cells(planned)
    quick = ", a quick look at the digits" if planned.choice.quick else ""
    found = Shown(title=planned.table.title + quick)
    for place, title in enumerate(header):
        found.add_column(title, justify="left" if place < len(planned.table.axes) else "right")
    for row in rows:
        found.add_row(*row)
    return found


def write_table(planned: PlannedTable, runs: Path, folder: Path) -> tuple[Path, Path]:
    """Writes the JSON file, the page and its pictures into ``folder``; returns the first two paths.

    ``runs`` is the folder of the runs, whose environments the JSON file repeats.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = as_json(planned, runs)
    data, text = (folder / f"{planned.stem}.{end}" for end in ("json", "md"))
    pictures = {f"{planned.stem}-{one.name}": one.svg for one in pictures_of(_figures(planned))}
    for name, svg in pictures.items():
        write_atomic(folder / f"{name}.svg", svg)
    write_json(data, found)
    write_atomic(text, _markdown(planned, found, list(pictures)))
    return data, text


def _cells(planned: PlannedTable) -> tuple[list[str], list[list[str]]]:
    """Returns header and rows as text: axes, seeds, the columns, and what was published."""
    table, columns = planned.table, planned.columns
    # A quick look is at other data: what was published says nothing about them.
    published = not planned.choice.quick and any(row.published for row in planned.rows)
    header = [*table.axes, "seeds", *(column.label for column in columns)]
    lines = []
    for one in measured(planned):
        line = [*one.row.values, one.state, *(_shown(one, column) for column in columns)]
        if published:
            figure = one.row.published
            line.append(f"{figure.accuracy:.2f}\u00a0±\u00a0{figure.std:.2f}" if figure else "–")
        lines.append(line)
    return [*header, *(["published"] if published else [])], lines


def _shown(one: Measured, column: Quantity) -> str:
    values = one.seeds(column).values
    if column.key == "difference" and values:
        return column.show(values[0])
    # What is counted over the seeds stands in a column of its own.
    return plus_minus(values, len(values))


def as_json(planned: PlannedTable, runs: Path) -> dict[str, Any]:
    """Returns everything about the table: command, machines, and what every run came to."""
    table, choice, rows = planned.table, planned.choice, []
    machines: list[dict[str, Any]] = []
    for one in measured(planned):
        listed = []
        for run in one.runs:
            found = RunFiles(runs / run.folder).object("environment.json")
            place = None
            if found is not None:
                machine = {key: value for key, value in found.items() if key not in _OCCASION}
                if machine not in machines:
                    machines.append(machine)
                place = machines.index(machine)
            listed.append(_run(run) | {"machine": place})
        numbers = {}
        for key, values in one.values.items():
            mean, deviation = spread(values)
            numbers[key] = {"mean": mean, "std": deviation, "runs": len(values)}
        rows.append(
            {
                **dict(zip(table.axes, one.row.values, strict=True)),
                "scenario": f"{one.row.scenario}.yaml",
                "overrides": shown(choice.overrides_of(table, one.row)),
                "published": asdict(one.row.published) if one.row.published else None,
                "numbers": numbers,
                "runs": listed,
            }
        )
    seconds = (number(run.summary.get("seconds")) for run in planned.sweep.results.rows)
    return {
        "format": _FORMAT,
        "table": table.name,
        "title": table.title,
        "neurosim": __version__,
        "command": choice.command(table.name),
        "quick": choice.quick,
        "baseline": table.baseline,
        "seconds": sum(value or 0.0 for value in seconds),
        "machines": machines,
        "rows": rows,
    }


def _run(run: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"seed": run.seed, "status": run.status, "folder": run.folder}
    if run.status == "failed":
        found |= {"diverged": run.diverged, "error": run.summary.get("error")}
    return found | {key: value for key, value in run.summary.items() if key not in _SAID}


def _markdown(planned: PlannedTable, found: dict[str, Any], pictures: list[str]) -> str:
    header, lines = _cells(planned)
    runs = [run for row in found["rows"] for run in row["runs"]]
    epochs = {run["epochs"] for run in runs if "epochs" in run}
    places = [run["machine"] for run in runs]
    beside = () if planned.choice.quick else planned.rows
    return render(
        "table.md",
        table=planned.table,
        found=found,
        header=header,
        lines=lines,
        epochs="–".join(str(e) for e in sorted({min(epochs), max(epochs)})) if epochs else "no",
        columns=planned.columns,
        # One of each source: their figures differ.
        sources={(p.source, p.seeds): p for row in beside if (p := row.published)}.values(),
        pictures=pictures,
        duration=duration(found["seconds"]),
        counts=[places.count(place) for place in range(len(found["machines"]))],
    )


def _figures(planned: PlannedTable) -> list[Figure]:
    """Draws maps over the first two axes where there are three or more, rows elsewhere."""
    rows, found = measured(planned), []
    axes = planned.sweep.results.axes
    for column in planned.quantities(planned.table.pictures):
        if len(axes) > 2:
            found += maps_of(column, axes, {one.row.values: one.seeds(column) for one in rows})
            continue
        for place, rest in enumerate(dict.fromkeys(one.row.values[1:] for one in rows)):
            some = [one for one in rows if one.row.values[1:] == rest]
            # Of other data: a published figure would only squeeze what was measured.
            beside = column.key == "test_accuracy" and not planned.choice.quick
            chart = plots.row_chart(
                f"{column.key}-{place}",
                column,
                [one.row.values[0] for one in some],
                [one.seeds(column) for one in some],
                [(p.accuracy, p.std) if (p := r.row.published) and beside else None for r in some],
            )
            found.append(Figure(column.heading, chart, "no run has it", ", ".join(rest)))
    if planned.costed:
        found.append(trade_off({one.row.label: one.runs for one in rows}))
    return found
