"""The listener that collects what the summary of a training says."""

import time
from collections.abc import Mapping
from copy import deepcopy
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
        self._found: dict[str, Any] = {
            "laps": [],
            "scores": dict.fromkeys(_SCORES),
            "ends": {},
            "looked": None,  # the step of that inference
        }

    def on_trace(self, event: TraceEvent) -> None:
        if event.step != self._found["looked"]:
            self._found |= {"ends": {}, "looked": event.step}
        ends, values = self._found["ends"], event.values
        if event.probe in ("gradient_angle", "feedback_angle"):
            ends[event.probe] = values["total_angle"]
        elif event.probe == "residual":
            ends |= {f"residual_{kind}": values[f"total_{kind}"] for kind in ("mean", "difference")}

    def on_epoch(self, event: EpochEvent) -> None:
        self._found["laps"].append(self._watch.read())
        self._found["scores"] = {key: getattr(event, key) for key in _SCORES}

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
