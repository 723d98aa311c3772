"""Cost laws: how the time of a step or a tick grows with the size of things.

Each is measured over more than a decade; the value is the exponent of the power that fits best.
"""

from collections.abc import Callable

from neurosim.bench.steps import SWEEP, step_of
from neurosim.bench.timing import Benchmark, Result, Sizes, Work, alternate, law
from neurosim.bench.work import mlp, steady
from neurosim.channels import Channel
from neurosim.schedules import Parallel, RandomOrder

Point = tuple[int, Work]  # a size, and what is timed there


def _law(
    description: str, limit: str, times: int = 1
) -> Callable[[Callable[[Sizes, int], Point]], Benchmark]:
    """Makes a measurement of what gives a point for a multiple of the smallest size."""

    def benchmark(at: Callable[[Sizes, int], Point]) -> Benchmark:
        def measure(sizes: Sizes) -> Result:
            points = dict(at(sizes, n) for n in sizes.span)
            return law(alternate(points, times * sizes.repeats), f"{limit}; {description}")

        return Benchmark(at.__name__, description, measure)

    return benchmark


def _step(width: int, batch: int, depth: int = 3) -> Work:
    return step_of(*SWEEP.on(mlp(width, batch, depth)))


@_law("a step by the batch", "1 in the limit")
def law_batch(sizes: Sizes, n: int) -> Point:
    return sizes.batch * n, _step(sizes.width, sizes.batch * n)


@_law("a step by the hidden layers", "1 in the limit")
def law_depth(sizes: Sizes, n: int) -> Point:
    return 2 * n, _step(sizes.width, sizes.batch, 2 * n)


@_law("a step by the width", "2 in the limit")
def law_width(sizes: Sizes, n: int) -> Point:
    width = sizes.width // 10 * n
    return width, _step(width, sizes.batch)


@_law("a tick by the neurons that wake", "1 in the limit", times=3)
def law_wakes(sizes: Sizes, n: int) -> Point:
    """Ticks in which a part of the neurons wakes; all that they compute is new."""
    schedule = RandomOrder(unit="neuron", groups=max(sizes.span) // n, passes=10**4)
    simulation = steady(mlp(sizes.width, sizes.batch), schedule)
    before = simulation.counts.wakes
    simulation.advance(1)
    return simulation.counts.wakes - before, lambda: simulation.advance(1)


@_law("a tick by the delay", "0", times=3)
def law_delay(sizes: Sizes, n: int) -> Point:
    """Ticks in which everything is computed and sent, with messages on their way for n ticks."""
    channel = Channel(delay=float(n), refresh=1)
    simulation = steady(mlp(sizes.width, sizes.batch), Parallel(10**5), channel)
    return n, lambda: simulation.advance(1)


LAWS = law_batch, law_depth, law_width, law_wakes, law_delay
