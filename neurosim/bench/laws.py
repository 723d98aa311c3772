"""Cost laws: how the time of a step or a tick grows with the size of things.

Each is measured over more than a decade; the value is the exponent of the power that fits best.
"""

from functools import partial

from neurosim.bench.steps import SWEEP, step_of
from neurosim.bench.timing import Result, Sizes, Work, alternate, benchmark, law
from neurosim.bench.work import mlp, steady
from neurosim.channels import Channel
from neurosim.schedules import Parallel, RandomOrder

PASSES = 10**3  # more ticks than are measured; of more, a plan would have too many wakes


def _step(width: int, batch: int, depth: int = 3) -> Work:
    return step_of(*SWEEP.on(mlp(width, batch, depth)))


@benchmark("a step by its batch")
def law_batch(sizes: Sizes) -> Result:
    steps = {n: _step(sizes.width, n) for n in (sizes.batch * n for n in sizes.span)}
    return law(alternate(steps, sizes.repeats), "1 in the limit; a step by the batch")


@benchmark("a step by the depth")
def law_depth(sizes: Sizes) -> Result:
    steps = {2 * n: _step(sizes.width, sizes.batch, 2 * n) for n in sizes.span}
    return law(alternate(steps, sizes.repeats), "1 in the limit; a step by the hidden layers")


@benchmark("a step by the width")
def law_width(sizes: Sizes) -> Result:
    steps = {n: _step(n, sizes.batch) for n in (sizes.width // 10 * n for n in sizes.span)}
    return law(alternate(steps, sizes.repeats), "2 in the limit; a step by the width")


@benchmark("a tick by the neurons that wake")
def law_wakes(sizes: Sizes) -> Result:
    """Ticks in which a part of the neurons wakes; all that they compute is new."""
    ticks = {}
    for n in sizes.span:
        schedule = RandomOrder(unit="neuron", groups=max(sizes.span) // n, passes=PASSES)
        simulation = steady(mlp(sizes.width, sizes.batch), schedule)
        before = simulation.counts.wakes
        simulation.advance(1)
        ticks[simulation.counts.wakes - before] = partial(simulation.advance, 1)
    seconds = alternate(ticks, 3 * sizes.repeats)
    return law(seconds, "1 in the limit; a tick by the neurons that wake")


@benchmark("a tick by the delay of its messages")
def law_delay(sizes: Sizes) -> Result:
    """Ticks in which everything is computed and sent, with messages on their way for n ticks."""
    ticks = {}
    for n in sizes.span:
        channel = Channel(delay=float(n), refresh=1)
        simulation = steady(mlp(sizes.width, sizes.batch), Parallel(10**5), channel)
        ticks[n] = partial(simulation.advance, 1)
    return law(alternate(ticks, 3 * sizes.repeats), "0; a tick by the delay")


LAWS = law_batch, law_depth, law_width, law_wakes, law_delay
