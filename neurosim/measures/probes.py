"""What is recorded during an inference, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from neurosim.base import check_choices, check_counts
from neurosim.dynamics import Counts, Phases, State
from neurosim.measures import gradients, metrics
from neurosim.rules import Nudge, Rule
from neurosim.tensors import Selection

ProbeKind = Literal[
    "residual",
    "gradient_angle",
    "reach",
    "messages",
    "wakes",
    "in_flight",
    "staleness",
    "feedback_angle",
]
Record = dict[str, Any]


@dataclass(frozen=True)
class Probe:
    """Records one measure at every ``every``-th tick; all but ``wakes`` also at the last.

    ``residual``: per population and in total, for the mean and the difference.
    ``gradient_angle``: angle (degrees) and norm ratio per parameter against the true gradient:
    back-propagation's, or that of the settled network for a rule that predicts so (the record then
    says ``reference``: settled, and there is none where no free fixed point is found). A rule with
    phases has a gradient in the last one only.
    ``reach``: which populations have a difference of the target's making. ``messages``: messages
    by kind, synaptic operations and wakes so far. ``wakes``: the wakes of the tick, as `Replay`
    takes them: ``(time, population, flat indices or None for all)``; complete only with ``every``
    = 1.
    ``in_flight``: messages sent and not yet arrived, by projection and kind, and in total.
    ``staleness``: how far what each population sees lies behind its senders, by how much simulated
    time (``mean_lag``) and by how much of their norm (``mean_error``), and for differences.
    ``feedback_angle``: angle (degrees) and norm ratio of feedback weights against forward weights,
    per projection and in total.
    """

    kind: ProbeKind
    every: int = 1

    def __post_init__(self) -> None:
        check_choices(probe=(self.kind, ProbeKind))
        check_counts(every=self.every)


class Trace:
    """What the probes of one inference recorded: a list of records per kind, each with its time.

    ``trace["residual"][-1]["total_mean"]`` is the last residual of the means; ``trace.wakes`` is a
    list of wakes, as `Replay` takes it. With any probe and a rule with phases ``trace["phase"]``
    says when each began, at the end of which tick; it is there once the inference has ended.
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


class Recorder:
    """Takes the measures of a simulation's probes, and tells whether it has settled."""

    def __init__(
        self,
        state: State,
        rule: Rule,
        nudge: Nudge,
        phases: Phases,
        probes: Sequence[Probe],
        tick: float,
    ) -> None:
        self._state, self._rule, self._nudge, self._phases = state, rule, nudge, phases
        self._probes, self._tick = probes, tick

    def record(
        self,
        trace: Trace,
        counts: Counts,
        tick: int,
        passed: int,
        woken: Sequence[tuple[int, Selection | None]],
    ) -> None:
        """What is due at ``tick``, ``passed`` ticks into the inference."""
        for probe in self._probes:
            if passed % probe.every:
                continue
            if probe.kind == "wakes":
                for index, selection in woken:
                    indices = None if selection is None else selection.dyads.tolist()
                    wake = {"population": self._state.cells[index].name, "indices": indices}
                    trace.add("wakes", self._when(tick) | wake)
            else:
                self._add(trace, probe.kind, counts, tick)

    def close(self, trace: Trace, counts: Counts, tick: int) -> None:
        """At the end of an inference, its phases, and what was not due at its last tick."""
        begins = self._phases.begins if self._probes else ()
        for began, phase in zip(begins, self._phases.all, strict=False):
            trace.add("phase", self._when(began) | {"phase": phase.name})
        for probe in self._probes:
            known = trace[probe.kind]
            if probe.kind != "wakes" and (not known or known[-1]["tick"] != tick):
                self._add(trace, probe.kind, counts, tick)

    def _when(self, tick: int) -> Record:
        return {"tick": tick, "time": tick * self._tick}

    def _add(self, trace: Trace, kind: ProbeKind, counts: Counts, tick: int) -> None:
        measure = self._measure(kind, counts, tick)
        if measure is not None:
            trace.add(kind, self._when(tick) | measure)

    def _measure(self, kind: ProbeKind, counts: Counts, tick: int) -> Record | None:
        match kind:
            case "residual":
                return _residual_record(metrics.residual(self._state, self._rule, self._nudge))
            case "gradient_angle":
                if self._nudge.target is None or not self._phases.complete:
                    return None
                reference = gradients.true_gradient(self._state, self._rule, self._nudge)
                if reference is None:
                    return None
                local, _ = self._phases.gradients()
                compared = _alignment_record(gradients.alignment(local, reference))
                settled = self._rule.prediction == "settled"
                return compared | ({"reference": "settled"} if settled else {})
            case "reach":
                return {"reached": metrics.reach(self._state)}
            case "messages":
                return asdict(counts)
            case "in_flight":
                found = metrics.in_flight(self._state, tick)
                totals = {f"total_{what}": sum(found[what].values()) for what in found}
                return {**found, **totals, "total": sum(totals.values())}
            case "staleness":
                late = metrics.staleness(self._state, self._rule)
                record: Record = {}
                for what, lags in late.lag.items():
                    times = {name: ticks * self._tick for name, ticks in lags.items()}
                    record |= {f"{what}_lag": times, f"{what}_error": late.error[what]}
                return record
            case "feedback_angle":
                return _alignment_record(gradients.feedback_alignment(self._state))
            case "wakes":
                raise AssertionError("wakes are recorded as they happen")

    def settled(self, tolerance: float) -> bool:
        """Whether both residuals are at most ``tolerance`` and the nudge has reached everything."""
        free = bool(self._phases.all) and not self._nudge.active
        expected = self._nudge.target is not None and not free
        if expected and not (self._nudge.active and all(metrics.reach(self._state).values())):
            return False
        value = metrics.residual(self._state, self._rule, self._nudge)
        return max(value.mean[""], value.difference[""]) <= tolerance


def _residual_record(value: metrics.Residual) -> Record:
    return {
        "mean": {k: v for k, v in value.mean.items() if k},
        "difference": {k: v for k, v in value.difference.items() if k},
        "total_mean": value.mean[""],
        "total_difference": value.difference[""],
    }


def _alignment_record(value: Mapping[str, gradients.Alignment]) -> Record:
    return {
        "angle": {k: v.angle for k, v in value.items() if k},
        "norm_ratio": {k: v.norm_ratio for k, v in value.items() if k},
        "total_angle": value[""].angle,
        "total_norm_ratio": value[""].norm_ratio,
    }
