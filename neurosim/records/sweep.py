"""Reads what the runs of a sweep came to: rows of axis values and numbers, as CSV and by seeds.

A sweep's folder holds ``sweep.json``, which says what its runs are, and the folders of the runs,
whose ``summary.json`` says what became of them. Everything here follows from these files.
"""

from __future__ import annotations

import csv
import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from neurosim.base import DataError, NeurosimWarning, write_atomic
from neurosim.records import summary as numbers
from neurosim.records.folder import RunFiles, read_object, write_object

FORMAT = "neurosim-sweep-1"
NOT_RUN = "not run"
# What a convergence study says in words; other text in a summary is names and digests.
_WORDS = ("verdict",)

Lack = Literal["failed", "diverged", "never", "absent", "missing"]
# Why a run has no value, in words, the gravest reason first.
LACKING: dict[Lack, str] = {
    "failed": "failed",
    "diverged": "diverged",
    "never": "never reached",
    "absent": "not measured",
    "missing": "not run",
}


class Seeds(NamedTuple):
    """Holds what the seeds of one combination came to: their values, and why others have none."""

    values: tuple[float, ...] = ()
    lacking: tuple[Lack, ...] = ()

    @classmethod
    def of(cls, rows: Sequence[Row], quantity: numbers.Quantity) -> Seeds:
        """Takes a quantity, in its unit, from rows that differ in their seeds alone."""
        found = [(row, row.value(quantity)) for row in rows]
        values = tuple(quantity.factor * value for _, value in found if value is not None)
        return cls(values, tuple(row.lack(quantity) for row, value in found if value is None))

    @property
    def mean(self) -> float | None:
        """The mean of the values there are."""
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return len(self.values) + len(self.lacking)

    @property
    def lack(self) -> Lack:
        """Why there is no value: the gravest reason."""
        return next((lack for lack in LACKING if lack in self.lacking), "missing")


@dataclass
class Row:
    """Describes one run: its values on the axes (as written), its seed, its folder."""

    values: tuple[str, ...]
    seed: int
    folder: str
    digest: str  # of its resolved scenario
    summary: dict[str, Any] = field(default_factory=dict)
    problem: str = ""  # which file of it is damaged, if one is

    @property
    def status(self) -> str:
        """``finished``, ``failed``, ``interrupted`` or ``not run``."""
        return str(self.summary.get("status", NOT_RUN))

    @property
    def diverged(self) -> bool:
        """True if it failed because a state was no longer finite: a result like any other."""
        return self.summary.get("diverged") is True

    def read(self, sweep: Path) -> Row:
        """Takes what the run's summary says now, unless it is of another scenario."""
        self.summary, self.problem = {}, ""
        try:
            files = RunFiles(sweep / self.folder)
            scenario = files.read("scenario.yaml")
            if scenario is not None and hashlib.sha256(scenario).hexdigest() == self.digest:
                self.summary = files.object("summary.json") or {}
        except DataError as error:
            self.problem = str(error).replace(f"{sweep}/", "")
            warnings.warn(NeurosimWarning(str(error)), stacklevel=2)
        return self

    def value(self, quantity: numbers.Quantity) -> float | None:
        """Returns a number of the summary of a finished run, as it stands there."""
        return quantity.of(self.summary) if self.status == "finished" else None

    def lack(self, quantity: numbers.Quantity) -> Lack:
        """Returns why a run has no value."""
        if self.status == "failed":
            return "diverged" if self.diverged else "failed"
        return quantity.absent if self.status == "finished" else "missing"


@dataclass
class Results:
    """Holds the runs of a sweep. ``axes`` are the keys that vary, with their values as data."""

    name: str
    axes: list[tuple[str, list[Any]]]
    rows: list[Row]
    about: dict[str, Any] = field(default_factory=dict)  # what else sweep.json says

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Reads a sweep's folder. Raises DataError where there is no usable sweep.json."""
        path = folder / "sweep.json"
        if not path.is_file():
            run = (folder / "scenario.yaml").is_file() and "a run, which ns.load_run reads"
            raise DataError(f"{path}: no such file; this is the folder of {run or 'no sweep'}")
        found = read_object(path)
        try:
            if found is None or found["format"] != FORMAT:
                raise ValueError("not written by a sweep of this version")
            axes = [(str(axis["key"]), list(axis["values"])) for axis in found["axes"]]
            rows = []
            for run in found["runs"]:
                values = tuple(map(str, run["values"]))
                if len(values) != len(axes):
                    raise ValueError(f"{len(values)} values for {len(axes)} axes")
                rows.append(Row(values, int(run["seed"]), str(run["folder"]), str(run["digest"])))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: damaged ({error}); start the sweep again") from None
        about = {key: found[key] for key in found if key not in ("format", "axes", "runs")}
        return cls(str(about.pop("name", "sweep")), axes, [r.read(folder) for r in rows], about)

    def write(self, folder: Path) -> None:
        """Writes sweep.json."""
        keys = ("values", "seed", "folder", "digest")
        runs = [{key: getattr(row, key) for key in keys} for row in self.rows]
        axes = [{"key": key, "values": values} for key, values in self.axes]
        head = {"format": FORMAT, "name": self.name, **self.about}
        write_object(folder / "sweep.json", head | {"axes": axes, "runs": runs})

    def count(self, status: str) -> int:
        """Counts the runs that have that status."""
        return sum(row.status == status for row in self.rows)

    @property
    def keys(self) -> list[str]:
        """The names of all numbers: the described ones in their order, then any others."""
        found = {
            key: None
            for row in self.rows
            for key, value in row.summary.items()
            if value is None or isinstance(value, int | float)
        }
        known = {
            one.key: None
            for one in numbers.QUANTITIES
            if one.key in found or any(one.of(row.summary) is not None for row in self.rows)
        }
        return list(known | found)

    def texts(self) -> list[list[str]]:
        """Returns the values of every axis as they were written, in their order."""
        places = range(len(self.axes))
        return [list(dict.fromkeys(row.values[place] for row in self.rows)) for place in places]

    def groups(self) -> dict[tuple[str, ...], list[Row]]:
        """Returns the rows of every combination: they differ in their seeds alone."""
        found: dict[tuple[str, ...], list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.values, []).append(row)
        return found

    def csv(self) -> str:
        """Writes one line per run: axes, seed, status, words, all numbers, error, folder."""
        header, *lines = self._table()
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(map(_cell, line) for line in lines)
        return file.getvalue()

    def records(self) -> list[dict[str, Any]]:
        """Returns the same, one mapping per run."""
        header, *lines = self._table()
        return [dict(zip(header, line, strict=True)) for line in lines]

    def _table(self) -> list[list[Any]]:
        """Returns the names of the columns, and a line per run."""
        words = [w for w in _WORDS if any(w in row.summary for row in self.rows)]
        keys = [*words, *self.keys, "error"]
        derived = [one for one in numbers.QUANTITIES if one.derive and one.key in keys]
        lines: list[list[Any]] = [
            [*(key for key, _ in self.axes), "seed", "status", *keys, "folder"]
        ]
        for row in self.rows:
            summary = row.summary | {one.key: one.of(row.summary) for one in derived}
            found = (summary.get(key) for key in keys)
            lines.append([*row.values, row.seed, row.status, *found, row.folder])
        return lines

    def write_csv(self, folder: Path) -> None:
        """Writes results.csv."""
        write_atomic(folder / "results.csv", self.csv())


def _cell(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
