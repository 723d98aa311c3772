"""Reads what a run folder holds, as far as it can be read: a run may have ended at any time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from neurosim.base import DataError, number, plain
from neurosim.records.folder import RunFiles, read_lines
from neurosim.records.states import States

Entry = Mapping[str, Any]  # a line of metrics.jsonl
# The records of a probe by the (epoch, step) of the inference that they belong to.
Traces = Mapping[tuple[int, int], Sequence[Entry]]

METRICS, STATES = "metrics.jsonl", "states.zarr"
FILES = ("scenario.yaml", "environment.json", METRICS, "summary.json")
_UNENDED = ", as the run is under way, or was killed"


def group(entry: Entry, key: str) -> Mapping[str, Any]:
    """Returns the values by population or parameter under ``key``, empty where there are none."""
    value = entry.get(key)
    return value if isinstance(value, Mapping) else {}


def names_in(entries: Iterable[Entry], key: str, order: Sequence[str] = ()) -> list[str]:
    """Returns the names under ``key`` in all entries, those in ``order`` first."""
    found = {name: None for entry in entries for name in group(entry, key)}
    return list({name: None for name in order if name in found} | found)


def value_at(entry: Entry, path: Sequence[str]) -> float | None:
    """Returns the number to which some keys lead, None where there is none."""
    *groups, last = path
    for key in groups:
        entry = group(entry, key)
    return number(entry.get(last))


def moment_text(moment: tuple[int, int]) -> str:
    """Writes an (epoch, step) for a reader."""
    return f"epoch {moment[0]:,}, step {moment[1]:,}"


def _instead(folder: Path) -> str:
    """Says what a folder is in which there is no run."""
    if not folder.exists():
        return "there is no such folder"
    if folder.is_file():
        return "it is a file: give the folder that it is in"
    if (folder / "sweep.json").is_file():
        return "it is that of a sweep, whose runs have folders of their own"
    return f"it holds none of {', '.join(FILES)}"


@dataclass
class Run:
    """Holds what a run has left: ``traces`` by probe, ``convergence`` of a study, ``states``
    that ``record`` asked for, and ``notes`` that say what could not be read."""

    summary: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    scenario: str = ""
    steps: dict[float, Entry] = field(default_factory=dict)
    epochs: dict[float, Entry] = field(default_factory=dict)
    traces: dict[str, dict[tuple[int, int], list[Entry]]] = field(default_factory=dict)
    convergence: list[Entry] = field(default_factory=list)
    states: States | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Reads a folder. Raises DataError where it holds none of the files of a run."""
        if not any((folder / name).is_file() for name in FILES):
            raise DataError(f"{str(folder)!r} is not a run folder; {_instead(folder)}")
        run = cls()
        try:
            files = RunFiles(folder)
        except DataError as error:
            run._note(folder, error)
            files = RunFiles(folder, {})
        for name in FILES:
            try:
                if not (folder / name).exists():
                    why = "there is no such file" + _UNENDED * (name == "summary.json")
                    raise DataError(f"{name} could not be read: {why}")
                if name == METRICS:
                    run._take_lines(files)
                elif name == "scenario.yaml":
                    run.scenario = (files.read(name) or b"").decode(errors="replace")
                else:
                    setattr(run, name.removesuffix(".json"), files.object(name))
            except DataError as error:
                run._note(folder, error)
        try:
            files.check_below(STATES)
            run.states = States(folder / STATES) if (folder / STATES).exists() else None
        except DataError as error:
            run._note(folder, error)
        run.steps, run.epochs = dict(sorted(run.steps.items())), dict(sorted(run.epochs.items()))
        return run

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.summary.get("name") or "run")

    def of(self, probe: str) -> Traces:
        """Returns what that probe recorded."""
        return self.traces.get(probe, {})

    def all(self, probe: str) -> list[Entry]:
        """Returns what it recorded in all inferences."""
        return [entry for entries in self.of(probe).values() for entry in entries]

    def last(self, probe: str) -> Sequence[Entry]:
        """Returns what it recorded in the last inference."""
        return max(self.of(probe).items(), default=((), ()))[1]

    def _note(self, folder: Path, problem: object) -> None:
        self.notes.append(f"{str(problem).replace(f'{folder}/', '')}.")

    def _take_lines(self, files: RunFiles) -> None:
        path, digest, damaged = files.folder / METRICS, hashlib.sha256(), list[int]()
        line = b"\n"
        try:
            with plain(path).open("rb") as file:
                for number, (line, entry) in enumerate(read_lines(file, files.summed), 1):
                    digest.update(line)
                    if entry is not None:
                        self._take(entry)
                    elif line.endswith(b"\n") and line.strip():
                        damaged.append(number)
        except OSError as error:
            raise DataError(f"{METRICS} could not be read: {error.strerror}") from None
        if damaged:
            lines = ", ".join(map(str, damaged[:10])) + (", …" if damaged[10:] else "")
            which = f"lines {lines} are" if damaged[1:] else f"line {lines} is"
            raise DataError(f"{METRICS}:{damaged[0]} is damaged: {which} left out")
        if not line.endswith(b"\n"):
            raise DataError(f"{METRICS}: its last line is torn, as a crash leaves it")
        files.check(METRICS, digest.hexdigest())

    def _take(self, entry: dict[str, Any]) -> None:
        # A run that was continued from a checkpoint repeats some lines; the later ones count.
        event, epoch, step = entry.get("event"), number(entry.get("epoch")), entry.get("step")
        if event == "step" and (place := number(step)) is not None:
            self.steps[place] = entry
        elif event == "epoch" and epoch is not None:
            self.epochs[epoch] = entry
        elif event in ("convergence", "trace"):
            time = number(entry.get("time"))  # simulated; the tick if there is none
            entry["time"] = number(entry.get("tick")) if time is None else time
            if event == "convergence":
                self.convergence.append(entry)
            elif entry["time"] is not None:
                moment = int(epoch or 0), int(number(step) or 0)
                self._take_trace(str(entry.get("probe")), moment, entry)

    def _take_trace(self, probe: str, moment: tuple[int, int], entry: Entry) -> None:
        traces = self.traces.setdefault(probe, {})
        if probe == "wakes" and moment not in traces:
            traces.clear()  # only the last one is drawn, and they are large
        kept = traces.setdefault(moment, [])
        before, time = kept[-1]["time"] if kept else -inf, entry["time"]
        if time < before or (time == before and probe != "wakes"):
            kept.clear()
        kept.append(entry)
