"""The listeners of every run: its metrics, what its summary says, and its checkpoints."""

import os
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Self

from pydantic import JsonValue

from neurosim.base import DataError, RepairWarning, StateError, naming
from neurosim.learning import Listener, Listeners, Trainer, events, load_state, save_state
from neurosim.records import check_lines, record_line, recorded
from neurosim.runs.folder import LAST, METRICS, SCENARIO, Job
from neurosim.scenario import MAX_KEEP
from neurosim.tensors import check_like, complete, restore

# Of an epoch.
_SCORES = ("test_accuracy", "test_loss", "validation_accuracy", "train_loss", "train_accuracy")
_KEPT = ("laps", "scores", "ends", "looked")  # of a `RunSummary`
VERSION = 6  # of checkpoints; 5 did not name listeners
_LIKE: Mapping[str, Any] = {  # what a checkpoint has, beside what the training knows of itself
    "version": VERSION,
    "scenario": "",
    "data": "",
    "trainer": {},
    "listeners": [],
}


class MetricsFile(Listener):
    """Appends records to metrics.jsonl, one line each: those of a training that it is told of."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS
        self._file: BinaryIO | None = None
        self._crc = 0

    def __enter__(self) -> Self:
        self._file = self.path.open("ab")
        return self

    def __exit__(self, *exception: object) -> None:
        with naming(self.path):
            if self._file is not None:
                self._file.close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends a record."""
        assert self._file is not None
        line, self._crc = record_line(record, self._crc)
        with naming(self.path):
            self._file.write(line)

    def on_start(self, event: events.StartEvent) -> None:
        del event
        self.__enter__()

    def _tell(self, event: events.TrainingEvent) -> None:
        if (record := event.record()) is not None:
            self.write(record)

    on_step = on_trace = on_epoch = _tell

    def on_end(self, event: events.EndEvent) -> None:
        with suppress(OSError) if event.error is not None else nullcontext():
            self.__exit__()

    def state_dict(self) -> dict[str, Any]:
        """Returns how many bytes are on the disk, and the checksum of their lines."""
        if self._file is not None and not self._file.closed:
            with naming(self.path):
                self._file.flush()
                os.fsync(self._file.fileno())
        return {"bytes": self.path.stat().st_size, "crc": self._crc}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cuts off what was written later. Raises DataError where something else was before."""
        check_lines(self.path, state["bytes"], state["crc"])
        os.truncate(self.path, state["bytes"])
        self._crc = state["crc"]


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

    _laps: list[tuple[float, float]]  # wall and processor time at the end of each epoch
    _scores: dict[str, JsonValue]
    _ends: dict[str, JsonValue]
    _looked: int | None = None  # the step of that inference

    def __init__(self) -> None:
        self._watch = Stopwatch()
        self._laps, self._scores, self._ends = [], dict.fromkeys(_SCORES), {}

    def on_trace(self, event: events.TraceEvent) -> None:
        if event.step != self._looked:
            self._ends, self._looked = {}, event.step
        self._ends |= recorded(event.probe, event.values)

    def on_epoch(self, event: events.EpochEvent) -> None:
        self._laps.append(self._watch.read())
        self._scores = {key: getattr(event, key) for key in _SCORES} | dict(event.metrics)

    def state_dict(self) -> dict[str, Any]:
        found = {key: getattr(self, f"_{key}") for key in _KEPT}
        return {"seconds": self._watch.read(), **deepcopy(found)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        wall, processor = map(float, state["seconds"])
        self._watch = Stopwatch((wall, processor))
        for key in _KEPT:
            restore(self, f"_{key}", state[key])

    def numbers(self) -> dict[str, Any]:
        """Returns the numbers of the last epoch and inference."""
        return {**self._scores, **self._ends}

    def times(self) -> dict[str, Any]:
        """Returns both times since the beginning, until now and until the end of each epoch."""
        wall, cpu = self._watch.read()
        times = {"seconds": wall, "cpu_seconds": cpu}
        return times | {
            f"epoch_{key}": [lap[n] for lap in self._laps] for n, key in enumerate(times)
        }


class Checkpoints(Listener):
    """Saves the training and its listeners every few epochs, at the end, and when it is
    interrupted; keeps the last few checkpoints.

    It has to be told last: what it saves of the other listeners has then heard the event.
    """

    def __init__(
        self,
        folder: Path,
        job: Job,
        data: str,
        trainer: Trainer,
        listeners: Sequence[object],
    ) -> None:
        self._files = [folder / name for name in _names(job.checkpoints.keep)]
        self._every = job.checkpoints.every
        self._about = {"version": VERSION, "scenario": job.text, "data": data}
        self._trainer, self._listeners = trainer, Listeners(listeners)

    def on_epoch(self, event: events.EpochEvent) -> None:
        if event.epoch % self._every == 0 or self._trainer.done:
            self._save()

    def on_end(self, event: events.EndEvent) -> None:
        if event.status == "interrupted":
            self._save()

    def _state(self) -> dict[str, Any]:
        trainer, listeners = self._trainer.state_dict(), self._listeners.state_dict()
        return self._about | {"trainer": trainer, "listeners": listeners}

    def _save(self) -> None:
        state = self._state()
        last, *before = self._files
        for newer, older in reversed(list(pairwise(before))):
            if newer.is_file():
                newer.replace(older)
        if before and last.is_file():
            before[0].unlink(missing_ok=True)
            try:
                before[0].hardlink_to(last)
            except OSError:  # a file system without links
                shutil.copyfile(last, before[0])
        save_state(last, state)

    def load(self, saved: Mapping[str, Any]) -> None:
        """Continues the trainer and the listeners from a checkpoint.

        Raises:
            DataError: where the data are others.
            StateError: where it is of another training.
        """
        with complete("checkpoint"):
            own = self._state()
            del own["trainer"]["simulation"]  # it checks itself
            check_like(saved, own)
            data, training, listeners = (saved[key] for key in ("data", "trainer", "listeners"))
        if data != self._about["data"]:
            folder, how = self._files[0].parents[1], f"put back what data in its {SCENARIO} names"
            raise DataError(f"{folder}: the data are not those that the run began with; {how}")
        self._trainer.load_state_dict(training)
        with complete("checkpoint"):
            self._listeners.load_state_dict(listeners)


def _names(keep: int) -> list[str]:
    """Returns the names of so many checkpoints, the newest first."""
    return [LAST, *(f"checkpoints/last-{number}.safetensors" for number in range(1, keep))]


def last_checkpoint(folder: Path) -> dict[str, Any]:
    """Returns the newest checkpoint that is whole and whose records are there.

    Raises:
        DataError: where there is none: why the newest cannot be used.
        StateError: where it is of another version.
    """
    problems: list[DataError] = []
    for name in _names(MAX_KEEP):
        path = folder / name
        if problems and not path.is_file():
            continue
        try:
            saved: dict[str, Any] = load_state(path)
            with complete("checkpoint"):
                check_like(saved, _LIKE)
            if saved.get("version", 1) != VERSION:
                raise StateError(
                    f"{path}: a checkpoint of another version of neurosim; finish the run with "
                    f"that version, or run its {SCENARIO} anew"
                )
            with complete("checkpoint"):
                states = {one["name"]: one["state"] for one in saved["listeners"]}
                metrics = states[MetricsFile.__qualname__]
                check_lines(folder / METRICS, metrics["bytes"], metrics["crc"])
        except DataError as error:
            problems.append(error)
            continue
        if problems:
            text = f"{problems[0]}; going on from {path.name}, which is older"
            warnings.warn(RepairWarning(text), stacklevel=2)
        return saved
    if not (folder / LAST).is_file():
        raise problems[0]
    raise DataError(f"{problems[0]}; there is no older one to go on from: run its {SCENARIO} anew")
