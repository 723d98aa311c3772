"""How one inference converges to the exact fixed point, against time, wakes and messages."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import hypot, isfinite
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosim.base import DivergenceError
from neurosim.convergence import verdict
from neurosim.convergence.fixedpoint import RESIDUAL, SWEEPS, FixedPoint, exact_copy, fixed_point_of
from neurosim.convergence.verdict import Verdict
from neurosim.dynamics import contrastive_hebbian, current_mean
from neurosim.families import Count, Positive, check
from neurosim.measures import alpha_objective, gradients, metrics
from neurosim.simulation import Simulation

ConvergenceRecord = dict[str, Any]  # as it is written: see `InferenceMeasurement.run`
TOLERANCE = 1e-2
_KINDS = ("mean", "difference")
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
    reference = fixed_point_of(simulation, x, target, sweeps=sweeps, residual=residual)
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
        self._norms: dict[str, list[float]] = {kind: [] for kind in _KINDS}
        self._sketches: deque[Tensor] = deque(maxlen=_REMEMBERED)
        self._exact = {kind: _norms(getattr(reference, kind)) for kind in _KINDS}
        self._back_propagation = self._autograd()

    def _autograd(self) -> dict[str, Tensor] | None:
        """The gradient by back-propagation; None without a target, and where there is none."""
        model = self.simulation.model
        if self._target is None or model.network.cycle is not None:
            return None
        x, target = (a.detach().to("cpu", torch.float64) for a in (self._x, self._target))
        return gradients.back_propagation(
            exact_copy(model), self.simulation.loss, x, target, self.simulation.state.damage
        )

    def run(self, interrupted: Callable[[], bool] = lambda: False) -> Iterator[ConvergenceRecord]:
        """Runs to the end of the schedule and yields the records; stops once ``interrupted()``.

        A record holds ``tick``, ``time``, the counts (``wakes``, ``messages``, …), and of the whole
        network ``residual_mean``, ``residual_difference``, ``distance_mean`` and
        ``distance_difference`` (‖s − s*‖ / ‖s*‖), ``gradient_angle`` in degrees and
        ``gradient_norm_ratio`` to back-propagation, ``fixed_point_angle`` and
        ``fixed_point_norm_ratio`` to the local gradient at the fixed point, ``objective``
        (`Simulation.objective`) and ``objective_alpha`` (L_α); ``populations`` and ``parameters``
        hold the same of each, and ``reached``. What cannot be measured is None.
        """
        simulation = self.simulation
        simulation.start(self._x, self._target, record=False)
        began = simulation.tick
        self._sketch()
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
            if passed % self.every == 0 or simulation.done:
                yield self._record(passed)
        simulation.finish()

    # ---- records -------------------------------------------------------------------------------

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
        counts = asdict(simulation.counts)
        record: ConvergenceRecord = {"tick": tick, "time": tick * simulation.schedule.tick}
        record |= {"messages": simulation.counts.messages} | counts
        residual, reach = metrics.residual(state, rule, nudge), metrics.reach(state)
        distance = self._distances()
        names = ["", *reach]
        by_name: dict[str, ConvergenceRecord] = {
            name: {
                "residual_mean": residual.mean[name],
                "residual_difference": residual.difference[name],
                "distance_mean": distance["mean"].get(name),
                "distance_difference": distance["difference"].get(name),
            }
            for name in names
        }
        local, _ = contrastive_hebbian(state, rule)
        local = {name: gradient.cpu() for name, gradient in local.items()}
        angles = self._angles(local)
        record |= by_name.pop("") | angles.pop("")
        record["objective"] = simulation.objective()
        record["objective_alpha"] = alpha_objective(state, rule, nudge)
        record["reached"] = all(reach.values())
        record["populations"] = {
            name: values | {"reached": reach[name]} for name, values in by_name.items()
        }
        record["parameters"] = angles
        self.records.append(record)
        return record

    def _distances(self) -> dict[str, dict[str, float | None]]:
        """‖s − s*‖ / ‖s*‖ by kind and population; notes the norms of the states in passing."""
        squares: dict[str, list[tuple[float, float]]] = {kind: [] for kind in _KINDS}
        result: dict[str, dict[str, float | None]] = {kind: {} for kind in _KINDS}
        for cell in self.simulation.state.cells:
            mean = current_mean(cell, self.simulation.rule)
            difference = cell.difference.tensor
            known = {"mean": mean, "difference": difference}
            for kind, value in known.items():
                value = torch.zeros_like(mean) if value is None else value
                now = value.to("cpu", torch.float64)
                step = 0.0
                if self.reference.reached:
                    exact = getattr(self.reference, kind)[cell.name]
                    step = float((now - exact).norm())
                    result[kind][cell.name] = _ratio(step, self._exact[kind][cell.name])
                squares[kind].append((step, float(now.norm())))
        for kind, pairs in squares.items():
            self._norms[kind].append(hypot(*(size for _, size in pairs)))
            if self.reference.reached:
                step = hypot(*(step for step, _ in pairs))
                result[kind][""] = _ratio(step, self._exact[kind][""])
        return result

    def _angles(self, local: dict[str, Tensor]) -> dict[str, ConvergenceRecord]:
        """Against both references, by parameter and in total (``""``)."""
        references = {"gradient": self._back_propagation, "fixed_point": self.reference.gradients}
        result: dict[str, ConvergenceRecord] = {name: {} for name in ("", *local)}
        for kind, reference in references.items():
            found = {} if reference is None else gradients.alignment(local, reference)
            for name, record in result.items():
                angle, ratio = found.get(name, (None, None))
                record |= {f"{kind}_angle": angle, f"{kind}_norm_ratio": ratio}
        return result

    # ---- the result ----------------------------------------------------------------------------

    def result(self) -> Convergence:
        """Says what the records so far come to."""
        residuals = [_worst(record, "residual") for record in self.records]
        conclusion, reason = self._verdict(residuals)
        names = ["", *self.records[0]["populations"]]
        both, mean, difference = (
            {name: self._within(name, kinds) for name in names}
            for kinds in (_KINDS, _KINDS[:1], _KINDS[1:])
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
            reach={name: self._reach(name) for name in names},
            reference_alignment=at_fixed_point,
            error=self.error,
        )

    def _there(self, record: ConvergenceRecord, name: str) -> bool:
        """Whether the difference has arrived at a population, or at all (``""``)."""
        return bool((record["populations"][name] if name else record)["reached"])

    def _expected(self, record: ConvergenceRecord, name: str) -> bool:
        """The same, where it will ever arrive: without a target, or where the difference of the
        fixed point is zero, there is nothing to wait for."""
        if self._target is None:
            return True
        names = [name] if name else list(record["populations"])
        return all(
            self._there(record, n) or (self.reference.reached and not self._exact["difference"][n])
            for n in names
        )

    def _within(self, name: str, kinds: Sequence[str]) -> Onset:
        """The first record from which on everything is within the tolerance to the end."""

        def within(record: ConvergenceRecord) -> bool:
            values = record["populations"][name] if name else record
            distances = [values[f"distance_{kind}"] for kind in kinds]
            return self._expected(record, name) and all(
                distance is not None and distance <= self.tolerance for distance in distances
            )

        if self.error is not None:
            return Onset()
        outside = [number for number, record in enumerate(self.records) if not within(record)]
        first = outside[-1] + 1 if outside else 0
        return _onset(self.records[first]) if first < len(self.records) else Onset()

    def _reach(self, name: str) -> Onset:
        there = (_onset(record) for record in self.records if self._there(record, name))
        return next(there, Onset())

    def _verdict(self, residuals: Sequence[float]) -> tuple[Verdict, str]:
        last, tolerance = self.records[-1], self.tolerance
        if self.error is not None:
            return "diverged", str(self.error)
        distance = _worst(last, "distance") if self.reference.reached else None
        near = distance is None or distance <= tolerance
        if residuals[-1] <= tolerance and near and self._expected(last, ""):
            against = "" if distance is not None else "; its distance is not known"
            return "converged", f"the residual ends at {residuals[-1]:.2g}{against}"
        for kind, norms in self._norms.items():
            exact = self._exact[kind].get("") if self.reference.reached else None
            if verdict.grows(norms, exact):
                return "diverged", f"the {kind} grows without bound, to a norm of {norms[-1]:.2g}"
        if residuals[-1] > tolerance and not verdict.falls(residuals):
            ticks = max(1, last["tick"] // 3)
            states = np.stack([s.numpy() for s in list(self._sketches)[-ticks:]])
            rounding = 1e3 * torch.finfo(self.simulation.model.dtype).eps
            period = verdict.recurs(states, rounding)
            if period is not None:
                return "oscillates", f"the states come back every {period} ticks"
        return "not_converged", self._shortfall(residuals, distance)

    def _shortfall(self, residuals: Sequence[float], distance: float | None) -> str:
        last = self.records[-1]
        if not self._expected(last, ""):
            missing = [n for n in last["populations"] if not self._expected(last, n)]
            return f"the difference has not reached {', '.join(missing)}"
        if residuals[-1] > self.tolerance:
            if verdict.falls(residuals):
                return f"the residual is still falling, at {residuals[-1]:.2g}"
            floor = verdict.residual_floor(residuals)
            return f"the residual stays at {floor:.2g}"
        assert distance is not None
        return f"the residual is small, but the distance to the fixed point is {distance:.2g}"


def _onset(record: ConvergenceRecord) -> Onset:
    return Onset(record["time"], record["wakes"], record["messages"])


def _worst(record: ConvergenceRecord, what: str) -> float:
    """The larger one of mean and difference; what is not a number counts as infinite."""
    values = [float(record[f"{what}_{kind}"]) for kind in _KINDS]
    return max(value if isfinite(value) else float("inf") for value in values)


def _norms(tensors: dict[str, Tensor]) -> dict[str, float]:
    """The norm of each and of all (``""``)."""
    result = {name: float(tensor.norm()) for name, tensor in tensors.items()}
    result[""] = hypot(*result.values())
    return result


def _ratio(part: float, whole: float) -> float:
    if part == 0.0:
        return 0.0
    return part / whole if whole else float("inf")
