"""What the runs of a sweep came to: rows of axis values and numbers, as CSV and as means.

A sweep's folder holds ``sweep.json``, which says what its runs are, and the folders of the runs,
whose ``summary.json`` says what became of them. Everything here follows from these files.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosim.base import DataError, number, write_atomic, write_json

FORMAT = "neurosim-sweep-1"
NOT_RUN = "not run"
# What a convergence study says in words; other text in a summary is names and digests.
_WORDS = ("verdict",)


@dataclass
class Row:
    """One run: its values on the axes (as written), its seed, its folder within the sweep's."""

    values: tuple[str, ...]
    seed: int
    folder: str
    digest: str  # of its resolved scenario
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """``finished``, ``failed``, ``interrupted`` or ``not run``."""
        return str(self.summary.get("status", NOT_RUN))

    @property
    def diverged(self) -> bool:
        """Whether it failed because a state was no longer finite: a result like any other."""
        return self.summary.get("diverged") is True

    def read(self, sweep: Path) -> Row:
        """Takes what the run's summary says now. One of another scenario says nothing of it."""
        folder = sweep / self.folder
        try:
            digest = hashlib.sha256((folder / "scenario.yaml").read_bytes()).hexdigest()
        except OSError:
            digest = ""
        same = digest == self.digest
        self.summary = (read_object(folder / "summary.json") if same else None) or {}
        return self

    def number(self, key: str) -> float | None:
        """A number of the summary of a finished run."""
        return number(self.summary.get(key)) if self.status == "finished" else None


@dataclass
class Results:
    """The runs of a sweep. ``axes`` are the keys that vary, with their values as data."""

    name: str
    axes: list[tuple[str, list[Any]]]
    rows: list[Row]
    about: dict[str, Any] = field(default_factory=dict)  # what else sweep.json says

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Reads a sweep's folder. Raises DataError where there is no usable sweep.json."""
        path = folder / "sweep.json"
        if not path.is_file():
            raise DataError(f"{path}: no such file; this is not the folder of a sweep")
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
        runs = [
            {"values": r.values, "seed": r.seed, "folder": r.folder, "digest": r.digest}
            for r in self.rows
        ]
        axes = [{"key": key, "values": values} for key, values in self.axes]
        head = {"format": FORMAT, "name": self.name, **self.about}
        write_json(folder / "sweep.json", head | {"axes": axes, "runs": runs})

    def count(self, status: str) -> int:
        """How many runs have that status."""
        return sum(row.status == status for row in self.rows)

    @property
    def keys(self) -> list[str]:
        """The names of all numbers in the summaries, in the order in which they appear."""
        found: dict[str, None] = {}
        for row in self.rows:
            for key, value in row.summary.items():
                if value is None or isinstance(value, int | float):
                    found[key] = None
        return list(found)

    def groups(self) -> dict[tuple[str, ...], list[Row]]:
        """The rows of every combination: they differ in their seeds alone."""
        found: dict[tuple[str, ...], list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.values, []).append(row)
        return found

    def csv(self) -> str:
        """One line per run: axes, seed, status, words, all numbers, error, folder."""
        words = [w for w in _WORDS if any(w in row.summary for row in self.rows)]
        keys = self.keys
        names = [key for key, _ in self.axes]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, "seed", "status", *words, *keys, "error", "folder"])
        for row in self.rows:
            cells = [row.summary.get(key) for key in (*words, *keys, "error")]
            writer.writerow([*row.values, row.seed, row.status, *map(_cell, cells), row.folder])
        return file.getvalue()

    def write_csv(self, folder: Path) -> None:
        """Writes results.csv."""
        write_atomic(folder / "results.csv", self.csv())


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None where there is none: a run may have ended at any time."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _cell(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
