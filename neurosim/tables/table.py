"""Plans the runs of a paper's table, and reads the numbers of its rows from them.

A table is data, ``NAME.yaml`` here: the values of its axes, and what each of them says of a row. A
row is any combination of values: a scenario, what it overrides, and what was published.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from neurosim import documents
from neurosim._version import __version__
from neurosim.base import ConfigurationError, DocumentError, Problem, number, spread, unknown
from neurosim.records import Quantity, Results, Row, Seeds, quantities
from neurosim.runs import Checked, SweepPlan, plan

HIDDEN = ("data.root",)  # where the data are says nothing about a result


@dataclass(frozen=True)
class Published:
    """Holds a published test accuracy in percent: mean and standard deviation over ``seeds``."""

    accuracy: float
    std: float
    seeds: int
    epochs: int
    source: str


@dataclass(frozen=True)
class TableRow:
    """Describes a row: its name on each axis, a scenario by file name, and overrides of it, in full
    and for a quick look (at the digits that ship with the package)."""

    values: tuple[str, ...]
    scenario: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    published: Published | None = None

    @property
    def label(self) -> str:
        """The names of the row."""
        return ", ".join(self.values)


@dataclass(frozen=True)
class Table:
    """Describes a table.

    ``baseline`` is the first value of the rows that those like them otherwise are compared with.
    ``columns`` are keys of `neurosim.records.quantities`; ``pictures`` are those that are drawn.
    """

    name: str
    title: str
    text: str
    axes: Sequence[str]
    rows: tuple[TableRow, ...]
    columns: Sequence[str]
    pictures: Sequence[str]
    seeds: int
    baseline: str | None = None


@dataclass(frozen=True)
class _Part:
    """What a file says of all rows, of those with one value, or of a single one."""

    scenario: str = ""
    full: Sequence[str] = ()
    quick: Sequence[str] = ()
    overrides: Sequence[str] = ()  # in full and for a quick look
    published: Mapping[str, Any] = field(default_factory=dict)


def _read(name: str) -> Table:
    found = documents.load(Path(__file__).with_name(f"{name}.yaml")).value
    parts, common, single = found.pop("values"), found.pop("all", {}), found.pop("rows", {})
    rows = []
    for combination in product(*parts.values()):  # the last one changes fastest
        at = dict(zip(parts, combination, strict=True))
        values = tuple(at[axis] for axis in found["axes"])
        said = [common, *(parts[axis][at[axis]] for axis in found["axes"])]
        said.append(single.get(", ".join(values), {}))
        rows.append(_row(values, [_Part(**one) for one in said]))
    return Table(name, rows=tuple(rows), **found)


def _row(values: tuple[str, ...], parts: Sequence[_Part]) -> TableRow:
    scenario = [part.scenario for part in parts if part.scenario][-1]
    overrides = [text for part in parts for text in part.overrides]
    full = (*(text for part in parts for text in part.full), *overrides)
    quick = (*(text for part in parts for text in part.quick), *overrides)
    published = {key: value for part in parts for key, value in part.published.items()}
    there = Published(**published) if "accuracy" in published else None
    return TableRow(values, scenario, full, quick, there)


TABLES = {name: _read(name) for name in ("mnist", "alpha", "systems", "streams")}


def table_named(name: str) -> Table:
    """Returns the table of that name. Raises ConfigurationError."""
    if name not in TABLES:
        raise ConfigurationError(unknown("table", name, tuple(TABLES)))
    return TABLES[name]


# ---- what is to be run -------------------------------------------------------------------------


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
        words = ["neurosim", "table", name, *shown(self.overrides)]
        words += ["--quick"] if self.quick else []
        words += ["--seeds", str(self.seeds)] if self.seeds is not None else []
        words += ["--epochs", str(self.epochs)] if self.epochs is not None else []
        words += [word for label in self.only for word in ("--row", label)]
        return shlex.join(words)

    def overrides_of(self, table: Table, row: TableRow) -> tuple[str, ...]:
        """Returns the overrides of a row's scenario, each key once: the user's come last."""
        slug = "-".join("".join(c if c.isalnum() else " " for c in row.label.lower()).split())
        mine = [f"name={table.name}-{slug}", *(row.quick if self.quick else row.full)]
        mine += [] if self.epochs is None else [f"training.epochs={self.epochs}"]
        found: dict[str, str] = {}
        for text in (*mine, *self.overrides):
            found.pop(_key(text), None)  # what is said last holds, in the place where it is said
            found[_key(text)] = text
        return tuple(found.values())


def shown(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides that say something about a result."""
    return [text for text in overrides if _key(text) not in HIDDEN]


def _key(assignment: str) -> str:
    return assignment.partition("=")[0].strip()


@dataclass(frozen=True)
class PlannedTable:
    """Holds a table with the runs that it is made of, as one sweep."""

    table: Table
    choice: Choice
    rows: tuple[TableRow, ...]
    batches: tuple[int, ...]  # the batch size of each row
    sweep: SweepPlan

    @property
    def stem(self) -> str:
        """What its files are named by."""
        return f"{self.table.name}-quick" if self.choice.quick else self.table.name

    @property
    def columns(self) -> list[Quantity]:
        """Returns what the table shows of each row; with ``costs`` also what hardware takes."""
        more = [key for key in ("energy", "hardware_seconds") if self.costed]
        return self.quantities([*self.table.columns, *more])

    @property
    def costed(self) -> bool:
        """Whether the runs have costs."""
        return any(_key(text).split(".")[0] == "costs" for text in self.choice.overrides)

    def quantities(self, keys: Sequence[str]) -> list[Quantity]:
        """Returns the quantities of those keys, with the name of the baseline in their texts."""
        found, baseline = [], ("{baseline}", str(self.table.baseline))
        for one in map(quantities().__getitem__, keys):
            title, meaning = one.title.replace(*baseline), one.meaning.replace(*baseline)
            found.append(replace(one, title=title, meaning=meaning))
        return found


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
    parts = []
    seeds = choice.seeds if choice.seeds is not None else 1 if choice.quick else table.seeds
    for row in rows:
        file = scenarios / f"{row.scenario}.yaml"
        try:
            parts.append(plan(file, choice.overrides_of(table, row), seeds, checked))
        except DocumentError as error:
            for problem in error.problems:
                wrong.setdefault(problem, []).append(row.label)
    if wrong:
        raise DocumentError([_reported(problem, labels) for problem, labels in wrong.items()])
    results = _results(table, choice, rows, parts)
    batches = [_batch(documents.loads(part.runs[0][0], "").value) for part in parts]
    runs = [run for part in parts for run in part.runs]
    sweep = SweepPlan(results, runs, max(part.threads for part in parts))
    return PlannedTable(table, choice, rows, tuple(batches), sweep)


def _batch(scenario: Mapping[str, Any]) -> int:
    stream = scenario.get("stream")
    return int(stream["streams"] if stream else scenario["data"]["batch_size"])


def chosen(table: Table, names: Sequence[str]) -> tuple[TableRow, ...]:
    """Returns the rows with one of these labels, or a part of it; all for no names.

    The baseline stays among them: the others are compared with it.
    """
    known = dict.fromkeys(n for row in table.rows for n in (row.label, *row.values))
    for name in names:
        if name not in known:
            raise ConfigurationError(unknown(f"row of table {table.name}", name, tuple(known)))
    rows = [r for r in table.rows if not names or {r.label, *r.values} & set(names)]
    bases = {(table.baseline, *row.values[1:]) for row in rows}
    return tuple(row for row in table.rows if row in rows or row.values in bases)


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
    about = {
        "neurosim": __version__,
        "command": choice.command(table.name),
        "seeds": list(dict.fromkeys(row.seed for row in found)),
    }
    results = Results(f"table-{table.name}", [(axis, []) for axis in table.axes], found, about)
    results.axes = list(zip(table.axes, results.texts(), strict=True))
    return results


# ---- what it came to ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Holds what the seeds of a row came to: numbers by key, over the runs that finished."""

    row: TableRow
    runs: tuple[Row, ...]
    values: dict[str, tuple[float, ...]]

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


def measured(planned: PlannedTable) -> list[Measured]:
    """Returns the rows with the numbers of their runs."""
    groups = planned.sweep.results.groups()
    found = {}
    for row, batch in zip(planned.rows, planned.batches, strict=True):
        runs = tuple(groups[row.values])
        found[row.values] = Measured(row, runs, numbers_of(runs, batch))
    means = {
        values: {key: spread(numbers)[0] for key, numbers in one.values.items()}
        for values, one in found.items()
    }
    seconds, accuracy = "cpu_seconds_per_epoch", "test_accuracy"
    for values, one in found.items():  # what only a comparison of means gives
        base = str(planned.table.baseline), *values[1:]
        ours, theirs = means[values], means.get(base, {})
        if values != base and accuracy in ours and accuracy in theirs:
            one.values["difference"] = (100.0 * (ours[accuracy] - theirs[accuracy]),)
        if seconds in ours and theirs.get(seconds):
            one.values["time_over_baseline"] = (ours[seconds] / theirs[seconds],)
    return list(found.values())


def numbers_of(runs: Sequence[Row], batch: int) -> dict[str, tuple[float, ...]]:
    """Returns the numbers of the runs that finished, without those that none has measured."""
    # A run of before there were such numbers has shown whole batches.
    shown = [{"samples": batch * (number(run.summary.get("steps")) or 0)} for run in runs]
    known = [replace(run, summary=s | run.summary) for run, s in zip(runs, shown, strict=True)]
    found = {}
    for one in quantities().values():
        values = (run.value(one) for run in known)
        found[one.key] = tuple(value for value in values if value is not None)
    return {key: values for key, values in found.items() if values}
