"""Cost laws: how the time of a step or a tick grows with the size of things.

Each is measured over more than a decade; the value is the exponent of the power that fits best.
"""

from collections.abc import Callable, Mapping

from neurosim.bench.timing import Result, Sizes, alternate, law
from neurosim.bench.work import mlp
from neurosim.channels import Channel, Channels
from neurosim.rules import DualPropagation
from neurosim.schedules import Parallel, RandomOrder, Sweep
from neurosim.simulation import Simulation

_RULE = DualPropagation(0.5, 0.1, "aro", "prediction")


def _step(width: int, batch: int, depth: int = 3) -> Callable[[], object]:
    """One sweep of dual propagation, with the gradients."""
    model, x, target = mlp(width, batch, depth)
    schedule = Sweep("backward", passes=1)
    simulation = Simulation(model, rule=_RULE, loss="cross_entropy", schedule=schedule)
    return lambda: (simulation.infer(x, target), simulation.gradients())


def _measure(functions: Mapping[int, Callable[[], object]], repeats: int) -> dict[int, float]:
    seconds = alternate({str(size): f for size, f in functions.items()}, repeats)
    return {size: seconds[str(size)] for size in functions}


def batch(sizes: Sizes) -> Result:
    steps = {n: _step(sizes.width, n) for n in (sizes.batch * n for n in sizes.span)}
    return law(_measure(steps, sizes.repeats), "1 in the limit; a step by the batch")


def depth(sizes: Sizes) -> Result:
    steps = {2 * n: _step(sizes.width, sizes.batch, 2 * n) for n in sizes.span}
    return law(_measure(steps, sizes.repeats), "1 in the limit; a step by the hidden layers")


def width(sizes: Sizes) -> Result:
    unit = sizes.width // 10
    steps = {unit * n: _step(unit * n, sizes.batch) for n in sizes.span}
    return law(_measure(steps, sizes.repeats), "2 in the limit; a step by the width")


def wakes(sizes: Sizes) -> Result:
    """Ticks in which a part of the neurons wakes; all that they compute is new."""
    model, x, target = mlp(sizes.width, sizes.batch)
    ticks: dict[int, Callable[[], object]] = {}
    for n in sizes.span:
        schedule = RandomOrder(unit="neuron", groups=max(sizes.span) // n, passes=10**4)
        simulation = Simulation(model, rule=_RULE, loss="cross_entropy", schedule=schedule)
        simulation.caching = False
        simulation.start(x, target)
        simulation.advance(10)
        before = simulation.counts.wakes
        simulation.advance(1)
        ticks[simulation.counts.wakes - before] = lambda s=simulation: s.advance(1)  # type: ignore[misc]
    return law(
        _measure(ticks, 3 * sizes.repeats), "1 in the limit; a tick by the neurons that wake"
    )


def delay(sizes: Sizes) -> Result:
    """Ticks in which everything is computed and sent, with messages on their way for n ticks."""
    model, x, target = mlp(sizes.width, sizes.batch)
    ticks: dict[int, Callable[[], object]] = {}
    for n in sizes.span:
        channel = Channel(delay=float(n), refresh=1)
        simulation = Simulation(
            model,
            rule=_RULE,
            loss="cross_entropy",
            schedule=Parallel(10**5),
            channels=Channels(channel, channel),
            nudge_after=0,
        )
        simulation.caching = False
        simulation.start(x, target)
        simulation.advance(n * 2 * (len(model.network.dyadic) + 1))
        ticks[n] = lambda s=simulation: s.advance(1)  # type: ignore[misc]
    return law(_measure(ticks, 3 * sizes.repeats), "0; a tick by the delay")
