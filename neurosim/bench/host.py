"""What the program costs beside the arithmetic: networks so small that there is next to none.

A step of autograd on the same network and batch is the unit, so that figures of two machines can be
compared. Everything runs on one thread.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from neurosim.bench.timing import Result, Sizes, Work, alternate, benchmark
from neurosim.bench.work import DP, Given, random_batch, vgg16
from neurosim.maths import Loss
from neurosim.measures import back_propagation
from neurosim.network import Model, Network
from neurosim.schedules import Parallel, Poisson, RandomOrder, Replay, Schedule, Sweep
from neurosim.simulation import Simulation

_VIEWS = {  # and what does nothing
    *("view", "expand", "t", "transpose", "detach", "slice", "select", "unsqueeze", "squeeze"),
    *("alias", "permute", "as_strided", "unbind", "split", "narrow", "flatten", "movedim"),
    *("reshape", "lift_fresh", "view_as", "expand_as", "to", "numpy_T", "real"),
    *("resolve_conj", "resolve_neg"),
}
_LAYERS = [{"name": name, "dense": 10} for name in "abc"]


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _small_vgg16() -> Given:
    return Model(vgg16(64)), *random_batch(1, 3, 32, 32)


def _small_mlp() -> Given:
    return Model(Network.from_dict({"input": 10, "layers": _LAYERS})), *random_batch(10, 10)


def _step(given: Given) -> Work:
    """A step of dual propagation, one sweep down, up to the optimizer."""
    model, *batch = given
    options: dict[str, Any] = {"loss": "cross_entropy", "schedule": Sweep("backward")}
    simulation = Simulation(model, rule=DP, init="feedforward", **options)

    def step() -> None:
        simulation.infer(*batch)
        simulation.gradients()

    return step


def _autograd(given: Given) -> Work:
    return partial(back_propagation, given[0], Loss.of("cross_entropy"), *given[1:])


def _ticks(given: Given, schedule: Schedule, ticks: int, sizes: Sizes, target: str) -> Result:
    """Mean time of a tick of an inference, in steps of autograd."""
    model, *batch = given
    simulation = Simulation(model, schedule=schedule, loss="cross_entropy")
    with _one_thread():
        ours: Work = partial(simulation.infer, *batch)
        seconds = alternate(
            {"ours": ours, "autograd": _autograd(given)}, sizes.repeats, sizes.least
        )
    tick, step = seconds["ours"] / ticks, seconds["autograd"]
    said = f"{target}; {1e6 * tick:,.0f} µs, autograd: {1e6 * step:,.0f} µs"
    return tick / step, "steps of autograd", said


@benchmark("a step of dual propagation on a tiny VGG16")
def host_vgg16_dp_over_autograd(sizes: Sizes) -> Result:
    given = _small_vgg16()
    with _one_thread():
        works = {"ours": _step(given), "autograd": _autograd(given)}
        seconds = alternate(works, sizes.repeats, sizes.least)
    times = ", ".join(f"{name}: {1e3 * s:.2f} ms" for name, s in seconds.items())
    return seconds["ours"] / seconds["autograd"], "times", f"at most 2.0; {times}"


@benchmark("tensor operations of that step")
def host_vgg16_dp_operations(sizes: Sizes) -> Result:
    del sizes
    given = _small_vgg16()
    counts = [_operations(work) for work in (_step(given), _autograd(given))]
    return counts[0], "operations", f"at most 220; autograd: {counts[1]}; views are left out"


def _operations(work: Work) -> int:
    """Counts the calls of operations on tensors, but for views."""
    work()
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler tells that it starts and stops
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work()
    called = 0
    for event in found.events() or ():
        above = event.cpu_parent
        while above is not None and not above.name.startswith("aten::"):
            above = above.cpu_parent
        space, _, name = event.name.partition("::")
        called += space == "aten" and above is None and name not in _VIEWS
    return called


@benchmark("a parallel tick of that network")
def host_vgg16_parallel_tick(sizes: Sizes) -> Result:
    return _ticks(_small_vgg16(), Parallel(32), 32, sizes, "at most 0.25")


@benchmark("a tick of a tenth of the neurons, in random order")
def host_random_order_tick(sizes: Sizes) -> Result:
    schedule = RandomOrder("neuron", groups=8, passes=12)
    return _ticks(_small_mlp(), schedule, 96, sizes, "at most 0.4")


@benchmark("a tick of Poisson clocks")
def host_poisson_tick(sizes: Sizes) -> Result:
    schedule = Poisson("neuron", duration=24.0, tick=0.25)
    return _ticks(_small_mlp(), schedule, 96, sizes, "at most 0.4")


@benchmark("50,000 ticks with four wakes")
def empty_tick_microseconds(sizes: Sizes) -> Result:
    ticks, (model, *batch) = 50_000, _small_mlp()
    wakes = ((1.0, "a", None), (2.0, "b", None), (3.0, "a", None), (float(ticks), "c", None))
    simulation = Simulation(model, schedule=Replay(wakes))
    seconds = alternate({"": partial(simulation.infer, *batch)}, sizes.repeats)[""]
    return 1e6 * seconds / ticks, "µs", "at most 0.1"


@benchmark("a wake at ticks of 1/1024 over one at ticks of 1")
def poisson_wake_short_over_long(sizes: Sizes) -> Result:
    """Populations, as several of them seldom wake in one tick whatever its length."""
    model, *batch = _small_mlp()

    def waking(tick: float) -> Simulation:
        schedule = Poisson("population", rate=1 / 16, duration=512.0, tick=tick)
        simulation = Simulation(model, schedule=schedule)
        simulation.caching = False  # a wake that finds nothing new would cost less
        return simulation

    simulations = {4.0**-k: waking(4.0**-k) for k in range(6)}
    wakes = dict.fromkeys(simulations, 0)

    def run(tick: float) -> None:
        simulations[tick].infer(*batch)
        wakes[tick] += simulations[tick].counts.unit_wakes

    seconds = alternate({tick: partial(run, tick) for tick in simulations}, sizes.repeats)
    each = {t: s * (sizes.repeats + 1) / wakes[t] for t, s in seconds.items()}
    listed = ", ".join(f"{tick:g}: {1e6 * cost:.0f} µs" for tick, cost in each.items())
    return each[4.0**-5] / each[1.0], "times", f"0.8 to 1.2; {listed}"


@benchmark("starting a carried inference, a process for each of 50,000 dyads")
def carried_start_over_tick(sizes: Sizes) -> Result:
    ticks, dyads = 10, sizes.dyads or 50_000
    layers = [{"dense": dyads}, {"dense": 10}]
    model = Model(Network.from_dict({"input": 1, "layers": layers}))
    schedule = Poisson("neuron", duration=float(ticks))
    simulation = Simulation(model, schedule=schedule, init="carry", processes="neuron")
    x, target = random_batch(1, 1)
    simulation.infer(x, target)
    works: dict[str, Work] = {
        "start": partial(simulation.start, x, target),
        "ticks": simulation.advance,
    }
    seconds = alternate(works, sizes.repeats)
    tick = seconds["ticks"] / ticks
    return seconds["start"] / tick, "ticks", f"at most 1; a tick: {1e3 * tick:.1f} ms"


ALL = (
    host_vgg16_dp_over_autograd,
    host_vgg16_dp_operations,
    host_vgg16_parallel_tick,
    host_random_order_tick,
    host_poisson_tick,
    empty_tick_microseconds,
    poisson_wake_short_over_long,
    carried_start_over_tick,
)
