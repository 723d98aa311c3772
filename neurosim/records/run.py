"""What a run folder holds, as far as it can be read: a run may have ended at any time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosim.base import DataError, number

Record = Mapping[str, Any]
Moment = tuple[int, int]  # the (epoch, step) of the inference that a trace belongs to
Traces = Mapping[Moment, Sequence[Record]]

FILES = ("scenario.yaml", "environment.json", "metrics.jsonl", "summary.json")


def group(record: Record, key: str) -> Mapping[str, Any]:
    """The values by population or parameter under ``key``; empty where there are none."""
    value = record.get(key)
    return value if isinstance(value, Mapping) else {}


def names_in(traces: Traces, key: str, order: Sequence[str] = ()) -> list[str]:
    """The names under ``key`` of all records, those in ``order`` first."""
    found: dict[str, None] = {}
    for records in traces.values():
        for record in records:
            found |= dict.fromkeys(group(record, key))
    first = {name: None for name in order if name in found}
    return list(first | found)


def time_of(record: Record) -> float | None:
    """The simulated time of a record; its tick if it has none."""
    time = number(record.get("time"))
    return number(record.get("tick")) if time is None else time


def moment_text(moment: Moment) -> str:
    return f"epoch {moment[0]:,}, step {moment[1]:,}"


@dataclass
class Run:
    """``traces`` are by probe, ``convergence`` are the records of a study; ``notes`` say what could
    not be read."""

    summary: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    scenario: str = ""
    steps: dict[float, Record] = field(default_factory=dict)
    epochs: dict[float, Record] = field(default_factory=dict)
    traces: dict[str, dict[Moment, list[Record]]] = field(default_factory=dict)
    convergence: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Raises DataError where the folder holds none of the files of a run."""
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
                    else:
                        run._take_object(name, file.read())
            except OSError as error:
                run.notes.append(f"{name} could not be read: {error.strerror}.")
        return run

    def of(self, probe: str) -> Traces:
        return self.traces.get(probe, {})

    def sorted_steps(self) -> list[Record]:
        return [self.steps[key] for key in sorted(self.steps)]

    def sorted_epochs(self) -> list[Record]:
        return [self.epochs[key] for key in sorted(self.epochs)]

    def _take_object(self, name: str, text: str) -> None:
        value = _parse(text)
        if value is None:
            self.notes.append(f"{name} does not hold a JSON object.")
        elif name == "summary.json":
            self.summary = value
        else:
            self.environment = value

    def _take_lines(self, lines: Iterable[str]) -> None:
        unreadable = 0
        for line in lines:
            record = _parse(line)
            if record is not None:
                self._take(record)
            elif line.strip():
                unreadable += 1
        if unreadable:
            self.notes.append(f"Lines of metrics.jsonl that could not be read: {unreadable:,}.")

    def _take(self, record: Record) -> None:
        # A run that was continued from a checkpoint repeats some lines; the later ones count.
        event, epoch, step = (record.get(key) for key in ("event", "epoch", "step"))
        if event == "step" and (place := number(step)) is not None:
            self.steps[place] = record
        elif event == "epoch" and (place := number(epoch)) is not None:
            self.epochs[place] = record
        elif event == "convergence":
            self.convergence.append(record)
        elif event == "trace":
            self._take_trace((int(number(epoch) or 0), int(number(step) or 0)), record)

    def _take_trace(self, moment: Moment, record: Record) -> None:
        probe, time = str(record.get("probe")), time_of(record)
        if time is None:
            return
        traces = self.traces.setdefault(probe, {})
        if probe == "wakes" and moment not in traces:
            traces.clear()  # only the last one is drawn, and they are large
        kept = traces.setdefault(moment, [])
        before = time_of(kept[-1]) if kept else None
        again = before is not None and (time < before or (time == before and probe != "wakes"))
        if again:
            kept.clear()
        kept.append(record)


def _parse(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
