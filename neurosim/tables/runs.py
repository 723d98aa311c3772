"""Plans the runs of a table, and reads the numbers of its rows from them."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neurosim import documents
from neurosim._version import __version__
from neurosim.base import ConfigurationError, DocumentError, Problem, spread, unknown
from neurosim.records import Quantity, Results, Row, Seeds, quantities
from neurosim.runs import Checked, SweepPlan, plan
from neurosim.tables.form import Table, TableRow
from neurosim.tables.papers import TABLES

HIDDEN = ("data.root",)  # where the data are says nothing about a result


@dataclass(frozen=True)
class Choice:
    """Holds what a user may choose: what of a table is to be run, and how.

    ``seeds`` and ``epochs`` replace the table's own; ``only`` are labels of rows, or single names
    in them; ``overrides`` (``key=value``) hold for all rows.
    """

    quick: bool = False
    seeds: int | None = None
    epochs: int | None = None
    only: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    def command(self, name: str) -> str:
        """Returns the command that makes this table, without where things are on this machine."""
        words = ["neurosim", "table", name]
        words += [o for o in self.overrides if _key(o) not in HIDDEN]
        words += ["--quick"] if self.quick else []
        words += ["--seeds", str(self.seeds)] if self.seeds is not None else []
        words += ["--epochs", str(self.epochs)] if self.epochs is not None else []
        words += [word for label in self.only for word in ("--row", label)]
        return shlex.join(words)


@dataclass(frozen=True)
class PlannedTable:
    """Holds a table with the runs that it is made of, as one sweep."""

    table: Table
    choice: Choice
    rows: tuple[TableRow, ...]
    overrides: tuple[tuple[str, ...], ...]  # of each row's scenario, all of them
    batches: tuple[int, ...]  # the batch size of each row
    sweep: SweepPlan

    @property
    def stem(self) -> str:
        """What its files are named by."""
        return f"{self.table.name}-quick" if self.choice.quick else self.table.name

    def column(self, key: str) -> Quantity:
        """Returns the quantity of that key, with the name of the baseline in its texts."""
        found, baseline = quantities()[key], str(self.table.baseline)
        title, meaning = (t.replace("{baseline}", baseline) for t in (found.title, found.meaning))
        return replace(found, title=title, meaning=meaning)

    @property
    def columns(self) -> list[Quantity]:
        """The columns of the table."""
        return list(map(self.column, self.table.columns.split()))


@dataclass(frozen=True)
class Measured:
    """Holds what the seeds of a row came to: numbers by key, over the runs that finished."""

    row: TableRow
    runs: tuple[Row, ...]
    values: dict[str, tuple[float, ...]]

    def mean(self, key: str) -> float | None:
        """Returns the mean over the runs, None without any."""
        values = self.values.get(key, ())
        return spread(values)[0] if values else None

    def seeds(self, column: Quantity) -> Seeds:
        """Returns the values in their unit, and why runs have none."""
        values = tuple(column.factor * value for value in self.values.get(column.key, ()))
        lacking = [run.lack(column) for run in self.runs if run.status != "finished" or not values]
        return Seeds(values, tuple(lacking))

    @property
    def state(self) -> str:
        """``3``, ``2 of 3, 1 diverged``: how many seeds, and what became of the others."""
        words = ["diverged" if run.diverged else run.status for run in self.runs]
        finished = words.count("finished")
        if finished == len(words):
            return str(finished)
        others = [f"{words.count(w)} {w}" for w in dict.fromkeys(words) if w != "finished"]
        return f"{finished} of {len(words)}, {', '.join(others)}"


def table_named(name: str) -> Table:
    """Returns the table of that name. Raises ConfigurationError."""
    if name not in TABLES:
        raise ConfigurationError(unknown("table", name, tuple(TABLES)))
    return TABLES[name]


# ---- what is to be run -------------------------------------------------------------------------


def plan_table(table: Table, scenarios: Path, choice: Choice) -> PlannedTable:
    """Plans all runs of a table, and checks them.

    Raises:
        DocumentError: everything that is wrong with the scenario of any row, each problem once.
        ConfigurationError: there is no such row, an override has several values, or makes two rows
            the same.
    """
    if not scenarios.is_dir():
        raise ConfigurationError(
            f"{scenarios}: no such folder; a table is made of the scenarios of the repository: run "
            "the command there, or name their folder with --scenarios"
        )
    rows = chosen(table, choice.only)
    wrong: dict[Problem, list[str]] = {}
    checked: Checked = {}
    parts, settled = [], []
    for row in rows:
        values = overrides_of(table, row, choice)
        settled.append(values)
        file = scenarios / f"{row.scenario}.yaml"
        try:
            seeds = choice.seeds if choice.seeds is not None else 1 if choice.quick else table.seeds
            parts.append(plan(file, values, seeds, checked))
        except DocumentError as error:
            for problem in error.problems:
                wrong.setdefault(problem, []).append(row.label)
    if wrong:
        raise DocumentError([_reported(problem, labels) for problem, labels in wrong.items()])
    results = _results(table, choice, rows, parts)
    texts = [text for part in parts for text in part.scenarios]
    batches = [documents.loads(part.scenarios[0], "").value["data"]["batch_size"] for part in parts]
    sweep = SweepPlan(results, texts, max(part.threads for part in parts))
    return PlannedTable(table, choice, rows, tuple(settled), tuple(batches), sweep)


def chosen(table: Table, names: Sequence[str]) -> tuple[TableRow, ...]:
    """Returns the rows with one of these labels, or a part of it; all for no names.

    The baseline stays among them: the others are compared with it.
    """
    known = dict.fromkeys(n for row in table.rows for n in (row.label, *row.values))
    for name in names:
        if name not in known:
            raise ConfigurationError(unknown(f"row of table {table.name}", name, tuple(known)))
    rows = [r for r in table.rows if not names or {r.label, *r.values} & set(names)]
    others = {row.values[1:] for row in rows}
    return tuple(
        row
        for row in table.rows
        if row in rows or (row.values[0] == table.baseline and row.values[1:] in others)
    )


def overrides_of(table: Table, row: TableRow, choice: Choice) -> tuple[str, ...]:
    """Returns the overrides of a row's scenario, each key once: setting's, row's, user's."""
    setting = row.setting.quick if choice.quick else row.setting.full
    slug = "-".join("".join(c if c.isalnum() else " " for c in row.label.lower()).split())
    mine = [f"name={table.name}-{slug}", *setting, *row.overrides]
    mine += [] if choice.epochs is None else [f"training.epochs={choice.epochs}"]
    found: dict[str, str] = {}
    for text in (*mine, *choice.overrides):
        found.pop(_key(text), None)  # what is said last holds, in the place where it is said
        found[_key(text)] = text
    return tuple(found.values())


def _key(assignment: str) -> str:
    return assignment.partition("=")[0].strip()


def _reported(problem: Problem, labels: Sequence[str]) -> Problem:
    others = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    return replace(problem, message=f"{problem.message} (row {labels[0]}{others})")


def _results(
    table: Table, choice: Choice, rows: Sequence[TableRow], parts: Sequence[SweepPlan]
) -> Results:
    found: list[Row] = []
    seen: dict[str, str] = {}
    for row, part in zip(rows, parts, strict=True):
        if part.results.axes:
            keys = ", ".join(key for key, _ in part.results.axes)
            raise ConfigurationError(
                f"{keys}: a table takes one value of a key, since its rows are what varies; use "
                "neurosim sweep for more"
            )
        for run in part.results.rows:
            if (other := seen.setdefault(run.folder, row.label)) != row.label:
                raise ConfigurationError(
                    f"the rows {other} and {row.label} would be the same runs; leave out the "
                    "override that makes them so"
                )
            found.append(replace(run, values=row.values))
    axes = [
        (axis, list(dict.fromkeys(row.values[place] for row in rows)))
        for place, axis in enumerate(table.axes)
    ]
    about = {
        "neurosim": __version__,
        "command": choice.command(table.name),
        "seeds": list(dict.fromkeys(row.seed for row in found)),
    }
    return Results(f"table-{table.name}", [(k, list(v)) for k, v in axes], found, about)


# ---- what it came to ---------------------------------------------------------------------------


def measured(planned: PlannedTable) -> list[Measured]:
    """Returns the rows with the numbers of their runs."""
    groups = planned.sweep.results.groups()
    found = []
    for row, batch in zip(planned.rows, planned.batches, strict=True):
        runs = groups[row.values]
        numbers = [numbers_of(run, batch) for run in runs if run.status == "finished"]
        keys = dict.fromkeys(key for some in numbers for key in some)
        values = {key: tuple(n[key] for n in numbers if key in n) for key in keys}
        found.append(Measured(row, tuple(runs), values))
    bases = {one.row.values: one for one in found}
    for one in found:
        base = bases.get((str(planned.table.baseline), *one.row.values[1:]))
        if base is not None:
            _compare(one, base)
    return found


def numbers_of(run: Row, batch: int) -> dict[str, float]:
    """Returns the numbers of one finished run, without those that it has not measured."""
    summary = run.summary | {"batch_size": batch}
    found = {one.key: one.of(summary) for one in quantities().values()}
    return {key: value for key, value in found.items() if value is not None}


def _compare(one: Measured, base: Measured) -> None:
    """Adds what only a comparison of means gives."""
    accuracy, reference = one.mean("test_accuracy"), base.mean("test_accuracy")
    if accuracy is not None and reference is not None and one is not base:
        one.values["difference"] = (100.0 * (accuracy - reference),)
    seconds, theirs = (row.mean("cpu_seconds_per_epoch") for row in (one, base))
    if seconds is not None and theirs:
        one.values["time_over_baseline"] = (seconds / theirs,)
