"""VGG16: steps, asynchronous ticks and memory, against back-propagation by torch's autograd.

β is so small that the gradients are the same: what is compared is the same work.
"""

from collections.abc import Callable

from torch import Tensor

from neurosim.bench.steps import autograd_of, step_of, step_over_bp
from neurosim.bench.timing import Result, Sizes, peak_bytes, ratio
from neurosim.bench.work import RATE, TICK, check_angle, random_batch, vgg16
from neurosim.measures import metrics
from neurosim.network import Model
from neurosim.rules import DualPropagation
from neurosim.schedules import Parallel, Poisson, Schedule, Sweep
from neurosim.simulation import Simulation

BETA = 1e-3
_DP = DualPropagation(0.5, BETA, "aro", "prediction")
_SWEEP, _SWEEPS = Sweep("backward", passes=1), Sweep("forward", passes=16)


def _simulation(model: Model, rule: DualPropagation, schedule: Schedule) -> Simulation:
    return Simulation(model, rule=rule, loss="cross_entropy", schedule=schedule)


def _given(
    sizes: Sizes, rule: DualPropagation, schedule: Schedule
) -> tuple[Simulation, Tensor, Tensor]:
    """A simulation and its batch."""
    model = Model(vgg16(sizes.thinner))
    return _simulation(model, rule, schedule), *random_batch(sizes.images, 3, 32, 32)


def _over_bp(
    sizes: Sizes, rule: DualPropagation, schedule: Schedule, repeats: int, target: str
) -> Result:
    given = _given(sizes, rule, schedule)
    check_angle(step_of(*given)(), autograd_of(*given)())
    return step_over_bp(*given, repeats, target)


def dp_step(sizes: Sizes) -> Result:
    return _over_bp(sizes, _DP, _SWEEP, sizes.repeats, "at most 1.15")


def sweeps_alpha0(sizes: Sizes) -> Result:
    rule = DualPropagation(0.0, BETA, "lagrangian", "potential")
    against = "at most 1.5 (the reference implementation: 18)"
    return _over_bp(sizes, rule, _SWEEPS, sizes.repeats, against)


def sweeps_alpha05(sizes: Sizes) -> Result:
    rule = DualPropagation(0.5, BETA, "lagrangian", "potential")
    against = "at most 5 (the reference implementation: 18)"
    return _over_bp(sizes, rule, _SWEEPS, sizes.slow, against)


def async_tick(sizes: Sizes) -> Result:
    """One tick in which a tenth of the neurons wake, over one in which all do.

    In both everything that is woken is computed, as where all around it has changed.
    """
    model = Model(vgg16(sizes.thinner))
    x, target = random_batch(sizes.images, 3, 32, 32)
    poisson = Poisson(unit="neuron", rate=RATE, tick=TICK, duration=1e5)

    def waking(schedule: Schedule) -> Callable[[], object]:
        simulation = _simulation(model, _DP, schedule)
        simulation.caching = False
        simulation.start(x, target)
        while not all(metrics.reach(simulation.state).values()):
            simulation.advance(1)
        return lambda: simulation.advance(1)

    return ratio(
        waking(poisson), waking(Parallel(10**5)), sizes.repeats, "at most 1.10", "a parallel tick"
    )


def peak_memory(sizes: Sizes) -> Result:
    """Weights and all, of two steps: the second has the states of the first to replace."""
    simulation, x, target = _given(sizes, _DP, _SWEEP)
    model, bare = simulation.model, autograd_of(simulation, x, target)

    def ours() -> None:
        step = step_of(_simulation(model, _DP, _SWEEP), x, target)
        for _ in range(2):
            step()

    def other() -> None:
        for _ in range(2):
            bare()

    weights = sum(p.nbytes for p in model.parameters())
    used, needed = weights + peak_bytes(ours), weights + peak_bytes(other)
    against = f"at most 1.5; autograd: {needed / 1e6:,.0f} MB, weights: {weights / 1e6:,.0f} MB"
    return used / needed, "times", against
