"""Scheduling alone: simulated processes that wake and do nothing else."""

from collections.abc import Generator, Iterator
from math import exp
from operator import length_hint

import numpy as np
import simpy

from neurosim.base import stream
from neurosim.bench.timing import Result, Sizes, alternate, benchmark
from neurosim.bench.work import RATE, TICK, VGG16_DYADS, vgg16
from neurosim.network import Network
from neurosim.schedules import Layout, Poisson, Start, Unit
from neurosim.simulation import Engine, Processes
from neurosim.tensors import Ints


class Waking:
    """Simulated processes that only wake; each call runs them on for a number of ticks."""

    def __init__(self, network: Network, processes: Processes, ticks: int) -> None:
        layout = Layout(network, Unit("neuron"))
        schedule = Poisson(unit="neuron", rate=RATE, tick=TICK)
        clock = schedule.start(Start(layout, 0, False, stream(0, "schedule")))
        self._engine = Engine(clock, layout.offsets, 0, processes, self._count)
        self._engine.run_until(1, lambda: False)
        self._ticks, self.calls, self.wakes = ticks, 0, 0

    def _count(self, tick: int, units: Ints) -> None:
        if tick > 1:
            self.wakes += len(units)

    def __call__(self) -> None:
        self.calls += 1
        self._engine.run_until(self._engine.completed + self._ticks, lambda: False)


class BareWaking:
    """As many SimPy processes that sleep for drawn times, in SimPy's own environment."""

    def __init__(self, units: int, ticks: int, calls: int) -> None:
        wakes_in_a_tick = 1.0 - exp(-RATE * TICK)
        # The first waits, those of the tick before the measurement, and more than it will need.
        count = 2 * units + int(1.2 * units * wakes_in_a_tick * ticks * calls)
        waits = np.random.default_rng(0).geometric(wakes_in_a_tick, count)
        self._waits: Iterator[int] = iter(waits.tolist())
        self._env = env = simpy.Environment()
        for _ in range(units):
            env.process(self._process(env))
        env.run(until=2)  # up to the end of tick 1
        self._ticks, self.calls, self._left = ticks, 0, length_hint(self._waits)

    def _process(self, env: simpy.Environment) -> Generator[simpy.Event, None, None]:
        for wait in self._waits:  # shared by all processes
            yield env.timeout(wait)

    def __call__(self) -> None:
        self.calls += 1
        self._env.run(until=self._env.now + self._ticks)

    @property
    def wakes(self) -> int:
        return self._left - length_hint(self._waits)


def _rates(sizes: Sizes, **waking: Waking | BareWaking) -> dict[str, float]:
    seconds = alternate(waking, sizes.repeats)
    return {name: one.wakes / one.calls / seconds[name] for name, one in waking.items()}


def _bare(sizes: Sizes) -> BareWaking:
    return BareWaking(sizes.dyads or VGG16_DYADS, sizes.neuron_ticks, sizes.repeats + 1)


@benchmark("a process per dyad")
def neuron_processes_wakes_per_second(sizes: Sizes) -> Result:
    network = vgg16()
    if sizes.dyads is not None:
        network = Network.from_dict({"input": [1], "layers": [{"dense": sizes.dyads}]})
    ours = Waking(network, "neuron", sizes.neuron_ticks)
    found = _rates(sizes, ours=ours, bare=_bare(sizes))
    against = f"at least 200,000; bare SimPy in turns with it: {found['bare']:,.0f}"
    return found["ours"], "wakes/s", against


@benchmark("bare SimPy processes")
def bare_simpy_wakes_per_second(sizes: Sizes) -> Result:
    found = _rates(sizes, bare=_bare(sizes))["bare"]
    return found, "wakes/s", "SimPy's own environment, timeouts alone"


@benchmark("a process per population")
def population_unit_wakes_per_second(sizes: Sizes) -> Result:
    ours = Waking(vgg16(), "population", sizes.population_ticks)
    return _rates(sizes, ours=ours)["ours"], "unit wakes/s", "at least 20,000,000"
