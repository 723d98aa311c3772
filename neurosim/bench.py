"""Side-by-side measurements: what the program costs, against the same work done without it.

Whatever is compared runs in turns in one process, so that both sides feel the same machine. The
medians are what is reported; targets belong to a machine that has nothing else to do.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import cos, exp, radians
from operator import length_hint
from statistics import median
from typing import Any

import numpy as np
import simpy
import torch
import torch.nn.functional as F  # noqa: N812
from rich.table import Table
from torch import Tensor

from neurosim import metrics
from neurosim._version import __version__
from neurosim.benchwork import CONV_LAYERS, ConvWakes, bare_parallel
from neurosim.channels import Channel, Channels
from neurosim.engine import Engine, Processes
from neurosim.errors import ConfigurationError
from neurosim.losses import LOSSES
from neurosim.machine import machine
from neurosim.model import Model
from neurosim.network import Network
from neurosim.operators import Ints
from neurosim.populations import unknown
from neurosim.random import stream
from neurosim.rules import DualPropagation
from neurosim.schedules import Parallel, Poisson, RandomOrder, Start, Sweep
from neurosim.simulation import Simulation
from neurosim.units import Layout, Unit, UnitKind

VGG16_DYADS = 190_986
TENTHS: tuple[UnitKind, ...] = ("column", "channel", "tile")
RATE, TICK = 1.0, 0.1  # of the Poisson clocks: a unit wakes in one of ten ticks, or so


@dataclass(frozen=True)
class Measurement:
    """One result; ``compared_with`` says what it is to be read against."""

    name: str
    value: float
    unit: str
    compared_with: str


@dataclass(frozen=True)
class Sizes:
    """How much is measured. ``dyads`` of None stands for VGG16; ``planes`` is the batch of conv
    layers."""

    dyads: int | None = None
    neuron_ticks: int = 5
    population_ticks: int = 200
    width: int = 1000
    batch: int = 100
    passes: int = 12
    planes: int = 32
    repeats: int = 11


FULL = Sizes()
QUICK = Sizes(
    dyads=20_000, neuron_ticks=20, population_ticks=50, width=500, passes=4, planes=8, repeats=5
)
Result = tuple[float, str, str]  # value, unit, compared with


@dataclass(frozen=True)
class Benchmark:
    """A named measurement."""

    name: str
    description: str
    function: Callable[[Sizes], Result]

    def measure(self, sizes: Sizes) -> Measurement:
        return Measurement(self.name, *self.function(sizes))


def alternate(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each function: all once to warm up, then in turns A, B, A, B, …"""
    for function in functions.values():
        function()
    gc.collect()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - began)
    return {name: median(values) for name, values in seconds.items()}


# ---- scheduling alone --------------------------------------------------------------------------


def vgg16() -> Network:
    """VGG16 at 32×32 inputs, with its max-pools in the projections."""
    layers: list[dict[str, Any]] = []
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [{"conv": channels}] * (count - 1) + [{"conv": channels, "pool": "max"}]
    layers += [{"dense": 4096}, {"dense": 4096}, {"dense": 10}]
    network = Network.from_dict({"input": [3, 32, 32], "layers": layers})
    assert sum(p.size for p in network.dyadic) == VGG16_DYADS
    return network


class _Waking:
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


class _BareWaking:
    """As many SimPy processes that sleep for drawn times, and nothing else: the upper bound."""

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


def _rate(waking: _Waking | _BareWaking, seconds: float) -> float:
    return waking.wakes / waking.calls / seconds


def _neurons(sizes: Sizes) -> Result:
    network = vgg16()
    if sizes.dyads is not None:
        network = Network.from_dict({"input": [1], "layers": [{"dense": sizes.dyads}]})
    ours = _Waking(network, "neuron", sizes.neuron_ticks)
    bare = _BareWaking(sizes.dyads or VGG16_DYADS, sizes.neuron_ticks, sizes.repeats + 1)
    seconds = alternate({"ours": ours, "bare": bare}, sizes.repeats)
    against = f"at least 150,000; bare SimPy in turns with it: {_rate(bare, seconds['bare']):,.0f}"
    return _rate(ours, seconds["ours"]), "wakes/s", against


def _bare_simpy(sizes: Sizes) -> Result:
    bare = _BareWaking(sizes.dyads or VGG16_DYADS, sizes.neuron_ticks, sizes.repeats + 1)
    seconds = alternate({"bare": bare}, sizes.repeats)["bare"]
    return _rate(bare, seconds), "wakes/s", "upper bound of neuron processes"


def _populations(sizes: Sizes) -> Result:
    ours = _Waking(vgg16(), "population", sizes.population_ticks)
    seconds = alternate({"ours": ours}, sizes.repeats)["ours"]
    return _rate(ours, seconds), "unit wakes/s", "at least 10,000,000"


# ---- arithmetic --------------------------------------------------------------------------------


def _mlp(sizes: Sizes) -> tuple[Model, Tensor, Tensor]:
    """784-W-W-W-10 in float32, with a batch of random images and one-hot targets."""
    layers = [{"dense": sizes.width}] * 3 + [{"dense": 10}]
    model = Model(Network.from_dict({"input": [784], "layers": layers}))
    return model, *_random_batch(sizes.batch, 784)


def _random_batch(batch: int, inputs: int) -> tuple[Tensor, Tensor]:
    draws = stream(0, "bench")
    x = torch.from_numpy(draws.random((batch, inputs), dtype=np.float32))
    return x, F.one_hot(torch.from_numpy(draws.integers(0, 10, batch)), 10).float()


def _engine_over_bare_loop(sizes: Sizes) -> Result:
    ticks = 16
    model, x, target = _mlp(sizes)
    simulation = Simulation(
        model,
        rule=DualPropagation(alpha=0.5, beta=1.0, variant="aro", nudge="potential"),
        loss="squared_error",
        schedule=Parallel(ticks),
        init="zero",
    )
    names = [p.name for p in model.network.dyadic]
    weights = [model.get_parameter(f"{name}.weight") for name in names]
    biases = [model.get_parameter(f"{name}.bias") for name in names]

    def bare() -> tuple[list[Tensor], list[Tensor]]:
        return bare_parallel(weights, biases, x, target, ticks)

    outcome = simulation.infer(x, target)
    for name, plus, minus in zip(names, *bare(), strict=True):
        torch.testing.assert_close(outcome.plus[name], plus, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(outcome.minus[name], minus, rtol=1e-4, atol=1e-5)
    functions = {"ours": lambda: simulation.infer(x, target), "bare": bare}
    seconds = alternate(functions, sizes.repeats)
    against = f"at most 1.10; a hand-written loop: {1e3 * seconds['bare']:.1f} ms"
    return seconds["ours"] / seconds["bare"], "times", against


def _dp_step_over_bp(sizes: Sizes) -> Result:
    model, x, target = _mlp(sizes)
    simulation = Simulation(
        model,
        rule=DualPropagation(alpha=0.5, beta=0.1, variant="aro", nudge="prediction"),
        loss="cross_entropy",
        schedule=Sweep("backward", passes=1),
        init="feedforward",
    )

    def ours() -> dict[str, Tensor]:
        simulation.infer(x, target)
        return simulation.gradients()

    def bare() -> dict[str, Tensor]:
        return metrics.back_propagation(model, LOSSES["cross_entropy"], x, target)

    angle = metrics.alignment(ours(), bare())[""].angle
    assert cos(radians(angle)) > 0.99, f"the gradients are {angle:.1f} degrees apart"
    seconds = alternate({"ours": ours, "bare": bare}, sizes.repeats)
    against = f"at most 1.25; autograd: {1e3 * seconds['bare']:.1f} ms"
    return seconds["ours"] / seconds["bare"], "times", against


def _random_order_tick(sizes: Sizes) -> Result:
    groups = 8
    layers = [{"dense": 128}, {"dense": 64}, {"dense": 10}]
    model = Model(Network.from_dict({"input": [64], "layers": layers}))
    simulation = Simulation(
        model,
        rule=DualPropagation(alpha=0.5, beta=1.0, variant="aro", nudge="proximal"),
        schedule=RandomOrder(unit="neuron", groups=groups, passes=sizes.passes),
        init="zero",
    )
    x, target = _random_batch(50, 64)
    seconds = alternate({"ours": lambda: simulation.infer(x, target)}, sizes.repeats)["ours"]
    return 1e3 * seconds / (groups * sizes.passes), "ms", "mean over an inference; no target"


def _delayed_tick(sizes: Sizes) -> Result:
    """Every tick does all there is to do: everything is computed, and every dyad sends.

    Where only changes are computed and sent the delayed network does much less in a tick, as what
    it does once depends on what arrives once in eight ticks.
    """
    ticks, delay = 16, 8
    model, x, target = _mlp(sizes)

    def make(channel: Channel) -> Simulation:
        simulation = Simulation(
            model,
            rule=DualPropagation(alpha=0.5, beta=0.1, variant="aro", nudge="potential"),
            schedule=Parallel(10**5),
            channels=Channels(channel, channel),
            nudge_after=0,
        )
        simulation.caching = False
        simulation.start(x, target)
        simulation.advance(2 * delay * len(model.network.dyadic))  # the nudge is everywhere
        assert all(metrics.reach(simulation.state).values())
        return simulation

    delayed, ideal = make(Channel(delay=delay, refresh=1)), make(Channel(refresh=1))
    functions = {"delayed": lambda: delayed.advance(ticks), "ideal": lambda: ideal.advance(ticks)}
    seconds = alternate(functions, sizes.repeats)
    against = f"at most 1.30; ideal channels: {1e3 * seconds['ideal'] / ticks:.1f} ms a tick"
    return seconds["delayed"] / seconds["ideal"], "times", against


def _tenth_over_dense(kind: UnitKind, sizes: Sizes) -> Result:
    """The larger ratio of two layers: the one has large weights, the other large planes.

    A tenth of 16 tiles is two of them.
    """
    ratios = {}
    for layer in CONV_LAYERS:
        tenth, dense = (
            ConvWakes(layer, kind, share, sizes.planes, sizes.repeats + 1) for share in (0.1, 1.0)
        )
        seconds = alternate({"tenth": tenth, "all": dense}, sizes.repeats)
        ratios[layer.name] = seconds["tenth"] / seconds["all"]
    each = ", ".join(f"{name}: {ratio:.2f}" for name, ratio in ratios.items())
    return max(ratios.values()), "times", f"at most 0.25; all units awake; {each}"


BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark("neuron_processes_wakes_per_second", "a process per dyad", _neurons),
    Benchmark("bare_simpy_wakes_per_second", "as many bare SimPy processes", _bare_simpy),
    Benchmark("population_unit_wakes_per_second", "a process per population", _populations),
    Benchmark(
        "engine_over_bare_loop", "parallel ticks over a loop by hand", _engine_over_bare_loop
    ),
    Benchmark("mlp_dp_step_over_bp", "a dual-propagation sweep over autograd", _dp_step_over_bp),
    Benchmark("delayed_tick_over_ideal", "delays of 8 ticks over ideal channels", _delayed_tick),
    Benchmark("random_order_tick_milliseconds", "neurons in random order", _random_order_tick),
    *(
        Benchmark(
            f"{kind}_tenth_over_dense",
            f"a tenth of the {kind}s of a conv layer over all",
            partial(_tenth_over_dense, kind),
        )
        for kind in TENTHS
    ),
)


def run_benchmarks(
    names: Sequence[str] | None, quick: bool, progress: Callable[[str], None]
) -> list[Measurement]:
    """The named measurements, or all, in their own order; ``progress`` is told of each.

    ``quick`` takes smaller sizes. Raises ConfigurationError for an unknown name.
    """
    known = [benchmark.name for benchmark in BENCHMARKS]
    for name in names or ():
        if name not in known:
            raise ConfigurationError(unknown("benchmark", name, known))
    found = []
    for benchmark in BENCHMARKS:
        if names is None or benchmark.name in names:
            progress(f"{benchmark.name}: {benchmark.description}")
            found.append(benchmark.measure(QUICK if quick else FULL))
    return found


# ---- showing -----------------------------------------------------------------------------------


def to_json(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """The measurements with the machine they were taken on, fit for JSON."""
    return {
        "neurosim": __version__,
        "machine": machine(),
        "measurements": [asdict(measurement) for measurement in measurements],
    }


def table(measurements: Sequence[Measurement]) -> Table:
    """The measurements for a terminal."""
    result = Table()
    result.add_column("measurement", no_wrap=True)
    result.add_column("value", justify="right", no_wrap=True)
    result.add_column("compared with")
    for m in measurements:
        value = f"{m.value:,.0f}" if m.value >= 1000 else f"{m.value:.3g}"
        result.add_row(m.name, f"{value} {m.unit}", m.compared_with)
    return result
