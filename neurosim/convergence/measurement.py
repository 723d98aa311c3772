"""How one inference converges to the exact fixed point, against time, wakes and messages."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from math import sqrt

import torch
from torch import Tensor

from neurosim.base import DivergenceError
from neurosim.convergence import fixedpoint
from neurosim.convergence.fixedpoint import KINDS, RESIDUAL, SWEEPS, FixedPoint
from neurosim.convergence.stretch import Convergence, ConvergenceRecord, Stretch, of_phases
from neurosim.dynamics import current_mean
from neurosim.families import Count, Positive, check
from neurosim.measures import alpha_objective, gradients, metrics
from neurosim.simulation import Simulation, accept_batch

TOLERANCE = 1e-2
_SKETCH = 512  # values per population and kind in which a recurrence is looked for


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

    A record is taken at the start (tick 0), at every ``every``-th tick and at the last one, of each
    phase in a rule that has any: every phase is measured against its own fixed point, and has a
    verdict of its own (`Convergence.phases`). ``sweeps`` and ``residual`` are those of
    `fixed_point`. A state that is not finite ends the measurement with the verdict ``diverged``; it
    is not raised.

    Raises InputError for wrong shapes, ConfigurationError for options that do not fit.
    """
    check(Simulation, simulation=simulation)
    references = fixedpoint.fixed_points_of(simulation, x, target, sweeps=sweeps, residual=residual)
    measurement = InferenceMeasurement(
        simulation, x, target, references=references, every=every, tolerance=tolerance
    )
    for _ in measurement.run():
        pass
    return measurement.result()


class InferenceMeasurement:
    """Measures one inference of ``simulation`` against ``references``, the fixed points of the same
    inputs and targets: one, or one a phase. The simulation's own probes do not record."""

    def __init__(
        self,
        simulation: Simulation,
        x: Tensor,
        target: Tensor | None = None,
        *,
        references: Sequence[FixedPoint],
        every: int = 1,
        tolerance: float = TOLERANCE,
    ) -> None:
        check(Count, every=every)
        check(Positive, tolerance=tolerance)
        self.simulation, self.references = simulation, tuple(references)
        self.every, self.tolerance = every, tolerance
        self.stretches: list[Stretch] = []
        self._x, self._target = x, target
        self._woke: Counter[str] = Counter()  # since the last record, and which did at all
        self._ever: set[str] = set()
        self._sent: Counter[tuple[str, str]] = Counter()  # messages by projection and kind
        self._truth: dict[str, Tensor] | None = None
        rule = simulation.rule
        self._truth_due = target is not None and rule.settles
        if target is not None and not rule.settles and simulation.model.network.cycle is None:
            exact = fixedpoint.exact_copy(simulation.model)
            inputs, wanted, _ = accept_batch(x, target, exact)
            assert wanted is not None
            damage = simulation.state.damage
            self._truth = gradients.back_propagation(exact, simulation.loss, inputs, wanted, damage)

    def run(self, interrupted: Callable[[], bool] = lambda: False) -> Iterator[ConvergenceRecord]:
        """Runs to the end of the schedule and yields the records; stops once ``interrupted()``.

        A record holds ``tick``, ``time``, the counts (``wakes``, ``messages``, …), and of the whole
        network ``residual_mean``, ``residual_difference``, ``distance_mean`` and
        ``distance_difference`` (‖s − s*‖ / ‖s*‖), ``gradient_angle`` in degrees and
        ``gradient_norm_ratio`` to back-propagation (or, where ``reference`` says ``settled``, to
        the gradient of the settled network), ``fixed_point_angle`` and
        ``fixed_point_norm_ratio`` to the local gradient at the fixed point, ``objective``
        (`Simulation.objective`) and ``objective_alpha`` (L_α); ``phase`` in a rule that has any,
        whose gradients are known in the last one; ``populations`` and ``parameters``
        hold the same of each, and ``reached``; a population also its ``activity`` (the root mean
        square of its mean) and the ``wakes`` since the record before, ``projections`` the messages
        since then. What cannot be measured is None.
        """
        simulation = self.simulation
        simulation.start(self._x, self._target, record=False)
        began = simulation.tick
        self._begin()
        self._sketch()
        self._count()
        yield self._record(0)
        while not simulation.done:
            if interrupted():
                return
            try:
                simulation.advance(1)
            except DivergenceError as error:
                self._begin()
                self.stretches[-1].error = error
                return
            passed = simulation.tick - began
            self._begin()
            self.stretches[-1].ticks += 1
            self._sketch()
            self._count()
            if passed % self.every == 0 or simulation.inference.phase_over:
                yield self._record(passed)
        simulation.finish()

    def _begin(self) -> None:
        """Begins what is recorded in the present phase, once."""
        simulation, phases = self.simulation, self.simulation.inference.phases
        if len(self.stretches) == phases.index + 1:
            return
        names = [cell.name for cell in simulation.state.cells]
        eps, reference = torch.finfo(simulation.model.dtype).eps, self.references[phases.index]
        begun = Stretch(reference, names, self.tolerance, eps)
        begun.acts = phases.present is not None and phases.present.strength != 0
        begun.waits = self._target is not None and (begun.acts or phases.present is None)
        self.stretches.append(begun)

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
                flat = torch.view_as_real(flat).flatten() if flat.is_complex() else flat
                parts.append(flat[:: max(1, -(-len(flat) // _SKETCH))].double())
        self.stretches[-1].sketches.append(torch.cat(parts).cpu())

    def _record(self, tick: int) -> ConvergenceRecord:
        simulation = self.simulation
        state, rule, nudge = simulation.state, simulation.rule, simulation.nudge
        record: ConvergenceRecord = {"tick": tick, "time": tick * simulation.schedule.tick}
        if simulation.phase is not None:
            record["phase"] = simulation.phase
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
        if rule.settles and record["gradient_angle"] is not None:
            record["reference"] = "settled"
        record["objective"] = None if rule.phases else simulation.objective()
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
        stretch = self.stretches[-1]
        stretch.records.append(record)
        first = self.references[0]
        if nudge.settled is not None and first.reached and simulation.inference.phase_over:
            exact = first.mean[state.output.name].to(nudge.settled)
            moved = metrics.residual(state, rule, replace(nudge, settled=exact))
            stretch.moved = max(getattr(moved, kind)[""] for kind in KINDS)
        return record

    def _distances(self) -> dict[str, dict[str, float]]:
        """‖s − s*‖ / ‖s*‖ by kind and population; notes the norms of the states in passing."""
        stretch, found = self.stretches[-1], dict[str, dict[str, float]]()
        reference = stretch.reference
        for kind, now in fixedpoint.states_of(self.simulation).items():
            stretch.norms[kind].append(fixedpoint.norms(now)[""])
            ways = fixedpoint.steps(getattr(reference, kind), now)
            exact, reached = stretch.exact[kind], reference.reached
            found[kind] = {n: gradients.ratio(w, exact[n]) for n, w in ways.items() if reached}
        return found

    def _angles(self) -> dict[str, ConvergenceRecord]:
        """Against both references, by parameter and in total (``""``)."""
        simulation, inference = self.simulation, self.simulation.inference
        known = inference.phases.complete
        if known and self._truth_due:  # that of the settled network, looked for from here
            found = gradients.true_gradient(simulation.state, simulation.rule, simulation.nudge)
            self._truth = found and {name: gradient.cpu() for name, gradient in found.items()}
            self._truth_due = False
        local = inference.phases.gradients()[0] if known else {}
        local = {name: gradient.cpu() for name, gradient in local.items()}
        there = self.stretches[-1].reference.gradients
        references = {"gradient": self._truth, "fixed_point": there}
        names = ("", *(local or simulation.model.network.parameter_shapes()))
        result: dict[str, ConvergenceRecord] = {name: {} for name in names}
        for kind, reference in references.items():
            against = gradients.alignment(local, reference) if local and reference else {}
            for name, record in result.items():
                angle, ratio = against.get(name, (None, None))
                record |= {f"{kind}_angle": angle, f"{kind}_norm_ratio": ratio}
        return result

    def result(self) -> Convergence:
        """Says what the records so far come to."""
        asleep, stretches = self._asleep, self.stretches
        found = [s.result(self._truth, asleep) for s in stretches if s.records or s.error]
        phases = self.simulation.inference.phases.all
        if not phases:
            return found[0]
        return of_phases({p.name: one for p, one in zip(phases, found, strict=False)})

    @property
    def _asleep(self) -> str:
        """Says which populations never woke, if any."""
        found = [cell for cell in self.simulation.state.cells if cell.name not in self._ever]
        why = [" (dead)" if c.alive is not None and not c.alive.any() else "" for c in found]
        names = ", ".join(f"{cell.name}{text}" for cell, text in zip(found, why, strict=True))
        return f"; {names} never woke" if names else ""
