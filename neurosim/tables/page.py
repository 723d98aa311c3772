"""A table for a reader: on the terminal, as JSON, and as a page with pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from rich.table import Table as Shown

from neurosim._version import __version__
from neurosim.base import duration, plus_minus, spread, write_atomic, write_json
from neurosim.records import Row, read_object
from neurosim.reports import Cell, Quantity, figures_of, number, page, plots
from neurosim.tables.form import Column, Published
from neurosim.tables.runs import HIDDEN, Measured, PlannedTable, measured

FORMAT = "neurosim-table-1"
PUBLISHED = "published"
# What is kept of a run besides the numbers of the columns.
_KEPT = (
    "validation_accuracy",
    "best_epoch",
    "epochs",
    "steps",
    "seconds",
    "cpu_seconds",
    "epoch_seconds",
    "epoch_cpu_seconds",
    "test_accuracy",
    "test_loss",
    "train_loss",
    "gradient_angle",
    "residual_mean",
    "residual_difference",
    "wakes",
    "unit_wakes",
    "mean_messages",
    "difference_messages",
    "synaptic_operations",
    "forward",
    "adjoint",
    "weight_gradient",
    "ticks",
    "peak_memory_bytes",
    "attack_eps",
    "attack_accuracy",
    "lipschitz_bound",
    "spectral_norms",
    "weights_sha256",
)


def terminal_table(planned: PlannedTable) -> Shown:
    """The table beside the published figures, for the terminal."""
    header, rows = _cells(planned)
    quick = ", a quick look at the digits" if planned.choice.quick else ""
    shown = Shown(title=planned.table.title + quick)
    for place, title in enumerate(header):
        first = place < len(planned.table.axes)
        shown.add_column(title, justify="left" if first else "right")
    for row in rows:
        shown.add_row(*row)
    return shown


def write_table(planned: PlannedTable, runs: Path, folder: Path) -> tuple[Path, Path]:
    """Writes the JSON file, the page and its pictures into ``folder``; the first two paths.

    ``runs`` is the folder of the runs, whose environments the JSON file repeats.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = as_json(planned, runs)
    data, text = (folder / f"{planned.stem}.{end}" for end in ("json", "md"))
    pictures = {f"{planned.stem}-{figure.name}": figure.svg for figure in _figures(planned)}
    for name, svg in pictures.items():
        write_atomic(folder / f"{name}.svg", svg)
    write_json(data, found)
    write_atomic(text, _markdown(planned, found, list(pictures)))
    return data, text


# ---- the cells ---------------------------------------------------------------------------------


def _cells(planned: PlannedTable) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text: axes, seeds, the columns, and what was published."""
    table, rows = planned.table, measured(planned)
    published = any(one.row.published for one in rows)
    header = [*table.axes, "seeds"]
    header += [_named(column.label, table.baseline) for column in table.columns]
    header += [PUBLISHED] if published else []
    lines = []
    for one in rows:
        line = [*one.row.values, one.state]
        line += [_shown(one, column) for column in table.columns]
        line += [_published(one.row.published)] if published else []
        lines.append(line)
    return header, lines


def _named(text: str, baseline: str | None) -> str:
    return text.replace("{baseline}", str(baseline))


def _shown(one: Measured, column: Column) -> str:
    values = [column.scale * value for value in one.values.get(column.key, ())]
    if column.key == "difference" and values:
        return f"{values[0]:+.2f}"
    # What is counted over the seeds stands in a column of its own.
    return plus_minus(values, len(values))


def _published(figure: Published | None) -> str:
    return "–" if figure is None else f"{figure.accuracy:.2f}\u00a0±\u00a0{figure.std:.2f}"


# ---- JSON --------------------------------------------------------------------------------------


def as_json(planned: PlannedTable, runs: Path) -> dict[str, Any]:
    """Everything about the table: command, machines, and of every run what it came to."""
    table, results = planned.table, planned.sweep.results
    machines: list[dict[str, Any]] = []
    rows = []
    for one, overrides in zip(measured(planned), planned.overrides, strict=True):
        listed = []
        for run in one.runs:
            machine = read_object(runs / run.folder / "environment.json")
            if machine is not None and machine not in machines:
                machines.append(machine)
            place = None if machine is None else machines.index(machine)
            listed.append(_run(run) | {"machine": place})
        numbers = {}
        for key, values in one.values.items():
            mean, deviation = spread(values)
            numbers[key] = {"mean": mean, "std": deviation, "runs": len(values)}
        figure = None if one.row.published is None else asdict(one.row.published)
        rows.append(
            {
                **dict(zip(table.axes, one.row.values, strict=True)),
                "scenario": f"{one.row.scenario}.yaml",
                "overrides": [o for o in overrides if o.partition("=")[0] not in HIDDEN],
                "published": figure,
                "numbers": numbers,
                "runs": listed,
            }
        )
    seconds = [number(run.summary.get("seconds")) for run in results.rows]
    return {
        "format": FORMAT,
        "table": table.name,
        "title": table.title,
        "neurosim": __version__,
        "command": planned.choice.command(table.name),
        "quick": planned.choice.quick,
        "baseline": table.baseline,
        "seconds": sum(value for value in seconds if value is not None),
        "machines": machines,
        "rows": rows,
    }


def _run(run: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"seed": run.seed, "status": run.status, "folder": run.folder}
    if run.status == "failed":
        found |= {"diverged": run.diverged, "error": run.summary.get("error")}
    return found | {key: run.summary[key] for key in _KEPT if key in run.summary}


# ---- the page ----------------------------------------------------------------------------------


def _markdown(planned: PlannedTable, found: dict[str, Any], pictures: Sequence[str]) -> str:
    table, choice = planned.table, planned.choice
    header, lines = _cells(planned)
    left = len(table.axes)
    parts = [
        f"# {table.title}",
        table.text,
        f"```console\n$ {choice.command(table.name)}\n```",
        *([_QUICK] if choice.quick else []),
        "\n".join(
            [
                _line(header),
                _line([":--" if place < left else "--:" for place in range(len(header))]),
                *map(_line, lines),
            ]
        ),
        _legend(planned, found),
        *(f"![{name.replace('-', ' ')}]({name}.svg)" for name in pictures),
        _machines(found),
    ]
    return "\n\n".join(parts) + "\n"


_QUICK = (
    "A quick look at the 1,797 digits that ship with the program instead of the data of the table: "
    "it shows that everything runs, and nothing about the published figures."
)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _legend(planned: PlannedTable, found: dict[str, Any]) -> str:
    """What the columns mean, and over how much the means are taken."""
    epochs = {run["epochs"] for row in found["rows"] for run in row["runs"] if "epochs" in run}
    some = "–".join(str(e) for e in sorted({min(epochs), max(epochs)})) if epochs else "no"
    lines = [
        "Mean ± sample standard deviation over the seeds that finished; "
        f"{some} epochs. A run that diverged has no number: a state was no longer finite."
    ]
    lines += [
        _named(f"- *{column.label}*: {column.meaning}.", planned.table.baseline)
        for column in planned.table.columns
    ]
    sources: dict[tuple[Any, ...], None] = {}
    for row in planned.rows:
        if (p := row.published) is not None:
            sources[p.source, p.seeds, p.epochs] = None
    lines += [
        f"- *{PUBLISHED}*: test accuracy (%), {source}; {seeds} seeds, {epochs} epochs."
        for source, seeds, epochs in sources
    ]
    return "\n".join([lines[0], "", *lines[1:]])


def _machines(found: dict[str, Any]) -> str:
    runs = [run for row in found["rows"] for run in row["runs"]]
    lines = []
    for place, machine in enumerate(found["machines"]):
        count = sum(run["machine"] == place for run in runs)
        about = ", ".join(
            str(machine[key]) for key in ("processor", "system", "device") if machine.get(key)
        )
        tools = f"{machine.get('cores')} cores, threads per run: {machine.get('threads')}, "
        tools += f"torch {machine.get('torch')}, neurosim {machine.get('neurosim')}"
        lines.append(f"- {count} runs: {about}, {tools}.")
    head = f"All runs together took {duration(found['seconds'])} of wall time, on"
    return "\n".join([head, "", *lines]) if lines else "Nothing has been run."


# ---- pictures ----------------------------------------------------------------------------------


def _figures(planned: PlannedTable) -> list[plots.Figure]:
    """Maps over the first two axes where there are three or more, rows elsewhere."""
    draw = _maps if len(planned.table.axes) > 2 else _row_charts
    parts = [part for column in planned.table.pictures for part in draw(planned, column)]
    return figures_of(page.grid(parts))


def _quantity(planned: PlannedTable, column: Column) -> Quantity:
    title = _named(column.title, planned.table.baseline)
    brief = column.axis == "log"  # such a value is looked at for its order
    show: Callable[[float], str] = lambda v: f"{v:.2g}" if brief else plus_minus([v], 1)  # noqa: E731
    return Quantity(title, column.unit, show)


def _cell(one: Measured, column: Column) -> Cell:
    values = tuple(column.scale * value for value in one.values.get(column.key, ()))
    lacking: list[plots.State] = ["diverged"] * one.count("diverged")
    lacking += ["failed"] * one.count("failed")
    lacking += ["missing"] * (one.count("interrupted") + one.count("not run"))
    if not values:
        lacking += ["absent"] * one.count("finished")
    return Cell(values, tuple(lacking))


def _row_charts(planned: PlannedTable, column: Column) -> list[str]:
    """A picture of the rows for each combination of what stands after their first name."""
    rows = measured(planned)
    quantity = _quantity(planned, column)
    parts = []
    for place, rest in enumerate(dict.fromkeys(one.row.values[1:] for one in rows)):
        some = [one for one in rows if one.row.values[1:] == rest]
        references: list[plots.Reference] = [
            (p.accuracy, p.std)
            if column.key == "test_accuracy" and (p := one.row.published) is not None
            else None
            for one in some
        ]
        chart = plots.row_chart(
            f"{column.key}-{place}",
            quantity,
            [one.row.values[0] for one in some],
            [_cell(one, column) for one in some],
            # Of other data: a published figure would only squeeze what was measured.
            [None] * len(some) if planned.choice.quick else references,
            column.axis,
        )
        parts.append(_figure(quantity.title, ", ".join(rest), chart))
    return parts


def _maps(planned: PlannedTable, column: Column) -> list[str]:
    rows = {one.row.values: one for one in measured(planned)}
    names = [
        list(dict.fromkeys(values[i] for values in rows)) for i in range(len(next(iter(rows))))
    ]
    cells = {values: _cell(one, column) for values, one in rows.items()}
    means = [mean for cell in cells.values() if (mean := cell.mean) is not None]
    limits = (min(means), max(means)) if means else None
    quantity = _quantity(planned, column)
    parts = []
    for place, rest in enumerate(product(*names[2:])):
        inner = {
            (i, j): cells[x, y, *rest]
            for i, x in enumerate(names[0])
            for j, y in enumerate(names[1])
            if (x, y, *rest) in cells
        }
        (across, up), (columns, lines) = planned.table.axes[:2], names[:2]
        chart = plots.heat_map(
            f"{column.key}-{place}", quantity, (across, columns), (up, lines), inner, limits
        )
        parts.append(_figure(quantity.title, ", ".join(rest), chart))
    return parts


def _figure(title: str, where: str, chart: plots.Chart | None) -> str:
    title = title[0].upper() + title[1:]
    whole = f"{title}, <small>{where}</small>" if where else title
    return page.figure(whole, chart, "no run has it")
