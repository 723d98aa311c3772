"""What is recorded during an inference, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from neurosim import metrics
from neurosim.errors import ConfigurationError

ProbeKind = Literal["residual", "gradient_angle", "reach", "messages", "wakes"]
Record = dict[str, Any]


@dataclass(frozen=True)
class Probe:
    """Records one measure every ``every`` ticks, and at the last tick of an inference.

    ``residual``: per population and in total, for the mean and the difference.
    ``gradient_angle``: angle (degrees) and norm ratio per parameter against back-propagation.
    ``reach``: which populations have a non-zero difference. ``messages``: messages by kind,
    synaptic operations and wakes so far. ``wakes``: every wake, as `Replay` takes it
    (``(time, population, flat indices or None for all)``); ``every`` does not thin it out.
    """

    kind: ProbeKind
    every: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(ProbeKind):
            raise ConfigurationError(
                f"probe {self.kind!r} is not one of {', '.join(get_args(ProbeKind))}"
            )
        if self.every < 1:
            raise ConfigurationError(f"every is {self.every}; it must be at least 1")


class Trace:
    """What the probes of one inference recorded: a list of records per kind, each with its time.

    ``trace["residual"][-1]["total_mean"]`` is the last residual of the means; ``trace.wakes`` is a
    list of wakes, as `Replay` takes it.
    """

    def __init__(self, records: Mapping[str, Sequence[Record]] | None = None) -> None:
        self._records = {kind: list(items) for kind, items in (records or {}).items()}

    def add(self, kind: str, record: Record) -> None:
        self._records.setdefault(kind, []).append(record)

    def __getitem__(self, kind: str) -> list[Record]:
        return self._records.get(kind, [])

    def __contains__(self, kind: object) -> bool:
        return kind in self._records

    def kinds(self) -> tuple[str, ...]:
        return tuple(self._records)

    @property
    def wakes(self) -> list[tuple[float, str, list[int] | None]]:
        """Every wake of the inference, for `Replay`."""
        return [(r["time"], r["population"], r["indices"]) for r in self["wakes"]]

    def state_dict(self) -> dict[str, Any]:
        return {kind: list(items) for kind, items in self._records.items()}


def residual_record(value: metrics.Residual) -> Record:
    return {
        "mean": {k: v for k, v in value.mean.items() if k},
        "difference": {k: v for k, v in value.difference.items() if k},
        "total_mean": value.mean[""],
        "total_difference": value.difference[""],
    }


def alignment_record(value: Mapping[str, metrics.Alignment]) -> Record:
    return {
        "angle": {k: v.angle for k, v in value.items() if k},
        "norm_ratio": {k: v.norm_ratio for k, v in value.items() if k},
        "total_angle": value[""].angle,
        "total_norm_ratio": value[""].norm_ratio,
    }
