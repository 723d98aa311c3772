"""How one inference converges to the exact fixed point, against time, wakes and messages."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf, isfinite, sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosim.base import DivergenceError
from neurosim.convergence import fixedpoint, verdict
from neurosim.convergence.fixedpoint import KINDS, RESIDUAL, SWEEPS, FixedPoint
from neurosim.convergence.verdict import Verdict
from neurosim.dynamics import current_mean
from neurosim.families import Count, Positive, check
from neurosim.measures import alpha_objective, gradients, metrics
from neurosim.simulation import Simulation

ConvergenceRecord = dict[str, Any]  # as it is written: see `InferenceMeasurement.run`
TOLERANCE = 1e-2
_SKETCH = 512  # values per population and kind in which a recurrence is looked for
_REMEMBERED = 1000  # ticks of them


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

    @property
    def time_to_tolerance(self) -> float | None:
        """The simulated time from which the whole network stays within the tolerance."""
        return self.arrivals[""].time


def measure_convergence(
    simulation: Simulation,
    x: Tensor,
    target: Tensor | None = None,
    *,
    every: int = 1,
    tolerance: float = TOLERANCE,
    sweeps: int = SWEEPS,
    residual: float = RESIDUAL,
) -> Convergence:
    """Runs one inference on inputs x (B, *input) with targets (B, *output) and measures it.

    A record is taken at the start (tick 0), at every ``every``-th tick and at the last one.
    ``sweeps`` and ``residual`` are those of `fixed_point`. A state that is not finite ends the
    measurement with the verdict ``diverged``; it is not raised.

    Raises InputError for wrong shapes, ConfigurationError for options that do not fit.
    """
    reference = fixedpoint.fixed_point_of(simulation, x, target, sweeps=sweeps, residual=residual)
    measurement = InferenceMeasurement(
        simulation, x, target, reference=reference, every=every, tolerance=tolerance
    )
    for _ in measurement.run():
        pass
    return measurement.result()


class InferenceMeasurement:
    """Measures one inference of ``simulation`` against ``reference``, the fixed point of the same
    inputs and targets. The simulation's own probes do not record."""

    def __init__(
        self,
        simulation: Simulation,
        x: Tensor,
        target: Tensor | None = None,
        *,
        reference: FixedPoint,
        every: int = 1,
        tolerance: float = TOLERANCE,
    ) -> None:
        check(Count, every=every)
        check(Positive, tolerance=tolerance)
        self.simulation, self.reference = simulation, reference
        self.every, self.tolerance = every, tolerance
        self.records: list[ConvergenceRecord] = []
        self.error: DivergenceError | None = None
        self._x, self._target = x, target
        self._norms: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self._sketches: deque[Tensor] = deque(maxlen=_REMEMBERED)
        self._woke: Counter[str] = Counter()  # since the last record, and which did at all
        self._ever: set[str] = set()
        self._sent: Counter[tuple[str, str]] = Counter()  # messages by projection and kind
        self._exact = {kind: fixedpoint.norms(getattr(reference, kind)) for kind in KINDS}
        self._back_propagation: dict[str, Tensor] | None = None
        if target is not None and simulation.model.network.cycle is None:
            x, target = (array.detach().to("cpu", torch.float64) for array in (x, target))
            self._back_propagation = gradients.back_propagation(
                fixedpoint.exact_copy(simulation.model),
                simulation.loss,
                x,
                target,
                simulation.state.damage,
            )

    def run(self, interrupted: Callable[[], bool] = lambda: False) -> Iterator[ConvergenceRecord]:
        """Runs to the end of the schedule and yields the records; stops once ``interrupted()``.

        A record holds ``tick``, ``time``, the counts (``wakes``, ``messages``, …), and of the whole
        network ``residual_mean``, ``residual_difference``, ``distance_mean`` and
        ``distance_difference`` (‖s − s*‖ / ‖s*‖), ``gradient_angle`` in degrees and
        ``gradient_norm_ratio`` to back-propagation, ``fixed_point_angle`` and
        ``fixed_point_norm_ratio`` to the local gradient at the fixed point, ``objective``
        (`Simulation.objective`) and ``objective_alpha`` (L_α); ``populations`` and ``parameters``
        hold the same of each, and ``reached``; a population also its ``activity`` (the root mean
        square of its mean) and the ``wakes`` since the record before, ``projections`` the messages
        since then. What cannot be measured is None.
        """
        simulation = self.simulation
        simulation.start(self._x, self._target, record=False)
        began = simulation.tick
        self._sketch()
        self._count()
        yield self._record(0)
        while not simulation.done:
            if interrupted():
                return
            try:
                simulation.advance(1)
            except DivergenceError as error:
                self.error = error
                return
            passed = simulation.tick - began
            self._sketch()
            self._count()
            if passed % self.every == 0 or simulation.done:
                yield self._record(passed)
        simulation.finish()

    def _count(self) -> None:
        """Adds who woke in the tick that has just ended, and what was sent over which link."""
        state, (tick, woken) = self.simulation.state, self.simulation.inference.woken
        for index, selection in woken if tick == self.simulation.tick else ():
            cell = state.cells[index]
            self._woke[cell.name] += cell.population.size if selection is None else selection.count
        self._ever |= self._woke.keys()
        for outlet in state.outlets:
            for link in outlet.links if outlet.last_tick == self.simulation.tick else ():
                self._sent[link.name, outlet.kind] += outlet.last_count

    def _sketch(self) -> None:
        parts = []
        for cell in self.simulation.state.cells:
            for slot in (cell.plus, cell.minus):
                flat = slot.value.flatten()
                parts.append(flat[:: max(1, -(-len(flat) // _SKETCH))].double())
        self._sketches.append(torch.cat(parts).cpu())

    def _record(self, tick: int) -> ConvergenceRecord:
        simulation = self.simulation
        state, rule, nudge = simulation.state, simulation.rule, simulation.nudge
        record: ConvergenceRecord = {"tick": tick, "time": tick * simulation.schedule.tick}
        record |= {"messages": simulation.counts.messages} | asdict(simulation.counts)
        residual, reach = metrics.residual(state, rule, nudge), metrics.reach(state)
        measured = {f"residual_{kind}": getattr(residual, kind) for kind in KINDS}
        measured |= {f"distance_{kind}": found for kind, found in self._distances().items()}
        by_name: dict[str, ConvergenceRecord] = {
            name: {key: values.get(name) for key, values in measured.items()}
            for name in ("", *reach)
        }
        angles = self._angles()
        record |= by_name.pop("") | angles.pop("")
        record["objective"] = simulation.objective()
        record["objective_alpha"] = alpha_objective(state, rule, nudge)
        record["reached"] = all(reach.values())
        record["populations"] = {n: values | {"reached": reach[n]} for n, values in by_name.items()}
        for cell in state.cells:
            rms = gradients.norm(current_mean(cell, rule)) / sqrt(cell.plus.value.numel())
            record["populations"][cell.name] |= {"activity": rms, "wakes": self._woke[cell.name]}
        record["parameters"] = angles
        record["projections"] = {
            link.name: {f"{kind}_messages": self._sent[link.name, kind] for kind in KINDS}
            for link in state.links
        }
        self._woke.clear()
        self._sent.clear()
        self.records.append(record)
        return record

    def _distances(self) -> dict[str, dict[str, float]]:
        """‖s − s*‖ / ‖s*‖ by kind and population; notes the norms of the states in passing."""
        found: dict[str, dict[str, float]] = {}
        for kind, now in fixedpoint.states_of(self.simulation).items():
            self._norms[kind].append(fixedpoint.norms(now)[""])
            ways = fixedpoint.steps(getattr(self.reference, kind), now)
            exact, reached = self._exact[kind], self.reference.reached
            found[kind] = {n: gradients.ratio(w, exact[n]) for n, w in ways.items() if reached}
        return found

    def _angles(self) -> dict[str, ConvergenceRecord]:
        """Against both references, by parameter and in total (``""``)."""
        simulation = self.simulation
        local, _ = simulation.plasticity.gradients(simulation.state, simulation.rule)
        local = {name: gradient.cpu() for name, gradient in local.items()}
        references = {"gradient": self._back_propagation, "fixed_point": self.reference.gradients}
        result: dict[str, ConvergenceRecord] = {name: {} for name in ("", *local)}
        for kind, reference in references.items():
            found = {} if reference is None else gradients.alignment(local, reference)
            for name, record in result.items():
                angle, ratio = found.get(name, (None, None))
                record |= {f"{kind}_angle": angle, f"{kind}_norm_ratio": ratio}
        return result

    def result(self) -> Convergence:
        """Says what the records so far come to."""
        residuals = [_worst(record, "residual") for record in self.records]
        conclusion, reason = self._verdict(residuals)
        names = ["", *self.records[0]["populations"]]
        both, mean, difference = (
            {name: self._within(name, kinds) for name in names}
            for kinds in (KINDS, KINDS[:1], KINDS[1:])
        )
        at_fixed_point = None
        if self._back_propagation is not None and self.reference.gradients is not None:
            found = gradients.alignment(self.reference.gradients, self._back_propagation)
            at_fixed_point = found[""]
        return Convergence(
            tuple(self.records),
            self.reference,
            self.tolerance,
            conclusion,
            reason,
            verdict.residual_floor(residuals),
            arrivals=both,
            mean_arrivals=mean,
            difference_arrivals=difference,
            reach={n: _onset(r for r in self.records if _of(r, n)["reached"]) for n in names},
            reference_alignment=at_fixed_point,
            error=self.error,
        )

    def _missing(self, record: ConvergenceRecord, name: str = "") -> list[str]:
        """The populations, or this one, that the difference has not reached but will: without a
        target, or where that of the fixed point is zero, there is nothing to wait for."""
        if self._target is None:
            return []
        exact = self._exact["difference"]
        names = [name] if name else record["populations"]
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

    def _verdict(self, residuals: Sequence[float]) -> tuple[Verdict, str]:
        last, tolerance = self.records[-1], self.tolerance
        if self.error is not None:
            return "diverged", str(self.error)
        distance = _worst(last, "distance") if self.reference.reached else None
        missing, near = self._missing(last), distance is None or distance <= tolerance
        what = "residual" if distance is None else "distance"
        far = {n: w for n in last["populations"] if (w := _worst(_of(last, n), what)) > tolerance}
        if residuals[-1] <= tolerance and near and not missing and not far:
            against = "" if distance is not None else "; its distance is not known"
            return "converged", f"the residual ends at {residuals[-1]:.2g}{against}{self._asleep}"
        for kind, sizes in self._norms.items():
            exact = self._exact[kind][""] if self.reference.reached else None
            if verdict.grows(sizes, exact):
                return "diverged", f"the {kind} grows without bound, to a norm of {sizes[-1]:.2g}"
        falls = verdict.falls(residuals)
        rounding = 1e3 * torch.finfo(self.simulation.model.dtype).eps
        if residuals[-1] > tolerance and not falls:
            ticks = max(1, last["tick"] // 3)
            states = np.stack([s.numpy() for s in list(self._sketches)[-ticks:]])
            period = verdict.recurs(states, rounding)
            if period is not None:
                return "oscillates", f"the states come back every {period} ticks"
        if missing:
            reason = f"the difference has not reached {', '.join(missing)}"
        elif residuals[-1] <= tolerance and near:
            some = ", ".join(f"{name} (its {what} ends at {far[name]:.2g})" for name in far)
            reason = f"the network as a whole is within the tolerance, but not {some}"
        elif residuals[-1] <= min(rounding, tolerance):
            reason = "the states rest at another fixed point than the one that was iterated, at a "
            reason += f"distance of {distance:.2g}"
        elif residuals[-1] <= tolerance:
            reason = f"the residual is small, but the distance to the fixed point is {distance:.2g}"
        elif falls:
            reason = f"the residual is still falling, at {residuals[-1]:.2g}"
        else:
            reason = f"the residual stays at {verdict.residual_floor(residuals):.2g}"
        return "not_converged", reason + self._asleep

    @property
    def _asleep(self) -> str:
        """Says which populations never woke, if any."""
        found = [cell for cell in self.simulation.state.cells if cell.name not in self._ever]
        why = [" (dead)" if c.alive is not None and not c.alive.any() else "" for c in found]
        names = ", ".join(f"{cell.name}{text}" for cell, text in zip(found, why, strict=True))
        return f"; {names} never woke" if names else ""


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
