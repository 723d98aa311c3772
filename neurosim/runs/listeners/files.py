"""The listeners of every run: its metrics, what its summary says, and its checkpoints."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TextIO

from neurosim.base import DataError, StateError, finite
from neurosim.learning import Listener, Listeners, Trainer, events, load_state, save_state
from neurosim.records import recorded
from neurosim.runs.folder import METRICS, SCENARIO, file_digest
from neurosim.tensors import complete

LAST = Path("checkpoints/last.safetensors")
# Of an epoch.
_SCORES = ("test_accuracy", "test_loss", "validation_accuracy", "train_loss", "train_accuracy")
VERSION = 3  # of checkpoints; 1 had no states of listeners, 2 no average of weights


def json_line(record: Mapping[str, Any]) -> str:
    """Returns a record as a line of JSON; a number that JSON cannot hold becomes null."""
    return json.dumps(finite(record), allow_nan=False) + "\n"


class MetricsFile(Listener):
    """Appends the records of a training to metrics.jsonl, one line each."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS
        self._file: TextIO | None = None

    def on_start(self, event: events.StartEvent) -> None:
        del event
        self._file = self.path.open("a", encoding="utf-8")

    def _write(self, event: events.TrainingEvent) -> None:
        assert self._file is not None
        if (record := event.record()) is not None:
            self._file.write(json_line(record))

    on_step = on_trace = on_epoch = _write

    def on_end(self, event: events.EndEvent) -> None:
        del event
        if self._file is not None:
            self._file.close()

    def state_dict(self) -> dict[str, Any]:
        """Returns how many bytes are written."""
        if self._file is not None and not self._file.closed:
            self._file.flush()
        return {"bytes": self.path.stat().st_size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cuts off what was written later. Raises DataError where something is missing."""
        if self.path.stat().st_size < state["bytes"]:
            raise DataError(f"{self.path}: lacks records that the checkpoint was saved after")
        os.truncate(self.path, state["bytes"])


class Stopwatch:
    """Measures seconds, interruptions left out: wall time, and the processor time of all threads of
    the process, which other programs on the machine hardly change."""

    def __init__(self, before: tuple[float, float] = (0.0, 0.0)) -> None:
        now = time.perf_counter(), time.process_time()
        self._began = now[0] - before[0], now[1] - before[1]

    def read(self) -> tuple[float, float]:
        """Returns wall time and processor time since the beginning."""
        return time.perf_counter() - self._began[0], time.process_time() - self._began[1]


class RunSummary(Listener):
    """Collects the numbers of the last epoch, of the last inference that probes looked into, and
    what each epoch took."""

    def __init__(self) -> None:
        self._watch = Stopwatch()
        self._found: dict[str, Any] = {
            "laps": [],
            "scores": dict.fromkeys(_SCORES),
            "ends": {},
            "looked": None,  # the step of that inference
        }

    def on_trace(self, event: events.TraceEvent) -> None:
        if event.step != self._found["looked"]:
            self._found |= {"ends": {}, "looked": event.step}
        self._found["ends"] |= recorded(event.probe, event.values)

    def on_epoch(self, event: events.EpochEvent) -> None:
        self._found["laps"].append(self._watch.read())
        scores = {key: getattr(event, key) for key in _SCORES}
        self._found["scores"] = {**scores, **event.metrics}

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._watch.read(), **deepcopy(self._found)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._watch = Stopwatch(state["seconds"])
        self._found = {key: state[key] for key in self._found}

    def numbers(self) -> dict[str, Any]:
        """Returns the numbers of the last epoch and inference."""
        return {**self._found["scores"], **self._found["ends"]}

    def times(self) -> dict[str, Any]:
        """Returns both times since the beginning, until now and until the end of each epoch."""
        wall, cpu = self._watch.read()
        times, laps = {"seconds": wall, "cpu_seconds": cpu}, self._found["laps"]
        return times | {f"epoch_{key}": [lap[n] for lap in laps] for n, key in enumerate(times)}


class Checkpoints(Listener):
    """Saves the training and its listeners after every epoch and when it is interrupted.

    It has to be told last: what it saves of the other listeners has then heard the event.
    """

    def __init__(self, folder: Path, trainer: Trainer, listeners: Sequence[object]) -> None:
        self._folder, self._trainer = folder, trainer
        self._listeners = Listeners(listeners)

    def on_epoch(self, event: events.EpochEvent) -> None:
        del event
        self._save()

    def on_end(self, event: events.EndEvent) -> None:
        if event.status == "interrupted":
            self._save()

    def _save(self) -> None:
        state = {
            "version": VERSION,
            "scenario_sha256": file_digest(self._folder / SCENARIO),
            "trainer": self._trainer.state_dict(),
            "listeners": self._listeners.state_dict(),
        }
        save_state(self._folder / LAST, state)

    def load(self) -> None:
        """Continues the trainer and the listeners from the last checkpoint.

        Raises:
            DataError: where there is none, the scenario was changed since, or the run is finished.
            StateError: where it is of another version.
        """
        saved = load_state(self._folder / LAST)
        if saved.get("version", 1) != VERSION:
            raise StateError(
                f"{self._folder / LAST}: a checkpoint of another version of neurosim; finish the "
                "run with that version, or run its scenario.yaml anew"
            )
        with complete("checkpoint"):
            digest, training, listeners = (
                saved[key] for key in ("scenario_sha256", "trainer", "listeners")
            )
        if digest != file_digest(self._folder / SCENARIO):
            raise DataError(
                f"{self._folder / SCENARIO}: changed since the run was interrupted; put it back, "
                "or run it anew"
            )
        self._trainer.load_state_dict(training)
        if self._trainer.done:
            raise DataError(f"{self._folder}: this run is finished; there is nothing to resume")
        with complete("checkpoint"):
            self._listeners.load_state_dict(listeners)
