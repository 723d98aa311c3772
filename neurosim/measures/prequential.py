"""Prequential evaluation: every sample is a test first, and learned from afterwards."""

from collections.abc import Mapping
from dataclasses import asdict
from math import inf, nan
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.base import StateError
from neurosim.dynamics import Counts
from neurosim.measures import metrics

Values = npt.NDArray[np.float64]
CLOSE = 0.01  # an accuracy that is as high again, but for so much


def cross_correlation_lag(values: Values, predicted: Values) -> int:
    """Returns by how many samples a prediction (N,) is behind the values (N,) that it should be:
    where their cross-correlation, normalized over what overlaps, is greatest. At most N / 4."""
    most = len(values) // 4

    def correlation(lag: int) -> float:
        one, other = values[: len(values) - lag], predicted[lag:]
        if one.std() == 0 or other.std() == 0:
            return -inf
        return float(np.corrcoef(one, other)[0, 1])

    return max(range(most + 1), key=correlation) if most else 0


class Prequential:
    """Scores the answers of B streams, each read before its label could act, over windows of
    samples.

    ``fading`` λ: the faded accuracy is Σ λᵏ aₖ / Σ λᵏ over the samples k before the present one,
    with aₖ the accuracy of that one over the streams.
    """

    def __init__(self, fading: float, hold: float, streams: int = 1) -> None:
        self._fading, self._hold, self._streams = fading, hold, streams
        self._sums = dict.fromkeys(
            ("samples", "right", "faded", "weight", "same", "changed", "since", "level"), 0.0
        )
        self._sums["adaptation"] = nan
        self._labels: Tensor | None = None  # of the sample before
        self._before = asdict(Counts()) | {"updates": 0}
        self._begin()

    def _begin(self) -> None:
        """Begins a window."""
        self._window = dict.fromkeys(
            ("samples", "right", "same", "answered", "first", "stable", "leak", "smape"), 0.0
        )
        self._series: list[tuple[float, float]] = []
        self._first: Tensor | None = None  # when each stream was first right in this hold
        self._stable: Tensor | None = None  # since when its answer has been the present one
        self._answer: Tensor | None = None

    # ---- what it is told ------------------------------------------------------------------------

    def look(self, prediction: Tensor, y: Tensor, time: float) -> None:
        """Looks at what classes are answered at a ``time`` within a hold, up to where it is read:
        ``time`` is the simulated time since the sample came."""
        answer = prediction.flatten(1).argmax(1)
        now = torch.full(answer.shape, time, dtype=torch.float64)
        if self._answer is None or self._first is None or self._stable is None:
            self._first, self._stable = torch.full_like(now, inf), now
        else:
            self._stable = torch.where(answer == self._answer, self._stable, now)
        right = (answer == y) & self._first.isinf()
        self._first, self._answer = torch.where(right, now, self._first), answer

    def drifts(self) -> None:
        """Is told that the world changes with the next sample: from here on it counts how long it
        takes to be as accurate as it was."""
        sums = self._sums
        sums["level"] = sums["faded"] / sums["weight"] if sums["weight"] else nan
        sums["since"], sums["changed"], sums["adaptation"] = 0.0, 1.0, nan

    def add(self, prediction: Tensor, y: Tensor, leak: float = 0.0) -> None:
        """Scores the answers (B, *output) that were read for a sample with the labels y."""
        sums, window, streams = self._sums, self._window, len(y)
        sums["samples"] += streams
        window["samples"] += streams
        window["leak"] += leak * streams
        if y.is_floating_point():
            one, other = (a.reshape(streams, -1).double() for a in (prediction, y))
            window["smape"] += float(metrics.smape(one, other).sum())
            self._series.append((float(other[0, 0]), float(one[0, 0])))
            return
        right = metrics.accuracy(prediction, y) * streams
        same = 0.0 if self._labels is None else float((self._labels == y).sum())
        self._labels = y.clone()
        for each in (sums, window):
            each["right"] += right
            each["same"] += same
        sums["faded"] = self._fading * sums["faded"] + right / streams
        sums["weight"] = self._fading * sums["weight"] + 1.0
        if sums["changed"]:
            sums["since"] += 1.0
            passed = sums["since"] * (1.0 - self._fading) >= 1.0  # what was before has faded
            if passed and sums["faded"] / sums["weight"] >= sums["level"] - CLOSE:
                sums["adaptation"], sums["changed"] = sums["since"] * self._hold, 0.0
        if self._first is not None and self._stable is not None:
            answered = self._first.isfinite()
            window["answered"] += float(answered.sum())
            window["first"] += float(self._first[answered].sum())
            window["stable"] += float(self._stable.sum())
        self._first = self._stable = self._answer = None

    # ---- what it has found ----------------------------------------------------------------------

    def scores(
        self, counts: Counts, updates: int, *, leaks: bool, ends: bool = True
    ) -> dict[str, float]:
        """Returns the scores of the window up to now, and begins another if this one ``ends``.
        ``counts`` and ``updates`` of synapses are those of the whole stream."""
        sums, window, classes = self._sums, self._window, self._labels is not None
        samples, found = window["samples"] or nan, dict[str, float]()
        if classes:
            found["cumulative_accuracy"] = sums["right"] / sums["samples"]
            found["faded_accuracy"] = sums["faded"] / sums["weight"]
            found["last_label_accuracy"] = window["same"] / samples
            found["answered"] = window["answered"] / samples
            found["time_to_first_right"] = window["first"] / (window["answered"] or nan)
            found["time_to_stable"] = window["stable"] / samples
            found["adaptation_time"] = sums["adaptation"]
        else:
            found["smape"] = window["smape"] / samples
            values, predicted = np.array(self._series, dtype=np.float64).reshape(-1, 2).T
            found["lag"] = cross_correlation_lag(values, predicted) * self._hold
        if leaks:
            found["leak"] = window["leak"] / samples
        now = asdict(counts) | {"updates": updates}
        done = {key: now[key] - self._before[key] for key in now}
        done["messages"] = done["mean_messages"] + done["difference_messages"]
        for key in _COSTS:
            found[f"{key}_per_sample"] = done[key] / samples
            if classes:
                found[f"{key}_per_right"] = done[key] / (window["right"] or nan)
        if ends:
            self._before = now
            self._begin()
        return {key: value for key, value in found.items() if value == value}

    # ---- as data --------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Returns what its further scores depend on."""
        tensors = {name: getattr(self, name) for name in _TENSORS}
        series = torch.tensor(self._series, dtype=torch.float64).view(-1, 2)
        return {
            "sums": dict(self._sums),
            "window": dict(self._window),
            "before": dict(self._before),
            "series": series,
            **{name: None if value is None else value.clone() for name, value in tensors.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken. Raises StateError where it is of other scores."""
        if state["sums"].keys() != self._sums.keys():
            raise StateError("the saved scores of the stream are those of another version")
        for name in ("sums", "window", "before"):
            own = getattr(self, f"_{name}")
            setattr(self, f"_{name}", {key: state[name][key] for key in own})
        self._series = [(float(one), float(other)) for one, other in state["series"]]
        for name in _TENSORS:
            value = state[name]
            known = isinstance(value, Tensor) and not value.is_complex()
            if value is not None and not (known and value.shape == (self._streams,)):
                raise StateError(f"the saved scores have no value of each stream as {name[1:]}")
            setattr(self, name, value)


_TENSORS = ("_labels", "_first", "_stable", "_answer")
_COSTS = "messages", "wakes", "synaptic_operations", "updates"


def costs_of_all(summary: Mapping[str, Any]) -> dict[str, float]:
    """Returns what a sample and a right answer have cost in a whole stream, where its ``summary``
    has the numbers of the last window."""
    samples = summary["samples"]
    counts = {"sample": samples, "right": samples * summary.get("cumulative_accuracy", 0.0)}
    return {
        f"{key}_per_{what}": summary[key] / count
        for key in _COSTS
        for what, count in counts.items()
        if count and f"{key}_per_{what}" in summary
    }
