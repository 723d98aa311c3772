"""The listener that collects what the summary of a training says."""

import time
from collections.abc import Mapping
from typing import Any

from neurosim.learning import EpochEvent, Listener, TraceEvent

_SCORES = ("test_accuracy", "test_loss", "validation_accuracy", "train_loss")  # of an epoch


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
        self._laps: list[tuple[float, float]] = []
        self._scores: dict[str, Any] = dict.fromkeys(_SCORES)
        self._ends: dict[str, Any] = {}
        self._looked: int | None = None  # the step of that inference

    def on_trace(self, event: TraceEvent) -> None:
        if event.step != self._looked:
            self._ends, self._looked = {}, event.step
        if event.probe in ("gradient_angle", "feedback_angle"):
            self._ends[event.probe] = event.values["total_angle"]
        elif event.probe == "residual":
            for kind in ("mean", "difference"):
                self._ends[f"residual_{kind}"] = event.values[f"total_{kind}"]

    def on_epoch(self, event: EpochEvent) -> None:
        self._laps.append(self._watch.read())
        self._scores = {key: getattr(event, key) for key in _SCORES}

    def state_dict(self) -> dict[str, Any]:
        return {
            "seconds": self._watch.read(),
            "laps": list(self._laps),
            "scores": dict(self._scores),
            "ends": dict(self._ends),
            "looked": self._looked,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._watch, self._laps = Stopwatch(state["seconds"]), state["laps"]
        self._scores, self._ends = state["scores"], state["ends"]
        self._looked = state["looked"]

    def numbers(self) -> dict[str, Any]:
        """Returns the numbers of the last epoch and inference."""
        return self._scores | self._ends

    def times(self) -> dict[str, Any]:
        """Returns both times since the beginning, until now and until the end of each epoch."""
        wall, cpu = self._watch.read()
        return {
            "seconds": wall,
            "cpu_seconds": cpu,
            "epoch_seconds": [lap[0] for lap in self._laps],
            "epoch_cpu_seconds": [lap[1] for lap in self._laps],
        }
