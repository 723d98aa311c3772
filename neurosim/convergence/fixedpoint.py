"""The exact fixed point of a network under a target, to measure a simulation against.

Nothing of the simulation acts here but its rule, loss, weights, input and target: channels are
ideal, everything is float64 on the CPU, the target acts from the start, and populations wake in a
fixed order until nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import hypot, inf, isfinite
from typing import Any, Literal

import torch
from torch import Tensor

from neurosim.base import ConfigurationError, DivergenceError
from neurosim.dynamics import current_mean
from neurosim.families import Count, Positive, check
from neurosim.maths import Loss
from neurosim.network import Faults, Model
from neurosim.rules import Rule
from neurosim.schedules import Parallel, Schedule, Sweep
from neurosim.simulation import Init, Simulation

SWEEPS = 5000
RESIDUAL = 1e-12
STALL = 500  # sweeps within which the residual must fall by a hundredth
ROUNDING = 8 * torch.finfo(torch.float64).eps

KINDS = ("mean", "difference")
States = dict[str, dict[str, Tensor]]  # by kind and population name
Watch = Callable[[int, float], None]
_Order = Literal["parallel", "forward"]


@dataclass(frozen=True)
class FixedPoint:
    """Where the states no longer move: s = T(s), found by ``sweeps`` synchronous sweeps.

    ``mean`` and ``difference`` are by population name, (B, *shape), ``gradients`` the local
    gradient there by parameter (None without a target); all are float64, on the CPU.
    ``residual_mean`` and ``residual_difference`` are ‖s − s'‖ / ‖s'‖ of the whole network, s' the
    states one sweep before. ``order`` is how they were iterated: all populations at once
    (``parallel``, tried first) or one after the other (``forward``). ``problem`` says why no fixed
    point was reached: then there are no states and no gradients, that nothing be measured against
    them. ``phase`` is the name of the phase whose fixed point it is, in a rule that has any; the
    gradients are those of the last one.
    """

    mean: dict[str, Tensor]
    difference: dict[str, Tensor]
    gradients: dict[str, Tensor] | None
    residual_mean: float
    residual_difference: float
    sweeps: int
    order: _Order
    problem: str | None = None
    phase: str | None = None

    @property
    def reached(self) -> bool:
        """Says if there is a fixed point to measure against."""
        return self.problem is None

    @property
    def residual(self) -> float:
        """The larger one of the two residuals."""
        return max(self.residual_mean, self.residual_difference)


def fixed_point(
    model: Model,
    x: Tensor,
    target: Tensor | None = None,
    *,
    rule: Rule | str | None = None,
    loss: Loss | str = "squared_error",
    faults: Faults | None = None,
    seed: int = 0,
    sweeps: int = SWEEPS,
    residual: float = RESIDUAL,
    watch: Watch | None = None,
    phase: str | None = None,
) -> FixedPoint:
    """Iterates a float64 copy of ``model`` on inputs x (B, *input) with targets (B, *output).

    The rule acts as it does in a simulation, damping and ``faults`` (drawn from ``seed``) included.
    A fixed point is reached when one sweep moves neither the means nor the differences by more
    than ``residual``, relative to their norms; a difference s⁺ − s⁻ may move by 8 ε‖s̄‖ in any
    case, which is its rounding. No more than
    ``sweeps`` are made in either order. ``watch`` is called with the number of each sweep and its
    residual. Where there are several fixed points (a network with a cycle, or strong feedback) it
    is the one that this iteration finds. A rule with phases has one in every phase, from where the
    phases before it have settled: ``phase`` names it, by default the last one that there is.

    Raises InputError for wrong shapes, ConfigurationError for a rule and loss that do not go
    together and for a phase that there is not. That no fixed point is reached is no error: see
    `FixedPoint.problem`.
    """
    check(Model, model=model)
    check(str | None, phase=phase)
    check(Callable | None, watch=watch)
    rule = None if rule is None else Rule.of(rule)
    how: dict[str, Any] = {"rule": rule, "loss": loss, "faults": faults, "seed": seed}
    limits: dict[str, Any] = {"sweeps": sweeps, "residual": residual, "watch": watch}
    found = {point.phase: point for point in _fixed_points(model, x, target, **how, **limits)}
    if phase is None:
        return list(found.values())[-1]
    if phase not in found:
        names = ", ".join(map(repr, filter(None, found))) or "it has none"
        said = f"phase is {phase!r}, which is none of this rule and target: {names}"
        raise ConfigurationError(said, "phase")
    return found[phase]


def fixed_points_of(
    simulation: Simulation, x: Tensor, target: Tensor | None = None, **limits: Any
) -> list[FixedPoint]:
    """Finds the `fixed_point` of a simulation's model under its rule, loss and faults, for its next
    inference; in a rule with phases one of each."""
    own = {key: getattr(simulation, key) for key in ("rule", "loss", "faults", "seed")}
    own |= {"before": simulation.inferences}
    return _fixed_points(simulation.model, x, target, **own, **limits)


def _fixed_points(
    model: Model,
    x: Tensor,
    target: Tensor | None,
    *,
    rule: Rule | None,
    loss: Loss | str,
    faults: Faults | None,
    seed: int,
    before: int = 0,
    sweeps: int = SWEEPS,
    residual: float = RESIDUAL,
    watch: Watch | None = None,
) -> list[FixedPoint]:
    """Finds that of each phase, in an inference with so many ``before`` it."""
    check(Count, sweeps=sweeps)
    check(Positive, residual=residual)
    exact = exact_copy(model)
    orders: dict[_Order, tuple[Schedule, int]] = {
        "parallel": (Parallel(ticks=sweeps), 1),
        # One population after the other often settles where all at once oscillate.
        "forward": (Sweep("forward", passes=sweeps), len(model.network.dyadic)),
    }
    init: Init = "zero" if model.network.cycle else "feedforward"
    best: list[FixedPoint] = []
    for order, (schedule, ticks) in orders.items():
        simulation = Simulation(
            exact,
            rule=rule,
            loss=loss,
            schedule=schedule,
            faults=faults,
            init=init,
            nudge_after=None if rule is not None and rule.phases else 0,
            seed=seed,
        )
        simulation.inferences = before  # of which the phases may depend
        simulation.start(x, target)
        found = [_iterate(simulation, order, ticks, sweeps, residual, watch)]
        while found[-1].reached and simulation.inference.end_phase():
            found.append(_iterate(simulation, order, ticks, sweeps, residual, watch))
        best = [_better(*pair) for pair in zip_longest(best, found)]
        phases = simulation.inference.phases.all if target is not None else ()
        if all(one.reached for one in best) and len(best) >= len(phases):
            break
    problem = "the phase before it has no fixed point"
    for phase in phases[len(best) :]:
        best.append(_none(0, order, problem, phase.name))
    return best


def _better(before: FixedPoint | None, now: FixedPoint | None) -> FixedPoint:
    """Chooses what was found in one of two orders."""
    if before is None or now is None or before.reached:
        found = before or now
        assert found is not None
        return found
    problem = f"{before.order}: {before.problem}; {now.order}: {now.problem}"
    return now if now.reached else replace(now, problem=problem)


def _none(
    sweeps: int, order: _Order, problem: str, phase: str | None, moved: Sequence[float] = (inf, inf)
) -> FixedPoint:
    """Says that there is no fixed point; the last sweep has ``moved`` means and differences so."""
    return FixedPoint({}, {}, None, moved[0], moved[1], sweeps, order, problem, phase)


def exact_copy(model: Model) -> Model:
    """Copies the network and its weights to float64 on the CPU."""
    copy = Model(model.network, dtype=torch.float64, device="meta")
    weights = {
        k: v.detach().to("cpu", copy.dtype, copy=True) for k, v in model.state_dict().items()
    }
    copy.load_state_dict(weights, assign=True)
    return copy


def states_of(simulation: Simulation) -> States:
    """Returns what all dyads are at, in float64 and on the CPU."""
    states: States = {kind: {} for kind in KINDS}
    for cell in simulation.state.cells:
        mean, difference = current_mean(cell, simulation.rule), cell.difference.tensor
        # A copy, because the simulation may write into its own.
        difference = torch.zeros_like(mean) if difference is None else difference.clone()
        for kind, value in zip(KINDS, (mean, difference), strict=True):
            wide = torch.complex128 if value.is_complex() else torch.float64
            states[kind][cell.name] = value.to("cpu", wide)
    return states


def norms(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """Returns the norm of each and of all (``""``)."""
    result = {name: float(tensor.norm()) for name, tensor in tensors.items()}
    return result | {"": hypot(*result.values())}


def steps(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """Returns the norms of the differences, of each and of all."""
    return norms({name: after[name] - value for name, value in before.items()})


def _moving(before: States, after: States, residual: float) -> str:
    """How many samples the last sweep moved: one alone is enough to leave no fixed point."""

    def squares(tensors: Iterable[Tensor]) -> Tensor:
        return sum((t.abs().square().flatten(1).sum(1) for t in tensors), torch.zeros(()))

    moved = squares(after[kind][name] - old for kind in KINDS for name, old in before[kind].items())
    moves = moved.sqrt() > residual * squares(after["mean"].values()).sqrt()
    count = int(moves.sum())
    return f"{count} of {len(moves)} samples still {'moves' if count == 1 else 'move'}"


def _iterate(
    simulation: Simulation,
    order: _Order,
    ticks: int,
    sweeps: int,
    residual: float,
    watch: Watch | None,
) -> FixedPoint:
    """Sweeps of so many ``ticks`` until nothing moves, or until it is clear why not."""
    before = states_of(simulation)
    reach = len(before["mean"])  # after as many sweeps the target has acted on everything
    best = earlier = inf
    moved, problem = [inf, inf], None
    sweep = 0
    for sweep in range(1, sweeps + 1):
        try:
            simulation.advance(ticks)
            states = states_of(simulation)
            sizes = [norms(before[kind])[""] for kind in KINDS]
        except DivergenceError:
            sizes = [inf]
        if not all(map(isfinite, sizes)):
            moved, problem = [inf, inf], f"the states overflow in sweep {sweep}"
            break
        ways = [steps(before[kind], states[kind])[""] for kind in KINDS]
        moved = [way / size if size else way and inf for way, size in zip(ways, sizes, strict=True)]
        if watch is not None:
            watch(sweep, max(moved))
        least = max(residual * sizes[1], ROUNDING * sizes[0])
        if ways[0] <= residual * sizes[0] and ways[1] <= least and sweep >= reach:
            learns = simulation.nudge.target is not None and simulation.inference.phases.complete
            gradients = simulation.gradients() if learns else None
            found = states["mean"], states["difference"], gradients, moved[0], moved[1]
            return FixedPoint(*found, sweep, order, phase=simulation.phase)
        best = min(best, max(moved))
        if sweep % STALL == 0:
            if best > 0.99 * earlier:
                problem = f"after {sweep} sweeps the residual stays at {max(moved):.2g}"
                problem += f", {_moving(before, states, residual)}"
                break
            best, earlier = inf, best
        before = states
    problem = problem or f"{sweeps} sweeps leave a residual of {max(moved):.2g}; allow more sweeps"
    return _none(sweep, order, problem, simulation.phase, moved)
