"""Scheduling alone: simulated processes that wake and do nothing else."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from math import exp
from operator import length_hint

import numpy as np
import simpy

from neurosim.base import NEVER, stream
from neurosim.bench.timing import Result, Sizes, Work, alternate, benchmark
from neurosim.bench.work import RATE, TICK, VGG16_DYADS, vgg16
from neurosim.network import Network
from neurosim.schedules import Layout, Poisson, Start, Unit
from neurosim.simulation import Engine, Processes
from neurosim.tensors import Ints


@dataclass
class Waking:
    """Simulated processes that only wake; each call runs them on for a number of ticks."""

    run: Work
    count: Callable[[], int]  # of wakes in all calls
    calls: int = 0

    def __call__(self) -> None:
        self.calls += 1
        self.run()


def waking(network: Network, processes: Processes, ticks: int) -> Waking:
    layout, woken = Layout(network, Unit("neuron")), list[int]()
    schedule = Poisson(unit="neuron", rate=RATE, tick=TICK)
    clock = schedule.start(Start(layout, 0, False, stream(0, "schedule")))
    engine, now = Engine(layout.offsets, processes), 0

    def note(_: int, units: Ints) -> None:
        woken.append(len(units))

    def run(ticks: int) -> None:
        nonlocal now
        now = engine.run(clock, now, now + ticks, lambda _: NEVER, note, lambda: False)

    run(1)
    woken.clear()
    return Waking(partial(run, ticks), lambda: sum(woken))


def bare_waking(units: int, ticks: int, calls: int) -> Waking:
    """As many SimPy processes that sleep for drawn times, in SimPy's own environment."""
    wakes_in_a_tick = 1.0 - exp(-RATE * TICK)
    # The first waits, those of the tick before the measurement, and more than it will need.
    count = 2 * units + int(1.2 * units * wakes_in_a_tick * ticks * calls)
    waits = iter(np.random.default_rng(0).geometric(wakes_in_a_tick, count).tolist())
    env = simpy.Environment()

    def process() -> Generator[simpy.Event, None, None]:
        for wait in waits:  # shared by all processes
            yield env.timeout(wait)

    for _ in range(units):
        env.process(process())
    env.run(until=2)  # up to the end of tick 1
    left = length_hint(waits)
    return Waking(lambda: env.run(until=env.now + ticks), lambda: left - length_hint(waits))


def _rates(sizes: Sizes, **functions: Waking) -> dict[str, float]:
    seconds = alternate(functions, sizes.repeats)
    return {name: one.count() / one.calls / seconds[name] for name, one in functions.items()}


def _bare(sizes: Sizes) -> Waking:
    return bare_waking(sizes.dyads or VGG16_DYADS, sizes.neuron_ticks, sizes.repeats + 1)


@benchmark("a process per dyad")
def neuron_processes_wakes_per_second(sizes: Sizes) -> Result:
    network = vgg16()
    if sizes.dyads is not None:
        network = Network.from_dict({"input": [1], "layers": [{"dense": sizes.dyads}]})
    ours = waking(network, "neuron", sizes.neuron_ticks)
    found = _rates(sizes, ours=ours, bare=_bare(sizes))
    against = f"at least 300,000; bare SimPy in turns with it: {found['bare']:,.0f}"
    return found["ours"], "wakes/s", against


@benchmark("bare SimPy processes")
def bare_simpy_wakes_per_second(sizes: Sizes) -> Result:
    found = _rates(sizes, bare=_bare(sizes))["bare"]
    return found, "wakes/s", "SimPy's own environment, timeouts alone"


@benchmark("a process per population")
def population_unit_wakes_per_second(sizes: Sizes) -> Result:
    ours = waking(vgg16(), "population", sizes.population_ticks)
    return _rates(sizes, ours=ours)["ours"], "unit wakes/s", "at least 35,000,000"
