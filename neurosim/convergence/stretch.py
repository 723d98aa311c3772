"""What was recorded under one fixed point, and what it comes to.

That is a whole inference, or one of its phases in a rule that has any.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from neurosim.base import DivergenceError
from neurosim.convergence import fixedpoint, verdict
from neurosim.convergence.fixedpoint import KINDS, FixedPoint
from neurosim.convergence.verdict import Verdict
from neurosim.measures import gradients

ConvergenceRecord = dict[str, Any]  # as it is written: see `InferenceMeasurement.run`
_REMEMBERED = 1000  # ticks in which a recurrence is looked for


class Onset(NamedTuple):
    """When something came about for good: simulated time, wakes and messages; None for never."""

    time: float | None = None
    wakes: int | None = None
    messages: int | None = None


@dataclass(frozen=True)
class Convergence:
    """What a measurement found.

    ``records`` are those of `InferenceMeasurement.run`. ``arrivals``, by population name and ``""``
    for the network, say from when on the distance of the mean and of the difference stays within
    ``tolerance``, and never before the difference has arrived there; ``mean_arrivals`` and
    ``difference_arrivals`` say it of one of the two, ``reach`` when the difference arrived.
    ``residual_floor`` is the median of the total residual over the last third of the record.
    ``reference_alignment`` is that of the local gradient at the fixed point to back-propagation:
    what β alone costs. With the verdict ``diverged``, ``error`` is what the simulation raised, if
    it did.

    ``phases`` has one of each phase, by its name, in a rule that has any. Then the verdict is
    `diverged` or that of the first phase that did not converge, and all but verdict, reason and
    records is of the last phase.
    """

    records: tuple[ConvergenceRecord, ...]
    reference: FixedPoint
    tolerance: float
    verdict: Verdict
    reason: str
    residual_floor: float
    arrivals: dict[str, Onset]
    mean_arrivals: dict[str, Onset]
    difference_arrivals: dict[str, Onset]
    reach: dict[str, Onset]
    reference_alignment: gradients.Alignment | None
    error: DivergenceError | None = None
    phases: dict[str, "Convergence"] = field(default_factory=dict)

    @property
    def time_to_tolerance(self) -> float | None:
        """The simulated time from which the whole network stays within the tolerance."""
        return self.arrivals[""].time


def of_phases(phases: Mapping[str, Convergence]) -> Convergence:
    """Puts what was found of each phase together."""
    *_, (name, last) = phases.items()
    worst, reason = last, f"in every phase; {name}: {last.reason}"
    bad = [(n, found) for n, found in phases.items() if found.verdict != "converged"]
    if bad:
        name, worst = bad[0] if last.error is None else bad[-1]
        reason = f"{name}: {worst.reason}"
    every = tuple(record for found in phases.values() for record in found.records)
    return replace(last, records=every, verdict=worst.verdict, reason=reason, phases=dict(phases))


class Stretch:
    """Holds the records of an inference, or of a phase of it, against ``reference``.

    ``eps`` is that of the dtype, ``ticks`` counts them, ``waits`` says if a difference is to come,
    and ``acts`` if the target acts from the first tick. ``moved`` is the residual at the end as it
    were if the first phase had ended at its exact fixed point; None where that is no question.
    """

    def __init__(
        self, reference: FixedPoint, names: Sequence[str], tolerance: float, eps: float
    ) -> None:
        self.reference, self.names, self.tolerance = reference, names, tolerance
        self.rounding, self.still = 1e3 * eps, 32 * eps  # at rest, and without any doubt
        self.waits, self.acts, self.ticks = False, False, 0
        self.moved: float | None = None
        self.records: list[ConvergenceRecord] = []
        self.error: DivergenceError | None = None
        self.norms: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.sketches: deque[Tensor] = deque(maxlen=_REMEMBERED)
        self.exact = {kind: fixedpoint.norms(getattr(reference, kind)) for kind in KINDS}

    def result(self, truth: dict[str, Tensor] | None, asleep: str) -> Convergence:
        """Says what the records come to. ``truth`` is the true gradient, if that is known;
        ``asleep`` says who never woke."""
        residuals = [_worst(record, "residual") for record in self.records]
        conclusion, reason = self._verdict(residuals, asleep)
        names = ["", *self.names]
        both, mean, difference = (
            {name: self._within(name, kinds) for name in names}
            for kinds in (KINDS, KINDS[:1], KINDS[1:])
        )
        at_fixed_point = None
        if truth is not None and self.reference.gradients is not None:
            at_fixed_point = gradients.alignment(self.reference.gradients, truth)[""]
        return Convergence(
            tuple(self.records),
            self.reference,
            self.tolerance,
            conclusion,
            reason,
            verdict.residual_floor(residuals or [inf]),
            arrivals=both,
            mean_arrivals=mean,
            difference_arrivals=difference,
            reach={n: _onset(r for r in self.records if _of(r, n)["reached"]) for n in names},
            reference_alignment=at_fixed_point,
            error=self.error,
        )

    def _missing(self, record: ConvergenceRecord, name: str = "") -> list[str]:
        """The populations, or this one, that the difference has not reached but will: without a
        target, or where that of the fixed point is zero, there is nothing to wait for. Nor is there
        where nothing moves though the target acts: no news of it goes past saturated neurons."""
        if not self.waits or (self.acts and _worst(record, "residual") <= self.still):
            return []
        exact = self.exact["difference"]
        names = [name] if name else self.names
        return [n for n in names if not _of(record, n)["reached"] and exact.get(n) != 0.0]

    def _within(self, name: str, kinds: Sequence[str]) -> Onset:
        """The first record from which on everything is within the tolerance to the end."""
        settled: list[ConvergenceRecord] = []
        for record in self.records if self.error is None else ():
            ways = [_of(record, name)[f"distance_{kind}"] for kind in kinds]
            near = all(way is not None and way <= self.tolerance for way in ways)
            if not near or self._missing(record, name):
                settled.clear()
            else:
                settled.append(record)
        return _onset(settled)

    def _verdict(self, residuals: Sequence[float], asleep: str) -> tuple[Verdict, str]:
        if self.error is not None:
            return "diverged", str(self.error)
        last, tolerance = self.records[-1], self.tolerance
        distance = _worst(last, "distance") if self.reference.reached else None
        missing, near = self._missing(last), distance is None or distance <= tolerance
        what = "residual" if distance is None else "distance"
        far = {n: w for n in self.names if (w := _worst(_of(last, n), what)) > tolerance}
        if residuals[-1] <= tolerance and near and not missing and not far:
            against = "" if distance is not None else "; its distance is not known"
            return "converged", f"the residual ends at {residuals[-1]:.2g}{against}{asleep}"
        for kind, sizes in self.norms.items():
            exact = self.exact[kind][""] if self.reference.reached else None
            if verdict.grows(sizes, exact):
                return "diverged", f"the {kind} grows without bound, to a norm of {sizes[-1]:.2g}"
        falls = verdict.falls(residuals)
        if residuals[-1] > tolerance and (period := self._period(falls)) is not None:
            return "oscillates", f"the states come back every {period} ticks"
        if missing:
            reason = f"the difference has not reached {', '.join(missing)}"
        elif residuals[-1] <= tolerance and near:
            some = ", ".join(f"{name} (its {what} ends at {far[name]:.2g})" for name in far)
            reason = f"the network as a whole is within the tolerance, but not {some}"
        elif distance is not None and residuals[-1] <= (rest := min(self.rounding, tolerance)):
            # What moves them less than a thousandth of the distance cannot be what it is made of.
            if self.moved is None or self.moved <= max(rest, 1e-3 * distance):
                said = "the states rest at another fixed point than the one that was iterated, at a"
                return "several_fixed_points", f"{said} distance of {distance:.2g}{asleep}"
            reason = "the states rest where the output of the first phase has them, which is not at"
            reason += f" its fixed point; their distance is {distance:.2g}"
        elif residuals[-1] <= tolerance:
            reason = f"the residual is small, but the distance to the fixed point is {distance:.2g}"
        elif falls:
            reason = f"the residual is still falling, at {residuals[-1]:.2g}"
        else:
            reason = f"the residual stays at {verdict.residual_floor(residuals):.2g}"
        return "not_converged", reason + asleep

    def _period(self, falls: bool) -> int | None:
        """After how many ticks the states come back: exactly, or more or less in the last third of
        the ticks, if the residual no longer ``falls``."""
        states = np.stack([s.numpy() for s in self.sketches])
        exact = verdict.cycles(states, self.rounding)
        if exact is not None or falls:
            return exact
        return verdict.recurs(states[-max(1, self.ticks // 3) :], self.rounding)


def _of(record: ConvergenceRecord, name: str) -> ConvergenceRecord:
    """What a record says of a population, or of the whole network (``""``)."""
    found: ConvergenceRecord = record["populations"][name] if name else record
    return found


def _onset(records: Iterable[ConvergenceRecord]) -> Onset:
    """When the first of these records was taken."""
    return next((Onset(r["time"], r["wakes"], r["messages"]) for r in records), Onset())


def _worst(record: ConvergenceRecord, what: str) -> float:
    """The larger one of mean and difference; what is not a number counts as infinite."""
    values = [float(record[f"{what}_{kind}"]) for kind in KINDS]
    return max(value if isfinite(value) else inf for value in values)
