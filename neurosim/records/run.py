"""Reads what a run folder holds, as far as it can be read: a run may have ended at any time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosim.base import DataError, number

Entry = Mapping[str, Any]  # a line of metrics.jsonl
# The records of a probe by the (epoch, step) of the inference that they belong to.
Traces = Mapping[tuple[int, int], Sequence[Entry]]

FILES = ("scenario.yaml", "environment.json", "metrics.jsonl", "summary.json")


def group(entry: Entry, key: str) -> Mapping[str, Any]:
    """Returns the values by population or parameter under ``key``, empty where there are none."""
    value = entry.get(key)
    return value if isinstance(value, Mapping) else {}


def names_in(entries: Iterable[Entry], key: str, order: Sequence[str] = ()) -> list[str]:
    """Returns the names under ``key`` in all entries, those in ``order`` first."""
    found = {name: None for entry in entries for name in group(entry, key)}
    return list({name: None for name in order if name in found} | found)


def time_of(entry: Entry) -> float | None:
    """Returns the simulated time of an entry, its tick if it has none."""
    time = number(entry.get("time"))
    return number(entry.get("tick")) if time is None else time


def moment_text(moment: tuple[int, int]) -> str:
    """Writes an (epoch, step) for a reader."""
    return f"epoch {moment[0]:,}, step {moment[1]:,}"


@dataclass
class Run:
    """Holds what a run has left: ``traces`` by probe, ``convergence`` of a study, and ``notes``
    that say what could not be read."""

    summary: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    scenario: str = ""
    steps: dict[float, Entry] = field(default_factory=dict)
    epochs: dict[float, Entry] = field(default_factory=dict)
    traces: dict[str, dict[tuple[int, int], list[Entry]]] = field(default_factory=dict)
    convergence: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Reads a folder. Raises DataError where it holds none of the files of a run."""
        if not any((folder / name).is_file() for name in FILES):
            files = ", ".join(FILES)
            raise DataError(f"{str(folder)!r} is not a run folder; it holds none of {files}")
        run = cls()
        for name in FILES:
            try:
                with (folder / name).open(encoding="utf-8", errors="replace") as file:
                    if name == "metrics.jsonl":
                        run._take_lines(file)
                    elif name == "scenario.yaml":
                        run.scenario = file.read()
                    elif (value := parsed(file.read())) is None:
                        run.notes.append(f"{name} does not hold a JSON object.")
                    else:
                        setattr(run, name.removesuffix(".json"), value)
            except OSError as error:
                run.notes.append(f"{name} could not be read: {error.strerror}.")
        run.steps, run.epochs = dict(sorted(run.steps.items())), dict(sorted(run.epochs.items()))
        return run

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.summary.get("name") or "run")

    def of(self, probe: str) -> Traces:
        """Returns what that probe recorded."""
        return self.traces.get(probe, {})

    def _take_lines(self, lines: Iterable[str]) -> None:
        unreadable = 0
        for line in lines:
            if (entry := parsed(line)) is not None:
                self._take(entry)
            elif line.strip():
                unreadable += 1
        if unreadable:
            self.notes.append(f"Lines of metrics.jsonl that could not be read: {unreadable:,}.")

    def _take(self, entry: Entry) -> None:
        # A run that was continued from a checkpoint repeats some lines; the later ones count.
        event, epoch, step = entry.get("event"), number(entry.get("epoch")), entry.get("step")
        if event == "step" and (place := number(step)) is not None:
            self.steps[place] = entry
        elif event == "epoch" and epoch is not None:
            self.epochs[epoch] = entry
        elif event == "convergence":
            self.convergence.append(entry)
        elif event == "trace":
            self._take_trace((int(epoch or 0), int(number(step) or 0)), entry)

    def _take_trace(self, moment: tuple[int, int], entry: Entry) -> None:
        probe, time = str(entry.get("probe")), time_of(entry)
        if time is None:
            return
        traces = self.traces.setdefault(probe, {})
        if probe == "wakes" and moment not in traces:
            traces.clear()  # only the last one is drawn, and they are large
        kept = traces.setdefault(moment, [])
        before = time_of(kept[-1]) if kept else None
        if before is not None and (time < before or (time == before and probe != "wakes")):
            kept.clear()
        kept.append(entry)


def parsed(text: str) -> dict[str, Any] | None:
    """Returns the JSON object that a text is, None where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
